//! Waiting for a condition with a limit, so that no test sleeps and none hangs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(40);

/// Asks `condition` again and again until it answers `Some`, and gives that up after `limit`.
///
/// # Errors
/// What the condition itself fails with (at once), or that `what` did not come about in time.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("{what} did not come about within {limit:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
