//! Compiling a component, in this process or in a bounded child.
//!
//! How long a compiler takes, and how much memory, is up to the component that it is given; upstream calls neither a vulnerability. So the server compiles in
//! a child that has limits on time, memory and files, an empty environment, and nothing that it can use but three pipes: [`crate::confine`] takes files,
//! network and other processes away, where the kernel does that, and the host says in its log where it does not. The child is the same program, so
//! that both agree on every setting of the engine; it runs [`serve`] and nothing else.

use std::ffi::OsString;
use std::io::{BufRead as _, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use crate::clamp;
use crate::config::{self, Reservation};
use crate::confine::confine;

/// Where components are compiled.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// In this process: for tests, and for tools that only see components of their own user.
    #[default]
    InProcess,
    /// In a child process.
    Child(ChildSettings),
}

/// A child that compiles.
#[derive(Clone, Debug)]
pub struct ChildSettings {
    /// The program, which calls [`serve`].
    pub program: PathBuf,
    /// What it is called with.
    pub args: Vec<OsString>,
    /// Wall time: more than processor time, for a machine that is busy.
    pub time: Duration,
    /// Processor time, rounded up to seconds.
    pub processor: Duration,
    /// Bytes of address space.
    pub memory: u64,
    /// Bytes of compiled code.
    pub output: u64,
}

impl ChildSettings {
    /// A child with limits that Python's 18 MB component fits into on a machine that is busy: 180 s, of them 60 s of a processor, 3 GiB, 512 MiB.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().collect(),
            time: Duration::from_secs(180),
            processor: Duration::from_secs(60),
            memory: 3 << 30,
            output: 512 << 20,
        }
    }
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is not valid, or uses what this host leaves out.
    #[error("the component can't be compiled: {message}")]
    Invalid {
        /// What the compiler says, cut after 4 KiB.
        message: String,
    },
    /// It took too long.
    #[error("compiling took longer than {limit:?}: the component is too large or made to be slow")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The compiled code is too large.
    #[error("the compiled code is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The child died: out of memory.
    #[error(
        "the compiling process ended with {status}: it probably ran into its limit of {memory} bytes of memory: {message}"
    )]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// Its limit.
        memory: u64,
        /// What it said last, cut after 4 KiB.
        message: String,
    },
    /// The child could not be started or talked to.
    #[error("the compiling process `{}` can't be used", program.display())]
    Child {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What the child is told, in one line before the component.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    reservation: Reservation,
    seconds: u64,
    memory: u64,
}

/// Bytes of messages that are kept.
const MESSAGE: usize = 4096;
/// How the child says that the component is at fault.
const INVALID: u8 = 3;

impl Compiler {
    /// Compiled code for an engine with this reservation.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        reservation: Reservation,
        wasm: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => {
                engine
                    .precompile_component(wasm)
                    .map_err(|error| CompileError::Invalid {
                        message: clamp::cut(&format!("{error:#}"), MESSAGE),
                    })
            }
            Self::Child(settings) => settings.compile(reservation, wasm),
        }
    }
}

