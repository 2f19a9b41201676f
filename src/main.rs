//! Parses the arguments, runs, and turns the error into an exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dressipi_sidecar::cli::main()
}
