//! The whole life of an app, as an administrator and its visitors see it, on any stage.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use trigon::lab::nextcloud::Nextcloud;

use crate::machine::{ALICE, KEY, PASSPHRASE, register};
use crate::support::appapi::payload::App;
use crate::support::appapi::{AppApi, DEPLOY, DISABLE, ENABLE, Failure, REMOVE_WITH_DATA, Step};
use crate::support::engine::Engine;
use crate::support::{http, image};

/// The name apps of the tests have their image under: with a registry and its port, which AppAPI
/// does not escape in paths.
pub(crate) const IMAGE: &str = "127.0.0.1:18485/rig/test-deploy";
/// What Docker says of a container that never ran.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Where a life takes place.
pub(crate) struct Stage<'s> {
    pub(crate) appapi: AppApi,
    pub(crate) engine: &'s Engine,
    pub(crate) nextcloud: &'s Nextcloud,
    /// Where visitors go.
    pub(crate) http: SocketAddr,
}

/// An app with the secret AppAPI made for it.
pub(crate) fn app(id: &str, port: u16) -> App {
    App {
        id: id.to_owned(),
        version: "1.0.0".to_owned(),
        secret: format!("the-secret-of-{id}"),
        port,
        image: format!("{IMAGE}:{id}-1"),
    }
}

/// What must never be told in a log, for these apps.
pub(crate) fn nothing_secret_in(log: &str, apps: &[&App]) {
    assert!(!log.is_empty(), "a log without a line proves nothing");
    assert!(!log.contains("panicked"), "{log}");
    let secrets = apps.iter().map(|app| app.secret.as_str()).chain([KEY, PASSPHRASE]);
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret in a log");
    }
}

/// Fails with the step and the answer.
pub(crate) fn went_well<T>(done: Result<T, Failure>) -> T {
    done.unwrap_or_else(|failure| panic!("{failure}"))
}

