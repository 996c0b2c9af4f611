//! The text of a `keepalived.conf` as statements: a line of words, perhaps with a block in braces
//! below it. Comments, quotes, definitions (`$NAME=value`) and conditions (`@id`) are dealt with
//! here; what the words mean is not known here. Sans-io.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::Note;

/// Deepest nesting that is read; keepalived itself needs four.
const DEPTH: usize = 8;

/// Most replacements within one line, and the longest line they may make.
const REPLACEMENTS: usize = 64;
const LONGEST: usize = 16 << 10;

/// One line of words with the block that follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) block: Vec<Self>,
}

impl Statement {
    /// The keyword.
    pub(super) fn word(&self) -> &str {
        self.word_at(0)
    }

    /// The first value.
    pub(super) fn value(&self) -> &str {
        self.word_at(1)
    }

    /// Every word of the block, whatever its lines, each with its line.
    pub(super) fn list(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.block.iter();
        lines.flat_map(|one| one.words.iter().map(|word| (one.line, word.as_str())))
    }

    fn word_at(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

/// One piece of a line.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
}

/// Reads the whole text as a keepalived with the configuration id `id` does. What it cannot make
/// sense of becomes a note.
pub(super) fn parse(text: &str, id: &str, notes: &mut Vec<Note>) -> Vec<Statement> {
    let mut reader = Reader { open: vec![Vec::new()], too_deep: 0, notes };
    let mut definitions = Definitions::default();
    let mut continued = false;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (raw, line) in text.lines().zip(1..) {
        let goes_on = raw.trim_end().ends_with('\\');
        if continued {
            continued = goes_on;
            continue;
        }
        let Some(raw) = condition(raw.trim_start(), id) else { continue };
        if let Some((name, value)) = definition(raw) {
            continued = goes_on;
            let tail = "a definition over several lines is not read; write out what it stands for";
            match goes_on {
                true => reader.note(line, &format!("${name}"), tail),
                false => drop(definitions.0.insert(name.to_owned(), value.trim_end().to_owned())),
            }
            continue;
        }
        let Some(full) = definitions.replace(raw) else {
            let word = raw.split_whitespace().next().unwrap_or_default();
            reader.note(line, word, "a definition that replaces itself without end");
            continue;
        };
        reader.take(line, tokens(&full));
    }
    reader.finish()
}

/// What is left of a line behind `@id` or `@^id`; `None` when the condition does not hold.
fn condition<'t>(line: &'t str, id: &str) -> Option<&'t str> {
    let Some(rest) = line.strip_prefix('@') else { return Some(line) };
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let holds = match word.strip_prefix('^') {
        Some(other) => other != id,
        None => word == id,
    };
    holds.then(|| rest.trim_start())
}

/// Name and value of `$NAME=value`.
fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('$')?.split_once('=').filter(|(name, _)| is_name(name))
}

fn is_name(text: &str) -> bool {
    let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

#[derive(Default)]
struct Definitions(BTreeMap<String, String>);

impl Definitions {
    /// The line with every defined name replaced, also those that replacements bring; `None` when
    /// that has no end. A name nobody has defined stays as it is.
    fn replace(&self, line: &str) -> Option<String> {
        let mut text = line.to_owned();
        let (mut from, mut count) = (0, 0);
        while let Some(at) = text.get(from..)?.find('$').map(|at| from + at) {
            let rest = &text[at + 1..];
            let name = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some((name, _)) => Some((name, name.len() + 3)),
                None => {
                    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    Some((&rest[..end], end + 1))
                }
            };
            let found = name.and_then(|(name, length)| Some((self.0.get(name)?, length)));
            let Some((value, length)) = found else {
                from = at + 1;
                continue;
            };
            count += 1;
            if count > REPLACEMENTS || text.len() + value.len() > LONGEST {
                return None;
            }
            text.replace_range(at..at + length, value);
            from = at;
        }
        Some(text)
    }
}

/// The words and braces of a line. A comment begins at any `#` or `!` outside quotes.
fn tokens(line: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.peek().copied() {
        match c {
            '#' | '!' => break,
            '{' | '}' => {
                chars.next();
                found.push(if c == '{' { Token::Open } else { Token::Close });
            }
            c if c.is_whitespace() => drop(chars.next()),
            _ => found.push(Token::Word(word(&mut chars))),
        }
    }
    found
}

/// One word without its quotes. `${NAME}` is part of a word, any other brace ends it.
fn word(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    let mut quoted = false;
    while let Some(c) = chars.peek().copied() {
        match c {
            '"' => quoted = !quoted,
            '\\' => {
                chars.next();
                text.extend(chars.peek());
            }
            _ if quoted => text.push(c),
            '{' | '}' if !within_name(&text) => break,
            '#' | '!' => break,
            c if c.is_whitespace() => break,
            _ => text.push(c),
        }
        chars.next();
    }
    text
}

/// Whether a brace behind this text is one of `${NAME}`.
fn within_name(text: &str) -> bool {
    text.ends_with('$') || text.rsplit_once("${").is_some_and(|(_, name)| is_name(name))
}

/// Puts statements into the blocks that are open.
struct Reader<'n> {
    /// The statements so far, of the file and of each open block within the one before.
    open: Vec<Vec<Statement>>,
    /// Open blocks that are deeper than anything is read.
    too_deep: usize,
    notes: &'n mut Vec<Note>,
}

