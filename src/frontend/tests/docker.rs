//! AppAPI's calls for a Docker engine, end to end: control API and passthrough, with an engine
//! that answers on a unix socket.

use http::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::docker::testing::Answer;
use crate::docker::{Config as DockerConfig, Engines};
use crate::net::TcpDial;

const ENGINE: [(&str, &str); 3] = [
    ("harp-shared-key", KEY),
    ("docker-engine-port", "24000"),
    ("authorization", "Basic YXBwX2FwaV9oYXByb3h5X3VzZXI6aw=="),
];

/// The calls as a node makes them: the socket in `dir`, tunnels as they are known.
pub(super) fn calls(
    tenant: &Tenant,
    dir: &tempfile::TempDir,
    tunnels: &Arc<Tunnels>,
) -> api::Docker {
    let config =
        DockerConfig { socket: Some(dir.path().join("docker.sock")), ..DockerConfig::default() };
    let dial = Arc::<Tunnels>::clone(tunnels);
    let known = Arc::clone(tunnels);
    let is_registered = Box::new(move |port| known.is_known(port));
    let engines = Engines::new(config, 24000..=24099, dial, is_registered);
    let rewrite = |names: &crate::docker::Names, environment: &mut Vec<String>| {
        environment.push(format!("FOR={}", names.app()));
        Ok(())
    };
    api::Docker::new(tenant.clone(), engines, Box::new(|| None), Box::new(rewrite))
}

impl Bed {
    /// Calls the control API as AppAPI does.
    async fn call(&self, name: &str, body: &Value) -> Response<Incoming> {
        let path = format!("/exapps/app_api/docker/exapp/{name}");
        send(self.address, request_with("POST", &path, &ENGINE, body.to_string())).await
    }

    async fn engine_get(&self, path: &str) -> Response<Incoming> {
        self.get(&format!("/exapps/app_api{path}"), &ENGINE).await
    }
}

async fn text_of(response: Response<Incoming>) -> String {
    String::from_utf8(body_of(response).await.to_vec()).unwrap()
}

fn container(status: &str) -> Value {
    json!({ "Id": "c0", "Image": "sha256:1", "State": { "Status": status },
            "Config": { "Image": "img:1", "User": "" } })
}

