//! The program `penstock`.

use std::process::ExitCode;

use clap::Parser as _;
use penstock_server::cli::{CommandLine, run};

/// See docs/decisions/0075-mimalloc.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(CommandLine::parse())
}
