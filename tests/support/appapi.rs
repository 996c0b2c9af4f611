//! Nextcloud's AppAPI as a server under HaRP's contract meets it: the ordered calls of its
//! actions, with its headers, and as strict as it is about the answers. A [`Step`] is one thing
//! AppAPI does, an action a list of them; a test may stop between two steps and go on later.
//!
//! Recorded from AppAPI 32.0.1, 33.0.8 and 35-dev. Where AppAPI only logs a failure (certificates,
//! records) the driver insists all the same: such a server would leave an app that cannot work.

mod calls;
pub(crate) mod payload;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;

use payload::App;

/// What differs between the versions of AppAPI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// The value of AA-VERSION.
    version: &'static str,
    /// The Docker API version in paths.
    pub(crate) docker: &'static str,
    /// Whether it looks at `/info` in its setup checks.
    asks_info: bool,
    /// Whether `resource_limits` is sent.
    limits: bool,
    /// Size of the bundle of system certificates, in bytes.
    bundle: usize,
}

/// The oldest, the one most servers run, and the coming one.
pub(crate) const DIALECTS: [Dialect; 3] = [
    Dialect {
        name: "32.0.1",
        version: "32.0.0",
        docker: "v1.41",
        asks_info: false,
        limits: false,
        bundle: 232_000,
    },
    Dialect {
        name: "33.0.8",
        version: "33.0.8",
        docker: "v1.44",
        asks_info: true,
        limits: true,
        bundle: 232_000,
    },
    Dialect {
        name: "35-dev",
        version: "35.0.0",
        docker: "v1.44",
        asks_info: true,
        limits: true,
        bundle: 190_000,
    },
];

/// A deploy daemon as an administrator registers it.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    /// Address and port of the server under test.
    pub(crate) server: SocketAddr,
    /// The shared key.
    pub(crate) key: &'static str,
    /// Docker engine port.
    pub(crate) engine: u16,
    /// Where ExApps log in.
    pub(crate) frp: SocketAddr,
}

/// One thing AppAPI does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `docker pull` of the image for the compute device, which may not exist, then of the plain
    /// one.
    Pull,
    /// The same for a registry mapped to `local`: the images must be there.
    FindImage,
    /// Removes the container, not its volume, if there is one.
    MakeRoom,
    Create,
    InstallCertificates,
    /// The start after `create`: "already started" is a failure here.
    FirstStart,
    Start,
    WaitForStart,
    Inspect,
    Heartbeat,
    Init,
    Enable,
    PushRecord,
    Disable,
    Stop,
    DeleteRecord,
    /// The container must exist.
    Exists,
    Remove {
        data: bool,
    },
}

use Step::{
    Create, DeleteRecord, Disable, Enable, Exists, FindImage, FirstStart, Heartbeat, Init, Inspect,
    InstallCertificates, MakeRoom, PushRecord, Remove, Start, Stop, WaitForStart,
};

/// `app_api:app:register` until the app says that it is ready.
#[rustfmt::skip]
pub(crate) const DEPLOY: &[Step] = &[
    FindImage, MakeRoom, Create, InstallCertificates, FirstStart, WaitForStart, Inspect, Heartbeat,
    Init,
];
/// `app_api:app:enable`, which also ends every deployment.
#[rustfmt::skip]
pub(crate) const ENABLE: &[Step] = &[Start, WaitForStart, Inspect, Heartbeat, Enable, PushRecord];
/// `app_api:app:disable`.
pub(crate) const DISABLE: &[Step] = &[Disable, Stop, DeleteRecord];
/// `app_api:app:unregister --rm-data`, after [`DISABLE`].
pub(crate) const REMOVE_WITH_DATA: &[Step] = &[Exists, Remove { data: true }];
/// The end of a test deployment: the volume stays.
pub(crate) const REMOVE: &[Step] = &[Exists, Remove { data: false }];

/// An answer, and what was asked.
#[derive(Debug)]
pub(crate) struct Answer {
    asked: String,
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Passes the answer on if its status is one of these.
    fn wants(self, statuses: &[u16]) -> Result<Self, Failure> {
        if statuses.contains(&self.status.as_u16()) {
            return Ok(self);
        }
        Err(self.refused(&format!("one of the statuses {statuses:?}")))
    }

    fn wants_that(self, holds: bool, wanted: &str) -> Result<Self, Failure> {
        if holds { Ok(self) } else { Err(self.refused(wanted)) }
    }