impl Reader<'_> {
    fn take(&mut self, line: usize, tokens: Vec<Token>) {
        let mut words = Vec::new();
        for token in tokens {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    self.end(line, &mut words);
                    self.open(line);
                }
                Token::Close => {
                    self.end(line, &mut words);
                    self.close(line);
                }
            }
        }
        self.end(line, &mut words);
    }

    fn end(&mut self, line: usize, words: &mut Vec<String>) {
        let words = std::mem::take(words);
        if words.is_empty() || self.too_deep > 0 {
            return;
        }
        if let Some(here) = self.open.last_mut() {
            here.push(Statement { line, words, block: Vec::new() });
        }
    }

    /// A block belongs to the statement before it, on the same line or above.
    fn open(&mut self, line: usize) {
        let empty = self.open.last().is_none_or(Vec::is_empty);
        if self.too_deep > 0 || self.open.len() > DEPTH || empty {
            if self.too_deep == 0 {
                self.note(line, "{", "a block that belongs to nothing; what is in it is not read");
            }
            self.too_deep += 1;
        } else {
            self.open.push(Vec::new());
        }
    }

    fn close(&mut self, line: usize) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
        } else if self.open.len() > 1 {
            self.put_away();
        } else {
            self.note(line, "}", "no block is open here");
        }
    }

    fn put_away(&mut self) {
        let block = self.open.pop().unwrap_or_default();
        if let Some(owner) = self.open.last_mut().and_then(|outer| outer.last_mut()) {
            owner.block.extend(block);
        }
    }

    fn finish(mut self) -> Vec<Statement> {
        while self.open.len() > 1 {
            let outer = self.open.get(self.open.len() - 2).and_then(|outer| outer.last());
            if let Some((line, word)) = outer.map(|one| (one.line, one.word().to_owned())) {
                self.note(line, &word, "its block has no closing brace");
            }
            self.put_away();
        }
        self.open.pop().unwrap_or_default()
    }

    fn note(&mut self, line: usize, word: &str, text: &str) {
        self.notes.push(Note::new(line, word, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statements as one line each, blocks in brackets.
    fn shown(statements: &[Statement]) -> String {
        let one = |one: &Statement| {
            let block = match one.block.as_slice() {
                [] => String::new(),
                block => format!("[{}]", shown(block)),
            };
            format!("{}:{}{block}", one.line, one.words.join("|"))
        };
        statements.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn read(text: &str) -> (String, Vec<String>) {
        let mut notes = Vec::new();
        let statements = parse(text, "main", &mut notes);
        (shown(&statements), notes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn words_blocks_comments_and_quotes() {
        for (text, expect) in [
            ("a b # c\n! d\n e!f\n", "1:a|b 3:e"),
            ("a {\n b 1\n c {\n d\n }\n}\n", "1:a[2:b|1 3:c[4:d]]"),
            ("a\n{\n b\n}\nc", "1:a[3:b] 5:c"),
            ("a { b } c {d}", "1:a[1:b] 1:c[1:d]"),
            ("vrrp_instance VI{\npriority 9}", "1:vrrp_instance|VI[2:priority|9]"),
            ("s \"x # 'y z'\" t", "1:s|x # 'y z'|t"),
            ("s \"say \\\"hi\\\"\" a\\ b", "1:s|say \"hi\"|a b"),
            ("s \"\"", "1:s|"),
            ("s \"open", "1:s|open"),
            ("\u{feff}a\r\nb\r\n", "1:a 2:b"),
            ("", ""),
        ] {
            assert_eq!(read(text), (expect.to_owned(), vec![]), "{text:?}");
        }
    }

    #[test]
    fn conditions_and_definitions_are_keepaliveds() {
        for (text, expect) in [
            ("@main a\n@other b\n@^main c\n@^other d\n", "1:a 4:d"),
            ("$P=200\npriority $P\n", "2:priority|200"),
            (
                "$B=10.2.${S}\n$S=0\n${B}.100/32\n$S=10\n${B}.100/32",
                "3:10.2.0.100/32 5:10.2.10.100/32",
            ),
            ("@main $P=1\n@other $P=2\np $P", "3:p|1"),
            ("s ${NOBODY} $x y$", "1:s|${NOBODY}|$x|y$"),
            ("$E=\na $E b", "2:a|b"),
        ] {
            assert_eq!(read(text), (expect.to_owned(), vec![]), "{text:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_by_line_and_the_rest_is_read() {
        for (text, expect, note) in [
            ("a\n}\nb", "1:a 3:b", "line 2: `}`: no block is open here"),
            ("a {\nb", "1:a[2:b]", "line 1: `a`: its block has no closing brace"),
            ("{\nb\n}\nc", "4:c", "line 1: `{`: a block that belongs to nothing"),
            ("$M=a \\\n  b \\\n  c\nd", "4:d", "line 1: `$M`: a definition over several lines"),
            ("$R=x${R}\na ${R}\nb", "3:b", "line 2: `a`: a definition that replaces itself"),
        ] {
            let (statements, notes) = read(text);
            assert_eq!(statements, expect, "{text:?}");
            assert!(notes.len() == 1 && notes[0].starts_with(note), "{text:?}: {notes:?}");
        }
        let deep = "a {\n".repeat(100_000);
        let (_, notes) = read(&deep);
        assert!(notes[0].contains("belongs to nothing") || notes.len() <= DEPTH + 1, "{notes:?}");
    }
}
