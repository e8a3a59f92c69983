//! The `switcher` binary.

fn main() {}
