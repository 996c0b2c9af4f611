//! What happened on a node, for whoever asks later. Sans-io.

use serde::{Deserialize, Serialize};

use super::{Millis, NodeId};

/// Most bytes of an event's text.
pub const MAX_EVENT_TEXT: usize = 400;

/// Most bytes of its kind.
pub const MAX_EVENT_KIND: usize = 32;

/// Events remembered; the oldest makes room.
pub const MAX_EVENTS: usize = 500;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The node it is told by.
    pub node: NodeId,
    /// Tells the events of one node apart, for ever.
    pub id: u64,
    /// When, by that node's clock.
    pub at: Millis,
    /// What kind of thing: a word in lower case.
    pub kind: String,
    /// One line.
    pub text: String,
    /// How long nobody answered because of it, milliseconds, if that was measured.
    pub outage_ms: Option<u32>,
}

impl Event {
    /// Whether it is one this cluster keeps: one short line under a short word.
    pub fn is_sound(&self) -> bool {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        (1..=MAX_EVENT_KIND).contains(&self.kind.len())
            && self.kind.bytes().all(is_word)
            && self.text.len() <= MAX_EVENT_TEXT
            && !self.text.chars().any(char::is_control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_line_under_a_short_word_is_sound() {
        let event = |kind: &str, text: &str| {
            let (kind, text) = (kind.to_owned(), text.to_owned());
            Event { node: 1, id: 1, at: 1, kind, text, outage_ms: None }.is_sound()
        };
        assert!(event("vrrp_active", "web: \u{fc}ber"));
        assert!(event("x", &"x".repeat(MAX_EVENT_TEXT)));
        for kind in ["", "Vrrp", "a b", "a\n", "k\u{e4}", &"k".repeat(MAX_EVENT_KIND + 1)] {
            assert!(!event(kind, "text"), "{kind:?}");
        }
        for text in ["a\nb", "\u{1b}[2J", &"x".repeat(MAX_EVENT_TEXT + 1)] {
            assert!(!event("kind", text), "{text:?}");
        }
    }
}
