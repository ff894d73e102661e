//! The program `penstock`.

use std::process::ExitCode;

use clap::Parser as _;
use penstock_server::cli::{CommandLine, run};

fn main() -> ExitCode {
    run(CommandLine::parse())
}
