//! Parses the arguments, runs, and turns the error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dressipi_sidecar::cli::main()
}
