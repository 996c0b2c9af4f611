//! HaRP's environment variables, from an `--env-file`: any text. What comes out is a configuration
//! the parser takes, or problems that name a variable; the document is TOML in any case, and the
//! shared key is in neither.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trigon::config::env::{Environment, Files, NAME, file};
use trigon::config::parse::parse_with_key;

const KEY: &str = "HP_SHARED_KEY=a key that is nowhere else\nNC_INSTANCE_URL=http://x.example\n";

fuzz_target!(|input: (u8, &str)| {
    let (start, rest) = input;
    let text = if start & 1 == 1 { format!("{KEY}{rest}") } else { rest.to_owned() };
    let environment = Environment::new(file::variables(&text));
    // As the shell reads it: only when a variable asks for it.
    let content = if start & 2 == 2 { rest.as_bytes() } else { b"'key'\n" };
    let key = environment.key_file().map(|_path| Ok(content.to_vec()));
    let made = environment.translate(&Files { key, ..Files::default() });

    let kept = made.document.file(&text, ("/etc/trigon/shared.key", "HP_SHARED_KEY"), &made.notes);
    let kept = kept.parse::<toml::Table>().expect("a file that is TOML");
    assert!(kept["exapps"]["shared_key_file"].is_str());

    let secret = made.key.as_ref().map(|key| key.secret.clone());
    let parsed = parse_with_key(NAME, &made.document.toml(), secret);
    let complete = parsed.is_ok();
    let problems = made.merge(parsed.err().map(|problems| problems.0).unwrap_or_default());
    assert!(!made.problems.is_empty() || complete, "the parser refuses: {problems:?}");
    for problem in problems {
        assert!(!problem.key.contains('.'), "{} is no variable", problem.key);
        assert!(!problem.found.is_empty() && !problem.expected.is_empty());
        assert!(!problem.to_string().contains("nowhere else"));
    }
});
