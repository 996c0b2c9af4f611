//! A request path as received. What no parent segment was found in has none for an ExApp that
//! decodes once and normalises either (who decodes twice reads `%252e` as well, and nothing in
//! front of it could know); splitting neither loses nor invents a byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::access::AppId;
use trigon::access::path::{ExAppPath, canonical, has_parent_segment};

fuzz_target!(|path: &str| {
    // Canonical forms, decoded copies of this target: a few copies of the path, no more.
    trigon_fuzz::within(16 * path.len() + 4096, || check(path));
});

fn check(path: &str) {
    let normal = canonical(path);
    assert!(normal.len() <= path.len());
    assert!(!normal.get(1..).unwrap_or_default().contains("//"));
    if !normal.contains('%') {
        assert_eq!(canonical(&normal), normal, "the canonical form is its own");
    }
    if !has_parent_segment(path) {
        assert!(!normal.split('/').any(|segment| segment == ".."));
        assert!(!path.split('/').any(|segment| segment == ".."));
    }
    let Some(split) = ExAppPath::split(path) else { return };
    assert!(!split.display_id.is_empty() && !split.display_id.contains('/'));
    assert!(!split.target.is_empty());
    if split.target != path {
        let rest =
            path.strip_prefix("/exapps/").and_then(|rest| rest.strip_prefix(split.display_id));
        assert!(rest == Some(split.target) || (rest == Some("") && split.target == "/"));
        assert!(split.target.starts_with('/'), "an id is a whole segment");
    }
    let id = AppId::from_display(split.display_id);
    assert_eq!(AppId::from_display(id.as_str()), id, "lower case is stable");
}
