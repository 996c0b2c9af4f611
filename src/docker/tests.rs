//! What an engine is asked, in which order, and what becomes of its answers.

use std::time::Duration;

use serde_json::{Value, json};

use super::containers::{self, Changed, Patience};
use super::testing::{Answer, Speaks, Stub, engine_behind};
use super::{Error, Names, images, payload};

const CONTAINER: &str = "GET /containers/nc_app_demo/json";
const VOLUME: &str = "GET /volumes/nc_app_demo_data";

fn names() -> Names {
    Names::new("demo", "", "").unwrap()
}

fn container(status: &str, labels: &Value) -> Value {
    json!({
        "Id": "c0", "Image": "sha256:1111",
        "State": { "Status": status },
        "Config": { "Image": "img:1", "Labels": labels, "User": "" },
    })
}

fn volume(labels: &Value) -> Value {
    json!({
        "Name": "nc_app_demo_data", "Driver": "local", "Mountpoint": "/x", "Scope": "local",
        "Labels": labels, "Options": null,
    })
}

fn of(tenant: &str) -> Value {
    json!({ "io.trigon.tenant": tenant, "io.trigon.exapp": "demo" })
}

fn create() -> payload::Create {
    payload::create(br#"{"name":"demo","image_id":"img:1","environment_variables":["A=1"]}"#)
        .unwrap()
}

#[tokio::test]
async fn a_container_exists_or_not() {
    let stub = Stub::default();
    assert_eq!(containers::exists(&stub.engine(), &names()).await.unwrap(), None);
    stub.json(CONTAINER, 200, container("running", &Value::Null));
    let found = containers::exists(&stub.engine(), &names()).await.unwrap();
    assert_eq!(found.as_deref(), Some("img:1"));
    let mut bare = container("running", &Value::Null);
    bare["Config"]["Image"] = json!("");
    stub.json(CONTAINER, 200, bare);
    let found = containers::exists(&stub.engine(), &names()).await.unwrap();
    assert_eq!(found.as_deref(), Some("sha256:1111"));
    // No version in the path: the engine speaks its newest.
    assert_eq!(stub.calls(), [CONTAINER; 3]);
    assert_eq!(stub.seen()[0].headers["host"], "docker");
}

#[tokio::test]
async fn create_makes_the_volume_first_and_labels_both() {
    let stub = Stub::default();
    stub.json("POST /volumes/create", 201, volume(&of("")));
    stub.json("POST /containers/create", 201, json!({ "Id": "c0", "Warnings": null }));
    let environment = vec!["A=changed".to_owned()];
    let id = containers::create(&stub.engine(), "", &create(), environment).await.unwrap();
    assert_eq!(id, "c0");
    assert_eq!(stub.calls(), [VOLUME, "POST /volumes/create", "POST /containers/create"]);
    let seen = stub.seen();
    assert_eq!(seen[1].json(), json!({ "Name": "nc_app_demo_data", "Labels": of("") }));
    assert!(seen[2].query.contains("name=nc_app_demo"), "{}", seen[2].query);
    assert_eq!(seen[2].json()["Labels"], of(""));
    assert_eq!(seen[2].json()["Env"], json!(["A=changed"]));
}

#[tokio::test]
async fn create_takes_a_volume_harp_has_made() {
    let stub = Stub::default();
    stub.json(VOLUME, 200, volume(&Value::Null));
    stub.json("POST /containers/create", 201, json!({ "Id": "c0", "Warnings": [] }));
    containers::create(&stub.engine(), "", &create(), Vec::new()).await.unwrap();
    assert_eq!(stub.calls(), [VOLUME, "POST /containers/create"]);
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    let stub = Stub::default();
    stub.json(VOLUME, 200, volume(&of("")));
    stub.json("POST /containers/create", 409, json!({ "message": "name in use" }));
    let refused = containers::create(&stub.engine(), "", &create(), Vec::new()).await.unwrap_err();
    assert_eq!(refused.status(), Some(409));
    assert_eq!(refused.to_string(), "the Docker engine of port 24000 answered 409: name in use");
}

#[tokio::test]
async fn start_and_stop_tell_a_change_from_none() {
    let stub = Stub::default();
    let engine = stub.engine();
    let missing = containers::start(&engine, "", &names()).await.unwrap_err();
    assert_eq!(missing.status(), Some(404));
    stub.json(CONTAINER, 200, container("created", &of("")));
    for (call, status, expect) in [
        ("start", 204, Changed::Done),
        ("start", 304, Changed::Already),
        ("stop", 204, Changed::Done),
        ("stop", 304, Changed::Already),
    ] {
        stub.status(&format!("POST /containers/nc_app_demo/{call}"), status);
        let changed = match call {
            "start" => containers::start(&engine, "", &names()).await,
            _ => containers::stop(&engine, "", &names()).await,
        };
        assert_eq!(changed.unwrap(), expect, "{call} {status}");
        assert!(stub.seen().last().unwrap().body.is_empty());
    }
    stub.json("POST /containers/nc_app_demo/start", 500, json!({ "message": "no gpu" }));
    let refused = containers::start(&engine, "", &names()).await.unwrap_err();
    assert!(refused.to_string().ends_with("answered 500: no gpu"), "{refused}");
}

#[tokio::test]
async fn what_another_tenant_made_is_not_touched() {
    let stub = Stub::default();
    let engine = stub.engine();
    stub.json(CONTAINER, 200, container("running", &of("blue")));
    stub.json(VOLUME, 200, volume(&of("blue")));
    let refusals = [
        containers::start(&engine, "", &names()).await.unwrap_err(),
        containers::stop(&engine, "red", &names()).await.unwrap_err(),
        containers::remove(&engine, "", &names(), true).await.unwrap_err(),
        containers::create(&engine, "", &create(), Vec::new()).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::Foreign { .. }), "{refusal}");
    }
    assert!(stub.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", stub.calls());
    assert!(containers::is_foreign_container(&engine, "", "nc_app_demo").await.unwrap());
    assert!(!containers::is_foreign_container(&engine, "blue", "nc_app_demo").await.unwrap());
    assert!(!containers::is_foreign_container(&engine, "", "nc_app_gone").await.unwrap());
}

