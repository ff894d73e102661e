//! Go: bindings by wit-bindgen-go, a core module by the ordinary compiler, a component by wit-component and the adapter for WASI's first preview.

use std::fs;

use anyhow::{Context, Result};
use duct::cmd;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::Job;
use crate::tools;

/// What the components are made by, besides the compiler; the library's version is in the plugin's `go.mod`.
pub(super) const TOOLS: &str = "wit-bindgen-go 0.61, adapter 48, Go 1";

pub(super) fn build(job: &Job) -> Result<Vec<u8>> {
    tools::must_have("go", "plugins in Go are built by it")?;
    let folder = job.work.join("module");
    job.copy(&folder)?;
    bindings(job, &folder)?;
    let module = job.work.join("module.wasm");
    cmd!(
        "go",
        "build",
        "-buildmode=c-shared",
        "-trimpath",
        // The library finds the allocator of Go's runtime by its name.
        "-ldflags=-s -w -checklinkname=0",
        "-o",
        &module,
        "."
    )
    .dir(&folder)
    .env("GOOS", "wasip1")
    .env("GOARCH", "wasm")
    .env("GOFLAGS", "-mod=mod")
    .stdout_to_stderr()
    .run()
    .context("go does not compile it")?;
    component(job, &fs::read(module)?)
}

/// Writes the packages that stand for the contract beside the plugin's own.
fn bindings(job: &Job, folder: &std::path::Path) -> Result<()> {
    let mut resolve = wit_bindgen_core::wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(job.wit()?)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut written = Files::default();
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        ..Default::default()
    };
    options
        .build()
        .generate(&mut resolve, world, &mut written)?;
    for (name, content) in written.iter() {
        // The plugin's own `go.mod` names the version that is to be had.
        if name == "go.mod" {
            continue;
        }
        let to = folder.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(to, content)?;
    }
    Ok(())
}

fn component(job: &Job, module: &[u8]) -> Result<Vec<u8>> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(job.wit()?)?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, true)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .encode()
        .context("the module makes no component")
}
