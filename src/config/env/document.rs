//! Settings on their way into a configuration file: which key of Trigon each variable became, and
//! the TOML that says so. The one parser reads that text, so a variable and a key can never mean
//! two things. Sans-io.

use std::fmt::Write;

use toml::Value;

use super::Note;

/// Sections in the order in which they are written.
const SECTIONS: [&str; 5] = ["node", "log", "nextcloud", "exapps", "frp"];

/// One key, and the variable it comes from.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) value: Value,
    pub(super) variable: &'static str,
}

/// All settings an environment makes.
#[derive(Clone, Debug, Default)]
pub struct Document(pub(super) Vec<Setting>);

impl Document {
    /// The variable behind a dotted key such as `frp.listen`.
    pub fn variable(&self, dotted: &str) -> Option<&'static str> {
        let (section, key) = dotted.split_once('.')?;
        let found = self.0.iter().find(|set| set.section == section && set.key == key);
        found.map(|set| set.variable)
    }

    /// The settings as TOML, each below a comment that names its variable.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        for section in SECTIONS {
            let mut settings = self.0.iter().filter(|set| set.section == section).peekable();
            if settings.peek().is_none() {
                continue;
            }
            let _ = writeln!(text, "\n[{section}]");
            for Setting { key, value, variable, .. } in settings {
                let _ = writeln!(text, "# {variable}\n{key} = {value}");
            }
        }
        text
    }

    /// A whole configuration file that is to be kept: the settings, the file with the shared key,
    /// and what was not taken over.
    pub fn file(&self, source: &str, key: (&str, &'static str), notes: &[Note]) -> String {
        let (path, variable) = key;
        let mut document = self.clone();
        let value = path.into();
        document.0.push(Setting { section: "exapps", key: "shared_key_file", value, variable });
        let mut text = format!(
            "# Written by `trigon import harp` from {}. What does not stand here keeps its\n\
             # default; `trigon check` tells what is wrong with a change.\n",
            one_line(source)
        );
        text.push_str(&document.toml());
        if !notes.is_empty() {
            text.push_str("\n# Seen and not taken over:\n");
            for note in notes {
                let _ = writeln!(text, "# {}", one_line(&note.to_string()));
            }
        }
        text
    }
}

/// For a comment: nothing in it may end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
