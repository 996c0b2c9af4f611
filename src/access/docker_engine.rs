//! Which calls reach a Docker engine unchanged: the five AppAPI makes (contract 4). Sans-io.
//!
//! HaRP matches patterns that are open at the end, takes any port, and lets `fromSrc` import an
//! image from anywhere (weakness W19). Here a call is read whole: what is not understood to the
//! last byte is refused. The path is decoded once for the decision, as the engine decodes it, and
//! goes out as it came.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

/// A call that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineCall<'r> {
    /// The API version in the path, without the `v`; digits around one dot.
    pub version: Option<&'r str>,
    /// The path behind it, as received, from its slash on.
    pub path: &'r str,
    /// The container the call is about, if it is about one.
    pub container: Option<&'r str>,
}

impl<'r> EngineCall<'r> {
    /// Reads a call; `None` is not allowed. `path` is as received and without the prefix
    /// `/exapps/app_api`, `query` without its `?`. A call with a body is none: the engine reads
    /// parameters from bodies too, and prefers them.
    pub fn read(
        method: &Method,
        path: &'r str,
        query: Option<&str>,
        has_body: bool,
    ) -> Option<Self> {
        if has_body {
            return None;
        }
        let (version, path) = split_version(path)?;
        let read = matches!(*method, Method::GET | Method::HEAD);
        let call = Self { version, path, container: None };
        if *method == Method::POST {
            return (path == "/images/create" && pulls_only(query.unwrap_or_default()))
                .then_some(call);
        }
        if !read {
            return None;
        }
        if path == "/_ping" {
            return Some(call);
        }
        if let Some(container) = container_of(path) {
            return Some(Self { container: Some(container), ..call });
        }
        let image = path.strip_prefix("/images/")?.strip_suffix("/json")?;
        is_image(&decoded(image)?).then_some(call)
    }
}

/// Whether a path of the control API is one for an engine, whose caller forgot to name it.
pub fn is_engine_path(path: &str) -> bool {
    let Some((version, path)) = split_version(path) else { return false };
    version.is_some()
        || path == "/_ping"
        || ["/images/", "/containers/"].iter().any(|start| path.starts_with(start))
}

/// The version and the rest. A first segment like `v1.44` is a version, and nothing else may
/// look like one.
fn split_version(path: &str) -> Option<(Option<&str>, &str)> {
    let Some(versioned) = path.strip_prefix("/v") else {
        return path.starts_with('/').then_some((None, path));
    };
    let (version, _) = versioned.split_once('/')?;
    let (major, minor) = version.split_once('.')?;
    let digits = |part: &str| {
        (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    (digits(major) && digits(minor)).then(|| (Some(version), &versioned[version.len()..]))
}

/// The container in `/containers/{name}/json` and `/containers/{name}/logs`, as long as it is one
/// of ours. A name that needs decoding is written in a way nobody has reason to, but it is the
/// same name.
fn container_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/containers/")?;
    let (name, call) = rest.split_once('/')?;
    if !matches!(call, "json" | "logs") {
        return None;
    }
    let decoded = decoded(name)?;
    let own = decoded.strip_prefix("nc_app_")?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (!own.is_empty() && own.bytes().all(known)).then_some(name)
}

/// Whether Docker could take the text for an image: segments between slashes, none of them empty
/// or made of dots.
fn is_image(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@[]".contains(&byte);
    name.split('/')
        .all(|segment| segment.bytes().all(known) && segment.bytes().any(|byte| byte != b'.'))
}

/// Whether the parameters of `images/create` name an image to be pulled and no other source.
fn pulls_only(query: &str) -> bool {
    let mut images = 0;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (decoded(key), decoded(value)) else { return false };
        // The engine drops pairs with a semicolon; what it does not see must not count here.
        if pair.contains(';') || key.eq_ignore_ascii_case("fromSrc") {
            return false;
        }
        if key == "fromImage" {
            images += 1;
            if value.is_empty() {
                return false;
            }
        }
    }
    images == 1
}