#[tokio::test]
async fn a_foreign_volume_alone_stops_the_removal_of_data() {
    let stub = Stub::default();
    stub.json(VOLUME, 200, volume(&of("blue")));
    let refused = containers::remove(&stub.engine(), "", &names(), true).await.unwrap_err();
    assert_eq!(refused.to_string(), "nc_app_demo_data belongs to another Nextcloud");
}

#[tokio::test]
async fn remove_is_idempotent() {
    let stub = Stub::default();
    let engine = stub.engine();
    containers::remove(&engine, "", &names(), true).await.unwrap();
    stub.json(CONTAINER, 200, container("running", &Value::Null));
    stub.json(VOLUME, 200, volume(&Value::Null));
    for (removed, gone) in [(204, 204), (404, 404), (409, 204)] {
        stub.status("DELETE /containers/nc_app_demo", removed);
        stub.status("DELETE /volumes/nc_app_demo_data", gone);
        containers::remove(&engine, "", &names(), true).await.unwrap();
    }
    let last = stub.seen().into_iter().rfind(|seen| seen.call.contains("DELETE /containers"));
    assert!(last.unwrap().query.contains("force=true"));

    stub.json("DELETE /volumes/nc_app_demo_data", 409, json!({ "message": "volume is in use" }));
    let in_use = containers::remove(&engine, "", &names(), true).await.unwrap_err();
    assert_eq!(in_use.status(), Some(409));
    let before = stub.calls().len();
    containers::remove(&engine, "", &names(), false).await.unwrap();
    assert!(!stub.calls()[before..].iter().any(|call| call.contains("volumes")));
}

const HASTE: Patience =
    Patience { every: Duration::from_millis(1), looks: 20, within: Duration::from_secs(20) };

