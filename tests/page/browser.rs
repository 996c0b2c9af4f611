//! Just enough of WebDriver to use a page as somebody with a keyboard does, in Debian's Chromium.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The driver's port; the machine is a namespace of its own.
const DRIVER: ([u8; 4], u16) = ([127, 0, 0, 1], 9515);

/// Longest wait for anything; what is waited for comes within a second or two.
const LIMIT: Duration = Duration::from_secs(60);

const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// A browser without a window. Ends with the value.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    axe: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one on the machine of the calling thread.
    pub(crate) fn start() -> Self {
        let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/axe.min.js");
        let axe = std::fs::read_to_string(&axe).unwrap_or_else(|error| {
            panic!("{}: {error}; tests/run --page brings it", axe.display())
        });
        let profile = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", DRIVER.1))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}; tests/run --page installs it"));
        let mut browser = Self { driver, session: String::new(), axe, _profile: profile };
        let end = Instant::now() + LIMIT;
        while TcpStream::connect(SocketAddr::from(DRIVER)).is_err() {
            assert!(Instant::now() < end, "the driver does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=1200,1400",
        ];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let begun = browser.call("POST", "/session", &wanted);
        browser.session = begun["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Goes to a page.
    pub(crate) fn open(&self, url: &str) {
        self.on("/url", &json!({ "url": url }));
    }

    /// What a piece of script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.on("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression holds.
    pub(crate) fn until(&self, expression: &str) {
        let end = Instant::now() + LIMIT;
        while self.run(&format!("return Boolean({expression})")) != Value::Bool(true) {
            let page = self.run("return document.body.innerText");
            assert!(Instant::now() < end, "never: {expression}\n{}", page.as_str().unwrap_or(""));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types where the focus is.
    pub(crate) fn keys(&self, text: &str) {
        let active =
            self.call("GET", &format!("/session/{}/element/active", self.session), &Value::Null);
        let element = active.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.on(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Moves the focus forward until it is at that element.
    pub(crate) fn tab_to(&self, selector: &str) {
        for _ in 0..60 {
            if self.run(&format!("return document.activeElement.matches('{selector}')")) == true {
                let outline = "return getComputedStyle(document.activeElement).outlineStyle";
                assert_ne!(self.run(outline), "none", "nobody sees that {selector} has the focus");
                return;
            }
            self.keys(TAB);
        }
        panic!("{selector} cannot be reached by keyboard");
    }

    /// Whether the machine of the visitor prefers the dark.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.on("/goog/cdp/execute", &command);
    }

    /// Keeps a picture of the page, if anybody asked for pictures.
    pub(crate) fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os("PAGE_IMAGES") else { return };
        let path = format!("/session/{}/screenshot", self.session);
        let bytes =
            STANDARD.decode(self.call("GET", &path, &Value::Null).as_str().unwrap()).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(Path::new(&dir).join(name), bytes).unwrap();
    }

    /// Fails if axe finds anything serious on the page that is shown.
    pub(crate) fn audit(&self) {
        self.run(&format!("{}; return true", self.axe));
        let script = "const done = arguments[arguments.length - 1];
            axe.run().then(found => done(found.violations
                .filter(one => ['serious', 'critical'].includes(one.impact))
                .map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' '))))";
        let found = self.on("/execute/async", &json!({ "script": script, "args": [] }));
        assert_eq!(found, json!([]), "at {}", self.run("return location.pathname"));
    }

    fn on(&self, what: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{what}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(SocketAddr::from(DRIVER)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The driver does not close the connection.
        let text = loop {
            let mut some = [0; 16_384];
            let read = stream.read(&mut some).unwrap();
            assert!(read > 0, "the driver broke off: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..read]);
            let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let lines = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let length = lines
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let body = &answer[head + 4..];
            if length.is_some_and(|length: usize| body.len() >= length) {
                break String::from_utf8_lossy(body).into_owned();
            }
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let value = value["value"].clone();
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let end = std::panic::AssertUnwindSafe(|| self.call("DELETE", &path, &Value::Null));
            let _ = std::panic::catch_unwind(end);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
