//! Programs that the commands need beside Rust: found, or installed by the ordinary client of their registry, or named in one clear sentence.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use duct::cmd;

use crate::cache;

/// The version that the checks were written for.
const CARGO_DENY: &str = "0.20.2";

/// The program `cargo-deny`, built into the cache folder at its first use.
///
/// # Errors
/// It does not build.
pub fn cargo_deny() -> Result<PathBuf> {
    let root = cache::folder()?.join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        // A debug build is made in a third of the time and is quick enough for one look at the lock file.
        cmd!("cargo", "install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--debug", "--root", &root)
            .env("CARGO_TARGET_DIR", root.join("target"))
            .run()
            .context("cargo-deny does not install; it checks licences and sources of what Penstock depends on")?;
    }
    Ok(program)
}

/// The folder of a Postgres server's programs, for the tests of the store.
///
/// # Errors
/// It is not there and can't be installed.
pub fn postgres() -> Result<PathBuf> {
    if let Some(found) = find_postgres() {
        return Ok(found);
    }
    install_debian(&["postgresql"])?;
    find_postgres().context("Debian's package postgresql is installed, and there is no /usr/lib/postgresql/*/bin/postgres")
}

fn find_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("bin"))
        .find(|bin| bin.join("postgres").is_file())
}

/// The program `promtool`, taken out of Debian's package: to install that would start a server.
///
/// # Errors
/// It is not on the PATH and can't be fetched.
pub fn promtool() -> Result<PathBuf> {
    const WITHOUT: &str = "`promtool` is not on the PATH and Debian's package `prometheus` can't be fetched: install one of them, it reads the metrics as Prometheus does";
    if let Some(found) = on_the_path("promtool") {
        return Ok(found);
    }
    let root = cache::folder()?.join("tools/prometheus");
    let program = root.join("usr/bin/promtool");
    if !program.is_file() {
        let folder = tempfile::tempdir().context("can't make a temporary folder")?;
        // As whoever runs this, and not as the user that apt would drop to: that one can't write here.
        let fetch = || {
            cmd!(
                "apt-get",
                "-o",
                "APT::Sandbox::User=",
                "-qq",
                "download",
                "prometheus"
            )
            .dir(folder.path())
            .stdout_to_stderr()
            .run()
        };
        // What the lists name may be gone: then they are read anew, by whoever may.
        if fetch().is_err() {
            cmd!("apt-get", "update", "-qq")
                .stdout_to_stderr()
                .run()
                .context(WITHOUT)?;
            fetch().context(WITHOUT)?;
        }
        let package = std::fs::read_dir(folder.path())?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|it| it == "deb"))
            .context(WITHOUT)?;
        cmd!("dpkg-deb", "--extract", package, &root)
            .run()
            .context(WITHOUT)?;
    }
    Ok(program)
}

/// Installs packages of Debian; only root can.
///
/// # Errors
/// We are not root, this is no Debian, or the package client fails.
pub fn install_debian(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let root = cmd!("id", "-u").read().is_ok_and(|id| id == "0");
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "Debian's packages `{list}` are missing: install them with `apt-get install {list}` and run this again"
        );
    }
    cmd!("apt-get", "update", "-qq")
        .stdout_to_stderr()
        .run()
        .context("apt-get can't read its lists")?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    cmd("apt-get", arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout_to_stderr()
        .run()
        .with_context(|| format!("apt-get can't install {list}"))?;
    Ok(())
}

/// A program must be on the PATH.
///
/// # Errors
/// It is not; the error says what it is for.
pub fn must_have(program: &str, what_for: &str) -> Result<()> {
    if on_the_path(program).is_none() {
        bail!("`{program}` is not on the PATH: install it, {what_for}");
    }
    Ok(())
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}
