//! An engine on the node's own machine, reached by its socket under port 24000.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trigon::lab::namespaces::Host;
use trigon::lab::nextcloud::Nextcloud;

use crate::life::{IMAGE, Stage, app, name, nothing_secret_in, went_well};
use crate::machine::{
    FRP_PORT, HTTP_PORT, KEY, Trigon, node_sections, on_a_machine, start_nextcloud,
};
use crate::support::appapi::payload::App;
use crate::support::appapi::{AppApi, DIALECTS, DISABLE, Daemon, Dialect, REMOVE, Step};
use crate::support::engine::Engine;
use crate::support::image::{self, Init};
use crate::support::{http, registry};

pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// A node with an engine beside it.
pub(crate) struct Site {
    pub(crate) trigon: Trigon,
    pub(crate) engine: Engine,
    pub(crate) nextcloud: Nextcloud,
}

impl Site {
    pub(crate) async fn start(host: &Arc<Host>) -> Self {
        let engine = Engine::start(host).await;
        let nextcloud = start_nextcloud(ADDRESS).await;
        let socket = engine.socket();
        let docker = format!("[docker]\nsocket = \"{}\"", socket.display());
        let text = |dir: &Path| node_sections(dir, ADDRESS, &docker);
        let trigon = Trigon::start(host, text);
        trigon.ready().await;
        Self { trigon, engine, nextcloud }
    }

    pub(crate) fn appapi(&self, dialect: Dialect, engine: u16) -> AppApi {
        let daemon = Daemon {
            server: SocketAddr::from((ADDRESS, HTTP_PORT)),
            key: KEY,
            engine,
            frp: SocketAddr::from((ADDRESS, FRP_PORT)),
        };
        AppApi { daemon, dialect }
    }

    pub(crate) fn stage(&self, dialect: Dialect) -> Stage<'_> {
        Stage {
            appapi: self.appapi(dialect, 24_000),
            engine: &self.engine,
            nextcloud: &self.nextcloud,
            http: SocketAddr::from((ADDRESS, HTTP_PORT)),
        }
    }
}

#[tokio::test]
async fn every_dialect_installs_uses_updates_and_removes_an_app() {
    on_a_machine(ADDRESS, |_lan, host| async move {
        let site = Site::start(&host).await;
        for (port, dialect) in (23_000..).zip(DIALECTS) {
            let id = format!("app-{}", dialect.name);
            site.stage(dialect).whole_life(&id, port).await;
            nothing_secret_in(&site.trigon.log(), &[&app(&id, port)]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_test_deployment_replaces_the_app_with_its_secret() {
    on_a_machine(ADDRESS, |_lan, host| async move {
        let site = Site::start(&host).await;
        let stage = site.stage(DIALECTS[1]);
        let first = app("test-deploy", 23_010);
        image::import(&site.engine, IMAGE, "test-deploy-1", Init::Deaf).await;
        stage.installed(&first).await;
        let before = stage.used(&first).await;

        // Registered again without taking the record back: the old secret is in force here until
        // the new one is pushed, and the app must be reached all the same.
        let second = App { secret: "another-secret-of-test-deploy".to_owned(), ..first.clone() };
        stage.installed(&second).await;
        let after = stage.used(&second).await;
        assert_eq!(after["first_start"], before["first_start"], "the volume stays");

        // PID 1 does not hear SIGTERM: Docker's ten seconds pass, and that is no failure.
        went_well(stage.appapi.act(&second, DISABLE).await);
        let stopped = site.engine.container(&name(&second)).await.unwrap();
        assert_eq!(stopped["State"]["Status"], "exited");
        assert_eq!(stopped["State"]["ExitCode"], 137);
        went_well(stage.appapi.act(&second, REMOVE).await);
        assert!(site.engine.has_volume(&format!("{}_data", name(&second))).await);
        nothing_secret_in(&site.trigon.log(), &[&first, &second]);
    })
    .await;
}

#[tokio::test]
async fn a_pull_streams_what_the_engine_says() {
    on_a_machine(ADDRESS, |_lan, host| async move {
        let site = Site::start(&host).await;
        let app = app("pulled", 23_020);
        let registry = SocketAddr::from(([127, 0, 0, 1], 18_485));
        let stage = site.stage(DIALECTS[0]);

        // Nobody listens there yet; AppAPI reads the engine's own words.
        let direct = "/images/create?fromImage=127.0.0.1%3A18485%2Frig%2Ftest-deploy%3Apulled-1";
        let refused = went_well(stage.appapi.pull_one(&app.image).await);
        let own = site.engine.call(http::request("POST", direct, &[], "")).await;
        assert_eq!((refused.status, &refused.body), (own.status(), own.body()));
        assert!(refused.text().contains("connection refused"), "{}", refused.text());

        let layer = Bytes::from_static(image::archive());
        registry::serve(registry, "pulled-1", layer, &["/exapp"]).await;
        // First the image for the device, which is not there, then the plain one.
        let progress = went_well(stage.appapi.take(&app, Step::Pull).await).text();
        let last = progress.lines().last().unwrap_or_default();
        assert!(last.contains("Status: Downloaded newer image"), "{progress}");
        stage.installed(&app).await;
        stage.used(&app).await;
        nothing_secret_in(&site.trigon.log(), &[&app]);
    })
    .await;
}
