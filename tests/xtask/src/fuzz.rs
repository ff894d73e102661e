//! `cargo xtask fuzz [TARGET] --seconds N`: feeds made-up input to what reads the network, a guest or an operator's file.
//!
//! The crates of this workspace are compiled with libFuzzer's marks, by stable rustc; their dependencies are those that the tests were compiled with, so that
//! only our own code is compiled again. What a run found worth keeping lies in the cache folder, and the next one begins with it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use duct::cmd;

use crate::cache;
use crate::part::part;

/// Longest input that is tried.
const LONGEST: &str = "16384";

/// What reads something that nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Verifying a webhook, its scope, reading it.
    Webhook,
    /// Loading a component.
    Component,
    /// Lifting what a guest answers.
    Lift,
    /// Reading a configuration.
    Config,
    /// CEL, bindings and templates of `trigger-map`.
    Rules,
    /// What `pipelines-as-code` makes of a folder, settings and a comment.
    Tekton,
    /// What may be in a run.
    Admit,
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|it| it.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// What to fuzz and for how long.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// All of them, one after the other, if none is named.
    #[arg(value_enum)]
    target: Option<Target>,
    /// For how long each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// How a run went.
#[derive(Debug, Default)]
struct Ran {
    executions: u64,
    edges: u64,
    features: u64,
    corpus: String,
}

/// Runs a target, or all of them.
///
/// # Errors
/// It does not build, or it found something: the message names the folder with the input.
pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.target {
        None => all(arguments.seconds),
        Some(target) => {
            let built = part("fuzz targets", build)?;
            one(&built, target, arguments.seconds)
        }
    }
}

/// Runs each target for so long.
///
/// # Errors
/// As [`run`].
pub fn all(seconds: u32) -> Result<()> {
    let built = part("fuzz targets", build)?;
    for target in Target::value_variants() {
        part(&format!("fuzz {}", target.name()), || {
            one(&built, *target, seconds)
        })?;
    }
    Ok(())
}

/// Builds the targets, and gives the folder that they are in.
fn build() -> Result<PathBuf> {
    let target = cache::target()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let wrapper = root
        .join("tests/fuzz/instrument.sh")
        .canonicalize()
        .context("run it from a checkout of the repository")?;
    // Examples of the whole workspace: so libraries have the features that the tests compiled them with.
    let mut words = [
        "build",
        "--workspace",
        "--features",
        "penstock-fuzz/libfuzzer",
    ]
    .map(str::to_owned)
    .to_vec();
    for it in Target::value_variants() {
        words.extend(["--example".to_owned(), format!("fuzz-{}", it.name())]);
    }
    cmd("cargo", words)
        .dir(root)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
        .stdout_to_stderr()
        .run()
        .context("the fuzz targets do not build")?;
    Ok(target.join("debug/examples"))
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn one(built: &Path, target: Target, seconds: u32) -> Result<()> {
    let name = target.name();
    let kept = cache::folder()?.join("fuzz").join(&name);
    let (corpus, seeds, found) = (kept.join("corpus"), kept.join("seeds"), kept.join("found"));
    for folder in [&corpus, &seeds, &found] {
        fs::create_dir_all(folder)
            .with_context(|| format!("can't make the folder {}", folder.display()))?;
    }
    let mut words = vec![
        corpus.display().to_string(),
        seeds.display().to_string(),
        format!("-max_total_time={seconds}"),
        format!("-max_len={LONGEST}"),
        "-timeout=60".to_owned(),
        "-rss_limit_mb=4096".to_owned(),
        "-print_final_stats=1".to_owned(),
        format!("-artifact_prefix={}/", found.display()),
    ];
    let dictionary = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/dictionaries")
        .join(format!("{name}.dict"));
    if dictionary.is_file() {
        words.push(format!("-dict={}", dictionary.display()));
    }
    let log = kept.join("log");
    let program = cmd(built.join(format!("fuzz-{name}")), words).env("PENSTOCK_FUZZ_SEEDS", &seeds);
    let ran = watch(&program, &log)?;
    let Some(ran) = ran else {
        bail!(
            "`{name}` found something: the input lies in {}, what was said about it in {}. Mend it, and make a test of it",
            found.display(),
            log.display()
        );
    };
    ensure!(
        ran.executions > 0 && ran.edges > 0,
        "`{name}` ran nothing, or without its marks: see {}",
        log.display()
    );
    println!(
        "{name}: {} executions in {seconds} s, {} edges and {} features covered, corpus {}; nothing found",
        ran.executions, ran.edges, ran.features, ran.corpus
    );
    Ok(())
}

/// Runs a target with its words kept in a file; none if it found something.
fn watch(program: &duct::Expression, log: &Path) -> Result<Option<Ran>> {
    let mut kept = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
    let reader = program
        .stderr_to_stdout()
        .unchecked()
        .reader()
        .context("a fuzz target can't be started")?;
    let mut ran = Ran::default();
    for line in BufReader::new(&reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(kept, "{line}")?;
        note(&mut ran, &line);
    }
    let ended = reader
        .try_wait()?
        .is_some_and(|output| output.status.success());
    Ok(ended.then_some(ran))
}

/// Reads what libFuzzer says, such as `#4096 pulse cov: 712 ft: 1801 corp: 97/31Kb …`.
fn note(ran: &mut Ran, line: &str) {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "cov:" => ran.edges = number(words.next()).unwrap_or(ran.edges),
            "ft:" => ran.features = number(words.next()).unwrap_or(ran.features),
            "corp:" => words.next().unwrap_or_default().clone_into(&mut ran.corpus),
            "stat::number_of_executed_units:" => {
                ran.executions = number(words.next()).unwrap_or_default();
            }
            _ => {}
        }
    }
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Ran, note};

    #[test]
    fn what_libfuzzer_says_last_is_what_is_told() {
        let mut ran = Ran::default();
        for line in [
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#4096\tpulse  cov: 712 ft: 1801 corp: 97/31Kb lim: 4096 exec/s: 2048 rss: 61Mb",
            "stat::number_of_executed_units: 5120",
        ] {
            note(&mut ran, line);
        }
        assert_eq!(
            (ran.executions, ran.edges, ran.features, ran.corpus.as_str()),
            (5120, 712, 1801, "97/31Kb")
        );
    }
}
