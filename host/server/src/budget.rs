//! The bytes that bodies of requests may take together.
//!
//! A body takes its share before it is read. Past the budget a request waits up to five seconds, then it is turned away; so memory
//! has a bound whatever GitLab, or anyone else, sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in blocks of this size, since a semaphore counts to 2^29 at least but a budget may be larger.
const BLOCK: u64 = 1024;

/// How long a request waits for its share.
const PATIENCE: Duration = Duration::from_secs(5);

/// The budget.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    blocks: Arc<Semaphore>,
    total: u32,
}

/// A share; given back when dropped.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

/// The budget was spent for five seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget for bodies of requests is spent; GitLab may send this again later")]
pub struct Spent;

impl ByteBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes.div_ceil(BLOCK))
            .unwrap_or(u32::MAX)
            .min(1 << 28);
        Self {
            blocks: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Takes a share; a body larger than the whole budget takes all of it.
    ///
    /// # Errors
    /// It was spent for five seconds.
    pub async fn take(&self, bytes: u64) -> Result<Share, Spent> {
        let blocks = u32::try_from(bytes.div_ceil(BLOCK).max(1))
            .unwrap_or(u32::MAX)
            .min(self.total);
        let permit = Arc::clone(&self.blocks).acquire_many_owned(blocks);
        match tokio::time::timeout(PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(Share { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Spent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_past_the_budget_waits_and_is_turned_away() {
        let budget = ByteBudget::new(10 * BLOCK);
        let held = budget.take(8 * BLOCK).await.unwrap();
        assert_eq!(budget.take(3 * BLOCK).await.err(), Some(Spent));
        drop(held);
        assert!(budget.take(3 * BLOCK).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_larger_than_the_budget_gets_through_alone() {
        let budget = ByteBudget::new(10 * BLOCK);
        let whole = budget.take(1_000 * BLOCK).await.unwrap();
        assert!(budget.take(1).await.is_err());
        drop(whole);
        assert!(budget.take(1).await.is_ok());
    }
}
