//! `cargo xtask ci`: everything that must hold before a change lands. No part can be left out.

use anyhow::Result;
use duct::cmd;

use crate::part::part;
use crate::{cache, fuzz, test, tools};

/// How long each fuzz target runs: as long as it takes to see that it works, and to try what was found before.
const FUZZ_SECONDS: u32 = 10;

/// Runs every part.
///
/// # Errors
/// A part fails.
pub fn run() -> Result<()> {
    let target = cache::target()?;
    part("fmt", || {
        cmd!("cargo", "fmt", "--all", "--check").run()?;
        Ok(())
    })?;
    part("licences, bans and sources", || {
        cmd!(tools::cargo_deny()?, "check", "licenses", "bans", "sources").run()?;
        Ok(())
    })?;
    part("clippy", || {
        cmd!(
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings"
        )
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
        Ok(())
    })?;
    part("docs", || {
        cmd!(
            "cargo",
            "doc",
            "--workspace",
            "--all-features",
            "--no-deps",
            "--document-private-items"
        )
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()?;
        Ok(())
    })?;
    test::run(&[])?;
    // The libraries are those that the tests were compiled with: only our own crates are compiled again, with marks.
    fuzz::all(FUZZ_SECONDS)
}
