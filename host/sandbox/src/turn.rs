//! Whose turn it is on the guests' threads.
//!
//! A thread serves whoever is ready, one after the other, and a guest that computes gives it up at each tick. A plugin with many such calls would so have
//! many ticks before a neighbour has one. So those of one plugin's calls that have computed for a tick take turns: as many go on at once as there are
//! threads, and whatever the plugin is up to, a neighbour waits for one tick of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of one plugin's calls.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads.max(1))))
    }

    /// A place in line for one call.
    pub(crate) fn line(&self) -> Line {
        Line {
            turns: self.clone(),
            waiting: None,
        }
    }
}

/// The place in line of one call.
pub(crate) struct Line {
    turns: Turns,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

/// The right to go on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Line {
    /// The next turn. None: there are none any more, and who waits for them goes on.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Turn>> {
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(next(self.turns.clone())));
        let turn = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(turn)
    }
}

async fn next(Turns(turns): Turns) -> Option<Turn> {
    let permit = turns.acquire_owned().await.ok()?;
    // With the turn in hand, so that no other call of this plugin has one: first whoever else is ready.
    tokio::task::yield_now().await;
    Some(Turn { _permit: permit })
}
