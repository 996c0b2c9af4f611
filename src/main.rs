//! Exit codes only; everything else is behind `trigon::cli`.

fn main() {}
