//! Calls for a Docker engine: any method, path and query. What passes is one of five shapes after
//! decoding it once, goes out as it came, and names no other source of an image.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use trigon::access::EngineCall;
use trigon::access::docker_engine::is_engine_path;
use trigon::docker::version::ApiVersion;

fuzz_target!(|input: (u8, bool, &str, Option<&str>)| {
    let (method, has_body, path, query) = input;
    let method = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE]
        .into_iter()
        .nth(usize::from(method % 5))
        .expect("one of five");
    let length = path.len() + query.map_or(0, str::len);
    trigon_fuzz::within(8 * length + 4096, || check(&method, path, query, has_body));
});

fn check(method: &Method, path: &str, query: Option<&str>, has_body: bool) {
    let Some(call) = EngineCall::read(method, path, query, has_body) else { return };
    assert!(!has_body);
    assert!(is_engine_path(path), "a call without its port is recognised: {path}");
    let version = call.version.map_or_else(String::new, |version| format!("/v{version}"));
    assert_eq!(format!("{version}{}", call.path), path, "nothing lost, nothing made up");
    assert!(call.version.is_none_or(|version| ApiVersion::parse(version).is_some()));
    let decoded = decode(call.path);
    assert!(decoded.split('/').all(|segment| segment != ".." && segment != "."), "{path}");
    assert!(!decoded.contains("//") && !decoded.contains(['?', '#', '\\', '\0']), "{path}");
    if *method == Method::POST {
        let query = decode(query.unwrap_or_default());
        assert!(call.path == "/images/create" && query.contains("fromImage="), "{query}");
        return;
    }
    assert!(matches!(*method, Method::GET | Method::HEAD));
    let container = decoded.starts_with("/containers/nc_app_");
    assert_eq!(container, call.container.is_some());
    let end = |ends: &[&str]| ends.iter().any(|end| decoded.ends_with(end));
    assert!(
        decoded == "/_ping"
            || (container && end(&["/json", "/logs"]))
            || (decoded.starts_with("/images/") && end(&["/json"])),
        "{path}"
    );
}

/// Decodes once and slowly.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
