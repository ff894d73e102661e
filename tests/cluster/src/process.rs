//! Child processes that never outlive this one, each with a log file.
//!
//! `setpriv --pdeathsig KILL` (util-linux) asks the kernel to end the child when the *thread* that
//! started it ends, so processes are started only from the control plane's own long-lived thread.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How many lines of a log an error quotes.
const QUOTED_LINES: usize = 15;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// The core that it may use, or any.
    pub(crate) core: Option<usize>,
}

/// A running program; dropped, it is killed and waited for.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts the program with its output appended to `NAME.log` in `folder`.
    pub(crate) fn start(&self, folder: &Path) -> Result<Process> {
        let log = folder.join(format!("{}.log", self.name));
        let output: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't open the log {}", log.display()))?;
        let errors = output.try_clone().context("can't share a log file")?;

        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(core) = self.core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        command
            .arg(&self.binary)
            .args(&self.arguments)
            .envs(&self.environment)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let child = command.spawn().with_context(|| {
            format!(
                "can't start {}: are setpriv and taskset (util-linux) installed?",
                self.name
            )
        })?;
        Ok(Process {
            name: self.name,
            child,
            log,
        })
    }
}

impl Process {
    /// Fails, with the end of the log, if the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .with_context(|| format!("can't look after {}", self.name))?
        {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended ({status}); its log ends with:\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// The last lines of the log.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(QUOTED_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended by itself, and then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait;

    fn shell(script: &str) -> Program {
        Program {
            name: "shell",
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::new(),
            core: None,
        }
    }

    async fn why_ended(process: &mut Process) -> String {
        wait::until(
            "the end of the process",
            Duration::from_secs(60),
            async || Ok(process.check().err().map(|error| error.to_string())),
        )
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_process_that_ends_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let script = "for i in $(seq 100); do echo line $i; done; echo port in use >&2; exit 3";
        let mut process = shell(script).start(folder.path()).unwrap();
        let why = why_ended(&mut process).await;
        assert!(
            why.contains("exit status: 3") && why.ends_with("line 100\nport in use"),
            "{why}"
        );
        assert!(!why.contains("line 50\n"), "{why}");
    }

    #[tokio::test]
    async fn a_process_does_not_outlive_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        // Signalled through a file, so that the thread does not end before `setpriv` has done its work.
        let thread = std::thread::spawn(move || {
            let process = shell("touch started; sleep 600").start(&path).unwrap();
            while !path.join("started").exists() {
                std::thread::yield_now();
            }
            process
        });
        let mut process = thread.join().unwrap();
        assert!(why_ended(&mut process).await.contains("signal: 9"));
    }
}
