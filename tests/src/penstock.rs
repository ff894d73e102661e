//! The process `penstock`: started, asked, killed and started again.
//!
//! It is the binary that is shipped, found beside the test's own executable. It never outlives the test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LIMIT, until};

/// How long the host's figures of the store are good for: whoever asks sooner gets the same again.
const FIGURES: Duration = Duration::from_secs(1);

/// One process after another on the same configuration and store.
pub struct Penstock {
    program: PathBuf,
    config: PathBuf,
    url: String,
    log: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    http: reqwest::Client,
    child: Option<Child>,
    /// When this process last gave its metrics.
    told_figures: Mutex<Option<Instant>>,
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Told {
    /// It ended with 0.
    pub success: bool,
    /// Its exit status; none: a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// If the command failed or said something else.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        assert!(self.success, "the command failed: {}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in: {}", self.out))
    }
}

/// The binary that `cargo` built beside this executable.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program knows where it lies");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("a folder")
    } else {
        folder
    };
    let program = folder.join("penstock");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo xtask test`, which builds it, or `cargo build -p penstock-server`",
        program.display()
    );
    program
}

impl Penstock {
    /// A process that is yet to be started, with the configuration in this folder; `url` is where the configuration lets it listen.
    #[must_use]
    pub fn new(program: PathBuf, config: &Path, url: &str) -> Self {
        Self {
            program,
            config: config.to_owned(),
            url: url.to_owned(),
            log: config.with_extension("log"),
            arguments: Vec::new(),
            environment: Vec::new(),
            prefix: Vec::new(),
            http: client(),
            child: None,
            told_figures: Mutex::default(),
        }
    }

    /// Starts the binary with some loops (all of them if none is named) and waits until it is ready.
    pub async fn start(config: &Path, url: &str, loops: &[&str]) -> Self {
        let mut penstock = Self::new(program(), config, url).loops(loops);
        penstock.restart().await;
        penstock
    }

    /// Runs these loops alone.
    #[must_use]
    pub fn loops(mut self, loops: &[&str]) -> Self {
        if !loops.is_empty() {
            self.arguments = vec!["--loops".to_owned(), loops.join(",")];
        }
        self
    }

    /// Writes the log elsewhere.
    #[must_use]
    pub fn log_to(mut self, log: &Path) -> Self {
        self.log = log.to_owned();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it by another program, such as `taskset -c 1`, that becomes it.
    #[must_use]
    pub fn prefix(mut self, words: &[&str]) -> Self {
        self.prefix = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it, again if it ran before, and waits until it is ready; how long that took.
    ///
    /// # Panics
    /// If it ends or is not ready in time; the end of its log is quoted.
    pub async fn restart(&mut self) -> Duration {
        let begun = Instant::now();
        self.spawn();
        self.ready().await;
        begun.elapsed()
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        *self.told_figures() = None;
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(&self.prefix)
            .arg(&self.program)
            .arg("serve")
            .args(&self.arguments);
        command
            .env("PENSTOCK_CONFIG", &self.config)
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("setpriv of util-linux starts it"));
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Panics
    /// If it ends or is not ready in time; the end of its log is quoted.
    pub async fn ready(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self
                .child
                .as_mut()
                .expect("it was started")
                .try_wait()
                .expect("a child")
            {
                panic!(
                    "penstock ended ({status}); its log ends with:\n{}",
                    self.log_tail()
                );
            }
            if matches!(self.get("/readyz").await, Some((200, _))) {
                return;
            }
            assert!(
                begun.elapsed() < LIMIT,
                "penstock did not get ready; its log ends with:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The id of the process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The most memory that it held at a time since the start or since [`Penstock::forget_peak`], in MiB.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn peak_memory(&self) -> f64 {
        crate::load::peak(self.pid())
    }

    /// Lets [`Penstock::peak_memory`] begin anew.
    ///
    /// # Panics
    /// If it does not run.
    pub fn forget_peak(&self) {
        crate::load::forget_peak(self.pid());
    }

    /// Ends it as a crash of the machine would: nothing in it hears of it.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it stand still in the middle of whatever it does, as a machine that swaps or a virtual machine that is moved. It does when this
    /// returns: none of its threads goes on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let begun = Instant::now();
        while !stands_still(self.pid()) {
            assert!(begun.elapsed() < LIMIT, "it does not stand still");
            std::thread::yield_now();
        }
    }

    /// Lets it go on as if nothing had been.
    ///
    /// # Panics
    /// If it does not run.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// It was started and has ended.
    ///
    /// # Panics
    /// If the kernel does not say.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().expect("a child").is_some())
    }

    /// Waits for its end, which comes by itself.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        until("the end of penstock", async || {
            child.try_wait().expect("a child")
        })
        .await
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("it runs");
    }

    /// Asks it to end, as Kubernetes does, and waits until it has; how long that took.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let mut child = self.child.take().expect("it runs");
        let pid =
            Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it runs");
        let status = until("the end of penstock", async || {
            child.try_wait().expect("a child")
        })
        .await;
        (status, begun.elapsed())
    }

    /// Runs a command beside it with `--output json`.
    pub async fn command(&self, words: &[&str]) -> Told {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        self.text_command(&all).await
    }

    /// Runs a command as a person would.
    ///
    /// # Panics
    /// If it can't be started.
    pub async fn text_command(&self, words: &[&str]) -> Told {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(words)
            .env("PENSTOCK_CONFIG", &self.config)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.expect("the command starts");
        Told {
            success: output.status.success(),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asks over HTTP; `None` if nobody answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = self
            .http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        if path == "/metrics" {
            *self.told_figures() = Some(Instant::now());
        }
        Some((status, text))
    }

    /// What `/metrics` says. A store that is slow to answer is asked again.
    pub async fn metrics(&self) -> String {
        until("the metrics", async || {
            let (status, text) = self.get("/metrics").await?;
            (status == 200).then_some(text)
        })
        .await
    }

    /// Waits until the metrics hold this text, and gives them: some things are counted a moment after they can be seen.
    ///
    /// # Panics
    /// If it does not come about; the metrics are shown.
    pub async fn counted(&self, text: &str) -> String {
        let found = penstock_control_plane::wait::until("a figure", LIMIT, async || {
            let metrics = self.metrics().await;
            Ok(metrics.contains(text).then_some(metrics))
        });
        match found.await {
            Ok(metrics) => metrics,
            Err(error) => panic!("{error:#}: {text} is not in\n{}", self.metrics().await),
        }
    }

    /// Waits until the figures of the store that `/metrics` gives can't be older than the call of this.
    pub async fn forget_figures(&self) {
        let told = *self.told_figures();
        if let Some(told) = told {
            tokio::time::sleep_until((told + FIGURES).into()).await;
        }
    }

    fn told_figures(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.told_figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything it logged, over all its lives. Its log is written by a thread of its own, a moment later: whoever looks for a line
    /// waits for it, with [`Self::logged`]. A line that is not whole yet is left out.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut bytes = std::fs::read(&self.log).unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |end| end + 1));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let logs = self.logs();
        let lines: Vec<&str> = logs.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Waits until it logged this text.
    pub async fn logged(&self, text: &str) {
        until(&format!("the log line `{text}`"), async || {
            self.logs().contains(text).then_some(())
        })
        .await;
    }
}

impl Drop for Penstock {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// None of a process's threads goes on: a signal has stopped it.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    threads.flatten().all(|thread| {
        // One that ended meanwhile does not go on either.
        let Ok(text) = std::fs::read_to_string(thread.path().join("status")) else {
            return true;
        };
        let state = text.lines().find_map(|line| line.strip_prefix("State:"));
        state.is_some_and(|state| state.trim_start().starts_with(['T', 't', 'Z', 'X']))
    })
}

/// A client that stays on loopback.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        // The host closes a connection that is not used for 15 s: no request may begin on one at that moment.
        .pool_idle_timeout(Duration::from_secs(5))
        .build()
        .expect("a client")
}
