//! The house rules a compiler does not know, checked on the text of every source file:
//!
//! - imports point to a lower floor ([`FLOORS`]), and siblings on one floor do not know each other;
//! - `vrrp` and `cluster` stand alone;
//! - a file whose front page says `Sans-io` names no tokio, socket, clock or randomness outside
//!   its tests, and the files in [`SANS_IO`] do say it;
//! - a file holds one idea: at most [`LINES`] lines besides its tests.
//!
//! It reads tokens, not syntax trees: enough for formatted code whose authors mean well.

use std::fs;
use std::path::Path;

/// Rooms by floor. A new top-level module starts with a decision here.
const FLOORS: &[(u8, &[&str])] = &[
    (10, &["main"]),
    (9, &["cli"]),
    (8, &["app", "lab", "doctor", "drill"]),
    (7, &["config"]),
    (6, &["frontend", "page"]),
    (5, &["proxy", "api", "admin"]),
    (4, &["exapps", "web"]),
    (3, &["frp", "nextcloud", "failover", "acme", "database"]),
    (2, &["access", "guard", "http", "balance", "docker"]),
    (1, &["vrrp", "cluster", "net", "observe", "secret"]),
    (0, &["lib"]),
];

/// Files that decide and never do, once they exist: a folder and what it holds. `*` stands for
/// every file but `mod.rs`.
const SANS_IO: &[(&str, &[&str])] = &[
    (
        "vrrp/src",
        &[
            "config",
            "dialect",
            "terms",
            "packet",
            "password",
            "virtual_address",
            "checksum",
            "timers",
            "event",
            "group",
            "tracking",
            "announce",
            "neighbour",
            "storm",
        ],
    ),
    ("vrrp/src/router", &["mod", "active", "backup", "down_timer", "standing"]),
    ("vrrp/src/guardian", &["will"]),
    ("cluster/src", &["command", "config", "flows", "group", "state", "token"]),
    ("cluster/src/membership", &["plan"]),
    ("cluster/src/network", &["admission", "frame", "knocks", "message"]),
    ("cluster/src/flows", &["delta", "heard", "local", "pair"]),
    ("cluster/src/presence", &["message", "conversation", "state"]),
    ("cluster/src/record", &["*"]),
    ("src/access", &["path", "routes", "verdict", "decision", "docker_engine"]),
    ("src/acme", &["plan"]),
    ("src/admin", &["check"]),
    ("src/app", &["conditions", "notable", "routers", "scrape"]),
    ("src/balance", &["*"]),
    ("src/balance/galera", &["*"]),
    ("src/config", &["changes", "env", "file", "keepalived", "problem", "value"]),
    ("src/config/env", &["document", "file", "value"]),
    ("src/config/keepalived", &["document", "instance", "left_out", "syntax", "tracking", "value"]),
    (
        "src/docker",
        &["archive", "names", "owner", "payload", "spec", "trust", "user", "version", "waiting"],
    ),
    ("src/database", &["proof", "report", "wire"]),
    ("src/doctor", &["report", "judge", "nextcloud_rules"]),
    ("src/drill", &["report", "timeline"]),
    ("src/exapps", &["upstream"]),
    (
        "src/failover",
        &[
            "takeover",
            "opinion",
            "isolation",
            "alarms",
            "config",
            "drain",
            "fitness",
            "heir",
            "last_resort",
            "word",
            "pace",
            "segment",
        ],
    ),
    ("src/failover/trackers", &["config", "tally"]),
    ("src/frp", &["message", "preface", "login", "ports", "control"]),
    ("src/frp/crypto", &["cfb"]),
    ("src/frp/mux", &["frame", "session"]),
    ("src/frp/wire", &["v1"]),
    ("src/frontend", &["signpost"]),
    ("src/http", &["headers", "client_ip", "extended_connect", "forwarded"]),
    ("src/http/tls", &["names"]),
    ("src/lab", &["report"]),
    ("src/net", &["proxy_protocol"]),
    ("src/nextcloud", &["messages"]),
    ("src/page", &["doorman", "form", "origin", "parts", "sessions"]),
    ("src/proxy", &["rewrite", "answer", "well_known"]),
    ("src/web", &["judge", "status"]),
];

/// What reaches outside: the runtime, sockets, the clock, randomness.
const IMPURE: &str = "tokio:: tokio_rustls:: tokio_tungstenite:: tokio_util:: hyper_util:: \
    socket2:: netlink_sys:: TcpListener TcpStream UdpSocket UnixDatagram UnixListener UnixStream \
    Instant::now SystemTime::now elapsed() thread::sleep rand:: getrandom SystemRandom";

