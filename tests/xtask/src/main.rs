//! `cargo xtask`: the developer commands of this repository.

use anyhow::Result;
use clap::{Parser, Subcommand};
use penstock_xtask::{ci, demo, fuzz, guests, measure, test};

/// Developer commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sets everything up and shows the main job, step by step; then stays up.
    Demo(demo::Arguments),
    /// Sets everything up and runs every test.
    Test {
        /// Given to `cargo test`, such as `-p penstock-store`; all of the workspace if nothing is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Everything that must hold before a change lands.
    Ci,
    /// Feeds made-up input to what reads the network, a guest or an operator's file.
    Fuzz(fuzz::Arguments),
    /// Measures a figure and prints it with its goal.
    Measure(measure::Arguments),
    /// Builds plugins into components and prints where they are, as JSON.
    Guests {
        /// Names of guests; all of them if none is given.
        names: Vec<String>,
    },
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test { arguments } => test::run(&arguments),
        Command::Ci => ci::run(),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Measure(arguments) => measure::run(&arguments),
        Command::Guests { names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            println!("{}", serde_json::to_string_pretty(&guests::build(&names)?)?);
            Ok(())
        }
    }
}
