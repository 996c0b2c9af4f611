//! The configuration file: read once at start, checked whole, handed out as finished values.
//!
//! Every room owns its `Config`; this room stands above them and builds them. `file` walks the
//! TOML, `value` reads single values, `problem` is what the admin is told, `parse` maps keys to
//! rooms. Every key is described in `docs/reference/config.md`.

pub mod file;
pub mod parse;
pub mod problem;
pub mod value;

pub use parse::{Config, Speakers, load, load_speakers};
pub use problem::{Problem, Problems};