/// Longest a file may be, its tests not counted.
const LINES: usize = 450;

#[test]
fn every_source_file_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "vrrp/src", "cluster/src"] {
        visit(root, &root.join(folder), &mut found);
    }
    assert!(found.is_empty(), "{} broken house rules:\n{}", found.len(), found.join("\n"));
}

fn visit(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let entries = fs::read_dir(folder).expect("source folders are readable");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            visit(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy();
            found.extend(check(&name, &fs::read_to_string(&path).expect("source is UTF-8")));
        }
    }
}

/// Every broken rule of one file, as `path:line: what`. `path` is relative to the workspace.
fn check(path: &str, source: &str) -> Vec<String> {
    let file = File::new(path, source);
    let mut found = Vec::new();
    file.check_imports(&mut found);
    file.check_purity(&mut found);
    let tests = file.test_lines();
    let lines = source.lines().count() - tests;
    if !file.is_test && lines > LINES {
        found.push(format!("{path}:{LINES}: {lines} lines without tests; split by concern"));
    }
    found
}

/// One token of code; comments and literals leave none.
struct Token<'a> {
    line: usize,
    text: &'a str,
    /// Inside an inline `#[cfg(test)] mod`.
    in_test: bool,
}

struct File<'a> {
    path: &'a str,
    /// Top-level module, or the name of the crate for `vrrp` and `cluster`.
    room: &'a str,
    /// How many `super` lead to the crate root.
    depth: usize,
    /// A test module in a file of its own.
    is_test: bool,
    front_page: String,
    tokens: Vec<Token<'a>>,
}

impl<'a> File<'a> {
    fn new(path: &'a str, source: &'a str) -> Self {
        let (owner, inner) = path.split_once("src/").expect("a path below src/");
        let module = inner.trim_end_matches(".rs").trim_end_matches("/mod");
        let top = module.split('/').next().unwrap_or(module);
        let page = source.lines().map_while(|line| line.strip_prefix("//!"));
        Self {
            path,
            room: if owner.is_empty() { top } else { owner.trim_end_matches('/') },
            depth: if matches!(module, "main" | "lib") { 0 } else { module.split('/').count() },
            is_test: inner.ends_with("/tests.rs") || inner.contains("/tests/"),
            front_page: page.collect(),
            tokens: mark_tests(tokens(source)),
        }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn test_lines(&self) -> usize {
        let spans = self.tokens.chunk_by(|a, b| a.in_test == b.in_test);
        let tests = spans.filter(|span| span[0].in_test);
        tests.map(|span| span[span.len() - 1].line - span[0].line + 1).sum()
    }

    fn check_imports(&self, found: &mut Vec<String>) {
        for at in 0..self.tokens.len() {
            if at > 0 && self.text(at - 1) == "::" {
                continue;
            }
            let mut rooms = Vec::new();
            match self.text(at) {
                "crate" | "super" | "self" => self.follow(at, 0, &mut rooms),
                "trigon" if self.text(at + 1) == "::" => self.follow(at, 0, &mut rooms),
                own @ ("vrrp" | "cluster") if self.text(at + 1) == "::" => rooms.push((at, own)),
                _ => {}
            }
            for (at, room) in rooms {
                if let Err(why) = may_import(self.room, room, self.is_crate()) {
                    found.push(format!("{}:{}: {why}", self.path, self.tokens[at].line));
                }
            }
        }
    }

    fn is_crate(&self) -> bool {
        !self.path.starts_with("src/")
    }

    /// Walks one path or import tree from `at`, `up` levels above its module, and notes what it
    /// names directly below the crate root.
    fn follow<'s>(&'s self, mut at: usize, mut up: usize, rooms: &mut Vec<(usize, &'s str)>) {
        loop {
            let depth = self.depth + usize::from(self.tokens[at].in_test);
            match self.text(at) {
                "crate" | "trigon" => up = depth,
                "super" => up += 1,
                "self" => {}
                "{" => return self.follow_group(at, up, rooms),
                name if up >= depth => return rooms.push((at, name)),
                _ => return,
            }
            if self.text(at + 1) == "as" && up >= depth {
                return rooms.push((at, "*"));
            }
            if self.text(at + 1) != "::" {
                return;
            }
            at += 2;
        }
    }

    fn follow_group<'s>(&'s self, open: usize, up: usize, rooms: &mut Vec<(usize, &'s str)>) {
        let mut nested = 0;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "{" => nested += 1,
                "}" => nested -= 1,
                _ => {}
            }
            if nested == 0 {
                return;
            }
            if nested == 1 && matches!(self.text(at), "{" | ",") && self.text(at + 1) != "}" {
                self.follow(at + 1, up, rooms);
            }
        }
    }

    fn check_purity(&self, found: &mut Vec<String>) {
        let marked = self.front_page.contains("Sans-io");
        if self.is_test || !(marked || self.is_promised()) {
            return;
        }
        if !marked {
            found.push(format!("{}:1: the front page must say `Sans-io`", self.path));
        }
        for words in IMPURE.split_whitespace() {
            let wanted: Vec<_> = tokens(words).iter().map(|token| token.text).collect();
            for here in self.tokens.windows(wanted.len()).filter(|here| !here[0].in_test) {
                if here.iter().map(|token| token.text).eq(wanted.iter().copied()) {
                    let line = here[0].line;
                    found.push(format!("{}:{line}: `{words}` in a sans-io file", self.path));
                }
            }
        }
    }

    fn is_promised(&self) -> bool {
        let name = self.path.trim_end_matches(".rs").rsplit_once('/');
        SANS_IO.iter().any(|(folder, names)| {
            let Some((_, name)) = name.filter(|(own, _)| own == folder) else { return false };
            names.contains(&name) || (names.contains(&"*") && name != "mod")
        })
    }
}