impl ChildSettings {
    fn compile(&self, reservation: Reservation, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        let broken = |source| CompileError::Child {
            program: self.program.clone(),
            source,
        };
        let job = Job {
            reservation,
            seconds: self.processor.as_secs().saturating_add(1),
            memory: self.memory,
        };
        let mut line = serde_json::to_vec(&job).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            end(&mut child);
            return Err(broken(std::io::ErrorKind::BrokenPipe.into()));
        };
        let until = Instant::now() + self.time;
        thread::scope(|scope| {
            // A child that stops reading makes this fail, and says why on its other pipes.
            scope.spawn(move || stdin.write_all(&line).and_then(|()| stdin.write_all(wasm)));
            let (done, code) = std::sync::mpsc::sync_channel(1);
            let most = self.output.saturating_add(1);
            scope.spawn(move || done.send(read(stdout, most)));
            let said = scope.spawn(move || read(stderr, MESSAGE as u64).unwrap_or_default());
            let code = code.recv_timeout(until.saturating_duration_since(Instant::now()));
            let large = matches!(&code, Ok(Ok(code)) if code.len() as u64 > self.output);
            let status = if large { None } else { wait(&mut child, until) };
            // Its pipes close with it, so the threads of this scope end.
            end(&mut child);
            let said = said.join().unwrap_or_default();
            let message = clamp::cut(String::from_utf8_lossy(&said).trim(), MESSAGE);
            if large {
                return Err(CompileError::TooLarge { limit: self.output });
            }
            match (status, code) {
                (None, _) | (_, Err(_)) => Err(CompileError::TooSlow { limit: self.time }),
                (Some(status), Ok(Ok(code))) if status.success() => {
                    if !message.is_empty() {
                        tracing::warn!(
                            message,
                            "a plugin was compiled, but with less around it than is meant"
                        );
                    }
                    Ok(code)
                }
                (Some(status), _) if status.code() == Some(i32::from(INVALID)) => {
                    Err(CompileError::Invalid { message })
                }
                (Some(status), _) if status.signal() == Some(Signal::XCPU.as_raw()) => {
                    Err(CompileError::TooSlow {
                        limit: self.processor,
                    })
                }
                (Some(_), Ok(Err(source))) => Err(broken(source)),
                (Some(status), Ok(Ok(_))) => Err(CompileError::Died {
                    status,
                    memory: self.memory,
                    message,
                }),
            }
        })
    }
}

fn read(from: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How the child ended, if it did in time. It has closed its output already, so there is next to nothing to wait for.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the child, if it has not ended, and takes it off the process table.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let killed = child.kill().and_then(|()| child.wait());
    if let Err(error) = killed {
        tracing::warn!(%error, "a compiling process could not be ended");
    }
}

/// The child's whole life: reads a job and a component from standard input, writes compiled code to standard output.
///
/// It limits itself before it reads the component: address space, processor time, open files, file size and core dumps; then the system calls.
pub fn serve() -> ExitCode {
    match serve_one() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // Where standard error is gone too, the code is all that can be said.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

fn serve_one() -> Result<(), (u8, String)> {
    let failed = |what: &str, error: &dyn std::fmt::Display| (1, format!("{what}: {error}"));
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    (&mut stdin)
        .take(4096)
        .read_until(b'\n', &mut line)
        .map_err(|error| failed("the job can't be read", &error))?;
    let job: Job =
        serde_json::from_slice(&line).map_err(|error| failed("the job can't be read", &error))?;
    restrict(&job).map_err(|error| failed("the limits can't be set", &error))?;
    if let Err(unconfined) = confine() {
        // Told on the pipe that is read for messages: compiling goes on.
        let _ = writeln!(std::io::stderr(), "{unconfined}");
    }
    let mut wasm = Vec::new();
    stdin
        .read_to_end(&mut wasm)
        .map_err(|error| failed("the component can't be read", &error))?;
    let engine = Engine::new(&config::on_demand(job.reservation))
        .map_err(|error| failed("no compiler", &error))?;
    let code = engine
        .precompile_component(&wasm)
        .map_err(|error| (INVALID, format!("{error:#}")))?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&code)
        .and_then(|()| stdout.flush())
        .map_err(|error| failed("the code can't be written", &error))
}

fn restrict(job: &Job) -> std::io::Result<()> {
    let limits = [
        (Resource::As, job.memory),
        (Resource::Cpu, job.seconds),
        (Resource::Nofile, 16),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                // Past the first of the two the kernel says why it ends the process, past the second it only ends it.
                maximum: Some(if resource == Resource::Cpu {
                    limit.saturating_add(1)
                } else {
                    limit
                }),
            },
        )?;
    }
    // A process that may not be slowed down compiles all the same.
    let _ = rustix::process::nice(10);
    Ok(())
}
