//! The `inkling` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    inkling::cli::run()
}
