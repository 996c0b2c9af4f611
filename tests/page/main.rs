//! The status page in a real browser: a pair and a witness in network namespaces, used by keyboard
//! alone. `tests/run --page` installs what it needs; with `PAGE_IMAGES=DIR` it keeps pictures.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "how long the page took is for people")]

mod browser;
#[path = "../failover/vips.rs"]
mod vips;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use trigon::lab::namespaces::{INTERFACE, Lan};

use browser::{Browser, ENTER};

const TOKEN: &str = "a-token-for-the-page-in-tests";
const PAGES: [&str; 2] = ["http://10.69.0.11:9109", "http://10.69.0.12:9109"];

fn config(index: usize, dir: &Path) -> String {
    let member = vips::member_config(index, dir);
    if index == 2 {
        return member;
    }
    let at = PAGES[index].strip_prefix("http://").unwrap();
    format!(
        "{member}status_page.listen = '{at}'\nstatus_page.token_file = '{}/token'\n\
         status_page.insecure = true\n[[vrrp]]\ninterface = '{INTERFACE}'\nvrid = 69\n\
         priority = {}\naddresses = ['{}']\n",
        dir.display(),
        254 - index,
        vips::VIPS[0]
    )
}

fn peer(version: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/peers/frpc-{version}"));
    path.display().to_string()
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// Whether a part of the page says something.
fn says(part: &str, text: &str) -> String {
    format!("document.querySelector('#{part}')?.textContent.includes('{text}')")
}

fn log_in(browser: &Browser, page: &str) {
    browser.open(page);
    browser.until("location.pathname == '/login'");
    browser.keys("not-the-token-of-anybody");
    browser.keys(ENTER);
    browser.until("document.querySelector('[role=alert]')");
    browser.audit();
    browser.tab_to("#token");
    browser.keys(TOKEN);
    browser.keys(ENTER);
    browser.until(
        "location.pathname == '/' && document.querySelector('#live').dataset.state == 'live'",
    );
}

/// Drains node a by its button and lets it back in.
fn drain_and_undrain(browser: &Browser) {
    log_in(browser, PAGES[0]);
    browser.until(&says("overview", "a holds 10.69.0.100"));
    browser.audit();
    browser.picture("status-page.png");
    browser.prefer("dark");
    browser.audit();
    browser.picture("status-page-dark.png");
    browser.prefer("light");
    browser.tab_to("a[href=\"/orders/drain\"]");
    browser.keys(ENTER);
    browser.until("location.pathname == '/orders/drain'");
    browser.audit();
    browser.picture("drain.png");
    browser.tab_to("#reason");
    browser.keys("a new disk");
    browser.keys(ENTER);
    browser.until(&says("overview", "b holds 10.69.0.100"));
    browser.until(&says("overview", "drained"));
    browser.until(&says("events", "a new disk"));
    browser.tab_to("a[href=\"/orders/undrain\"]");
    browser.keys(ENTER);
    browser.until("location.pathname == '/orders/undrain'");
    browser.tab_to("#reason");
    browser.keys("it has one");
    browser.keys(ENTER);
    // It has the higher priority and preempts.
    browser.until(&says("overview", "a holds 10.69.0.100"));
}

async fn page(lan: Lan) {
    vips::nextcloud().await;
    let [mut a, mut b, mut witness] = vips::members(&lan, config);
    for member in [&a, &b] {
        let file = member.dir.path().join("token");
        std::fs::write(&file, TOKEN).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    for member in [&mut a, &mut b, &mut witness] {
        member.start();
    }
    a.holds(&[true]).await;
    b.holds(&[false]).await;
    let browser = tokio::task::spawn_blocking(|| {
        let browser = Browser::start();
        drain_and_undrain(&browser);
        log_in(&browser, PAGES[1]);
        browser.until(&says("overview", "a holds 10.69.0.100"));
        // The page itself notes when it showed that b has the address, and what b said of it.
        let watch = format!(
            "new MutationObserver(() => {{ if (!window.seen && {}) window.seen = Date.now(); }})
             .observe(document.body, {{ childList: true, subtree: true }})",
            says("overview", "b holds 10.69.0.100")
        );
        browser.run(&watch);
        browser
    });
    let browser = browser.await.unwrap();
    b.holds(&[false]).await;
    let cut = now();
    a.power_cut();
    let shown = tokio::task::spawn_blocking(move || {
        browser.until("window.seen");
        browser.until(&says("members", "silent"));
        browser.until("/\\d+ ms/.test(document.querySelector('#events').textContent)");
        browser.audit();
        browser.picture("failover.png");
        browser.run("return window.seen")
    });
    let shown = shown.await.unwrap();
    b.holds(&[true]).await;
    let after = shown.as_u64().unwrap() - cut;
    println!("shown {after} ms after the power cut");
    let events = trigon::admin::client::events(&b.socket(), 0).await;
    let told = serde_json::to_value(events.unwrap()).unwrap();
    let orders = |event: &&Value| event["text"].as_str().unwrap().contains("a new disk");
    assert!(told.as_array().unwrap().iter().any(|event| orders(&event)), "{told}");
}

#[tokio::test]
async fn a_keyboard_is_enough_and_a_failover_shows_by_itself() {
    let lan = Lan::new("trigon-page").unwrap();
    let cloud = lan.host("cloud", vips::CLOUD).unwrap();
    let test = cloud.enter_thread(move || page(lan)).unwrap();
    assert!(test.result().await.is_some(), "the test on the machine panicked, see above");
}
