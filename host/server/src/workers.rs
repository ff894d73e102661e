//! The threads of the loops that decide, act and report. They stand behind those that take deliveries in: GitLab disables a hook that is
//! answered late, and no other work is in such a hurry.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// How much the loops give way: with a busy core between them, whoever receives gets about three quarters of it.
const NICE: i32 = 5;

/// Starts them, as a runtime of their own. It must not be dropped on a thread of another runtime: end it by [`Runtime::shutdown_background`].
///
/// # Errors
/// There can't be more threads.
pub fn start() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("loops")
        .on_thread_start(|| {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::warn!(%error, "the loops run with the priority of the receiver");
            }
        })
        .build()
}
