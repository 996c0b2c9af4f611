use serde_json::json;

use super::*;

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

fn created(extra: &Value) -> Result<Create, PayloadError> {
    let mut body = json!({ "name": "demo", "image_id": "ghcr.io/x/demo:1" });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    create(&bytes(&body))
}

fn refusal<T: std::fmt::Debug>(read: Result<T, PayloadError>) -> String {
    read.unwrap_err().to_string()
}

#[test]
fn what_appapi_sends_is_read() {
    // Recorded from AppAPI, secrets aside.
    let body = json!({
        "name": "test-deploy", "instance_id": "", "image_id": "127.0.0.1:5000/t/d:release",
        "network_mode": "host", "environment_variables": ["APP_ID=test-deploy", "APP_PORT=23000"],
        "restart_policy": "unless-stopped", "compute_device": "cuda",
        "mount_points": [{ "source": "/srv/a", "target": "/a", "mode": "ro" },
                         { "source": "/srv/b", "target": "/b" }],
        "start_container": true, "resource_limits": { "memory": 536_870_912, "nanoCPUs": null },
    });
    let read = create(&bytes(&body)).unwrap();
    assert_eq!(read.names.container(), "nc_app_test-deploy");
    assert_eq!(read.image, "127.0.0.1:5000/t/d:release");
    assert_eq!(read.environment, ["APP_ID=test-deploy", "APP_PORT=23000"]);
    assert_eq!(
        (read.network_mode.as_str(), read.restart_policy.as_str()),
        ("host", "unless-stopped")
    );
    assert_eq!(read.device, Device::Cuda);
    let mounts: Vec<_> =
        read.mounts.iter().map(|m| (m.source.as_str(), m.target.as_str(), m.read_only)).collect();
    assert_eq!(mounts, [("/srv/a", "/a", true), ("/srv/b", "/b", false)]);
    assert_eq!((read.memory, read.nano_cpus), (Some(536_870_912), None));
}

