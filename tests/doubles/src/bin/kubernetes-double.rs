//! A Kubernetes API for demos: prints a kubeconfig, plays PipelineRuns through, forgets all when it ends.
#![expect(
    clippy::print_stdout,
    reason = "the kubeconfig is what this program has to say"
)]

use clap::Parser;
use penstock_doubles::kubernetes::Kubernetes;

/// Runs the Kubernetes stand-in on loopback until it is interrupted.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Namespaces to make, besides `default`.
    #[arg(long)]
    namespace: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { port, namespace } = Arguments::parse();
    let kubernetes = Kubernetes::start_on(port).await?;
    for name in &namespace {
        kubernetes.namespace(name);
    }
    println!("{}", kubernetes.kubeconfig());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
