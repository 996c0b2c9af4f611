//! Exit codes only; everything else is behind `trigon::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trigon::cli::main()
}
