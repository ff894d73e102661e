//! Logs: JSON lines on standard error, with the delivery's id through all loops.
//!
//! A thread of its own writes them. Whoever reads standard error may be slow, or stand still with the pipe full: then lines are
//! dropped, and nothing that logs waits.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait to be written; some hundred bytes each.
const WAITING: usize = 8 * 1024;

/// Starts logging. `PENSTOCK_LOG` says how much, such as `debug` or `penstock_server=debug`; a terminal gets lines for people. Dropping what is
/// given back writes what waits, for a moment.
pub fn start() -> WorkerGuard {
    let filter = EnvFilter::try_from_env("PENSTOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    // Logging that was started before (by a test) goes on.
    let _ = if std::io::stderr().is_terminal() {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .compact();
        registry.with(lines).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .json()
            .flatten_event(true);
        registry.with(lines).try_init()
    };
    guard
}

/// Logs JSON lines into a file, for a demo whose terminal speaks to a person.
///
/// # Errors
/// The file can't be made.
#[cfg(feature = "demo")]
pub fn to_file(path: &std::path::Path) -> std::io::Result<()> {
    let file = std::fs::File::create(path)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::sync::Mutex::new(file))
        .json()
        .flatten_event(true);
    // Logging that was started before goes on.
    let _ = tracing_subscriber::registry()
        .with(EnvFilter::new("info"))
        .with(lines)
        .try_init();
    Ok(())
}
