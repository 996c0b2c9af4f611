//! A `keepalived.conf` as `[[vrrp]]` sections: what `trigon import keepalived` writes. Sans-io: the
//! text comes in, TOML, passwords and notes come out.
//!
//! `syntax` reads lines and blocks, `instance` a `vrrp_instance`, `tracking` what moves its
//! priority, `left_out` says what has no counterpart and why, `document` writes the TOML.
//! keepalived's own defaults are written out, so that a node of each kind can share an address.
//! Whatever is not carried over is a note with its line; nothing is dropped in silence unless
//! Trigon always does it.

mod document;
mod instance;
mod left_out;
mod syntax;
mod tracking;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use instance::Router;
use syntax::Statement;
use tracking::{Definitions, Groups};
pub(super) use value::command;

use crate::secret::Secret;

/// Something in the file that was not carried over as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where, counted from 1.
    pub line: usize,
    /// The keyword, or what stands there.
    pub word: String,
    /// What became of it, and what to do.
    pub text: String,
}

impl Note {
    fn new(line: usize, word: &str, text: impl Into<String>) -> Self {
        let short: String = word.chars().take(60).collect();
        Self { line, word: short, text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.word, self.text)
    }
}

/// A password of a virtual router, which goes into a file of its own.
#[derive(Clone, Debug)]
pub struct Password {
    /// Name of the file.
    pub file: String,
    /// At most eight bytes.
    pub secret: Secret,
}

/// What a `keepalived.conf` says.
#[derive(Debug)]
pub struct Imported {
    routers: Vec<Router>,
    /// What was not carried over, in the order of the file.
    pub notes: Vec<Note>,
}

/// Reads a `keepalived.conf` as a keepalived started with `--config-id id` does.
pub fn import(text: &str, id: &str) -> Imported {
    let mut notes = Vec::new();
    let file = syntax::parse(text, id, &mut notes);
    let globals = Globals::read(&file, &mut notes);
    let definitions = Definitions::read(&file, &globals, &mut notes);
    let groups = Groups::read(&file, &mut notes);
    let mut routers: Vec<Router> = Vec::new();
    for one in file.iter().filter(|one| one.word() == "vrrp_instance") {
        let context =
            instance::Context { globals: &globals, definitions: &definitions, groups: &groups };
        let Some(router) = Router::read(one, &context, &mut notes) else { continue };
        if routers.iter().any(|other| other.name == router.name) {
            notes.push(Note::new(
                one.line,
                &router.name,
                "an instance of this name is above; left out",
            ));
        } else {
            routers.push(router);
        }
    }
    groups.check(&routers, &mut notes);
    for one in &file {
        left_out::at_top(one, &mut notes);
    }
    notes.sort_by_key(|note| note.line);
    Imported { routers, notes }
}

impl Imported {
    /// Whether there is no virtual router at all.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
    }

    /// The names of the virtual routers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routers.iter().map(|router| router.name.as_str())
    }

    /// The sections `[[vrrp]]`, and below them the notes as comments. `source` is what to call the
    /// file, `directory` where the files with passwords will lie.
    pub fn toml(&self, source: &str, directory: &str) -> String {
        document::write(&self.routers, &self.notes, source, directory)
    }

    /// The passwords, each for the file the TOML names.
    pub fn passwords(&self) -> Vec<Password> {
        let of = |router: &Router| {
            let secret = router.password.clone()?;
            Some(Password { file: document::password_file(&router.name), secret })
        };
        self.routers.iter().filter_map(of).collect()
    }
}

/// `global_defs`, as far as it concerns virtual routers.
#[derive(Debug, Default)]
struct Globals {
    version: Option<u8>,
    interface: Option<String>,
    script_user: Option<String>,
}

impl Globals {
    fn read(file: &[Statement], notes: &mut Vec<Note>) -> Self {
        let mut globals = Self::default();
        let mut told = BTreeSet::new();
        for one in file.iter().filter(|one| one.word() == "global_defs").flat_map(|one| &one.block)
        {
            match one.word() {
                "vrrp_version" => globals.version = value::version(one, notes),
                "default_interface" => globals.interface = Some(one.value().to_owned()),
                "script_user" => globals.script_user = Some(one.value().to_owned()),
                _ if told.insert(one.word()) => left_out::in_globals(one, notes),
                _ => {}
            }
        }
        globals
    }
}

#[cfg(test)]
mod tests;
