//! The reference and the command line, compared.

use clap::CommandFactory;

use super::Cli;

const REFERENCE: &str = include_str!("../../docs/reference/cli.md");
const LAB: &str = include_str!("../../docs/reference/lab.md");

/// Every command that does something, as it is typed, with its long options.
fn commands(command: &clap::Command, typed: &str, found: &mut Vec<(String, Vec<String>)>) {
    let below: Vec<_> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    for below in &below {
        commands(below, &format!("{typed} {}", below.get_name()), found);
    }
    if below.is_empty() {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let options =
            shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
        found.push((typed.to_owned(), options.collect()));
    }
}

#[test]
fn the_reference_has_every_command_and_every_option() {
    let mut found = Vec::new();
    commands(&Cli::command(), "trigon", &mut found);
    assert!(found.len() > 20, "{found:?}");
    let mut missing = Vec::new();
    for (command, options) in found {
        let begins = |line: &&str| {
            let rest = line.strip_prefix("| `").and_then(|line| line.strip_prefix(&command));
            rest.is_some_and(|rest| rest.starts_with([' ', '`']))
        };
        let Some(row) = REFERENCE.lines().find(begins) else {
            missing.push(command);
            continue;
        };
        let reference = if command == "trigon lab" { LAB } else { REFERENCE };
        // What many commands share is described once, in a table or a sentence of its own.
        let shared = |option: &str| {
            ["--config", "--socket", "--json"].contains(&option)
                || reference.lines().any(|line| line.starts_with(&format!("| `{option}")))
        };
        let is_told = |option: &String| row.contains(option.as_str()) || shared(option);
        let untold = options.iter().filter(|option| !is_told(option));
        missing.extend(untold.map(|option| format!("{command} {option}")));
    }
    assert_eq!(missing, [""; 0], "not in docs/reference");
}

#[test]
fn every_command_says_what_it_is_for_and_the_definitions_agree() {
    fn visit(command: &clap::Command, typed: &str) {
        for below in command.get_subcommands() {
            let typed = format!("{typed} {}", below.get_name());
            assert!(below.get_about().is_some(), "{typed}");
            for argument in below.get_arguments() {
                assert!(argument.get_help().is_some(), "{typed}: {}", argument.get_id());
            }
            visit(below, &typed);
        }
    }
    Cli::command().debug_assert();
    visit(&Cli::command(), "trigon");
}
