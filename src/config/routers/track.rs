//! The sections `[[vrrp.track]]`: what a virtual router's priority depends on.

use std::path::PathBuf;
use std::time::Duration;

use vrrp::Tracker;

use super::super::file::Section;
use super::super::value::Command;
use super::Purpose;
use crate::failover::trackers::{Health, Script, Source, User};

const PASSWD: &str = "/etc/passwd";

const HEALTH: &[(&str, Option<Health>)] = &[
    ("listeners", Some(Health::Listeners)),
    ("nextcloud", Some(Health::Nextcloud)),
    ("tunnels", Some(Health::Tunnels)),
];

/// The trackers of one router; what is to be looked at goes to `sources`.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    purpose: Purpose,
    sources: &mut Vec<Source>,
) -> Vec<Tracker> {
    let mut trackers: Vec<Tracker> = Vec::new();
    for mut one in section.sections("track") {
        // A user or a path that is gone does not matter to addresses.
        if purpose == Purpose::Release {
            continue;
        }
        let weight = one.optional::<i16>("weight").unwrap_or(0);
        if let Some(source) = read_source(&mut one) {
            match Tracker::new(&source.name(), weight) {
                Ok(tracker) => {
                    trackers.push(tracker);
                    sources.push(source);
                }
                Err(_) => one.wrong("weight", weight.to_string(), "-254 to 254"),
            }
        }
        one.finish();
    }
    trackers
}

fn read_source(one: &mut Section<'_, '_>) -> Option<Source> {
    let interface = one.optional::<String>("interface").map(Source::Interface);
    let file = one.optional::<PathBuf>("file");
    let health = one.choice("health", HEALTH, None).map(Source::Health);
    let command = one.optional::<Command>("script");
    let is_script = command.is_some();
    let script = read_script(one, command.map(|command| command.0));
    if let Some(path) = file.as_ref().filter(|path| path.is_relative()) {
        one.wrong("file", format!("\"{}\"", path.display()), "an absolute path");
    }
    let file = file.map(Source::File);
    let count = [interface.is_some(), file.is_some(), health.is_some(), is_script];
    let count = count.into_iter().filter(|is_there| *is_there).count();
    if count != 1 {
        let found = if count == 0 { "nothing to track" } else { "several things to track" };
        one.wrong("script", found, "exactly one of interface, script, file, health");
        return None;
    }
    interface.or(file).or(health).or(script.map(Source::Script))
}

/// Keys of a script without a script are told, and so is a user nobody knows.
fn read_script(one: &mut Section<'_, '_>, command: Option<Vec<String>>) -> Option<Script> {
    let interval = one.positive::<Duration>("interval");
    let timeout = one.positive::<Duration>("timeout");
    let rise = one.positive::<u32>("rise");
    let fall = one.positive::<u32>("fall");
    let init_fail = one.optional::<bool>("init_fail");
    let user = one.optional::<String>("user");
    let Some(command) = command else {
        for (key, is_there) in [
            ("interval", interval.is_some()),
            ("timeout", timeout.is_some()),
            ("rise", rise.is_some()),
            ("fall", fall.is_some()),
            ("init_fail", init_fail.is_some()),
            ("user", user.is_some()),
        ] {
            if is_there {
                one.wrong(key, "a key of scripts", "script as well");
            }
        }
        return None;
    };
    let passwd = || std::fs::read_to_string(PASSWD).unwrap_or_default();
    let found = user.as_ref().map(|name| User::find(&passwd(), name));
    if let (Some(name), Some(None)) = (&user, found) {
        one.wrong("user", format!("\"{name}\""), "a user of this machine (/etc/passwd)");
    }
    let interval = interval.unwrap_or(Duration::from_secs(1));
    Some(Script {
        command,
        interval,
        timeout: timeout.unwrap_or(interval),
        rise: rise.unwrap_or(1),
        fall: fall.unwrap_or(1),
        init_fail: init_fail.unwrap_or(false),
        user: found.flatten(),
    })
}
