//! `cargo xtask test`: sets everything up and runs every test.

use anyhow::Result;
use duct::cmd;

use crate::control_plane::ControlPlane;
use crate::part::part;
use crate::{cache, guests, tools};

/// Runs every test; `arguments` go to `cargo test`, such as a package or a name.
///
/// # Errors
/// Something that the tests need is missing, or a test fails.
pub fn run(arguments: &[String]) -> Result<()> {
    let built = part("guests", || guests::build(&[]))?;
    let folder = built
        .first()
        .and_then(|guest| guest.path.parent().map(std::path::Path::to_owned));
    part("postgres", tools::postgres)?;
    part("python", || {
        tools::must_have(
            "python3",
            "a real GitLab client checks the stand-in of GitLab",
        )
    })?;
    let promtool = part("promtool", tools::promtool)?;
    let target = cache::target()?;
    part("programs", || {
        // With the tests' own features, so that nothing is compiled twice.
        cmd!("cargo", "build", "--workspace", "--bins", "--tests")
            .env("CARGO_TARGET_DIR", &target)
            .run()?;
        Ok(())
    })?;
    let plane = part("control plane", || ControlPlane::start(&[]))?;
    part("tests", || {
        let mut words = vec!["test".to_owned(), "--no-fail-fast".to_owned()];
        if arguments.is_empty() {
            words.push("--workspace".to_owned());
        }
        words.extend(arguments.iter().cloned());
        cmd("cargo", words)
            .env("CARGO_TARGET_DIR", &target)
            .env("PENSTOCK_TEST_KUBECONFIG", plane.kubeconfig())
            .env("PENSTOCK_GUESTS", folder.clone().unwrap_or_default())
            .env("PENSTOCK_PROMTOOL", promtool)
            .run()?;
        Ok(())
    })?;
    if !arguments.is_empty() {
        return Ok(());
    }
    part("the demo on a real cluster", || {
        // The host with its stand-ins inside is another program than the one that was tested. Of the whole workspace, so that
        // libraries have the features that they were compiled with before.
        cmd!(
            "cargo",
            "test",
            "--workspace",
            "--features",
            "penstock-server/demo",
            "--test",
            "demo"
        )
        .env("CARGO_TARGET_DIR", &target)
        .env("PENSTOCK_TEST_KUBECONFIG", plane.kubeconfig())
        .env("PENSTOCK_GUESTS", folder.unwrap_or_default())
        .run()?;
        Ok(())
    })
}
