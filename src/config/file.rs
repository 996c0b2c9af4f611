//! Walks a TOML document section by section, remembers where everything stands, and refuses
//! what nobody asked for. Sans-io: the text comes in as a string.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::value::Value;

/// A configuration file while it is read; collects every problem.
pub struct File<'t> {
    name: &'t str,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    hints: RefCell<Vec<Problem>>,
}

/// One table of the file. Keys are asked for by name; [`Section::finish`] reports the rest.
pub struct Section<'f, 't> {
    file: &'f File<'t>,
    path: String,
    table: Option<&'f DeTable<'t>>,
    span: Range<usize>,
    asked: BTreeSet<&'static str>,
}

impl<'t> File<'t> {
    /// A file called `name` (for messages) holding `text`.
    pub fn new(name: &'t str, text: &'t str) -> Self {
        Self { name, text, problems: RefCell::default(), hints: RefCell::default() }
    }

    /// Parses the TOML itself.
    ///
    /// # Errors
    /// Every place where the text is not TOML.
    pub fn parse(&self) -> Result<Spanned<DeTable<'t>>, Problems> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(document);
        }
        let problems = errors
            .iter()
            .map(|error| Problem {
                file: self.name.to_owned(),
                line: error.span().map_or(0, |span| self.line(span.start)),
                key: "syntax".to_owned(),
                found: format!("no valid TOML ({})", error.message().trim()),
                expected: "`key = value` lines below `[section]` headings".to_owned(),
            })
            .collect();
        Err(Problems(problems))
    }

    /// The top of a parsed document.
    pub fn root<'f>(&'f self, document: &'f Spanned<DeTable<'t>>) -> Section<'f, 't> {
        Section {
            file: self,
            path: String::new(),
            table: Some(document.get_ref()),
            span: 0..0,
            asked: BTreeSet::new(),
        }
    }

    /// Records a problem found elsewhere, for example in a file a key points to.
    pub fn problem(&self, at: &Range<usize>, key: String, found: String, expected: String) {
        let line = if at.is_empty() { 0 } else { self.line(at.start) };
        let file = self.name.to_owned();
        self.problems.borrow_mut().push(Problem { file, line, key, found, expected });
    }

    /// All problems so far, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    /// What is allowed and still worth a second look, in the order of the file.
    pub fn hints(&self) -> Vec<Problem> {
        let mut hints = self.hints.borrow().clone();
        hints.sort_by_key(|hint| hint.line);
        hints
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }
}

