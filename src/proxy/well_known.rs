//! The paths under `/.well-known/` that only a proxy can lead to where Nextcloud answers them: it
//! owns no file at the top of the host. Sans-io.

/// Where a request for `path` is to go instead, with its query; none: nowhere else. The target
/// has no scheme and host: both are right as they are.
pub fn redirect(path: &str, query: Option<&str>) -> Option<String> {
    let service = path.strip_prefix("/.well-known/")?;
    let to = match service.strip_suffix('/').unwrap_or(service) {
        "carddav" | "caldav" => "/remote.php/dav/".to_owned(),
        "webfinger" | "nodeinfo" => format!("/index.php/.well-known/{service}"),
        _ => return None,
    };
    Some(query.map_or(to.clone(), |query| format!("{to}?{query}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_where_nextcloud_has_them() {
        for (path, query, expected) in [
            ("/.well-known/carddav", None, Some("/remote.php/dav/")),
            ("/.well-known/caldav/", None, Some("/remote.php/dav/")),
            ("/.well-known/caldav", Some("a=b"), Some("/remote.php/dav/?a=b")),
            (
                "/.well-known/webfinger",
                Some("resource=acct%3Aa@b"),
                Some("/index.php/.well-known/webfinger?resource=acct%3Aa@b"),
            ),
            ("/.well-known/nodeinfo", None, Some("/index.php/.well-known/nodeinfo")),
            ("/.well-known/acme-challenge/x", None, None),
            ("/.well-known/", None, None),
            ("/.well-known/caldav/x", None, None),
            ("/x/.well-known/caldav", None, None),
            ("/", None, None),
        ] {
            assert_eq!(redirect(path, query).as_deref(), expected, "{path}");
        }
    }
}
