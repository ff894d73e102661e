//! A GitLab for demos: empty but for `root`, seeded and steered through `/_double/…`.
#![expect(
    clippy::print_stdout,
    reason = "the address is what this program has to say"
)]

use clap::Parser;
use penstock_doubles::gitlab::{GitLab, World};

/// Runs the GitLab stand-in on loopback until it is interrupted.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The version to claim, which decides the webhooks' headers.
    #[arg(long, default_value = "19.1.0-ee")]
    version: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { port, version } = Arguments::parse();
    let mut world = World::new();
    world.version(&version);
    let gitlab = GitLab::start_on(world, port).await?;
    println!("{}", gitlab.url());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