#[tokio::test]
async fn w25_waiting_is_looking_again_from_wherever() {
    let stub = Stub::default();
    let state = |status: &str| Answer::Json(200, container(status, &Value::Null));
    stub.on(CONTAINER, [state("created"), state("restarting"), state("running")]);
    let waited = containers::wait_for_start(&stub.engine(), &names(), HASTE).await.unwrap();
    assert!(waited.started);
    assert_eq!(stub.calls(), [CONTAINER; 3]);
    // Another node asks the same and needs nothing of what the first one knew.
    let waited = containers::wait_for_start(&stub.engine(), &names(), HASTE).await.unwrap();
    assert!(waited.started);

    stub.on(CONTAINER, [state("created")]);
    let waited = containers::wait_for_start(&stub.engine(), &names(), HASTE).await.unwrap();
    assert_eq!(
        serde_json::to_value(waited).unwrap(),
        json!({ "started": false, "status": "created", "health": null,
                "reason": "timeout after max tries" })
    );
    stub.on(CONTAINER, [state("created"), Answer::Json(404, json!({ "message": "gone" }))]);
    let waited = containers::wait_for_start(&stub.engine(), &names(), HASTE).await.unwrap();
    assert_eq!(waited.status, "not_found");

    stub.on(CONTAINER, [state("created"), Answer::Silence]);
    let short = Patience { within: Duration::from_millis(50), ..HASTE };
    let waited = containers::wait_for_start(&stub.engine(), &names(), short).await.unwrap();
    assert_eq!(
        (waited.status.as_str(), waited.reason.as_deref()),
        ("created", Some("overall timeout"))
    );

    stub.json(CONTAINER, 500, json!({ "message": "out of order" }));
    let failed = containers::wait_for_start(&stub.engine(), &names(), HASTE).await.unwrap_err();
    assert_eq!(failed.status(), Some(500));
}

#[tokio::test]
async fn an_image_goes_unless_it_is_in_use() {
    let stub = Stub::default();
    let engine = stub.engine();
    let reference = "127.0.0.1:5000/x/demo:1";
    let path = "127%2E0%2E0%2E1%3A5000%2Fx%2Fdemo%3A1".replace("%2E", ".");
    let (inspect, delete) = (format!("GET /images/{path}/json"), format!("DELETE /images/{path}"));
    let remove = || async {
        serde_json::to_value(images::remove(&engine, reference).await.unwrap()).unwrap()
    };
    let gone = json!({ "deleted": true, "bytes_freed": 0, "reason": "not_found" });
    assert_eq!(remove().await, gone);
    assert_eq!(stub.calls(), [inspect.as_str(), delete.as_str()]);

    stub.json(&inspect, 200, json!({ "Id": "sha256:1", "Size": 4096 }));
    stub.json(&delete, 200, json!([{ "Untagged": "x" }, { "Deleted": "sha256:1" }]));
    assert_eq!(remove().await, json!({ "deleted": true, "bytes_freed": 4096 }));
    stub.json(&delete, 200, json!([{ "Untagged": "x" }]));
    assert_eq!(remove().await, json!({ "deleted": true, "bytes_freed": 0 }));
    stub.json(&delete, 409, json!({ "message": "used by a container" }));
    assert_eq!(remove().await, json!({ "deleted": false, "reason": "in_use" }));
    stub.json(&inspect, 500, json!({ "message": "?" }));
    stub.json(&delete, 500, json!({ "message": "disk" }));
    assert_eq!(images::remove(&engine, reference).await.unwrap_err().status(), Some(500));
}

#[tokio::test]
async fn an_engine_names_the_versions_it_speaks() {
    let stub = Stub::default();
    stub.json("GET /version", 200, json!({ "ApiVersion": "1.41", "MinAPIVersion": "1.12" }));
    let supported = stub.engine().versions().await.unwrap().unwrap();
    assert_eq!(
        (supported.min.to_string(), supported.max.to_string()),
        ("1.12".into(), "1.41".into())
    );
    stub.json("GET /version", 200, json!({}));
    assert_eq!(stub.engine().versions().await.unwrap(), None);
}

