//! The configuration file: any text. Either a configuration or at least one problem that names a
//! line of the file, never both and never neither.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use trigon::config::parse::parse;

fuzz_target!(|input: (bool, &str)| {
    let (start_from_good, text) = input;
    let text = harmless(text);
    let text = if start_from_good { format!("{}{text}", good()) } else { text };
    let lines = text.lines().count() + 1;
    match parse("fuzz.toml", &text) {
        Ok(config) => {
            if let Some(serve) = config.serve {
                assert!(!serve.frp.apps.is_empty() && !serve.frp.engines.is_empty());
                for router in &serve.routers {
                    assert!(!router.addresses().is_empty() && !router.permission());
                }
            }
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "an error says what is wrong");
            for problem in problems.0 {
                assert!(problem.line <= lines, "line {} of {lines}", problem.line);
                assert!(!problem.key.is_empty() && !problem.found.is_empty());
                assert!(!problem.to_string().is_empty());
            }
        }
    }
});

/// Keys may name files, which are read: none outside of the working directory, or the devices of
/// this machine would be fuzzed too.
fn harmless(text: &str) -> String {
    let mut text = text.replace(['\\'], "").replace("..", "");
    for before in ["'", "\"", "\n", "\r"] {
        text = text.replace(&format!("{before}/"), before);
    }
    text
}

/// The shortest good start, so that chance finds the other sections.
fn good() -> &'static str {
    static GOOD: OnceLock<String> = OnceLock::new();
    GOOD.get_or_init(|| {
        let key = std::env::temp_dir().join("trigon-fuzz-key");
        std::fs::write(&key, "shared key\n").expect("a key file");
        let key = key.display();
        format!("[nextcloud]\nurl='https://cloud.example'\n[exapps]\nshared_key_file='{key}'\n")
    })
}
