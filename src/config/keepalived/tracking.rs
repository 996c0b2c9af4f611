//! What moves the priority of a keepalived instance: interfaces, scripts, files, and the groups
//! whose members move together. Sans-io.

use std::collections::BTreeMap;
use std::time::Duration;

use super::instance::Router;
use super::syntax::Statement;
use super::{Globals, Note, left_out, value};

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) line: usize,
    pub(super) subject: Subject,
    pub(super) weight: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Interface(String),
    Script(Script),
    File(String),
}

/// `vrrp_script`, with keepalived's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) command: Vec<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
    pub(super) init_fail: bool,
    pub(super) user: Option<String>,
    weight: i32,
}

/// Everything that can be tracked by name; the weight is the default of its users.
pub(super) struct Definitions(BTreeMap<(Kind, String), (Subject, i32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Script,
    File,
}

impl Definitions {
    pub(super) fn read(file: &[Statement], globals: &Globals, notes: &mut Vec<Note>) -> Self {
        let mut found = BTreeMap::new();
        for one in file {
            let name = one.value().to_owned();
            let (kind, read) = match one.word() {
                "vrrp_script" => (Kind::Script, script(one, globals, notes)),
                "track_file" | "vrrp_track_file" => (Kind::File, tracked_file(one, notes)),
                _ => continue,
            };
            if let Some(read) = read {
                found.insert((kind, name), read);
            }
        }
        Self(found)
    }

    /// The trackers of one `track_...` block.
    pub(super) fn tracks(&self, block: &Statement, notes: &mut Vec<Note>) -> Vec<Track> {
        block.block.iter().filter_map(|one| self.track(block.word(), one, notes)).collect()
    }

    fn track(&self, keyword: &str, one: &Statement, notes: &mut Vec<Note>) -> Option<Track> {
        let name = one.word();
        let mut note = |text: String| notes.push(Note::new(one.line, name, text));
        let (subject, default) = match keyword {
            "track_interface" => (Subject::Interface(name.to_owned()), 0),
            _ => {
                let kind = if keyword == "track_script" { Kind::Script } else { Kind::File };
                let Some(found) = self.0.get(&(kind, name.to_owned())).cloned() else {
                    note(format!("{keyword}: nothing usable of this name is defined; left out"));
                    return None;
                };
                found
            }
        };
        let weight = match value::weight(&one.words) {
            Some(weight) if weight.reverse => {
                note(format!("{keyword}: a reversed weight has no counterpart; left out"));
                return None;
            }
            Some(weight) => weight.weight,
            None if one.words.len() > 1 => {
                note(format!("{keyword}: \"{}\" is not understood", one.words[1..].join(" ")));
                default
            }
            None => default,
        };
        if weight == 0 && matches!(subject, Subject::File(_)) {
            note(format!("{keyword}: a file needs a weight other than 0; left out"));
            return None;
        }
        let most = if matches!(subject, Subject::File(_)) { 254 } else { 253 };
        if weight.abs() > most {
            note(format!("{keyword}: weight {weight} is beyond {most}; left out"));
            return None;
        }
        Some(Track { line: one.line, subject, weight })
    }
}

fn script(one: &Statement, globals: &Globals, notes: &mut Vec<Note>) -> Option<(Subject, i32)> {
    let second = Duration::from_secs(1);
    let mut script = Script {
        command: Vec::new(),
        interval: second,
        timeout: Duration::ZERO,
        rise: 1,
        fall: 1,
        init_fail: false,
        user: globals.script_user.clone(),
        weight: 0,
    };
    let mut usable = true;
    for inner in &one.block {
        match inner.word() {
            "script" => {
                script.command = match inner.words.get(1..).unwrap_or_default() {
                    [whole] => value::command(whole),
                    words => words.to_vec(),
                }
            }
            "interval" => set(&mut script.interval, value::seconds(inner, notes)),
            "timeout" => set(&mut script.timeout, value::seconds(inner, notes)),
            "rise" => set(&mut script.rise, value::number(inner, 1, 1_000_000, notes)),
            "fall" => set(&mut script.fall, value::number(inner, 1, 1_000_000, notes)),
            "weight" => match value::weight(&inner.words) {
                Some(weight) if !weight.reverse => script.weight = weight.weight,
                Some(_) => {
                    let text = "a reversed weight has no counterpart; the script is left out";
                    notes.push(Note::new(inner.line, "weight", text));
                    usable = false;
                }
                None => value::wrong(inner, "a weight", notes),
            },
            "user" => {
                script.user = Some(inner.value().to_owned());
                if inner.words.len() > 2 {
                    let text = "the group is always that of the user";
                    notes.push(Note::new(inner.line, "user", text));
                }
            }
            "init_fail" => script.init_fail = true,
            other => notes.push(Note::new(inner.line, other, "not known; left out")),
        }
    }
    if script.interval.is_zero() {
        script.interval = second;
    }
    // Without one, a script that still runs when the next is due has failed.
    if script.timeout.is_zero() {
        script.timeout = script.interval;
    }
    if script.command.first().is_none_or(String::is_empty) {
        notes.push(Note::new(one.line, one.value(), "a script without a command; left out"));
        usable = false;
    }
    let weight = script.weight;
    usable.then_some((Subject::Script(script), weight))
}

fn tracked_file(one: &Statement, notes: &mut Vec<Note>) -> Option<(Subject, i32)> {
    let (mut path, mut weight, mut usable) = (None, 1, true);
    for inner in &one.block {
        match inner.word() {
            "file" => path = Some(inner.value().to_owned()).filter(|path| path.starts_with('/')),
            "weight" => match value::weight(&inner.words) {
                Some(found) if !found.reverse => weight = found.weight,
                _ => {
                    let text = "no plain weight; the file is left out";
                    notes.push(Note::new(inner.line, "weight", text));
                    usable = false;
                }
            },
            "init_file" => {
                let text = "the file is not made; a missing one counts as 0";
                notes.push(Note::new(inner.line, "init_file", text));
            }
            other => notes.push(Note::new(inner.line, other, "not known; left out")),
        }
    }
    if path.is_none() {
        notes.push(Note::new(one.line, one.value(), "a file without an absolute path; left out"));
    }
    path.filter(|_| usable).map(|path| (Subject::File(path), weight))
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Every `vrrp_sync_group` of at least two members.
pub(super) struct Groups(Vec<Group>);

pub(super) struct Group {
    line: usize,
    pub(super) name: String,
    members: Vec<String>,
    /// Blocks `track_...` of the group, which hold for every member.
    pub(super) tracks: Vec<Statement>,
    /// Whether members keep weights of their own, which keepalived otherwise takes for 0.
    pub(super) keeps_weights: bool,
}

impl Groups {
    pub(super) fn read(file: &[Statement], notes: &mut Vec<Note>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for one in file.iter().filter(|one| one.word() == "vrrp_sync_group") {
            let mut group = Group {
                line: one.line,
                name: one.value().to_owned(),
                members: Vec::new(),
                tracks: Vec::new(),
                keeps_weights: false,
            };
            for inner in &one.block {
                match inner.word() {
                    "group" => group.members.extend(inner.list().map(|(_, word)| word.to_owned())),
                    "track_interface" | "track_script" | "track_file" => {
                        group.tracks.push(inner.clone());
                    }
                    word => {
                        let own = ["global_tracking", "sync_group_tracking_weight"];
                        group.keeps_weights |= own.contains(&word);
                        left_out::in_group(inner, notes);
                    }
                }
            }
            if group.members.len() < 2 || group.name.is_empty() {
                let text = "a group of fewer than two members, or without a name; left out";
                notes.push(Note::new(one.line, one.word(), text));
            } else {
                groups.push(group);
            }
        }
        Self(groups)
    }

    /// The first group an instance is in, as keepalived takes it.
    pub(super) fn of(&self, instance: &str) -> Option<&Group> {
        self.0.iter().find(|group| group.members.iter().any(|member| member == instance))
    }

    /// Members that do not exist.
    pub(super) fn check(&self, routers: &[Router], notes: &mut Vec<Note>) {
        for group in &self.0 {
            for member in &group.members {
                if !routers.iter().any(|router| router.name == *member) {
                    let text = format!("vrrp_sync_group {}: no such instance", group.name);
                    notes.push(Note::new(group.line, member, text));
                }
            }
        }
    }
}
