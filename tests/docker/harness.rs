//! The test's own machinery: an engine that ends without a trace.

use serde_json::json;

use crate::local::ADDRESS;
use crate::machine::on_a_machine;
use crate::support::engine::Engine;
use crate::support::image::{Init, import};
use crate::support::{eventually, http};

#[tokio::test]
async fn an_engine_ends_with_its_containers_mounts_and_files() {
    on_a_machine(ADDRESS, |_lan, host| async move {
        let engine = Engine::start(&host).await;
        import(&engine, "rig/harness", "1", Init::Deaf).await;
        let body = json!({
            "Image": "rig/harness:1",
            "Env": [
                "APP_ID=a", "APP_VERSION=1", "APP_SECRET=s", "APP_PORT=23000",
                "APP_PERSISTENT_STORAGE=/tmp",
            ],
            "HostConfig": { "NetworkMode": "host" },
        });
        for (path, body) in [
            ("/containers/create?name=left", body.to_string()),
            ("/containers/left/start", String::new()),
        ] {
            let headers = [("content-type", "application/json")];
            let answer = engine.call(http::request("POST", path, &headers, body)).await;
            let told = String::from_utf8_lossy(answer.body());
            assert!(answer.status().is_success(), "{path}: {told}");
        }
        let runs = || async {
            let left = engine.container("left").await?;
            (left["State"]["Running"] == true).then_some(())
        };
        eventually("the container runs", runs).await;
        let place = engine.socket().parent().unwrap().display().to_string();
        drop(engine);
        assert!(!std::path::Path::new(&place).exists(), "files");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&place), "mounts");
        // The engine, its containerd and the container shared the machine's network.
        assert_eq!(host.processes().unwrap(), [], "processes");
    })
    .await;
}
