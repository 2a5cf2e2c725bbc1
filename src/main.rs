//! Parses the command line and calls one verb of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    interviewd::cli::main()
}
