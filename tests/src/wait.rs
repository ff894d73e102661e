//! Waiting for a condition with a limit, so that no test sleeps and none hangs.

use std::time::Duration;

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Asks `condition` until it answers `Some`.
///
/// # Panics
/// After [`LIMIT`], with `what` it waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    penstock_control_plane::wait::until(what, LIMIT, async || Ok(condition().await))
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
}
