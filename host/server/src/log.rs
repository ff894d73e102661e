//! Logs: JSON lines on standard error, with the delivery's id through all loops.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging. `PENSTOCK_LOG` says how much, such as `debug` or `penstock_server=debug`; a terminal gets lines for people.
pub fn start() {
    let filter = EnvFilter::try_from_env("PENSTOCK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // Logging that was started before (by a test) goes on.
    let _ = if std::io::stderr().is_terminal() {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .compact();
        registry.with(lines).try_init()
    } else {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true);
        registry.with(lines).try_init()
    };
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
