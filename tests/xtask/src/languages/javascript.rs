//! JavaScript: componentize-js of npm, called as a library, in the cache folder.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use duct::cmd;

use super::{Job, tool};
use crate::tools;

/// What the components are made by.
pub(super) const TOOLS: &str = "@bytecodealliance/componentize-js@0.23.0";
/// Plugins have no network, so nothing of it comes into the component.
const LEAVE_OUT: &str = "http,fetch-event";

pub(super) fn build(job: &Job) -> Result<Vec<u8>> {
    let component = job.work.join("made.wasm");
    cmd!(
        "node",
        componentize_js()?,
        job.sources.join("app.js"),
        job.wit()?,
        &component,
        LEAVE_OUT
    )
    .stdout_to_stderr()
    .run()
    .context("componentize-js does not take it")?;
    Ok(fs::read(component)?)
}

/// The script that calls the library, which is installed at its first use.
fn componentize_js() -> Result<PathBuf> {
    let folder = tool("componentize-js-0.23.0")?;
    let script = folder.join("componentize.mjs");
    if !folder
        .join("node_modules/@bytecodealliance/componentize-js/package.json")
        .is_file()
    {
        tools::must_have("node", "plugins in JavaScript are built by it")?;
        tools::must_have("npm", "it installs what builds plugins in JavaScript")?;
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("package.json"), r#"{"private": true}"#)?;
        cmd!(
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            TOOLS
        )
        .dir(&folder)
        .stdout_to_stderr()
        .run()
        .with_context(|| format!("npm can't install {TOOLS}"))?;
    }
    fs::write(&script, include_str!("componentize.mjs"))?;
    Ok(script)
}
