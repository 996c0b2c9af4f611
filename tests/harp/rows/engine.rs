//! Calls for Docker engines and Kubernetes that need no engine to be answered (contract 3.2 to 4):
//! bad ports, bodies and names, and engines nobody runs. What engines answer is in `tests/docker`.

use crate::row::{Expect, Row, Send, dropped, get, refused, row, send, status};

/// A port where no engine is.
const NOWHERE: &str = "24098";

fn call(name: &str, body: &str) -> Send {
    send("POST", &format!("/exapps/app_api/docker/exapp/{name}"))
        .key()
        .with("docker-engine-port", NOWHERE)
        .with("Content-Type", "application/json")
        .body(body)
}

fn text(code: u16) -> Expect {
    status(code).has("content-type", "text/plain; charset=utf-8")
}

pub(crate) fn ports() -> Vec<Row> {
    let exists = |port: Option<&str>| {
        let call =
            send("POST", "/exapps/app_api/docker/exapp/exists").key().body(r#"{"name":"x"}"#);
        port.into_iter().fold(call, |call, port| call.with("docker-engine-port", port))
    };
    let bad = |name, port| row(name, exists(Some(port)), text(400).says("docker-engine-port"));
    vec![
        row(
            "a Docker call without an engine's port",
            exists(None),
            text(400).says("docker-engine-port"),
        ),
        bad("with an empty one", ""),
        bad("with a word for one", "http"),
        bad("with port 0", "0"),
        bad("with port 65536", "65536"),
        bad("with a negative port", "-1"),
        row("a port where no engine is", exists(Some(NOWHERE)), text(503).says(NOWHERE)),
        row(
            "a Docker call without the key",
            send("POST", "/exapps/app_api/docker/exapp/exists")
                .with("docker-engine-port", NOWHERE)
                .body(r#"{"name":"x"}"#),
            refused(401),
        )
        .strikes(1),
        row(
            "a Docker call with a wrong method",
            get("/exapps/app_api/docker/exapp/exists").key().with("docker-engine-port", NOWHERE),
            status(405).has("allow", "POST"),
        ),
        row(
            "a Docker call that does not exist",
            call("restart", r#"{"name":"x"}"#),
            status(404).body("404: Not Found"),
        ),
    ]
}

pub(crate) fn bodies() -> Vec<Row> {
    let bad = |name, path: &str, body: &str| row(name, call(path, body), text(400));
    vec![
        bad("exists: no JSON", "exists", "{"),
        bad("exists: no body", "exists", ""),
        bad("exists: a list", "exists", "[]"),
        bad("exists: null", "exists", "null"),
        bad("exists: no name", "exists", "{}"),
        bad("exists: a number for a name", "exists", r#"{"name":7}"#),
        bad("exists: null for a name", "exists", r#"{"name":null}"#),
        bad("exists: null for an instance", "exists", r#"{"name":"x","instance_id":null}"#),
        bad("start: null for a role", "start", r#"{"name":"x","role_suffix":null}"#),
        bad("stop: no JSON", "stop", "name=x"),
        bad("wait_for_start: no name", "wait_for_start", r#"{"instance_id":""}"#),
        bad("create: no image", "create", r#"{"name":"x"}"#),
        bad(
            "create: a device that does not exist",
            "create",
            r#"{"name":"x","image_id":"i","compute_device":"tpu"}"#,
        ),
        bad(
            "create: a list for limits",
            "create",
            r#"{"name":"x","image_id":"i","resource_limits":[]}"#,
        ),
        bad(
            "create: a text for the environment",
            "create",
            r#"{"name":"x","image_id":"i","environment_variables":"A=B"}"#,
        ),
        bad(
            "create: a mount without a target",
            "create",
            r#"{"name":"x","image_id":"i","mount_points":[{"source":"/a"}]}"#,
        ),
        bad("remove: a word for a switch", "remove", r#"{"name":"x","remove_data":"perhaps"}"#),
        bad("image_remove: no image", "image_remove", "{}"),
        bad("image_remove: an empty image", "image_remove", r#"{"image_ref":""}"#),
        bad(
            "install_certificates: a number for a bundle",
            "install_certificates",
            r#"{"name":"x","system_certs_bundle":7}"#,
        ),
        row(
            "unknown fields are nothing",
            call("exists", r#"{"name":"x","start_container":true}"#),
            text(503),
        ),
        row(
            "limits may be null",
            call(
                "create",
                r#"{"name":"x","image_id":"i","resource_limits":{"memory":null,"nanoCPUs":null}}"#,
            ),
            text(503),
        ),
        row(
            "a bundle of 2 MiB",
            call(
                "install_certificates",
                &format!(r#"{{"name":"x","system_certs_bundle":"{}"}}"#, "x".repeat(2 << 20)),
            ),
            text(503),
        )
        .harp("bodies end at 1 MiB (W21)", status(413)),
        row(
            "a bundle of 17 MiB",
            call(
                "install_certificates",
                &format!(r#"{{"name":"x","system_certs_bundle":"{}"}}"#, "x".repeat(17 << 20)),
            ),
            status(413),
        ),
    ]
}

/// A name must not lead to something else on the engine (weakness W19).
pub(crate) fn names() -> Vec<Row> {
    const ANY: &str = "names go into the engine's URL as they are (W19)";
    let bad = |name, body: &str| row(name, call("exists", body), text(400)).harp(ANY, text(503));
    vec![
        bad("a name that climbs out", r#"{"name":"x/../../containers/other"}"#),
        bad("a name with a slash", r#"{"name":"a/b"}"#),
        bad("a name with a query", r#"{"name":"a?all=1"}"#),
        bad("a name with an escape", r#"{"name":"a%2fb"}"#),
        bad("a name with a space", r#"{"name":"a b"}"#),
        bad("a name with a line end", "{\"name\":\"a\\nb\"}"),
        bad("an empty name", r#"{"name":""}"#),
        bad("an instance that climbs out", r#"{"name":"x","instance_id":"../../y"}"#),
        bad("a role that climbs out", r#"{"name":"x","role_suffix":"/../y"}"#),
    ]
}

/// Calls for an engine itself, which pass through, or not.
pub(crate) fn passthrough() -> Vec<Row> {
    let engine = |method, path: &str, port| {
        send(method, &format!("/exapps/app_api{path}")).key().with("docker-engine-port", port)
    };
    let refused_call = |name, method, path| row(name, engine(method, path, NOWHERE), status(403));
    const LOOSE: &str = "the pattern has no end, so the call is tried (W19)";
    let tightened = |name, method, path| refused_call(name, method, path).harp(LOOSE, status(503));
    vec![
        row(
            "a ping of an engine that is not there",
            engine("GET", "/v1.44/_ping", NOWHERE),
            status(503).has("content-type", "text/plain").says(NOWHERE),
        )
        .harp("HTML after three seconds of trying (W20)", status(503).says("<html>")),
        row(
            "a ping without the engine's port",
            get("/exapps/app_api/v1.44/_ping").key(),
            text(400).says("docker-engine-port"),
        )
        .harp("404, which says nothing about the header", status(404)),
        row("a ping with a word for a port", engine("GET", "/v1.44/_ping", "http"), status(503))
            .harp("its agent fails", status(503).body("503 Service Unavailable (HaRP)")),
        row(
            "a ping without the key",
            get("/exapps/app_api/v1.44/_ping").with("docker-engine-port", NOWHERE),
            refused(401),
        )
        .strikes(1),
        row(
            "a parent segment in an engine's path",
            engine("GET", "/v1.44/images/../containers/json", NOWHERE),
            dropped(),
        ),
        refused_call("info with an engine's port", "GET", "/info"),
        refused_call("the engine's version", "GET", "/version"),
        refused_call("all containers", "GET", "/v1.44/containers/json"),
        refused_call("a container that is not AppAPI's", "GET", "/v1.44/containers/other/json"),
        refused_call("all images", "GET", "/v1.44/images/json"),
        refused_call("making a container", "POST", "/v1.44/containers/create"),
        refused_call("removing an image", "DELETE", "/v1.44/images/x"),
        refused_call("pulling by GET", "GET", "/v1.44/images/create?fromImage=x"),
        refused_call("a ping by POST", "POST", "/v1.44/_ping"),
        refused_call("a slash behind a ping", "GET", "/v1.44/_ping/"),
        tightened("a name with more behind it", "GET", "/v1.44/containers/nc_app_x/jsonfoo"),
        tightened("a pull with more behind it", "POST", "/v1.44/images/createfoo?fromImage=x"),
        tightened("a version that is none", "GET", "/v1..4/_ping"),
        tightened("a pull from elsewhere", "POST", "/v1.44/images/create?fromSrc=http://x"),
        tightened("a pull of nothing", "POST", "/v1.44/images/create"),
    ]
}

pub(crate) fn kubernetes() -> Vec<Row> {
    const OFF: &str = "Kubernetes backend is disabled in HaRP.";
    let call = |name: &str, body: &str| {
        send("POST", &format!("/exapps/app_api/k8s/exapp/{name}")).key().body(body)
    };
    let named = r#"{"name":"x"}"#;
    let mut rows: Vec<Row> = [
        ("Kubernetes is off: exists", "exists"),
        ("Kubernetes is off: start", "start"),
        ("Kubernetes is off: stop", "stop"),
        ("Kubernetes is off: wait_for_start", "wait_for_start"),
        ("Kubernetes is off: remove", "remove"),
    ]
    .into_iter()
    .map(|(name, path)| row(name, call(path, named), text(503).body(OFF)))
    .collect();
    rows.extend([
        row(
            "Kubernetes is off: create",
            call("create", r#"{"name":"x","image_id":"i"}"#),
            text(503).body(OFF),
        ),
        row(
            "Kubernetes is off: certificates are not its business",
            call("install_certificates", named),
            status(204).body(""),
        ),
        row("Kubernetes is off: a name is wanted all the same", call("exists", "{}"), text(400)),
        row("Kubernetes is off: another call", call("restart", named), status(404)),
        row(
            "Kubernetes is off: another method",
            get("/exapps/app_api/k8s/exapp/exists").key(),
            status(405).has("allow", "POST"),
        ),
    ]);
    rows
}
