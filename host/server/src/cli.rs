//! The command line. Each command reads what it needs, does one thing and says what to do next when it fails.

mod deliveries;
mod effects;
mod explain;
mod output;
mod projects;
mod queue;
mod replay;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use penstock_store::Store;

use crate::config::Config;
use crate::host::{COMPILE_COMMAND, target};
use crate::serve::{Loop, serve};
use crate::trace::Traces;
use crate::{check, log};

pub use output::Format;

/// Runs sandboxed plugins that decide what GitLab's events mean, and carries the decisions out in Tekton.
#[derive(Debug, Parser)]
#[command(name = "penstock", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Shared {
    /// The configuration: a YAML file, or a folder of them.
    #[arg(
        long,
        global = true,
        env = "PENSTOCK_CONFIG",
        default_value = "penstock.yaml"
    )]
    config: PathBuf,
    /// How the answer is written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Takes webhooks in, asks plugins, acts and reports.
    Serve {
        /// The configuration: a YAML file, or a folder of them.
        #[arg(long, env = "PENSTOCK_CONFIG", default_value = "penstock.yaml")]
        config: PathBuf,
        /// Runs some of the loops only, so that the process that faces the network need not hold the right to make tokens.
        #[arg(long, value_enum, value_delimiter = ',')]
        loops: Vec<Loop>,
    },
    /// Says all that is wrong with the configuration, GitLab, the clusters and the plugins.
    Check {
        #[command(flatten)]
        shared: Shared,
        /// Reads the configuration and the plugins only, and calls nothing.
        #[arg(long)]
        offline: bool,
        /// Paths of projects whose places are looked at, where a place's names hold variables.
        #[arg(long = "project", value_name = "PATH")]
        projects: Vec<String>,
    },
    /// Lists, shows and retries deliveries.
    Deliveries {
        #[command(subcommand)]
        command: deliveries::Command,
        #[command(flatten)]
        shared: Shared,
    },
    /// Says why a delivery, a run, a commit or a merge request did or did not lead to something.
    Explain {
        /// A delivery's id, a run's id or the name of its PipelineRun, PROJECT@SHA, or the address of a merge request.
        what: String,
        /// Runs its decisions again from their records and says whether they come out the same.
        #[arg(long)]
        rerun: bool,
        #[command(flatten)]
        shared: Shared,
    },
    /// Runs decisions again from their records and says which come out otherwise.
    #[command(
        after_help = "Exit status: 0 if all came out the same, 3 if one differs, 4 if one could not be run."
    )]
    Replay {
        #[command(flatten)]
        arguments: replay::Arguments,
        #[command(flatten)]
        shared: Shared,
    },
    /// Lists effects that wait or were given up, and tries them again.
    Effects {
        #[command(subcommand)]
        command: effects::Command,
        #[command(flatten)]
        shared: Shared,
    },
    /// Shows what waits, for what, and in which place.
    Queue {
        /// How many of each kind at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        shared: Shared,
    },
    /// Says that a project belongs to another tenant now.
    Projects {
        #[command(subcommand)]
        command: projects::Command,
        #[command(flatten)]
        shared: Shared,
    },
    /// Shows the main job on one machine, with stand-ins for GitLab and, unless a kubeconfig is given, Kubernetes.
    #[cfg(feature = "demo")]
    Demo(crate::demo::Arguments),
    /// Compiles the plugin on standard input; the host starts it for itself.
    #[command(name = COMPILE_COMMAND, hide = true)]
    CompilePlugin,
}

/// Does what the command line says.
pub fn run(line: CommandLine) -> ExitCode {
    if matches!(line.command, Command::CompilePlugin) {
        return penstock_sandbox::compile::serve();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return output::fail(&anyhow::Error::new(error).context("no runtime could be started"));
        }
    };
    match runtime.block_on(command(line.command)) {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

async fn command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve { config, loops } => {
            let _lines = log::start();
            let loops = if loops.is_empty() {
                Loop::all()
            } else {
                BTreeSet::from_iter(loops)
            };
            let traces = Traces::begin()?;
            let served = serve(config, loops).await;
            if let Some(traces) = traces {
                traces.end().await;
            }
            served?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check {
            shared,
            offline,
            projects,
        } => {
            let config = load(&shared.config)?;
            let findings = check::run(&config, &projects, offline).await;
            output::findings(&findings, shared.output);
            let bad = findings
                .iter()
                .any(|finding| finding.verdict == check::Verdict::Bad);
            Ok(if bad {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
        Command::Deliveries { command, shared } => deliveries::run(command, &shared).await,
        Command::Explain {
            what,
            rerun,
            shared,
        } => explain::run(&what, rerun, &shared).await,
        Command::Replay { arguments, shared } => replay::run(&arguments, &shared).await,
        Command::Effects { command, shared } => effects::run(command, &shared).await,
        Command::Queue { limit, shared } => queue::show(limit, &shared).await,
        Command::Projects { command, shared } => projects::run(command, &shared).await,
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => {
            crate::demo::run(&arguments).await?;
            Ok(ExitCode::SUCCESS)
        }
        // Done before there is a runtime.
        Command::CompilePlugin => Ok(ExitCode::SUCCESS),
    }
}

fn load(path: &Path) -> Result<Config> {
    Config::load(path).map_err(|problems| anyhow::anyhow!("{problems}"))
}

/// The store, beside a server that may be using it.
async fn open_beside(shared: &Shared) -> Result<Store> {
    let config = load(&shared.config)?;
    Store::open_beside(target(&config))
        .await
        .context("the store can't be opened")
}