#[tokio::test]
async fn an_exapp_is_deployed_with_the_statuses_appapi_insists_on() {
    let bed = Bed::start().await;
    let demo = json!({ "name": "demo", "instance_id": "" });
    let (engine, name) = (&bed.engine, "/containers/nc_app_demo");

    let exists = json_of(bed.call("exists", &demo).await).await;
    assert_eq!(exists, json!({ "exists": false }));

    let volume = json!({ "Name": "v", "Driver": "local", "Mountpoint": "/", "Scope": "local",
                         "Labels": null, "Options": null });
    engine.json("POST /volumes/create", 201, volume);
    engine.json("POST /containers/create", 201, json!({ "Id": "c0", "Warnings": [] }));
    let create = json!({ "name": "demo", "instance_id": "", "image_id": "img:1",
        "network_mode": "host", "environment_variables": ["A=1"], "start_container": true });
    let created = bed.call("create", &create).await;
    assert_eq!(created.status(), 201);
    assert_eq!(json_of(created).await, json!({ "id": "c0", "name": "nc_app_demo" }));
    let seen = engine.seen().pop().unwrap().json();
    assert_eq!(seen["Env"], json!(["A=1", "FOR=demo"]), "the seam for the environment");

    engine.json(&format!("GET {name}/json"), 200, container("created"));
    let install = json!({ "name": "demo", "system_certs_bundle": null, "install_frp_certs": true });
    assert_eq!(bed.call("install_certificates", &install).await.status(), 204);
    assert!(!engine.calls().iter().any(|call| call.contains("start")), "AppAPI's is the first");

    engine.status(&format!("POST {name}/start"), 204);
    assert_eq!(bed.call("start", &demo).await.status(), 204);
    engine.status(&format!("POST {name}/start"), 304);
    let again = bed.call("start", &demo).await;
    assert_eq!(again.status(), 200);
    assert_eq!(text_of(again).await, "Container already started");

    engine.json(&format!("GET {name}/json"), 200, container("running"));
    let waited = json_of(bed.call("wait_for_start", &demo).await).await;
    assert_eq!(waited, json!({ "started": true, "status": "running", "health": null }));
    let exists = json_of(bed.call("exists", &demo).await).await;
    assert_eq!(exists, json!({ "exists": true, "image_ref": "img:1" }));

    engine.status(&format!("POST {name}/stop"), 204);
    assert_eq!(bed.call("stop", &demo).await.status(), 204);
    engine.status(&format!("DELETE {name}"), 204);
    let remove = json!({ "name": "demo", "remove_data": true });
    assert_eq!(bed.call("remove", &remove).await.status(), 204);
    let image = bed.call("image_remove", &json!({ "image_ref": "img:1" })).await;
    assert_eq!(json_of(image).await["reason"], "not_found");
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told_at_once_and_by_name() {
    let bed = Bed::start().await;
    let (key, engine) = (ENGINE[0], ENGINE[1]);
    let port = |port: &'static str| ("docker-engine-port", port);
    type Row<'r> = (&'r str, Headers<'r>, &'r str, u16, &'r str);
    let rows: &[Row<'_>] = &[
        ("exists", &[key], "{}", 400, "docker-engine-port"),
        ("exists", &[key, port("x")], "{}", 400, "docker-engine-port"),
        ("exists", &[key, port("0")], "{}", 400, "docker-engine-port"),
        ("exists", &[key, port("65536")], "{}", 400, "docker-engine-port"),
        ("exists", &[key, port("")], "{}", 400, "docker-engine-port"),
        ("exists", &[key, engine], "{", 400, "not JSON"),
        ("exists", &[key, engine], r#"{"name":null}"#, 400, "name: found null"),
        ("start", &[key, engine], r#"{"name":"x/../../containers/other"}"#, 400, "name: "),
        ("create", &[key, engine], r#"{"name":"x"}"#, 400, "image_id"),
        ("create", &[key, port("24050")], r#"{"name":"x","image":"i"}"#, 503, "port 24050"),
        ("exists", &[key, port("23001")], r#"{"name":"x"}"#, 503, "port 23001"),
        ("start", &[key, engine], r#"{"name":"x"}"#, 404, "nc_app_x"),
        ("stop", &[key, engine], r#"{"name":"x"}"#, 404, "nc_app_x"),
        ("install_certificates", &[key, engine], r#"{"name":"x"}"#, 404, "nc_app_x"),
        ("image_remove", &[key, engine], r#"{"image_ref":"../x"}"#, 400, "image_ref"),
        ("prune", &[key, engine], "{}", 404, "404: Not Found"),
        ("exists/", &[key, engine], "{}", 404, "404: Not Found"),
    ];
    for (name, headers, body, status, words) in rows {
        let path = format!("/exapps/app_api/docker/exapp/{name}");
        let response = send(bed.address, request_with("POST", &path, headers, (*body).to_owned()));
        let response = response.await;
        assert_eq!(response.status(), *status, "{name} {body}");
        let text = text_of(response).await;
        assert!(text.contains(words), "{name} {body}: {text}");
    }
    let get = bed.get("/exapps/app_api/docker/exapp/exists", &ENGINE).await;
    assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"POST".parse().unwrap()));
}

#[tokio::test]
async fn w19_no_name_reaches_the_engine_that_docker_would_not_take() {
    let bed = Bed::start().await;
    for call in ["exists", "start", "stop", "wait_for_start", "remove", "install_certificates"] {
        let body = json!({ "name": "x/../../containers/other" });
        assert_eq!(bed.call(call, &body).await.status(), 400, "{call}");
    }
    assert!(bed.engine.calls().is_empty());
}

#[tokio::test]
async fn w21_bodies_up_to_16_mib_are_read() {
    let bed = Bed::start().await;
    bed.engine.json("GET /containers/nc_app_demo/json", 200, container("created"));
    let bundle = "x".repeat(15 * 1024 * 1024);
    let install = json!({ "name": "demo", "system_certs_bundle": bundle });
    assert_eq!(bed.call("install_certificates", &install).await.status(), 204);
    let head = format!(
        "POST /exapps/app_api/docker/exapp/create HTTP/1.1\r\nhost: h\r\nharp-shared-key: {KEY}\r\n\
         docker-engine-port: 24000\r\ncontent-length: 16777217\r\n\r\n"
    );
    assert!(raw(bed.address, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn w22_an_engine_in_trouble_is_503_for_exists_too() {
    let bed = Bed::start().await;
    bed.engine.json("GET /containers/nc_app_demo/json", 500, json!({ "message": "no disk" }));
    let response = bed.call("exists", &json!({ "name": "demo" })).await;
    assert_eq!(response.status(), 503);
    let text = text_of(response).await;
    assert!(text.contains("port 24000") && text.contains("no disk"), "{text}");
}

#[tokio::test]
async fn statuses_of_create_and_remove_are_harps() {
    let bed = Bed::start().await;
    let volume = json!({ "Name": "v", "Driver": "local", "Mountpoint": "/", "Scope": "local",
                         "Labels": {}, "Options": null });
    bed.engine.json("GET /volumes/nc_app_demo_data", 200, volume);
    let create = json!({ "name": "demo", "image_id": "img:1" });
    for (answered, expect) in [(409, 409), (404, 503), (400, 503), (500, 503)] {
        let message = json!({ "message": "because" });
        bed.engine.json("POST /containers/create", answered, message);
        assert_eq!(bed.call("create", &create).await.status(), expect, "{answered}");
    }
    let remove = json!({ "name": "demo", "remove_data": true });
    for (answered, expect) in [(409, 409), (404, 204), (500, 503)] {
        let message = json!({ "message": "because" });
        bed.engine.json("DELETE /volumes/nc_app_demo_data", answered, message);
        assert_eq!(bed.call("remove", &remove).await.status(), expect, "{answered}");
    }
}

#[tokio::test]
async fn another_nextclouds_container_is_neither_touched_nor_shown() {
    let bed = Bed::start().await;
    let mut foreign = container("running");
    foreign["Config"]["Labels"] = json!({ "io.trigon.tenant": "blue" });
    bed.engine.json("GET /containers/nc_app_demo/json", 200, foreign);
    bed.engine.json("GET /version", 200, json!({ "ApiVersion": "1.41" }));
    let demo = json!({ "name": "demo" });
    for call in ["start", "stop", "remove", "install_certificates"] {
        assert_eq!(bed.call(call, &demo).await.status(), 409, "{call}");
    }
    // Its environment holds that ExApp's secret, its log whatever it writes.
    for path in ["/v1.41/containers/nc_app_demo/json", "/containers/nc_app_demo/logs"] {
        assert_eq!(bed.engine_get(path).await.status(), 403, "{path}");
    }
    assert!(bed.engine.calls().iter().all(|call| call.starts_with("GET ")));
}

#[tokio::test]
async fn an_engine_that_is_down_or_unknown_is_told_at_once() {
    let bed = Bed::start().await;
    std::fs::remove_file(bed.dir.path().join("docker.sock")).unwrap();
    let demo = json!({ "name": "demo" });
    for call in ["exists", "start", "stop", "wait_for_start", "remove", "install_certificates"] {
        let response = bed.call(call, &demo).await;
        assert_eq!(response.status(), 503, "{call}");
        assert!(text_of(response).await.contains("port 24000"), "{call}");
    }
    let info = json_of(bed.get("/exapps/app_api/info", &ENGINE[..1]).await).await;
    assert_eq!(info["docker"], false);
}

#[tokio::test]
async fn w20_a_ping_of_a_dead_engine_is_told_why() {
    let bed = Bed::start().await;
    std::fs::remove_file(bed.dir.path().join("docker.sock")).unwrap();
    // Registered once, its client gone: as long as it may come back it is waited for, not longer
    // than AppAPI waits.
    bed.tunnels.lost(24002);
    for port in ["24000", "24001", "24002"] {
        for path in ["/exapps/app_api/v1.44/_ping", "/exapps/app_api/_ping"] {
            let headers = [ENGINE[0], ("docker-engine-port", port)];
            let response = timeout(Duration::from_secs(3), bed.get(path, &headers)).await.unwrap();
            assert_eq!(response.status(), 503, "{port} {path}");
            assert!(text_of(response).await.contains(port), "{port} {path}");
        }
    }
}

#[tokio::test]
async fn an_engine_behind_a_tunnel_is_reached_by_its_port() {
    let bed = Bed::start().await;
    // The ExApp's stand-in echoes what reaches it.
    bed.tunnels.up(24003, bed.exapp.address);
    let headers = [ENGINE[0], ("docker-engine-port", "24003")];
    let seen = json_of(bed.get("/exapps/app_api/_ping", &headers).await).await;
    assert_eq!(seen["target"], "/_ping");
}

#[tokio::test]
async fn the_passthrough_speaks_the_engines_version() {
    let bed = Bed::start().await;
    let engine = &bed.engine;
    engine.json("GET /version", 200, json!({ "ApiVersion": "1.41", "MinAPIVersion": "1.24" }));
    engine.on("GET /v1.41/_ping", [Answer::Bytes(200, b"OK".to_vec())]);
    engine.on("GET /v1.24/_ping", [Answer::Bytes(200, b"old".to_vec())]);
    for (path, body) in [("/v1.44/_ping", "OK"), ("/v1.41/_ping", "OK"), ("/v1.12/_ping", "old")] {
        let response = bed.engine_get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(text_of(response).await, body, "{path}");
    }
    let asked = engine.calls().iter().filter(|call| *call == "GET /version").count();
    assert_eq!(asked, 1, "remembered");
    // An engine that took its place may speak others.
    engine.json("GET /v1.41/_ping", 400, json!({ "message": "client version is too old" }));
    assert_eq!(bed.engine_get("/v1.44/_ping").await.status(), 400);
    engine.json("GET /version", 200, json!({ "ApiVersion": "1.52", "MinAPIVersion": "1.44" }));
    engine.on("GET /v1.44/_ping", [Answer::Bytes(200, b"new".to_vec())]);
    assert_eq!(text_of(bed.engine_get("/v1.41/_ping").await).await, "new");
}

#[tokio::test]
async fn w03_the_engine_is_told_nothing_but_the_call() {
    let bed = Bed::start().await;
    let pull = "/exapps/app_api/images/create?fromImage=ghcr.io%2Fx%3A1";
    let headers = [ENGINE[0], ENGINE[1], ENGINE[2], ("x-registry-auth", "e30="), ("cookie", "c=1")];
    send(bed.address, request("POST", pull, &headers)).await;
    let seen = bed.engine.seen().pop().unwrap();
    assert_eq!(
        (seen.call.as_str(), seen.query.as_str()),
        ("POST /images/create", "fromImage=ghcr.io%2Fx%3A1")
    );
    assert_eq!(seen.headers["x-registry-auth"], "e30=");
    let told: HeaderMap = seen.headers;
    for (name, value) in &told {
        assert!(!value.to_str().unwrap().contains(KEY), "{name}");
    }
    for name in ["harp-shared-key", "authorization", "docker-engine-port", "cookie"] {
        assert!(!told.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn pulls_stream_and_keep_their_status() {
    let bed = Bed::start().await;
    let word = Arc::new(Notify::new());
    let pull = "/exapps/app_api/images/create?fromImage=a";
    bed.engine.on("POST /images/create", [Answer::Lines(Arc::clone(&word))]);
    let mut body = send(bed.address, request("POST", pull, &ENGINE)).await.into_body();
    let first = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "line 0\n");
    word.notify_one();
    let second = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.into_data().unwrap(), "line 1\n");

    // AppAPI tries `image:tag-cpu` first and relies on the refusal.
    bed.engine.json("POST /images/create", 404, json!({ "message": "manifest unknown" }));
    let refused = send(bed.address, request("POST", pull, &ENGINE)).await;
    assert_eq!(refused.status(), 404);
    assert_eq!(json_of(refused).await["message"], "manifest unknown");
}

#[tokio::test]
async fn w19_other_calls_never_reach_the_engine() {
    let bed = Bed::start().await;
    for (method, path) in [
        ("GET", "/version"),
        ("GET", "/v1.44/containers/json"),
        ("GET", "/containers/other/json"),
        ("POST", "/containers/create"),
        ("POST", "/images/create?fromSrc=http://198.51.100.1/x.tar"),
        ("DELETE", "/images/x"),
        ("GET", "/containers/nc_app_x/json/../../other/json"),
    ] {
        let response =
            try_send(bed.address, request(method, &format!("/exapps/app_api{path}"), &ENGINE));
        // Parent segments do not even get an answer.
        if let Ok(response) = response.await {
            assert_eq!(response.status(), 403, "{method} {path}");
        }
    }
    let form = [ENGINE[0], ENGINE[1], ("content-type", "application/x-www-form-urlencoded")];
    let path = "/exapps/app_api/images/create?fromImage=a";
    let body = request_with("POST", path, &form, "fromImage=&fromSrc=-");
    assert_eq!(send(bed.address, body).await.status(), 403);
    assert!(bed.engine.calls().is_empty(), "{:?}", bed.engine.calls());
}

#[tokio::test]
async fn a_call_for_no_engine_names_the_header_it_lacks() {
    let bed = Bed::start().await;
    for path in ["/v1.44/_ping", "/_ping", "/v1.41/images/x/json"] {
        let response = bed.get(&format!("/exapps/app_api{path}"), &ENGINE[..1]).await;
        assert_eq!(response.status(), 400, "{path}");
        assert!(text_of(response).await.contains("docker-engine-port"), "{path}");
    }
}

#[tokio::test]
async fn kubernetes_answers_as_harp_without_it() {
    let bed = Bed::start().await;
    let named = r#"{"name":"demo"}"#;
    let create = r#"{"name":"demo","image":"i","resource_limits":{"memory":null}}"#;
    for (call, body, status) in [
        ("exists", named, 503),
        ("create", create, 503),
        ("start", named, 503),
        ("stop", named, 503),
        ("wait_for_start", named, 503),
        ("remove", named, 503),
        ("install_certificates", named, 204),
        ("exists", "{}", 400),
        ("create", named, 400),
        ("install_certificates", "{}", 400),
        ("install_certificates", "x", 400),
        ("nothing", named, 404),
    ] {
        let path = format!("/exapps/app_api/k8s/exapp/{call}");
        let response = send(bed.address, request_with("POST", &path, &ENGINE[..1], body)).await;
        assert_eq!(response.status(), status, "{call} {body}");
        if status == 503 {
            assert_eq!(text_of(response).await, "Kubernetes backend is disabled in HaRP.");
        }
    }
    let get = bed.get("/exapps/app_api/k8s/exapp/exists", &ENGINE[..1]).await;
    assert_eq!(get.status(), 405);
}

#[tokio::test]
async fn waiting_ends_when_the_caller_is_gone() {
    let bed = Bed::start().await;
    bed.engine.on("GET /containers/nc_app_demo/json", [Answer::Silence]);
    let demo = json!({ "name": "demo" });
    let call = bed.call("wait_for_start", &demo);
    let seen = async {
        while bed.engine.calls().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = call => panic!("nothing was answered"),
        () = seen => {}
    }
    // The caller's connection went with the call.
    timeout(LONG, bed.engine.given_up.notified()).await.unwrap();
}

#[test]
fn unix_sockets_are_dialled_by_the_ordinary_dial() {
    let dial = TcpDial { within: LONG, refuse_loopback: true };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let to = crate::net::Target::Unix(std::path::Path::new("/nonexistent/d.sock").into());
        dial.dial(&to).await.unwrap_err()
    });
    assert!(error.to_string().starts_with("unix:/nonexistent/d.sock: "), "{error}");
}