impl Stage<'_> {
    /// Installed, used, updated with its data, and removed with everything it had.
    pub(crate) async fn whole_life(&self, id: &str, port: u16) {
        let first = app(id, port);
        image::import(self.engine, IMAGE, &format!("{id}-1"), image::Init::Polite).await;
        went_well(self.appapi.check_daemon().await);
        self.installed(&first).await;
        let before = self.used(&first).await;

        let second =
            App { version: "1.1.0".to_owned(), image: format!("{IMAGE}:{id}-2"), ..first.clone() };
        image::tag(self.engine, &first.image, IMAGE, &format!("{id}-2")).await;
        self.told_nothing(&first).await;
        went_well(self.appapi.act(&first, DISABLE).await);
        self.installed(&second).await;
        let after = self.used(&second).await;
        assert_eq!(after["version"], "1.1.0");
        assert_eq!(after["first_start"], before["first_start"], "the volume survived");

        self.told_nothing(&second).await;
        went_well(self.appapi.act(&second, DISABLE).await);
        went_well(self.appapi.act(&second, REMOVE_WITH_DATA).await);
        self.nothing_is_left(&first, &second).await;
    }

    /// Deploys and enables; on the way the container must not run before it has certificates.
    pub(crate) async fn installed(&self, app: &App) {
        register(self.nextcloud, app);
        let (before, after) = split(DEPLOY, Step::FirstStart);
        went_well(self.appapi.act(app, before).await);
        let created = self.engine.container(&name(app)).await.unwrap();
        assert_eq!(created["State"]["StartedAt"], NEVER, "certificates need no start");
        let environment = created["Config"]["Env"].to_string();
        assert!(!environment.contains(KEY), "the shared key is in a container");
        assert!(environment.contains("HP_SHARED_KEY=trigon1."), "it has a token of its own");
        went_well(self.appapi.act(app, after).await);
        went_well(self.appapi.act(app, ENABLE).await);
    }

    /// Visits the app in every way; what its public page said.
    pub(crate) async fn used(&self, app: &App) -> Value {
        let public = format!("/exapps/{}/public/", app.id);
        let page = self.get(&public, &[]).await;
        assert_eq!(page["app"], app.id);
        assert_eq!(page["enabled"], "enabled=1");

        let user = format!("/exapps/{}/user/headers", app.id);
        let refused = http::send(self.http, http::get(&user, &[])).await.unwrap();
        assert_eq!(refused.status(), 403, "a guarded page without a session");
        let echoed = self.get(&user, &[("cookie", ALICE)]).await;
        assert_eq!(header(&echoed, "ex-app-id"), app.id);
        assert_eq!(header(&echoed, "ex-app-version"), app.version);
        let signed = went_well(self.appapi.signed(app, "GET", "/user/headers").await).json();
        assert_eq!(header(&signed, "aa-request-id"), "CLI");
        for kept_back in ["harp-shared-key", "ex-app-host", "ex-app-port"] {
            assert_eq!(header(&signed, kept_back), Value::Null, "W3: {kept_back}");
        }

        let trust = self.get(&format!("/exapps/{}/public/trust", app.id), &[]).await;
        assert!(trust["added"].as_u64().unwrap() > 100, "system certificates: {trust}");
        assert_eq!(trust["trusted"], trust["added"], "and all of them are in force");
        assert_eq!(trust["frp_key_mode"], "600", "{trust}");

        self.echoes(app).await;
        page
    }

    /// A JSON page that must be there.
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Value {
        let answer = http::send(self.http, http::get(path, headers)).await.unwrap();
        let text = String::from_utf8_lossy(answer.body());
        assert_eq!(answer.status(), 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn echoes(&self, app: &App) {
        let url = format!("ws://{}/exapps/{}/public/ws", self.http, app.id);
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        for size in [1, 126, 70_000] {
            let sent = Message::binary(vec![7_u8; size]);
            socket.send(sent.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), sent);
        }
        socket.close(None).await.unwrap();
    }

    /// The container's own log, its frpc's lines included, through AppAPI's page of logs.
    pub(crate) async fn told_nothing(&self, app: &App) {
        let log = went_well(self.appapi.logs(app).await);
        assert!(log.contains("login to server success"), "{log}");
        nothing_secret_in(&log, &[app]);
    }

    async fn nothing_is_left(&self, first: &App, second: &App) {
        assert_eq!(self.engine.container(&name(first)).await, None);
        assert!(!self.engine.has_volume(&format!("{}_data", name(first))).await);
        // Two names of one image: the last one takes the content along.
        let untagged = went_well(self.appapi.remove_image(&first.image).await).json();
        assert_eq!(untagged["deleted"], true, "{untagged}");
        assert_eq!(untagged["bytes_freed"], 0, "{untagged}");
        let deleted = went_well(self.appapi.remove_image(&second.image).await).json();
        assert_eq!(deleted["deleted"], true, "{deleted}");
        assert!(deleted["bytes_freed"].as_u64().unwrap() > 0, "{deleted}");
        let again = went_well(self.appapi.remove_image(&second.image).await).json();
        assert_eq!(again["reason"], "not_found", "{again}");
        assert_eq!(self.engine.json(&format!("/images/{}/json", second.image)).await, None);
    }
}

/// The value of a header the app says it got; null if it got none.
fn header(echoed: &Value, name: &str) -> Value {
    let pairs = echoed["headers"].as_array().unwrap();
    pairs.iter().find(|pair| pair[0] == name).map_or(Value::Null, |pair| pair[1].clone())
}

/// The name of an app's container.
pub(crate) fn name(app: &App) -> String {
    format!("nc_app_{}", app.id)
}

/// The steps before `at`, and from there on.
pub(crate) fn split(steps: &'static [Step], at: Step) -> (&'static [Step], &'static [Step]) {
    let place = steps.iter().position(|step| *step == at).unwrap();
    steps.split_at(place)
}
