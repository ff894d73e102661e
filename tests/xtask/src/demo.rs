//! `cargo xtask demo`: builds the host and two plugins, and shows the main job.

use std::path::PathBuf;

use anyhow::{Context, Result};
use duct::cmd;

use crate::part::part;
use crate::{cache, guests};

/// How the demo is shown.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A real cluster with Tekton, prepared with `examples/cluster`; none: a stand-in.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The namespace with the accounts of `examples/cluster/place.yaml`, if it isn't the example's.
    #[arg(long, requires = "kubeconfig")]
    namespace: Option<String>,
    /// Ends after the last step, and does not stay up.
    #[arg(long)]
    once: bool,
}

/// Shows it.
///
/// # Errors
/// Something does not build, or a step does not come to its end.
pub fn run(arguments: &Arguments) -> Result<()> {
    let target = cache::target()?;
    let built = part("plugins", || guests::build(&["trigger-map", "greeter"]))?;
    let folder = built
        .first()
        .and_then(|guest| guest.path.parent())
        .context("plugins were built")?;
    part("host", || {
        cmd!(
            "cargo",
            "build",
            "--quiet",
            "--package",
            "penstock-server",
            "--features",
            "demo"
        )
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
        Ok(())
    })?;
    let mut words = vec![
        "demo".into(),
        "--plugins".into(),
        folder.as_os_str().to_owned(),
    ];
    if let Some(kubeconfig) = &arguments.kubeconfig {
        words.extend(["--kubeconfig".into(), kubeconfig.as_os_str().to_owned()]);
    }
    if let Some(namespace) = &arguments.namespace {
        words.extend(["--namespace".into(), namespace.into()]);
    }
    if arguments.once {
        words.push("--once".into());
    }
    cmd(target.join("debug/penstock"), words)
        .run()
        .context("the demo did not come to its end")?;
    Ok(())
}
