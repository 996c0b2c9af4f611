use std::sync::atomic::{AtomicU32, Ordering};

use http::Request;
use http_body_util::BodyExt;

use super::*;
use crate::admin::orders::Orders;
use crate::admin::status::Status;
use crate::admin::{Membership, Refusal};
use crate::http::tls::Files;

const TOKEN: &str = "a-token-nobody-guesses";

fn status() -> Status {
    Status { name: "lb1".into(), ready: true, ..Status::default() }
}

/// A page, how often it was told to drain, and what it has kept.
struct Stage {
    site: Site,
    drained: Arc<AtomicU32>,
    kept: Arc<Mutex<Vec<String>>>,
}

fn stage(secure: bool) -> Stage {
    let files = Files { certificate: "c".into(), key: None };
    let config = Config {
        listen: ([127, 0, 0, 1], 9109).into(),
        token: Secret::new(TOKEN),
        tls: secure.then_some(files),
    };
    let drained = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&drained);
    let orders = Orders {
        drain: Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(drain::Drain { phase: "drained".into(), ..drain::Drain::default() })
        }),
        progress: Arc::new(|| None),
        undrain: Arc::new(|| drain::Undrained { was_draining: false }),
        failover: Arc::new(|_| {
            let refusal = Refusal::Unsafe("the other node is not ready".to_owned());
            Box::pin(ready(Err(refusal)))
        }),
    };
    let source = Source {
        status: Arc::new(status),
        membership: Membership::new(cluster::Handle::in_memory(1)),
        reload: Arc::new(|| Box::pin(ready(Err(Refusal::Failed("no file".to_owned()))))),
        orders: Some(orders),
        backends: None,
        desk: None,
    };
    let kept: Arc<Mutex<Vec<String>>> = Arc::default();
    let audit = {
        let kept = Arc::clone(&kept);
        Arc::new(move |text| kept.lock().unwrap().push(text))
    };
    let site = Site::new(&config, source, audit, CancellationToken::new());
    Stage { site, drained, kept }
}