#[test]
fn defaults_are_harps() {
    let read = created(&json!({})).unwrap();
    assert_eq!(read.network_mode, "bridge");
    assert_eq!(read.restart_policy, "unless-stopped");
    assert_eq!(read.device, Device::Cpu);
    assert!(read.environment.is_empty() && read.mounts.is_empty());
    assert_eq!((read.memory, read.nano_cpus), (None, None));
    let alias = create(br#"{"name":"demo","image":"i"}"#).unwrap();
    assert_eq!(alias.image, "i");
    let remove = remove(br#"{"name":"demo"}"#).unwrap();
    assert!(!remove.remove_data);
    let install = install_certificates(br#"{"name":"demo","system_certs_bundle":null}"#).unwrap();
    assert!(install.install_frp_certs && install.system_certs_bundle.is_none());
}

#[test]
fn null_limits_of_the_user_interface_are_no_limits() {
    let both = json!({ "resource_limits": { "memory": null, "nanoCPUs": null, "other": 1 } });
    let read = created(&both).unwrap();
    assert_eq!((read.memory, read.nano_cpus), (None, None));
    let float = created(&json!({ "resource_limits": { "nanoCPUs": 1_500_000_000.0 } })).unwrap();
    assert_eq!(float.nano_cpus, Some(1_500_000_000));
}

#[test]
fn a_refusal_names_the_field_and_never_its_value() {
    for (extra, expect) in [
        (json!({ "name": null }), "name: found null, expected a text"),
        (json!({ "name": 7 }), "name: found a number, expected a text"),
        (json!({ "instance_id": null }), "instance_id: found null, expected a text"),
        (json!({ "role_suffix": false }), "role_suffix: found true or false, expected a text"),
        (json!({ "image_id": null }), "image_id: found null, expected a text"),
        (json!({ "image_id": "" }), "image_id: found an empty text, expected the reference"),
        (json!({ "network_mode": [] }), "network_mode: found a list, expected a text"),
        (json!({ "network_mode": "" }), "network_mode: found an empty text"),
        (json!({ "environment_variables": "A=b" }), "environment_variables: found a text, exp"),
        (
            json!({ "environment_variables": ["A=b", 1] }),
            "environment_variables[1]: found a number, expected a text such as",
        ),
        (json!({ "environment_variables": ["A=\0"] }), "environment_variables[0]: found a text"),
        (json!({ "restart_policy": "maybe" }), "restart_policy: found a text, expected \"no\""),
        (json!({ "compute_device": "tpu" }), "compute_device: found a text, expected \"cpu\""),
        (json!({ "mount_points": {} }), "mount_points: found an object, expected a list"),
        (json!({ "mount_points": [1] }), "mount_points[0]: found a number, expected an object"),
        (
            json!({ "mount_points": [{ "source": "/a" }] }),
            "mount_points[0].target: found nothing, expected a path",
        ),
        (
            json!({ "mount_points": [{ "source": "/a", "target": "/b", "mode": 1 }] }),
            "mount_points[0].mode: found a number",
        ),
        (json!({ "resource_limits": [] }), "resource_limits: found a list, expected an object"),
        (json!({ "resource_limits": { "memory": "1g" } }), "resource_limits.memory: found a text"),
        (json!({ "resource_limits": { "nanoCPUs": 0.5 } }), "resource_limits.nanoCPUs: found a n"),
        (json!({ "resource_limits": { "memory": -1 } }), "resource_limits.memory: found a number"),
    ] {
        let text = refusal(created(&extra));
        assert!(text.starts_with(expect), "{extra}: {text}");
    }
    let secret = json!({ "environment_variables": [{ "APP_SECRET": "s3cret" }] });
    assert!(!refusal(created(&secret)).contains("s3cret"));
}

#[test]
fn missing_fields_are_named() {
    assert_eq!(refusal(exapp(b"{}")), "name: found nothing, expected a text");
    let no_image = create(br#"{"name":"demo"}"#);
    assert_eq!(refusal(no_image), "image_id: found nothing, expected a text");
    assert_eq!(refusal(image_remove(b"{}")), "image_ref: found nothing, expected a text");
    let flag = remove(br#"{"name":"demo","remove_data":"yes"}"#);
    assert_eq!(refusal(flag), "remove_data: found a text, expected true or false");
    let bundle = install_certificates(br#"{"name":"demo","system_certs_bundle":["x"]}"#);
    assert_eq!(refusal(bundle), "system_certs_bundle: found a list, expected a text");
}

#[test]
fn what_is_no_json_object_is_told_apart() {
    assert_eq!(refusal(exapp(b"")), "the body is not JSON (line 1, column 0)");
    assert_eq!(refusal(exapp(b"{\n\"name\": }")), "the body is not JSON (line 2, column 9)");
    assert_eq!(refusal(exapp(b"\xff{}")), "the body is not JSON (line 1, column 1)");
    assert_eq!(refusal(exapp(b"[]")), "the body is a list, expected an object");
    assert_eq!(refusal(exapp(b"null")), "the body is null, expected an object");
}

#[test]
fn deeply_nested_bodies_are_refused_not_followed() {
    let deep = "[".repeat(1_000_000);
    assert!(refusal(exapp(deep.as_bytes())).starts_with("the body is not JSON"));
}

#[test]
fn w19_an_image_reference_cannot_lead_elsewhere() {
    for good in ["i", "ghcr.io/nextcloud/app:1.2", "127.0.0.1:5000/a@sha256:00", "sha256:0f"] {
        let body = json!({ "image_ref": good });
        assert_eq!(image_remove(&bytes(&body)).unwrap(), good);
    }
    for bad in ["", "..", "../containers/x", "a/../b", "/x", "a?force=1", "a b", "a#", "a%2f", "."]
    {
        let body = json!({ "image_ref": bad });
        assert!(refusal(image_remove(&bytes(&body))).starts_with("image_ref: found"), "{bad}");
    }
}