impl<'f, 't> Section<'f, 't> {
    /// Whether the section stands in the file at all.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// A key that may be left out.
    pub fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.asked.insert(key);
        let raw = self.table?.get(key)?;
        let value = T::read(raw.get_ref());
        if value.is_none() {
            let found = self.excerpt(raw);
            self.file.problem(&raw.span(), self.key(key), found, T::EXPECTED.to_owned());
        }
        value
    }

    /// A key that must be there.
    pub fn required<T: Value>(&mut self, key: &'static str) -> Option<T> {
        if self.table.is_none_or(|table| !table.contains_key(key)) {
            self.asked.insert(key);
            let expected = T::EXPECTED.to_owned();
            self.file.problem(&self.span, self.key(key), "nothing".to_owned(), expected);
            return None;
        }
        self.optional(key)
    }

    /// A list of values; absent means empty.
    pub fn list<T: Value>(&mut self, key: &'static str) -> Vec<T> {
        self.asked.insert(key);
        let Some(raw) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let Some(items) = raw.get_ref().as_array() else {
            let expected = format!("a list in brackets, each {}", T::EXPECTED);
            self.file.problem(&raw.span(), self.key(key), self.excerpt(raw), expected);
            return Vec::new();
        };
        let mut values = Vec::new();
        for item in items.iter() {
            match T::read(item.get_ref()) {
                Some(value) => values.push(value),
                None => {
                    let expected = T::EXPECTED.to_owned();
                    self.file.problem(&item.span(), self.key(key), self.excerpt(item), expected);
                }
            }
        }
        values
    }

    /// One of a few words; `default` when left out.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        let Some(word) = self.optional::<String>(key) else { return default };
        if let Some((_, value)) = words.iter().find(|(known, _)| *known == word) {
            return *value;
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.wrong(key, format!("\"{word}\""), &known.join(" or "));
        default
    }

    /// A table below this one; absent is an empty section.
    pub fn section(&mut self, key: &'static str) -> Self {
        self.asked.insert(key);
        let raw = self.table.and_then(|table| table.get(key));
        let table = raw.and_then(|raw| raw.get_ref().as_table());
        if let (Some(raw), None) = (raw, table) {
            let expected = format!("a section headed [{}]", self.key(key));
            self.file.problem(&raw.span(), self.key(key), self.excerpt(raw), expected);
        }
        let span = raw.map_or(0..0, Spanned::span);
        Self { file: self.file, path: self.key(key), table, span, asked: BTreeSet::new() }
    }

    /// Repeated tables (`[[key]]`); absent means none.
    pub fn sections(&mut self, key: &'static str) -> Vec<Self> {
        self.asked.insert(key);
        let Some(raw) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let items = raw.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>());
        let tables: Option<Vec<_>> = items.and_then(|items| {
            items.into_iter().map(|item| Some((item.get_ref().as_table()?, item.span()))).collect()
        });
        let Some(tables) = tables else {
            let expected = format!("sections headed [[{}]]", self.key(key));
            self.file.problem(&raw.span(), self.key(key), self.excerpt(raw), expected);
            return Vec::new();
        };
        tables
            .into_iter()
            .enumerate()
            .map(|(index, (table, span))| Self {
                file: self.file,
                path: format!("{}[{index}]", self.key(key)),
                table: Some(table),
                span,
                asked: BTreeSet::new(),
            })
            .collect()
    }

    /// Records that a value is well written but wrong.
    pub fn wrong(&self, key: &str, found: impl Into<String>, expected: &str) {
        let written = self.table.and_then(|table| table.get(key)).map(Spanned::span);
        let at = written.unwrap_or_else(|| self.span.clone());
        self.file.problem(&at, self.key(key), found.into(), expected.to_owned());
    }

    /// Records a sentence about a value that is allowed and still may be a mistake.
    pub fn hint(&self, key: &str, text: String) {
        let written = self.table.and_then(|table| table.get(key)).map(Spanned::span);
        let at = written.unwrap_or_else(|| self.span.clone());
        let line = if at.is_empty() { 0 } else { self.file.line(at.start) };
        let (file, key) = (self.file.name.to_owned(), self.key(key));
        let hint = Problem { file, line, key, found: text, expected: String::new() };
        self.file.hints.borrow_mut().push(hint);
    }

    /// The same for a sentence that says what was found and what to do; `key` is dotted from the
    /// top and may lie in another section.
    pub fn complaint(&self, key: &str, text: String) {
        match key.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('.')) {
            Some(own) => self.wrong(own, text, ""),
            None => self.file.problem(&self.span, key.to_owned(), text, String::new()),
        }
    }

    /// A key that has no place here under these circumstances.
    pub fn refuse(&mut self, key: &'static str, found: &str, expected: &str) {
        if self.table.is_some_and(|table| table.contains_key(key)) {
            self.asked.insert(key);
            self.wrong(key, found, expected);
        }
    }

    /// A key of this section that must be more than nothing when it is there.
    pub fn positive<T: Value + Default + PartialEq>(&mut self, key: &'static str) -> Option<T> {
        let value = self.optional::<T>(key)?;
        if value != T::default() {
            return Some(value);
        }
        self.wrong(key, "0", "more than that");
        None
    }

    /// Reports every key that was never asked for.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, _) in table.iter() {
            if self.asked.contains(name.get_ref().as_ref()) {
                continue;
            }
            let known: Vec<_> = self.asked.iter().copied().collect();
            let key = self.key(name.get_ref());
            let expected = format!("one of: {}", known.join(", "));
            self.file.problem(&name.span(), key, "a key trigon does not know".into(), expected);
        }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value as it is written, shortened to one line.
    fn excerpt(&self, raw: &Spanned<DeValue<'_>>) -> String {
        let text = self.file.text.get(raw.span()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(60).collect();
        if short.len() < text.len() { format!("{short} ...") } else { short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn problems(text: &str) -> Vec<String> {
        let file = File::new("t.toml", text);
        let document = match file.parse() {
            Ok(document) => document,
            Err(problems) => return problems.0.iter().map(ToString::to_string).collect(),
        };
        let mut root = file.root(&document);
        let mut frp = root.section("frp");
        let _: Option<SocketAddr> = frp.required("listen");
        let _ = frp.optional::<bool>("tls");
        frp.finish();
        for mut router in root.sections("vrrp") {
            let _ = router.required::<u8>("vrid");
            router.finish();
        }
        root.finish();
        drop(document);
        file.into_problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_right_file_has_no_problem() {
        assert_eq!(problems("[frp]\nlisten='0.0.0.0:8782'\n[[vrrp]]\nvrid=5\n"), [""; 0]);
    }

    #[test]
    fn every_problem_is_named_with_file_line_key_found_and_expected() {
        let found = problems("[frp]\nlisten = '0.0.0.0'\ntls = 'no'\nport = 1\n[[vrrp]]\n[web]\n");
        assert_eq!(
            found,
            [
                "t.toml:2: frp.listen: found '0.0.0.0', expected an address and port such as \
                 \"0.0.0.0:8780\" or \"[::]:8780\"",
                "t.toml:3: frp.tls: found 'no', expected true or false",
                "t.toml:4: frp.port: found a key trigon does not know, expected one of: listen, tls",
                "t.toml:5: vrrp[0].vrid: found nothing, expected a whole number from 0 to 255",
                "t.toml:6: web: found a key trigon does not know, expected one of: frp, vrrp",
            ]
        );
    }

    #[test]
    fn a_missing_section_names_the_key_it_lacks() {
        let found = problems("");
        assert!(found[0].starts_with("t.toml: frp.listen: found nothing"), "{found:?}");
    }

    #[test]
    fn broken_toml_names_the_line() {
        let found = problems("[frp]\nlisten = \n");
        assert!(found[0].starts_with("t.toml:2: syntax: found no valid TOML"), "{found:?}");
    }
}
