//! The ExApp inside the test's image: a static binary of the standard library alone, which the
//! test compiles itself. It is PID 1 and does what the start script of a stock ExApp does: it
//! writes frpc's configuration from the environment AppAPI gave it, starts frpc, and serves on the
//! unix socket frpc forwards to.
//!
//! The image has no shell; under the names `cat`, `mkdir` and `update-ca-certificates` the same
//! binary stands in for the three programs a HaRP-compatible server may run in a container.

mod app;
mod encoding;
mod http;
mod pages;
mod stop;
mod tools;
mod websocket;

use std::process::ExitCode;

use app::App;

/// With this argument SIGTERM has no effect, as with many real programs that are PID 1.
const DEAF: &str = "--deaf";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    let program = arguments.remove(0);
    let name = program.rsplit('/').next().unwrap_or_default();
    let done = match name {
        "cat" => tools::cat(&arguments),
        "mkdir" => tools::mkdir(&arguments),
        "update-ca-certificates" => tools::update_ca_certificates(),
        _ => {
            if !arguments.iter().any(|argument| argument == DEAF) {
                stop::on_sigterm();
            }
            App::from_environment().and_then(App::run)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