    fn refused(&self, wanted: &str) -> Failure {
        let text: String = self.text().chars().take(600).collect();
        Failure {
            step: None,
            asked: self.asked.clone(),
            wanted: wanted.to_owned(),
            found: format!("{}: {text}", self.status),
        }
    }
}

/// Why AppAPI would give up.
#[derive(Debug)]
pub(crate) struct Failure {
    step: Option<Step>,
    asked: String,
    wanted: String,
    found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, asked, wanted, found } = self;
        if let Some(step) = step {
            write!(f, "{step:?}: ")?;
        }
        write!(f, "{asked}: wanted {wanted}, found {found}")
    }
}

/// A Nextcloud with one deploy daemon.
#[derive(Clone, Debug)]
pub(crate) struct AppApi {
    pub(crate) daemon: Daemon,
    pub(crate) dialect: Dialect,
}

impl AppApi {
    /// Takes these steps one after the other.
    pub(crate) async fn act(&self, app: &App, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            self.take(app, *step).await?;
        }
        Ok(())
    }

    /// Takes one step and passes on the answer AppAPI would go on with.
    pub(crate) async fn take(&self, app: &App, step: Step) -> Result<Answer, Failure> {
        let done = match step {
            Step::Pull => self.pull(app).await,
            FindImage => self.find_image(app).await,
            MakeRoom => self.make_room(app).await,
            Create => self.create(app).await,
            InstallCertificates => {
                let body = app.certificates(self.dialect.bundle);
                let within = Duration::from_secs(180);
                self.exapp_within("install_certificates", body, within).await?.wants(&[204])
            }
            FirstStart => self.exapp("start", app.name()).await?.wants(&[204]),
            Start => self.exapp("start", app.name()).await?.wants(&[200, 204]),
            Stop => self.exapp("stop", app.name()).await?.wants(&[200, 204]),
            WaitForStart => self.wait_for_start(app).await,
            Inspect => self.inspect(app).await,
            Heartbeat => self.heartbeat(app).await,
            Init => self.signed(app, "POST", "/init").await?.wants(&[200, 404, 501]),
            Enable => self.enable(app, true).await,
            Disable => self.enable(app, false).await,
            PushRecord => self.push_record(app).await,
            DeleteRecord => self.delete_record(app).await?.wants(&[204, 404]),
            Exists => self.must_exist(app).await,
            Remove { data } => self.exapp("remove", app.removal(data)).await?.wants(&[204]),
        };
        done.map_err(|failure| Failure { step: Some(step), ..failure })
    }

    async fn find_image(&self, app: &App) -> Result<Answer, Failure> {
        let special = self.docker("GET", &format!("/images/{}-cpu/json", app.image)).await?;
        if special.status == 200 {
            return Ok(special);
        }
        self.docker("GET", &format!("/images/{}/json", app.image)).await?.wants(&[200])
    }

    async fn pull(&self, app: &App) -> Result<Answer, Failure> {
        let special = self.pull_one(&format!("{}-cpu", app.image)).await?;
        if special.status == 200 {
            return Ok(special);
        }
        let pulled = self.pull_one(&app.image).await?.wants(&[200])?;
        // A pull that fails half way has its status sent already and says so in its last line.
        let failed = pulled.text().contains("\"errorDetail\"");
        pulled.wants_that(!failed, "a pull without an error in its progress")
    }

    async fn make_room(&self, app: &App) -> Result<Answer, Failure> {
        let found = self.exapp("exists", app.name()).await?.wants(&[200])?;
        match found.json()["exists"].as_bool() {
            Some(true) => self.exapp("remove", app.removal(false)).await?.wants(&[204]),
            Some(false) => Ok(found),
            None => Err(found.refused("{\"exists\": true or false}")),
        }
    }

    async fn must_exist(&self, app: &App) -> Result<Answer, Failure> {
        let found = self.exapp("exists", app.name()).await?.wants(&[200])?;
        let exists = found.json()["exists"] == true;
        found.wants_that(exists, "a container that exists")
    }

    async fn create(&self, app: &App) -> Result<Answer, Failure> {
        let body = app.creation(&self.daemon, self.dialect.version, self.dialect.limits);
        let created = self.exapp("create", body).await?.wants(&[201])?;
        let said = created.json();
        let whole = said["id"].is_string() && said["name"].is_string();
        created.wants_that(whole, "the strings `id` and `name`")
    }

    async fn wait_for_start(&self, app: &App) -> Result<Answer, Failure> {
        let within = Duration::from_secs(150);
        let waited =
            self.exapp_within("wait_for_start", app.name(), within).await?.wants(&[200])?;
        let said = waited.json();
        let started = said["started"] == true && said["status"].is_string();
        waited.wants_that(started, "`started` true, with a `status`")
    }

    async fn inspect(&self, app: &App) -> Result<Answer, Failure> {
        let inspected = self.docker("GET", &format!("/containers/nc_app_{}/json", app.id)).await?;
        // A 503 is tolerated here.
        let inspected = inspected.wants(&[200, 503])?;
        let health = inspected.json()["State"]["Health"]["Status"].as_str().map(str::to_owned);
        let fine = !matches!(health.as_deref(), Some("unhealthy" | "starting"));
        inspected.wants_that(fine, "a container that is not unhealthy")
    }

    async fn enable(&self, app: &App, enabled: bool) -> Result<Answer, Failure> {
        let target = format!("/enabled?enabled={}", u8::from(enabled));
        let answer = self.signed(app, "PUT", &target).await?.wants(&[200])?;
        let said = answer.json();
        let fine = said.is_object() && said["error"].as_str().unwrap_or_default().is_empty();
        answer.wants_that(fine, "JSON without an `error`")
    }

    async fn push_record(&self, app: &App) -> Result<Answer, Failure> {
        let path = format!("/exapp_storage/{}", app.id);
        self.plain("POST", &path, Some(app.record())).await?.wants(&[204])
    }

    async fn delete_record(&self, app: &App) -> Result<Answer, Failure> {
        self.plain("DELETE", &format!("/exapp_storage/{}", app.id), None).await
    }

    /// Once a second up to 600 times in AppAPI; here more often and less long.
    async fn heartbeat(&self, app: &App) -> Result<Answer, Failure> {
        let mut last = None;
        for _attempt in 0..400 {
            match self.signed(app, "GET", "/heartbeat").await {
                Ok(answer) if answer.status == 200 && answer.json()["status"] == "ok" => {
                    return Ok(answer);
                }
                Ok(answer) => last = Some(answer.refused("200 and {\"status\":\"ok\"}")),
                Err(failure) => last = Some(failure),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(last.unwrap())
    }

    /// The setup check and the button of the administration page.
    pub(crate) async fn check_daemon(&self) -> Result<(), Failure> {
        self.ping().await?.wants(&[200])?;
        if self.dialect.asks_info {
            let info = self.plain("GET", "/info", None).await?.wants(&[200])?;
            let version = info.json()["version"].clone();
            let new_enough = version.as_str().is_some_and(|version| {
                let numbers = version.split('.').filter_map(|number| number.parse().ok());
                numbers.collect::<Vec<u32>>() >= vec![0, 3, 0]
            });
            info.wants_that(new_enough, "a `version` of 0.3.0 or later")?;
        }
        Ok(())
    }

    /// `GET _ping`, for which AppAPI allows three seconds.
    pub(crate) async fn ping(&self) -> Result<Answer, Failure> {
        self.docker_within("GET", "/_ping", Duration::from_secs(3)).await
    }

    /// What a container has said on both its outputs.
    pub(crate) async fn logs(&self, app: &App) -> Result<String, Failure> {
        let path = format!("/containers/nc_app_{}/logs?stdout=true&stderr=true&tail=all", app.id);
        let answer = self.docker("GET", &path).await?.wants(&[200])?;
        let mut text = Vec::new();
        let mut rest = &answer.body[..];
        // Docker's frames: stream, three zero bytes, length, content.
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = head[4..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let well_formed = head[0] <= 2 && head[1..4] == [0, 0, 0] && length <= after.len();
            if !well_formed {
                return Err(answer.refused("Docker's framed log stream"));
            }
            let (content, next) = after.split_at(length);
            text.extend(content);
            rest = next;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        answer.wants_that(true, "").map(|_answer| text)
    }

    /// Removes the image an app had (AppAPI after an update, from 35 on).
    pub(crate) async fn remove_image(&self, image: &str) -> Result<Answer, Failure> {
        let body = serde_json::json!({ "image_ref": image });
        self.exapp("image_remove", body).await?.wants(&[200])
    }
}