fn may_import(from: &str, to: &str, is_crate: bool) -> Result<(), String> {
    let floor = |room: &str| {
        let found = FLOORS.iter().find(|(_, rooms)| rooms.contains(&room));
        found.map(|(floor, _)| *floor).ok_or(format!("`{room}` stands on no floor"))
    };
    match (from, to) {
        _ if from == to => Ok(()),
        // Below their own root lie their own modules, not our rooms.
        ("vrrp" | "cluster", _) if is_crate && !matches!(to, "vrrp" | "cluster") => Ok(()),
        (_, "*") => Err("imports the crate root whole; name the room".into()),
        _ if floor(from)? > floor(to)? => Ok(()),
        _ if floor(from)? == floor(to)? => Err(format!("`{from}` imports its sibling `{to}`")),
        _ => Err(format!("`{from}` imports `{to}`, which stands above it")),
    }
}

/// Marks what lies inside inline test modules.
fn mark_tests(mut tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    for start in 0..tokens.len() {
        let rest = &tokens[start..];
        if !rest.iter().map(|token| token.text).take(7).eq(ATTRIBUTE) {
            continue;
        }
        // Only a module with a body; `mod tests;` is a file of its own, `use` a single line.
        let end = rest.iter().position(|token| matches!(token.text, "{" | ";"));
        let Some(open) = end.filter(|&at| rest[at].text == "{" && rest[at - 2].text == "mod")
        else {
            continue;
        };
        let mut nested = 0;
        for (at, token) in tokens[start..].iter_mut().enumerate() {
            token.in_test = true;
            nested += i32::from(token.text == "{") - i32::from(token.text == "}");
            if at > open && nested == 0 {
                break;
            }
        }
    }
    tokens
}

/// Identifiers, `::` and single signs, with their lines.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            '\'' if is_character(rest) => quoted(rest, '\''),
            _ if matches!(&rest[..word], "r" | "br" | "cr") => raw(rest, word).unwrap_or(word),
            _ if rest.starts_with("::") => 2,
            _ => word.max(first.len_utf8()),
        };
        let text = &rest[..length];
        if word == length || text == "::" || (length == 1 && first.is_ascii_punctuation()) {
            tokens.push(Token { line, text, in_test: false });
        }
        line += text.matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// Length of a literal that starts and ends with `quote` and may hold escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether an apostrophe opens a character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

/// Length of a raw string whose prefix is `prefix` bytes long; none if it is no raw string.
fn raw(text: &str, prefix: usize) -> Option<usize> {
    let hashes = text[prefix..].chars().take_while(|&c| c == '#').count();
    let body = text[prefix + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| prefix + hashes + 1 + at + end.len()))
}

mod the_checker {
    use super::*;

