//! Measures the goals of the design: `measure NAME [--output json] --penstock PATH`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use penstock_tests::load::{self, Name, Report};

/// Measures a goal of the design and prints each figure with what is asked for.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which.
    #[arg(value_enum)]
    name: Name,
    /// `text`, or `json` for scripts.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// How long `faults` lets everything fail, in seconds.
    #[arg(long, default_value = "600")]
    seconds: u64,
    /// The release binary.
    #[arg(long)]
    penstock: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "the answer of a program that measures or ends"
)]
fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let figures = runtime.block_on(load::measure(
        arguments.name,
        &arguments.penstock,
        Duration::from_secs(arguments.seconds),
    ));
    let name = arguments
        .name
        .to_possible_value()
        .expect("every goal has a name");
    let report = Report::new(format!("cargo xtask measure {}", name.get_name()), figures);
    match arguments.output {
        Output::Json => println!("{}", report.json()),
        Output::Text => print!("{}", report.text()),
    }
}
