//! The binary: reads the command line, runs it, tells how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    patchloom::cli::main()
}
