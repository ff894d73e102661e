//! `cargo xtask`: the developer commands of this repository.

use anyhow::Result;
use clap::{Parser, Subcommand};
use penstock_xtask::guests;

/// Developer commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds plugins into components and prints where they are, as JSON.
    Guests {
        /// Names of guests; all of them if none is given.
        names: Vec<String>,
    },
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Guests { names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            println!("{}", serde_json::to_string_pretty(&guests::build(&names)?)?);
        }
    }
    Ok(())
}