/// Decoded once; `None` when an escape is broken or does not give text.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let whole = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    whole.then(|| percent_decode_str(text).decode_utf8().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(method: &str, target: &str) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        EngineCall::read(&method, path, query, false).is_some()
    }

    #[test]
    fn w19_the_five_calls_pass_and_nothing_else() {
        for (method, target) in [
            ("GET", "/_ping"),
            ("HEAD", "/_ping"),
            ("GET", "/v1.44/_ping"),
            ("GET", "/v1.41/images/ghcr.io/nextcloud/test-deploy:release/json"),
            ("GET", "/v1.41/images/127.0.0.1:18485/rig/test-deploy:release-cpu/json"),
            ("HEAD", "/images/a%2Fb:1/json"),
            ("GET", "/v1.44/images/a@sha256:00ff/json"),
            ("GET", "/v1.44/containers/nc_app_demo/json"),
            ("HEAD", "/containers/nc_app_a.b-c_d/json"),
            ("GET", "/containers/nc%5fapp_x/json"),
            ("GET", "/v1.44/containers/nc_app_demo/logs?stdout=true&stderr=true&tail=all"),
            ("POST", "/v1.44/images/create?fromImage=ghcr.io%2Fx%2Fy%3A1"),
            ("POST", "/images/create?fromImage=a&tag=1&platform="),
        ] {
            assert!(allowed(method, target), "{method} {target}");
        }
        for (method, target) in [
            // What HaRP refuses.
            ("GET", "/_ping/"),
            ("GET", "/version"),
            ("GET", "/images/json"),
            ("GET", "/containers/json"),
            ("GET", "/containers/other/json"),
            ("POST", "/_ping"),
            ("GET", "/images/create?fromImage=a"),
            ("POST", "/containers/create"),
            ("DELETE", "/images/x"),
            ("GET", "/info"),
            ("POST", "/build"),
            // What it lets pass.
            ("GET", "/_PING"),
            ("GET", "/v1..4/_ping"),
            ("GET", "/v1/_ping"),
            ("GET", "/images//json"),
            ("GET", "/images/x/jsonfoo"),
            ("GET", "/containers/nc_app_x/jsonfoo"),
            ("GET", "/containers/nc_app_x/logsfoo"),
            ("POST", "/v1.44/images/createfoo?fromImage=a"),
            ("POST", "/images/create"),
            ("POST", "/images/create?fromImage="),
            ("POST", "/images/create?fromSrc=http://evil/x.tar"),
            ("POST", "/images/create?fromImage=a&fromSrc=-"),
            ("POST", "/images/create?fromImage=a&from%53rc=-"),
            ("POST", "/images/create?fromImage=a&FROMSRC=-"),
            ("POST", "/images/create?fromImage=a&fromImage=b"),
            ("POST", "/images/create?fromImage=&fromImage=b"),
            ("POST", "/images/create?fromImage=a;b"),
            ("POST", "/images/create?fromImage=%zz"),
            ("POST", "/images/create?fromImage=a&x=%f"),
            // Ways out of the segment.
            ("GET", "/containers/nc_app_x%2f..%2fother/json"),
            ("GET", "/containers/nc_app_x/../other/json"),
            ("GET", "/containers/nc_app_/json"),
            ("GET", "/containers/nc_app_x%00/json"),
            ("GET", "/containers/nc_app_x/json/"),
            ("GET", "/containers//nc_app_x/json"),
            ("GET", "/images/a/../../containers/x/json"),
            ("GET", "/images/a%2f..%2f..%2fcontainers%2fx/json"),
            ("GET", "/images/./json"),
            ("GET", "/images/a//b/json"),
            ("GET", "/images/a%3fx/json"),
            ("GET", "/images/a%23/json"),
            ("GET", "/images/a%252e/json"),
            ("GET", "/images/%/json"),
            ("GET", "/v1.44"),
            ("GET", "/v1.44//_ping"),
            ("GET", "/v11111.44/_ping"),
            ("GET", "_ping"),
            ("GET", ""),
        ] {
            assert!(!allowed(method, target), "{method} {target}");
        }
    }

    #[test]
    fn w19_a_body_could_name_another_source() {
        let read = |has_body| {
            EngineCall::read(&Method::POST, "/images/create", Some("fromImage=a"), has_body)
        };
        assert!(read(false).is_some());
        assert!(read(true).is_none());
    }

    #[test]
    fn version_path_and_container_are_told_apart() {
        let read = |path| EngineCall::read(&Method::GET, path, None, false).unwrap();
        assert_eq!(
            read("/v1.44/containers/nc_app_x/json"),
            EngineCall {
                version: Some("1.44"),
                path: "/containers/nc_app_x/json",
                container: Some("nc_app_x"),
            }
        );
        let plain = EngineCall { version: None, path: "/_ping", container: None };
        assert_eq!(read("/_ping"), plain);
    }

    #[test]
    fn paths_for_an_engine_are_recognised_without_its_port() {
        for path in ["/v1.44/_ping", "/_ping", "/v1.44/version", "/images/x/json", "/containers/x"]
        {
            assert!(is_engine_path(path), "{path}");
        }
        for path in ["/info", "/heartbeat", "/volumes", "/exapp_storage/x", "/", ""] {
            assert!(!is_engine_path(path), "{path}");
        }
    }
}