#[tokio::test]
async fn garbage_is_told_as_such_and_never_waited_for() {
    for (words, expect) in [
        (&b"\x00\xff nonsense\r\n\r\n"[..], "answered what cannot be understood"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{]}", "answered what cannot be understood"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull", "answered what cannot be understood"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "cannot be reached"),
        (b"", "cannot be reached"),
    ] {
        let engine = engine_behind(Speaks(words));
        let error = containers::exists(&engine, &names()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the Docker engine of port 24007"), "{text}");
        assert!(text.contains(expect), "{words:?}: {text}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let endless: &'static [u8] = {
        let mut words = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        words.resize(65 * 1024 * 1024, b' ');
        words.leak()
    };
    let error = containers::exists(&engine_behind(Speaks(endless)), &names()).await.unwrap_err();
    assert!(error.to_string().contains("its answer is too long"), "{error}");
}

#[tokio::test]
async fn a_silent_engine_is_given_up() {
    let stub = Stub::default();
    stub.on(CONTAINER, [Answer::Silence]);
    let engine = stub.engine();
    let asked = containers::inspect(&engine, "nc_app_demo");
    let error = engine.within(Duration::from_millis(20), asked).await.unwrap_err();
    assert!(matches!(error, Error::Silent { port: 24000 }));
}

mod certificates_in_containers {
    use super::*;
    use crate::docker::archive::{Access, Archive, Entry, first};
    use crate::docker::{ClientFiles, certificates};
    use crate::secret::Secret;

    const CA: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";
    const ARCHIVE: &str = "GET /containers/nc_app_demo/archive";
    const PUT: &str = "PUT /containers/nc_app_demo/archive";
    const HELPER: &str = "/containers/trigon_certs_nc_app_demo";

    fn client() -> ClientFiles {
        ClientFiles { ca: "ca".into(), certificate: "cert".into(), key: Secret::new("key") }
    }

    fn wanted(bundle: Option<&str>) -> payload::InstallCertificates {
        payload::InstallCertificates {
            names: names(),
            system_certs_bundle: bundle.map(str::to_owned),
            install_frp_certs: true,
        }
    }

    fn file(name: &str, content: &str) -> Answer {
        let archive = Archive::new().file(name, Access::PUBLIC, content.as_bytes());
        Answer::Bytes(200, archive.and_then(Archive::finish).unwrap())
    }

    /// A container that has been created, and an engine that takes files.
    fn bed(user: &str) -> Stub {
        let stub = Stub::default();
        let mut made = container("created", &of(""));
        made["Config"]["User"] = json!(user);
        stub.json(CONTAINER, 200, made);
        stub.status(PUT, 200);
        stub
    }

    /// Path, mode and owner of everything unpacked in the ExApp's container.
    fn unpacked(stub: &Stub) -> Vec<(String, u32, u64, u64)> {
        let uploads = stub.seen().into_iter().filter(|seen| seen.call == PUT);
        let mut all = Vec::new();
        for upload in uploads {
            let mut archive = tar::Archive::new(&upload.body[..]);
            for entry in archive.entries().unwrap() {
                let entry = entry.unwrap();
                let (path, header) = (entry.path().unwrap().display().to_string(), entry.header());
                let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
                all.push((path, header.mode().unwrap(), uid, gid));
            }
        }
        all
    }

    #[tokio::test]
    async fn frpcs_files_go_into_a_container_that_was_never_started() {
        for (user, readable, key) in [
            ("", false, (0o600, 0, 0)),
            ("33:44", false, (0o600, 33, 44)),
            ("node", false, (0o600, 1000, 1001)),
            ("nobody", false, (0o644, 0, 0)),
            ("33:44", true, (0o644, 0, 0)),
        ] {
            let stub = bed(user);
            stub.on(ARCHIVE, [file("passwd", "node:x:1000:1001::/:\n")]);
            let wanted = wanted(None);
            certificates::install(&stub.engine(), "", &wanted, Some(&client()), readable)
                .await
                .unwrap();
            let (mode, uid, gid) = key;
            let expect = [
                ("certs/", 0o755, 0, 0),
                ("certs/frp/", 0o755, 0, 0),
                ("certs/frp/ca.crt", 0o644, 0, 0),
                ("certs/frp/client.crt", 0o644, 0, 0),
                ("certs/frp/client.key", mode, uid, gid),
            ];
            let expect = expect.map(|(path, mode, uid, gid)| (path.to_owned(), mode, uid, gid));
            assert_eq!(unpacked(&stub), expect, "{user}");
            assert!(!stub.calls().iter().any(|call| call.starts_with("POST")), "{user}");
        }
    }

    #[tokio::test]
    async fn without_certificates_there_is_nothing_to_install_yet() {
        let stub = bed("");
        certificates::install(&stub.engine(), "", &wanted(None), None, false).await.unwrap();
        assert!(unpacked(&stub).is_empty());
    }

    #[tokio::test]
    async fn authorities_are_rebuilt_in_a_helper_that_is_removed() {
        let stub = bed("");
        stub.on(ARCHIVE, [file("os-release", "ID=debian\n")]);
        stub.json("POST /containers/create", 201, json!({ "Id": "h", "Warnings": [] }));
        stub.status(&format!("PUT {HELPER}/archive"), 200);
        stub.status(&format!("POST {HELPER}/start"), 204);
        stub.json(&format!("POST {HELPER}/wait"), 200, json!({ "StatusCode": 0 }));
        stub.on(&format!("GET {HELPER}/archive"), [file("certs/ca-certificates.crt", "rebuilt")]);
        stub.status(&format!("DELETE {HELPER}"), 204);
        let wanted = payload::InstallCertificates { install_frp_certs: false, ..wanted(Some(CA)) };
        certificates::install(&stub.engine(), "", &wanted, None, false).await.unwrap();
        let seen = stub.seen();
        let made = seen.iter().find(|seen| seen.call == "POST /containers/create").unwrap().json();
        assert_eq!(made["Image"], "sha256:1111");
        assert_eq!(made["Entrypoint"], json!(["update-ca-certificates"]));
        assert_eq!(
            (&made["User"], &made["HostConfig"]["NetworkMode"]),
            (&json!("0"), &json!("none"))
        );
        assert_eq!(made["Labels"]["io.trigon.helper"], "certificates");
        let paths: Vec<_> = unpacked(&stub).into_iter().map(|(path, ..)| path).collect();
        let anchor = "usr/local/share/ca-certificates/custom_ca_cert_0.crt".to_owned();
        assert!(paths.contains(&anchor) && paths.contains(&"certs/ca-certificates.crt".to_owned()));
        let last = seen.iter().rfind(|seen| seen.call == PUT).unwrap();
        assert!(last.query.contains("path=%2Fetc%2Fssl"), "{}", last.query);
        let removed =
            stub.calls().iter().filter(|call| **call == format!("DELETE {HELPER}")).count();
        assert_eq!(removed, 2, "a leftover before, its own after");
    }

    #[tokio::test]
    async fn an_image_without_the_program_gets_them_appended() {
        let stub = bed("");
        let bundle = file("ca-certificates.crt", "old");
        stub.on(ARCHIVE, [file("os-release", "ID=alpine\n"), bundle]);
        stub.json("POST /containers/create", 201, json!({ "Id": "h", "Warnings": [] }));
        stub.status(&format!("PUT {HELPER}/archive"), 200);
        let missing = json!({ "message": "executable file not found in $PATH" });
        stub.json(&format!("POST {HELPER}/start"), 400, missing);
        stub.status(&format!("DELETE {HELPER}"), 204);
        let wanted = payload::InstallCertificates { install_frp_certs: false, ..wanted(Some(CA)) };
        certificates::install(&stub.engine(), "", &wanted, None, false).await.unwrap();
        assert_eq!(*stub.calls().last().unwrap(), PUT);
        let paths = unpacked(&stub);
        assert_eq!(paths.last().unwrap().0, "etc/ssl/certs/ca-certificates.crt");
        let written = stub.seen().pop().unwrap().body;
        let folders = ["etc", "etc/ssl", "etc/ssl/certs"].len() * 512;
        let content = first(&written[folders..], 1024).unwrap();
        assert_eq!(content, Entry::File(format!("old\n{CA}\n").into_bytes()));
        assert!(stub.calls().contains(&format!("DELETE {HELPER}")), "removed all the same");
    }

    #[tokio::test]
    async fn trouble_with_authorities_is_not_the_callers() {
        for os_release in [Answer::Json(500, json!({ "message": "?" })), file("x", "ID=arch\n")] {
            let stub = bed("");
            stub.on(ARCHIVE, [os_release]);
            let wanted = wanted(Some(CA));
            certificates::install(&stub.engine(), "", &wanted, Some(&client()), false)
                .await
                .unwrap();
            assert_eq!(unpacked(&stub).len(), 5, "frpc's files are there");
        }
    }
}
