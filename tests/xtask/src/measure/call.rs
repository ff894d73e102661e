//! The figures that are benches of the sandbox: `call` and `languages`.
//!
//! They are built with the features that the whole workspace has, so that a release build before or after them shares its libraries. Beside `call` the same
//! work is measured through extism, by a program of its own: see `tests/extism`.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use duct::cmd;
use serde_json::{Value, json};

use super::{Build, Output};
use crate::part::part;
use crate::{cache, guests};

/// Calls by extism of each way.
const CALLS: &str = "3000";

/// Measures a bench, and what stands beside it.
///
/// # Errors
/// It does not build, or can't be measured.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(bench: &str, output: Output, build: Build) -> Result<()> {
    let told = part(bench, || bench_of_workspace(bench, output, build))
        .with_context(|| format!("the figure `{bench}` could not be measured"))?;
    if bench != "call" {
        println!("{told}");
        return Ok(());
    }
    let beside = part("extism, for comparison", || beside_extism(build))?;
    let figures = [
        ("call: extism, a fresh instance, median", "fresh"),
        (
            "call: extism, one instance kept for all calls, median",
            "kept",
        ),
    ];
    if output == Output::Json {
        let mut all: Value = serde_json::from_str(&told).context("the bench answers no JSON")?;
        let list = all
            .get_mut("figures")
            .and_then(Value::as_array_mut)
            .context("the bench answers no figures")?;
        list.extend(figures.iter().map(|(name, key)| {
            json!({"name": name, "value": beside.get(*key), "unit": "us", "goal": null, "met": null})
        }));
        println!("{all}");
    } else {
        println!("{told}");
        for (name, key) in figures {
            let value = beside.get(key).and_then(Value::as_f64).unwrap_or_default();
            println!("{name}: {value:.1} us");
        }
    }
    Ok(())
}

fn bench_of_workspace(bench: &str, output: Output, build: Build) -> Result<String> {
    let mut words = of_workspace(bench, build);
    words.extend(["--output", output.word()]);
    Ok(cmd("cargo", words)
        .env("CARGO_TARGET_DIR", cache::target()?)
        .read()?)
}

/// Cargo's words to run a bench; what follows is for the bench itself.
fn of_workspace(bench: &str, build: Build) -> Vec<&str> {
    let mut words = vec!["bench", "--quiet", "--workspace", "--bench", bench];
    words.extend(build.profile());
    words.push("--");
    words
}

/// The same payload and the same work through extism.
fn beside_extism(build: Build) -> Result<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../extism");
    let folder = cache::folder()?.join("extism");
    let target = folder.join("target");
    let plugin = guests::module(&root, "beside-extism-plugin", &folder.join("plugin"))?;
    // Always optimised: it is built once and does not change with us.
    cmd!("cargo", "build", "--release", "--locked")
        .dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .stdout_to_stderr()
        .run()
        .context("the program beside extism does not build")?;
    let payload = folder.join("payload.json");
    let mut words: Vec<OsString> = of_workspace("call", build)
        .into_iter()
        .map(Into::into)
        .collect();
    words.extend(["--write-payload".into(), payload.clone().into()]);
    cmd("cargo", words)
        .env("CARGO_TARGET_DIR", cache::target()?)
        .stdout_to_stderr()
        .run()?;
    let program = target.join("release/penstock-beside-extism");
    let told = cmd!(program, plugin, payload, CALLS).read()?;
    serde_json::from_str(&told).context("it answers no JSON")
}
