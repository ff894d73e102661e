//! The right to make one call now: one of the plugin's own permits and one of all plugins'.
//!
//! Both go back when it is dropped. A slot says nothing about the call: it is taken before there is one.

use std::sync::Arc;

use penstock_model::lookup::HostFault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A free place for one call of the plugin that gave it; see [`Plugin::slot`](crate::Plugin::slot).
///
/// Dropped, or the call that was made in it ended, it is free for others.
#[must_use = "a slot that is dropped is given back at once"]
#[derive(Debug)]
pub struct Slot {
    /// Whose it is: the plugin's own permits.
    of: Arc<Semaphore>,
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Slot {
    /// Takes both permits if both are free, and neither otherwise.
    pub(crate) fn free(own: &Arc<Semaphore>, shared: &Arc<Semaphore>) -> Option<Self> {
        let held = Arc::clone(own).try_acquire_owned().ok()?;
        let shared = Arc::clone(shared).try_acquire_owned().ok()?;
        Some(Self {
            of: Arc::clone(own),
            _own: held,
            _shared: shared,
        })
    }

    /// Waits for the plugin's own permit, then for one of all plugins': whoever waits for its own takes nothing from the others.
    pub(crate) async fn when_free(
        own: &Arc<Semaphore>,
        shared: &Arc<Semaphore>,
    ) -> Result<Self, HostFault> {
        let closed = |_| HostFault {
            what: "the plugins' slots are closed".to_owned(),
            retry_after: None,
        };
        let held = Arc::clone(own).acquire_owned().await.map_err(closed)?;
        let shared = Arc::clone(shared).acquire_owned().await.map_err(closed)?;
        Ok(Self {
            of: Arc::clone(own),
            _own: held,
            _shared: shared,
        })
    }

    /// It is one of these permits' owner.
    pub(crate) fn is_of(&self, own: &Arc<Semaphore>) -> bool {
        Arc::ptr_eq(&self.of, own)
    }
}
