//! Python: componentize-py of PyPI, in a virtual environment in the cache folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use duct::cmd;

use super::{Job, tool};
use crate::tools;

/// What the components are made by.
pub(super) const TOOLS: &str = "componentize-py==0.25.1";

pub(super) fn build(job: &Job) -> Result<Vec<u8>> {
    let component = job.work.join("made.wasm");
    let sources = job.work.join("sources");
    job.copy(&sources)?;
    let (python, program) = componentize_py()?;
    cmd!(
        python,
        program,
        "--quiet",
        "--wit-path",
        &job.contract,
        "--wit-path",
        sources.join("world.wit"),
        "--world",
        "example:plugin/plugin",
        "componentize",
        "app",
        "--python-path",
        &sources,
        "--output",
        &component
    )
    .dir(&job.work)
    .stdout_to_stderr()
    .run()
    .context("componentize-py does not take it")?;
    Ok(fs::read(component)?)
}

/// The interpreter and the program, installed at its first use. The interpreter is named because a program's first line holds the place where it was
/// installed, and a cache folder may be moved.
fn componentize_py() -> Result<(PathBuf, PathBuf)> {
    let environment = tool(&TOOLS.replace("==", "-"))?;
    let program = environment.join("bin/componentize-py");
    let python = environment.join("bin/python3");
    if !program.is_file() {
        tools::must_have("python3", "plugins in Python are built by it")?;
        cmd!("python3", "-m", "venv", &environment)
            .stdout_to_stderr()
            .run()
            .context("python3 makes no virtual environment: on Debian install python3-venv")?;
        cmd!(&python, "-m", "pip", "install", "--quiet", TOOLS)
            .stdout_to_stderr()
            .run()
            .with_context(|| format!("pip can't install {TOOLS}"))?;
    }
    Ok((python, program))
}
