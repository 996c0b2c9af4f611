//! Bodies of the calls below `docker/exapp/` and `k8s/exapp/`: any bytes. What is read has names
//! Docker takes, a specification that is JSON, and a refusal never repeats what it refuses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::docker::names::Names;
use trigon::docker::payload::{self, PayloadError};
use trigon::docker::{owner, spec, trust};

/// An array of one-element arrays costs most: four bytes each become a vector with room for four.
const HEAP_PER_BYTE: usize = 512;

fuzz_target!(|body: &[u8]| {
    trigon_fuzz::within(64 * 1024 + HEAP_PER_BYTE * body.len(), || check(body));
});

fn check(body: &[u8]) {
    if let Some(names) = read(payload::exapp(body)) {
        check_names(&names);
    }
    if let Some(remove) = read(payload::remove(body)) {
        check_names(&remove.names);
    }
    if let Some(reference) = read(payload::image_remove(body)) {
        assert!(!reference.is_empty() && !reference.contains("..") && reference.is_ascii());
    }
    if let Some(install) = read(payload::install_certificates(body)) {
        check_names(&install.names);
        let bundle = install.system_certs_bundle.unwrap_or_default();
        for certificate in trust::certificates(&bundle) {
            assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(certificate.ends_with("-----END CERTIFICATE-----"));
        }
    }
    if let Some(create) = read(payload::create(body)) {
        check_names(&create.names);
        assert!(!create.image.is_empty());
        assert!(create.memory.is_none_or(|limit| limit >= 0));
        let container = spec::container(&create, "tenant", create.environment.clone());
        assert!(!owner::is_foreign(container.labels.as_ref(), "tenant"));
        let written = serde_json::to_value(&container).expect("a specification is JSON");
        let mounts = written["HostConfig"]["Mounts"].as_array().expect("the volume is one");
        assert_eq!(mounts.len(), 1 + create.mounts.len());
    }
}

fn read<T>(read: Result<T, PayloadError>) -> Option<T> {
    read.map_err(|error| assert!(error.to_string().len() < 200)).ok()
}

fn check_names(names: &Names) {
    for name in [names.container(), names.volume()] {
        let own = name.strip_prefix("nc_app_").expect("the prefix of all ExApps");
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        assert!(!own.is_empty() && own.bytes().all(known), "{name}");
    }
}
