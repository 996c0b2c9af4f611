//! Virtual routers as TOML. Sans-io.

use std::fmt::Write;
use std::time::Duration;

use toml::Value;

use super::Note;
use super::instance::Router;
use super::tracking::{Script, Subject, Track};

/// The file with a router's password.
pub(super) fn password_file(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    format!("vrrp-{}.password", name.chars().map(plain).collect::<String>())
}

pub(super) fn write(routers: &[Router], notes: &[Note], source: &str, directory: &str) -> String {
    let mut text = format!(
        "# Written by `trigon import keepalived` from {}. keepalived's defaults are\n\
         # written out; priority and interval are those of the old node, so that it can be replaced\n\
         # while its peer stays as it is.\n",
        one_line(source)
    );
    for router in routers {
        write_router(router, directory, &mut text);
    }
    if !notes.is_empty() {
        text.push_str("\n# Seen and not carried over:\n");
        for note in notes {
            let _ = writeln!(text, "# {}", one_line(&note.to_string()));
        }
    }
    text
}

fn write_router(router: &Router, directory: &str, text: &mut String) {
    let _ = writeln!(text, "\n# vrrp_instance, line {}\n[[vrrp]]", router.line);
    let mut key = |key: &str, value: Value| {
        let _ = writeln!(text, "{key} = {value}");
    };
    key("name", router.name.as_str().into());
    key("interface", router.interface.as_str().into());
    key("vrid", i64::from(router.vrid).into());
    key("version", i64::from(router.version).into());
    key("addresses", router.addresses.clone().into());
    if !router.extra_addresses.is_empty() {
        key("extra_addresses", router.extra_addresses.clone().into());
    }
    key("priority", i64::from(router.priority).into());
    key("advert_interval", written(router.advert_interval));
    key("preempt", router.preempt.into());
    if !router.preempt_delay.is_zero() {
        key("preempt_delay", written(router.preempt_delay));
    }
    if let Some(source) = router.unicast_source {
        key("unicast_source", source.to_string().into());
    }
    if !router.unicast_peers.is_empty() {
        let peers: Vec<_> = router.unicast_peers.iter().map(ToString::to_string).collect();
        key("unicast_peers", peers.into());
    }
    if router.password.is_some() {
        let path = format!("{}/{}", directory.trim_end_matches('/'), password_file(&router.name));
        key("password_file", path.into());
    }
    if let Some(group) = &router.sync_group {
        key("sync_group", group.as_str().into());
    }
    for track in &router.tracks {
        write_track(track, text);
    }
}

fn write_track(track: &Track, text: &mut String) {
    text.push_str("[[vrrp.track]]\n");
    let mut key = |key: &str, value: Value| {
        let _ = writeln!(text, "{key} = {value}");
    };
    match &track.subject {
        Subject::Interface(name) => key("interface", name.as_str().into()),
        Subject::File(path) => key("file", path.as_str().into()),
        Subject::Script(script) => {
            let Script { command, interval, timeout, rise, fall, init_fail, user, .. } = script;
            key("script", command.clone().into());
            key("interval", written(*interval));
            key("timeout", written(*timeout));
            key("rise", i64::from(*rise).into());
            key("fall", i64::from(*fall).into());
            if *init_fail {
                key("init_fail", true.into());
            }
            if let Some(user) = user {
                key("user", user.as_str().into());
            }
        }
    }
    key("weight", i64::from(track.weight).into());
}

/// A duration as the configuration file writes it.
fn written(time: Duration) -> Value {
    let millis = time.as_millis();
    let text = if millis.is_multiple_of(1000) {
        format!("{}s", millis / 1000)
    } else {
        format!("{millis}ms")
    };
    text.into()
}

/// For a comment: nothing in it may end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
