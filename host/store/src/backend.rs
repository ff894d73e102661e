//! What an operation sees of a database, and how work reaches the threads that own connections.
//!
//! An operation is a synchronous function over [`Tx`], written once. A backend runs it in a transaction of its own or,
//! where that is cheaper, among others behind a savepoint. An operation may be run again, so it changes nothing but the database.

pub(crate) mod dialect;
pub(crate) mod migration;
pub(crate) mod postgres;
pub(crate) mod sqlite;
pub(crate) mod tls;
pub(crate) mod value;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use penstock_model::id::TenantName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Failure, StoreError};
use dialect::Dialect;
use value::{Param, Row};

/// Work that may wait in a queue before senders wait too.
const WAITING: usize = 4096;

/// A transaction, as an operation sees it. SQL is written with `?1`, `?2` and in the words of SQLite; see [`dialect`].
pub(crate) trait Tx {
    /// Which database it is.
    fn dialect(&self) -> Dialect;

    /// Runs a statement and says how many rows it changed.
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, StoreError>;

    /// Runs a statement and gives its rows.
    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError>;

    /// Runs a statement and gives its first row.
    fn first(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params)?.into_iter().next())
    }
}

/// Why the work of a transaction is rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its own affair: others in the batch go on.
    Own,
    /// The database: whether to try again, and what it said.
    Database(StoreError),
}

/// One piece of work on its way to a thread with a connection.
pub(crate) trait Work: Send {
    /// Does it within a transaction. May be called again after a roll-back.
    fn run(&mut self, tx: &mut dyn Tx) -> Result<(), Stop>;

    /// Advisory locks to take before a batch begins, so that batches take them in one order.
    fn guards(&self) -> &[i64] {
        &[]
    }

    /// Where in a batch it goes: batches that share rows take them in one order.
    fn order(&self) -> &str {
        ""
    }

    /// Whether somebody outside waits for it: it goes before what does not.
    fn is_urgent(&self) -> bool {
        false
    }

    /// The tenant it is done for: tenants whose work waits have turns.
    fn whose(&self) -> Option<&TenantName> {
        None
    }

    /// Answers whoever waits.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// An operation with the place its answer goes to.
struct Operation<F, T, E> {
    operation: F,
    outcome: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
    hints: Hints,
    _permit: OwnedSemaphorePermit,
}

impl<F, T, E> Work for Operation<F, T, E>
where
    F: FnMut(&mut dyn Tx) -> Result<T, E> + Send,
    T: Send,
    E: Failure,
{
    fn run(&mut self, tx: &mut dyn Tx) -> Result<(), Stop> {
        let outcome = (self.operation)(tx);
        let stop = match &outcome {
            Ok(_) => None,
            Err(error) => Some(error.store().map_or(Stop::Own, stop_of)),
        };
        self.outcome = Some(outcome);
        stop.map_or(Ok(()), Err)
    }

    fn guards(&self) -> &[i64] {
        &self.hints.guards
    }

    fn order(&self) -> &str {
        &self.hints.order
    }

    fn is_urgent(&self) -> bool {
        self.hints.urgent
    }

    fn whose(&self) -> Option<&TenantName> {
        self.hints.whose.as_ref()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (self.outcome, committed) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(E::from(error)),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(E::from(StoreError::Closed)),
        };
        // Who asked may have gone: the work is done all the same.
        let _ = self.answer.send(answer);
    }
}

fn stop_of(error: &StoreError) -> Stop {
    match error {
        StoreError::Rejected { .. } | StoreError::Unreadable { .. } => Stop::Own,
        other => Stop::Database(other.clone()),
    }
}

/// What an operation needs beside its code.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// See [`Work::guards`].
    pub(crate) guards: Vec<i64>,
    /// See [`Work::order`].
    pub(crate) order: String,
    /// See [`Work::is_urgent`].
    pub(crate) urgent: bool,
    /// See [`Work::whose`].
    pub(crate) whose: Option<TenantName>,
}

/// Where work is handed in.
pub(crate) struct Intake {
    sender: Mutex<Option<Sender<Box<dyn Work>>>>,
    permits: Arc<Semaphore>,
}

/// Where threads take work from; several may share it.
pub(crate) type Outlet = Arc<Mutex<Receiver<Box<dyn Work>>>>;

impl Intake {
    pub(crate) fn new() -> (Self, Outlet) {
        let (sender, receiver) = channel();
        let intake = Self {
            sender: Mutex::new(Some(sender)),
            permits: Arc::new(Semaphore::new(WAITING)),
        };
        (intake, Arc::new(Mutex::new(receiver)))
    }

    /// Runs an operation on a thread that owns a connection and waits for its answer.
    pub(crate) async fn run<T, E, F>(&self, hints: Hints, operation: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure,
    {
        let closed = || E::from(StoreError::Closed);
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let (answer, waiting) = oneshot::channel();
        let work = Box::new(Operation {
            operation,
            outcome: None,
            answer,
            hints,
            _permit: permit,
        });
        {
            let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = sender.as_ref().ok_or_else(closed)?;
            sender.send(work).map_err(|_| closed())?;
        }
        waiting.await.unwrap_or_else(|_| {
            Err(E::from(StoreError::unavailable(
                "the store stopped while it worked on this",
            )))
        })
    }

    /// Takes no more work; the threads end when they have done what waits.
    pub(crate) fn close(&self) {
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StoreError::unavailable(format!("no thread for it: {error}")))
}

fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        if thread.join().is_err() {
            tracing::error!("a thread of the store had panicked");
        }
    }
}

/// The next piece of work; none once the intake is closed and empty.
pub(crate) fn next(outlet: &Outlet) -> Option<Box<dyn Work>> {
    outlet
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

/// What waits right now, up to a number.
pub(crate) fn waiting(outlet: &Outlet, batch: &mut Vec<Box<dyn Work>>, most: usize) {
    // Where another thread is waiting for work, there is none.
    let Ok(receiver) = outlet.try_lock() else {
        return;
    };
    while batch.len() < most {
        match receiver.try_recv() {
            Ok(work) => batch.push(work),
            Err(_) => break,
        }
    }
}
