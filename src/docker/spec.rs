//! What an engine is told to create, from what AppAPI asks for (contract 3.3). Sans-io.
//!
//! As HaRP writes it, plus the labels of [`owner`](super::owner).

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HostConfig, Mount,
    MountType, NetworkingConfig, RestartPolicy, VolumeCreateRequest,
};

use super::names::Names;
use super::owner::labels;
use super::payload::{Create, Device};

/// The container of an ExApp; `environment` takes the place of the payload's.
pub fn container(create: &Create, tenant: &str, environment: Vec<String>) -> ContainerCreateBody {
    let app = create.names.app();
    let data = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(create.names.volume().to_owned()),
        target: Some(create.names.mount_point()),
        read_only: Some(false),
        ..Mount::default()
    };
    let binds = create.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    // Unknown words were refused with the payload.
    let restart = create.restart_policy.parse().ok();
    ContainerCreateBody {
        hostname: Some(app.to_owned()),
        image: Some(create.image.clone()),
        env: Some(environment),
        labels: Some(labels(tenant, app)),
        host_config: Some(HostConfig {
            network_mode: Some(create.network_mode.clone()),
            restart_policy: Some(RestartPolicy { name: restart, maximum_retry_count: None }),
            mounts: Some(std::iter::once(data).chain(binds).collect()),
            device_requests: (create.device == Device::Cuda).then(|| vec![nvidia()]),
            devices: (create.device == Device::Rocm).then(|| vec![device("kfd"), device("dri")]),
            memory: create.memory,
            nano_cpus: create.nano_cpus,
            ..HostConfig::default()
        }),
        networking_config: is_user_defined(&create.network_mode)
            .then(|| aliased(&create.network_mode, app)),
        ..ContainerCreateBody::default()
    }
}

/// The volume of an ExApp.
pub fn volume(names: &Names, tenant: &str) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(names.volume().to_owned()),
        labels: Some(labels(tenant, names.app())),
        ..VolumeCreateRequest::default()
    }
}

/// Whether containers on the network find each other by alias; Docker refuses aliases elsewhere.
fn is_user_defined(network: &str) -> bool {
    !matches!(network, "host" | "bridge" | "none" | "default") && !network.starts_with("container:")
}

fn aliased(network: &str, alias: &str) -> NetworkingConfig {
    let endpoint =
        EndpointSettings { aliases: Some(vec![alias.to_owned()]), ..EndpointSettings::default() };
    NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])) }
}

/// All cards of the machine.
fn nvidia() -> DeviceRequest {
    DeviceRequest {
        driver: Some("nvidia".to_owned()),
        count: Some(-1),
        capabilities: Some(vec![vec!["compute".to_owned(), "utility".to_owned()]]),
        ..DeviceRequest::default()
    }
}

fn device(name: &str) -> DeviceMapping {
    let path = Some(format!("/dev/{name}"));
    DeviceMapping {
        path_on_host: path.clone(),
        path_in_container: path,
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::docker::payload;

    fn built(extra: &Value) -> Value {
        let mut body = json!({ "name": "demo", "image_id": "img:1" });
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        let create = payload::create(body.to_string().as_bytes()).unwrap();
        let environment = create.environment.clone();
        serde_json::to_value(container(&create, "", environment)).unwrap()
    }

    #[test]
    fn the_smallest_container_is_harps_with_labels() {
        assert_eq!(
            built(&json!({})),
            json!({
                "Hostname": "demo",
                "Image": "img:1",
                "Env": [],
                "Labels": { "io.trigon.tenant": "", "io.trigon.exapp": "demo" },
                "HostConfig": {
                    "NetworkMode": "bridge",
                    "RestartPolicy": { "Name": "unless-stopped" },
                    "Mounts": [{
                        "Type": "volume", "Source": "nc_app_demo_data",
                        "Target": "/nc_app_demo_data", "ReadOnly": false,
                    }],
                },
            })
        );
    }

    #[test]
    fn every_wish_finds_its_place() {
        let built = built(&json!({
            "instance_id": "oc1", "role_suffix": "rp", "network_mode": "appapi",
            "environment_variables": ["A=1"], "restart_policy": "no",
            "mount_points": [
                { "source": "/srv/a", "target": "/a", "mode": "ro" },
                { "source": "/srv/b", "target": "/b", "mode": "RO" },
            ],
            "resource_limits": { "memory": 1024, "nanoCPUs": 5 },
        }));
        let host = &built["HostConfig"];
        assert_eq!(host["Mounts"][0]["Source"], "nc_app_oc1_demo_data");
        assert_eq!(
            host["Mounts"][1],
            json!({ "Type": "bind", "Source": "/srv/a", "Target": "/a", "ReadOnly": true })
        );
        assert_eq!(host["Mounts"][2]["ReadOnly"], false, "only the exact word `ro` is");
        // HaRP writes `NanoCPUs`; engines read keys in any case.
        assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(1024), &json!(5)));
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        let aliases = &built["NetworkingConfig"]["EndpointsConfig"]["appapi"]["Aliases"];
        assert_eq!(*aliases, json!(["demo"]));
        assert_eq!(built["Env"], json!(["A=1"]));
    }

    #[test]
    fn aliases_only_where_docker_takes_them() {
        for network in ["host", "bridge", "none", "default", "container:x"] {
            let built = built(&json!({ "network_mode": network }));
            assert_eq!(built["NetworkingConfig"], Value::Null, "{network}");
            assert_eq!(built["HostConfig"]["NetworkMode"], network);
        }
    }

    #[test]
    fn cards_reach_the_container() {
        let cuda = built(&json!({ "compute_device": "cuda" }));
        assert_eq!(
            cuda["HostConfig"]["DeviceRequests"],
            json!([{ "Driver": "nvidia", "Count": -1, "Capabilities": [["compute", "utility"]] }])
        );
        let rocm = built(&json!({ "compute_device": "rocm" }));
        let device = |path: &str| json!({ "PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm" });
        let devices = json!([device("/dev/kfd"), device("/dev/dri")]);
        assert_eq!(rocm["HostConfig"]["Devices"], devices);
    }

    #[test]
    fn the_volume_tells_whose_it_is() {
        let names = Names::new("demo", "", "rp").unwrap();
        assert_eq!(
            serde_json::to_value(volume(&names, "blue")).unwrap(),
            json!({
                "Name": "nc_app_demo_data",
                "Labels": { "io.trigon.tenant": "blue", "io.trigon.exapp": "demo" },
            })
        );
    }
}
