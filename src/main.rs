//! The `inkling` binary.

fn main() {}
