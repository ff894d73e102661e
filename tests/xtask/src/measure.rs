//! `cargo xtask measure NAME`: builds everything in release and measures one figure of the design against its goal.
//!
//! `--unoptimised` takes debug builds instead: to see that a measurement runs to its end. Its figures say nothing of the host's speed.

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
    /// JSON has nothing else on standard output.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// How long `faults` lets everything fail, in seconds.
    #[arg(long, default_value = "600")]
    seconds: u64,
    /// Takes debug builds: to see that it runs to its end, not for its figures.
    #[arg(long)]
    unoptimised: bool,
}

/// How the figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

impl Output {
    /// As the programs that measure have it on their command line.
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How what is measured is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Release,
    Debug,
}

impl Build {
    /// Cargo's folder of it.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }

    /// What `cargo build` and `cargo bench` are told of it.
    fn profile(self) -> [&'static str; 2] {
        match self {
            Self::Release => ["--profile", "release"],
            Self::Debug => ["--profile", "dev"],
        }
    }
}

/// Figures of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Webhook to PipelineRun, CPU for each delivery, time to 2xx.
    Load,
    /// Time to 2xx alone, as `load` has it too.
    Answer,
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
    let build = if arguments.unoptimised {
        Build::Debug
    } else {
        Build::Release
    };
    let bench = match arguments.name {
        Name::Call => Some("call"),
        Name::Languages => Some("languages"),
        _ => None,
    };
    if let Some(bench) = bench {
        return call::run(bench, arguments.output, build);
    }
    tools::must_have(
        "taskset",
        "it pins the cluster to one core and Penstock to the other",
    )?;
    let target = cache::target()?;
    part("build", || {
        let mut words = vec!["build"];
        words.extend(build.profile());
        match build {
            // With the features that the benches have, so that nothing is compiled twice.
            Build::Release => {
                words.extend("--workspace --bins --bench call --bench languages".split(' '))
            }
            // With those that the tests have.
            Build::Debug => words.extend(["--workspace", "--all-targets"]),
        }
        cmd("cargo", words)
            .env("CARGO_TARGET_DIR", &target)
            .stdout_to_stderr()
            .run()?;
        Ok(())
    })?;
    let name = arguments
        .name
        .to_possible_value()
        .context("every figure has a name")?;
    let built = target.join(build.folder());
    cmd!(
        built.join("measure"),
        name.get_name(),
        "--output",
        arguments.output.word(),
        "--seconds",
        arguments.seconds.to_string(),
        "--penstock",
        built.join("penstock")
    )
    .run()
    .with_context(|| format!("the figure `{}` could not be measured", name.get_name()))?;
    Ok(())
}