    /// Asserts that exactly the lines in `expect` are refused, each with a text that holds the
    /// given words.
    fn expect(path: &str, source: &str, expect: &[(usize, &str)]) {
        let found = check(path, source);
        assert_eq!(found.len(), expect.len(), "{path}\n{source}\n{found:#?}");
        for (found, (line, words)) in found.iter().zip(expect) {
            assert!(found.starts_with(&format!("{path}:{line}: ")), "{found}");
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn lets_imports_point_down_and_inwards() {
        for (path, source) in [
            ("src/proxy/exapp.rs", "use crate::access::Verdict;\nuse super::answer;"),
            ("src/proxy/exapp.rs", "use crate::{exapps::Directory, guard, proxy::answer};"),
            ("src/lab/mod.rs", "fn f() { crate::config::parse() }"),
            ("src/guard.rs", "pub(crate) use cluster::View;\npub(in crate::guard) fn f() {}"),
            ("src/frp/mux/shell.rs", "use super::super::session;"),
            ("src/guard.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}"),
            ("src/main.rs", "fn main() { trigon::cli::run() }"),
            ("cluster/src/node.rs", "use crate::{app, state::State};\nuse super::view;"),
        ] {
            expect(path, source, &[]);
        }
    }

    #[test]
    fn refuses_imports_that_point_up_or_sideways() {
        for (path, source, line, words) in [
            ("src/guard.rs", "\nuse crate::frp::Tunnels;", 2, "`frp`, which stands above"),
            ("src/guard.rs", "use super::http;", 1, "sibling `http`"),
            ("src/frp/mux/shell.rs", "use super::super::super::api::f;", 1, "`api`"),
            ("src/frp/pki.rs", "use super::{self, super::proxy};", 1, "`proxy`"),
            ("src/proxy/exapp.rs", "use crate::{\n    guard,\n    api::f,\n};", 3, "sibling `api`"),
            ("src/proxy/exapp.rs", "fn f() {\n    crate::app::run()\n}", 2, "`app`"),
            ("src/guard.rs", "#[cfg(test)]\nmod tests {\nuse super::super::app;\n}", 3, "`app`"),
            ("src/net/dial.rs", "use cluster::View;", 1, "sibling `cluster`"),
            ("src/lab/mod.rs", "use crate::app::Node;", 1, "sibling `app`"),
            ("src/page/mod.rs", "use crate::frontend::Config;", 1, "sibling `frontend`"),
            ("src/guard.rs", "use crate::Everything;", 1, "`Everything` stands on no floor"),
            ("src/guard.rs", "use crate::*;", 1, "whole"),
            ("src/guard.rs", "use crate as root;", 1, "whole"),
            ("vrrp/src/router.rs", "//! Sans-io.\nuse cluster::View;", 2, "sibling `cluster`"),
        ] {
            expect(path, source, &[(line, words)]);
        }
    }

    #[test]
    fn refuses_io_clock_and_randomness_in_sans_io_files() {
        for (code, words) in [
            ("use tokio::sync::mpsc;", "`tokio::`"),
            ("use std::net::{IpAddr, TcpStream};", "`TcpStream`"),
            ("let now = Instant::now();", "`Instant::now`"),
            ("let now = std::time::SystemTime::now();", "`SystemTime::now`"),
            ("let age = seen.elapsed();", "`elapsed()`"),
            ("aws_lc_rs::rand::fill(&mut salt);", "`rand::`"),
        ] {
            expect("src/frp/new.rs", &format!("//! Sans-io.\n\n{code}"), &[(3, words)]);
            expect("src/frp/new.rs", &format!("//! A shell.\n\n{code}"), &[]);
        }
    }

    #[test]
    fn lets_tests_comments_and_literals_of_sans_io_files_say_anything() {
        let source = "//! Sans-io: no tokio::time here.\n\
            // Instant::now() is the caller's.\n\
            const TEXT: &str = r#\"tokio::spawn \"}\"#;\n\
            fn quote<'a>(c: &'a char) -> bool { *c == '\"' || *c == '\\'' }\n\
            #[cfg(test)]\n\
            mod tests {\n    #[tokio::test]\n    async fn t() { \"}\"; tokio::time::pause() }\n}\n";
        expect("src/frp/control.rs", source, &[]);
        expect("src/frp/control/tests.rs", "use tokio::time;", &[]);
        let after = format!("{source}use tokio::time;\n");
        expect("src/frp/control.rs", &after, &[(10, "`tokio::`")]);
        let declared = "//! Sans-io.\n#[cfg(test)]\nmod tests;\nuse tokio::time;";
        expect("src/frp/control.rs", declared, &[(4, "`tokio::`")]);
    }

    #[test]
    fn wants_the_marker_where_the_design_promises_it() {
        expect("src/access/decision.rs", "//! Decides.", &[(1, "must say `Sans-io`")]);
        expect("cluster/src/record/ban.rs", "", &[(1, "must say `Sans-io`")]);
        expect("cluster/src/record/mod.rs", "pub mod ban;", &[]);
    }

    #[test]
    fn counts_lines_without_tests() {
        let long = "fn f() {}\n".repeat(LINES);
        expect("src/guard.rs", &long, &[]);
        let tested = format!("{long}#[cfg(test)]\nmod tests {{\n\n\n}}\n");
        expect("src/guard.rs", &tested, &[]);
        expect("src/guard.rs", &format!("{long}\n"), &[(LINES, "451 lines")]);
    }
}