/// A request of a browser at a page of the site itself.
fn own(method: &str, path: &str, cookie: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(path).header("host", "lb1:9109");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = if cookie.is_empty() { request } else { request.header("cookie", cookie) };
    if method == "POST" {
        request.header("origin", "http://lb1:9109").header("sec-fetch-site", "same-origin")
    } else {
        request
    }
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Got {
    /// The cookie as the browser sends it back.
    fn cookie(&self) -> String {
        let line = self.headers["set-cookie"].to_str().unwrap();
        line.split(';').next().unwrap().to_owned()
    }

    /// The hidden field of its forms.
    fn csrf(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Stage {
    async fn send(&self, request: http::request::Builder, body: &str) -> Got {
        self.send_from("192.0.2.7", request, body).await
    }

    async fn send_from(&self, peer: &str, request: http::request::Builder, body: &str) -> Got {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let answer = self.site.answer(&head, body.as_bytes(), peer.parse().unwrap()).await;
        let (head, body) = answer.into_parts();
        let is_stream =
            head.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = match is_stream {
            true => Vec::new(),
            false => body.collect().await.unwrap().to_bytes().to_vec(),
        };
        let text = String::from_utf8(text).unwrap();
        Got { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn log_in(&self) -> String {
        let got = self.send(own("POST", "/login", ""), &format!("token={TOKEN}")).await;
        assert_eq!(got.status, 303, "{}", got.text);
        got.cookie()
    }

    /// Cookie and CSRF word of a new session.
    async fn session(&self) -> (String, String) {
        let cookie = self.log_in().await;
        let page = self.send(own("GET", "/", &cookie), "").await;
        (cookie, page.csrf())
    }

    fn drained(&self) -> u32 {
        self.drained.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn nothing_is_told_before_the_login() {
    let stage = stage(false);
    for (method, path, status) in [
        ("GET", "/", 303),
        ("GET", "/live", 401),
        ("GET", "/orders/drain", 303),
        ("POST", "/orders/drain", 403),
        ("POST", "/logout", 403),
        ("GET", "/login", 200),
        ("GET", "/page.js", 200),
        ("GET", "/page.css", 200),
        ("GET", "/status", 404),
        ("DELETE", "/", 405),
        ("GET", "/logout", 405),
    ] {
        let got = stage.send(own(method, path, ""), "").await;
        assert_eq!(got.status, status, "{method} {path}");
        assert!(!got.text.contains("lb1"), "{method} {path}: {}", got.text);
    }
}

#[tokio::test]
async fn every_answer_has_the_strict_headers() {
    let stage = stage(false);
    let cookie = stage.log_in().await;
    for path in ["/", "/login", "/page.js", "/nowhere", "/live", "/orders/drain"] {
        let got = stage.send(own("GET", path, &cookie), "").await;
        let policy = got.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(got.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(got.headers["cache-control"], "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_login_shows_the_page_and_a_logout_ends_it() {
    let stage = stage(false);
    let (cookie, csrf) = stage.session().await;
    let page = stage.send(own("GET", "/", &cookie), "").await;
    assert!(page.text.contains("lb1"), "{}", page.text);
    let live = stage.send(own("GET", "/live", &cookie), "").await;
    assert_eq!(
        (live.status, &live.headers["content-type"]),
        (200, &HeaderValue::from_static("text/event-stream"))
    );
    let out = stage.send(own("POST", "/logout", &cookie), &format!("csrf={csrf}")).await;
    assert_eq!(out.status, 303);
    assert_eq!(stage.send(own("GET", "/", &cookie), "").await.status, 303, "logged out");
    assert_eq!(stage.send(own("GET", "/live", &cookie), "").await.status, 401);
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let plain = stage(false).log_in_line().await;
    assert!(plain.starts_with("trigon=") && plain.ends_with("; Path=/; HttpOnly; SameSite=Strict"));
    let secure = stage(true).log_in_line().await;
    assert!(secure.starts_with("__Host-trigon="), "{secure}");
    assert!(secure.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{secure}");
    let value = plain.split(['=', ';']).nth(1).unwrap();
    assert_eq!(value.len(), 64, "256 bits");
}

impl Stage {
    async fn log_in_line(&self) -> String {
        let request = Request::builder().method("POST").uri("/login").header("host", "lb1:9109");
        let origin = if self.site.secure { "https://lb1:9109" } else { "http://lb1:9109" };
        let request = request.header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let got = self.send(request, &format!("token={TOKEN}")).await;
        got.headers["set-cookie"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_by_address_and_even_the_right_one_waits() {
    let stage = stage(false);
    let mut answers = Vec::new();
    for guess in ["", "a", "a-token-nobody-guesse", "a-token-nobody-guesses2", TOKEN] {
        let got = stage.send(own("POST", "/login", ""), &format!("token={guess}")).await;
        assert!(!got.headers.contains_key("set-cookie"), "{guess}");
        answers.push(got.status);
    }
    assert_eq!(answers, [403, 403, 403, 403, 429]);
    let body = format!("token={TOKEN}");
    let other = stage.send_from("192.0.2.8", own("POST", "/login", ""), &body).await;
    assert_eq!(other.status, 303, "another address");
}

#[tokio::test]
async fn an_order_is_asked_about_then_carried_out_with_a_reason() {
    let stage = stage(false);
    let (cookie, _) = stage.session().await;
    let asked = stage.send(own("GET", "/orders/drain", &cookie), "").await;
    assert!(asked.text.contains("lb1 takes no new work"), "{}", asked.text);
    assert_eq!(stage.drained(), 0, "asking does nothing");
    let csrf = asked.csrf();
    let no_reason =
        stage.send(own("POST", "/orders/drain", &cookie), &format!("csrf={csrf}")).await;
    assert_eq!((no_reason.status, stage.drained()), (400, 0));
    let body = format!("csrf={csrf}&reason=kernel+update");
    let done = stage.send(own("POST", "/orders/drain", &cookie), &body).await;
    assert_eq!((done.status, stage.drained()), (303, 1));
    let kept = stage.kept.lock().unwrap().clone();
    assert_eq!(kept, ["admin at 192.0.2.7 orders: Drain this node; reason: kernel update"]);
    let page = stage.send(own("GET", "/", &cookie), "").await;
    assert!(page.text.contains("Drain this node: drained"), "{}", page.text);
    let again = stage.send(own("GET", "/", &cookie), "").await;
    assert!(!again.text.contains("node: drained"), "told once");
}

#[tokio::test]
async fn a_refused_order_tells_why() {
    let stage = stage(false);
    let (cookie, csrf) = stage.session().await;
    let body = format!("csrf={csrf}&reason=test");
    stage.send(own("POST", "/orders/failover", &cookie), &body).await;
    let page = stage.send(own("GET", "/", &cookie), "").await;
    assert!(page.text.contains("refused, the other node is not ready"), "{}", page.text);
}

#[tokio::test]
async fn a_forged_order_is_refused() {
    let stage = stage(false);
    let (cookie, _) = stage.session().await;
    let (_, of_another_session) = stage.session().await;
    for csrf in ["", "csrf=", "csrf=0", &format!("csrf={of_another_session}")] {
        let body = format!("{csrf}&reason=test");
        let got = stage.send(own("POST", "/orders/drain", &cookie), &body).await;
        assert_eq!(got.status, 403, "{csrf}");
    }
    assert_eq!(stage.drained(), 0);
}

#[tokio::test]
async fn an_order_from_another_site_is_refused() {
    let stage = stage(false);
    let (cookie, csrf) = stage.session().await;
    let body = format!("csrf={csrf}&reason=test");
    let bare = || {
        let request = Request::builder().method("POST").uri("/orders/drain");
        let request = request.header("host", "lb1:9109").header("cookie", &cookie);
        request.header("content-type", "application/x-www-form-urlencoded")
    };
    for request in [
        bare(),
        bare().header("origin", "http://evil.example"),
        bare().header("origin", "null"),
        bare().header("origin", "http://lb1:9109").header("sec-fetch-site", "cross-site"),
        bare().header("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(stage.send(request, &body).await.status, 403);
    }
    let login = own("POST", "/login", "").header("sec-fetch-site", "cross-site");
    assert_eq!(stage.send(login, &format!("token={TOKEN}")).await.status, 403);
    let live = own("GET", "/live", &cookie).header("sec-fetch-site", "cross-site");
    assert_eq!(stage.send(live, "").await.status, 403);
    assert_eq!(stage.drained(), 0);
}

#[tokio::test]
async fn an_order_of_a_session_that_has_ended_is_refused() {
    let stage = stage(false);
    let (cookie, csrf) = stage.session().await;
    stage.send(own("POST", "/logout", &cookie), &format!("csrf={csrf}")).await;
    let body = format!("csrf={csrf}&reason=test");
    let late = stage.send(own("POST", "/orders/drain", &cookie), &body).await;
    assert_eq!((late.status, stage.drained()), (403, 0));
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    let stage = stage(false);
    let (cookie, csrf) = stage.session().await;
    let json = own("POST", "/orders/drain", &cookie);
    let mut head = json.body(()).unwrap();
    head.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    let (head, ()) = head.into_parts();
    let body = format!("csrf={csrf}&reason=test");
    let got = stage.site.answer(&head, body.as_bytes(), "::1".parse().unwrap()).await;
    assert_eq!((got.status().as_u16(), stage.drained()), (400, 0));
}

#[tokio::test]
async fn a_new_login_ends_the_session_of_the_same_browser() {
    let stage = stage(false);
    let first = stage.log_in().await;
    let got = stage.send(own("POST", "/login", &first), &format!("token={TOKEN}")).await;
    assert_ne!(got.cookie(), first);
    assert_eq!(stage.send(own("GET", "/", &first), "").await.status, 303);
    let both = format!("{first}; other=1; {}", got.cookie());
    assert_eq!(stage.send(own("GET", "/", &both), "").await.status, 200, "the one that is open");
}

#[tokio::test]
async fn a_witness_has_no_orders() {
    let mut stage = stage(false);
    stage.site.source.orders = None;
    let (cookie, csrf) = stage.session().await;
    for order in ["drain", "undrain", "failover", "unban", "reboot"] {
        let path = format!("/orders/{order}?address=192.0.2.1");
        assert_eq!(stage.send(own("GET", &path, &cookie), "").await.status, 404, "{order}");
        let body = format!("csrf={csrf}&reason=x&address=192.0.2.1");
        assert_eq!(stage.send(own("POST", &path, &cookie), &body).await.status, 404, "{order}");
    }
}
