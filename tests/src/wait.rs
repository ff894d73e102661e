//! Waiting for a condition with a limit, so that no test sleeps and none hangs.

use std::time::Duration;

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(180);

/// Asks `condition` until it answers `Some`.
///
/// # Panics
/// After [`LIMIT`], with `what` it waited for.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(what, LIMIT, condition).await
}

/// The same with a limit of its own, for what is known to take long.
///
/// # Panics
/// After that limit.
pub async fn until_within<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    penstock_control_plane::wait::until(what, limit, async || Ok(condition().await))
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
}
