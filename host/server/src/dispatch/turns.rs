//! Who may read and write one plugin's state of one project now, in this process.
//!
//! The store finds calls that met and commits one of them alone; that is what keeps the state right. This keeps a call that lost from losing for
//! ever: calls begin beside each other, and one that lost is made again with nobody beside it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use penstock_model::id::{InstanceName, PluginName, ProjectId};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks are looked through for ones that nobody holds when there are so many.
const MANY: usize = 1024;

/// Whose state it is.
pub(super) type Whose = (PluginName, InstanceName, ProjectId);

/// A call's turn; over when dropped.
#[derive(Debug)]
pub(super) enum Turn {
    /// Others may call too.
    Beside { _turn: OwnedRwLockReadGuard<()> },
    /// Nobody else calls.
    Alone { _turn: OwnedRwLockWriteGuard<()> },
}

/// All turns of a process.
#[derive(Debug, Default)]
pub struct Turns {
    locks: Mutex<HashMap<Whose, Weak<RwLock<()>>>>,
}

impl Turns {
    /// Waits only for a call that was given its turn alone.
    pub(super) async fn beside(&self, whose: Whose) -> Turn {
        Turn::Beside {
            _turn: self.lock(whose).read_owned().await,
        }
    }

    /// Waits for all calls that have begun; those that come later wait for this one.
    pub(super) async fn alone(&self, whose: Whose) -> Turn {
        Turn::Alone {
            _turn: self.lock(whose).write_owned().await,
        }
    }

    fn lock(&self, whose: Whose) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MANY {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let held = locks.get(&whose).and_then(Weak::upgrade);
        held.unwrap_or_else(|| {
            let lock = Arc::default();
            locks.insert(whose, Arc::downgrade(&lock));
            lock
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn whose(project: u64) -> Whose {
        ("counter".into(), "main".into(), ProjectId(project))
    }

    async fn waits(turn: impl Future<Output = Turn>) -> bool {
        tokio::time::timeout(Duration::from_secs(1), turn)
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_begin_beside_each_other_and_one_that_lost_has_nobody_beside_it() {
        let turns = Turns::default();
        let first = turns.beside(whose(1)).await;
        let second = turns.beside(whose(1)).await;
        assert!(waits(turns.alone(whose(1))).await);
        drop((first, second));
        let alone = turns.alone(whose(1)).await;
        assert!(waits(turns.beside(whose(1))).await);
        drop(alone);
        turns.beside(whose(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn projects_don_t_wait_for_each_other() {
        let turns = Turns::default();
        let _alone = turns.alone(whose(1)).await;
        turns.alone(whose(2)).await;
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_forgotten() {
        let turns = Turns::default();
        let kept = turns.beside(whose(0)).await;
        for project in 1..3 * u64::try_from(MANY).unwrap() {
            turns.beside(whose(project)).await;
        }
        assert!(turns.locks.lock().unwrap().len() <= MANY);
        assert!(waits(turns.alone(whose(0))).await);
        drop(kept);
    }
}
