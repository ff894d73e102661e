//! `cargo xtask measure NAME`: builds everything in release and measures one figure of the design against its goal.

mod call;

use anyhow::{Context, Result};
use clap::ValueEnum;
use duct::cmd;

use crate::part::part;
use crate::{cache, guests, tools};

/// What to measure and how to print it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which figure.
    #[arg(value_enum)]
    name: Name,
    /// `text` or `json`; JSON has nothing else on standard output.
    #[arg(long, default_value = "text")]
    output: String,
    /// How long `faults` lets everything fail, in seconds.
    #[arg(long, default_value = "600")]
    seconds: u64,
}

/// Figures of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Webhook to PipelineRun, CPU for each delivery, time to 2xx.
    Load,
    /// Deliveries lost and runs doubled over many kills.
    Kill,
    /// Deliveries lost and runs doubled over power cuts.
    Power,
    /// Whether and when it converges when everything around it fails for a while.
    Faults,
    /// A plugin call against bare wasmtime.
    Call,
    /// A fresh instance of a plugin in Rust, Python, JavaScript and Go; instances in a second.
    Languages,
    /// Memory with 50 plugins, idle and in a burst.
    Memory,
    /// Time to accepting hooks with 50 plugins.
    Start,
    /// A decision about a `.tekton` folder of 50 files: time, and calls to GitLab.
    Pac,
    /// One tenant's wait for its runs while another sends 10,000 deliveries, against alone.
    Fair,
    /// Cost of a delivery with 1,000 tenants against one, time of a reload, memory.
    Tenants,
    /// 10,000 decisions run again.
    Replay,
    /// A plugin beside a hostile one.
    Hostile,
}

/// Measures. The exit status says only whether it could be measured.
///
/// # Errors
/// Something does not build, or the measurement itself fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    part("guests", || guests::build(&[]))?;
    let bench = match arguments.name {
        Name::Call => Some("call"),
        Name::Languages => Some("languages"),
        _ => None,
    };
    if let Some(bench) = bench {
        return call::run(bench, &arguments.output);
    }
    tools::must_have(
        "taskset",
        "it pins the cluster to one core and Penstock to the other",
    )?;
    let target = cache::target()?;
    part("release build", || {
        // With the features that the benches have, so that nothing is compiled twice.
        cmd!(
            "cargo",
            "build",
            "--release",
            "--workspace",
            "--bins",
            "--bench",
            "call",
            "--bench",
            "languages"
        )
        .env("CARGO_TARGET_DIR", &target)
        .stdout_to_stderr()
        .run()?;
        Ok(())
    })?;
    let name = arguments
        .name
        .to_possible_value()
        .context("every figure has a name")?;
    let release = target.join("release");
    cmd!(
        release.join("measure"),
        name.get_name(),
        "--output",
        &arguments.output,
        "--seconds",
        arguments.seconds.to_string(),
        "--penstock",
        release.join("penstock")
    )
    .run()
    .with_context(|| format!("the figure `{}` could not be measured", name.get_name()))?;
    Ok(())
}
