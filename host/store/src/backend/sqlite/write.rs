//! The thread that writes: what waits is done in batches, one transaction and one wait for the disk for each.
//!
//! What somebody outside waits for (a webhook's 2xx) goes first; the rest of a batch is bounded in time, so that a batch that is full of the
//! loops' work does not hold it up, and tenants have turns in it. Pieces seldom fail, and a savepoint for each costs a copy of every page that
//! it touches: only if one fails is a batch done again with them, and then that piece fails alone.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use penstock_model::id::TenantName;
use rusqlite::Connection;

use super::log::Writing;
use super::{Transaction, Words, run};
use crate::backend::{Outlet, Stop, Work};
use crate::error::StoreError;

/// Pieces of urgent work in one transaction at most.
const BATCH: usize = 256;
/// How long other work may go on in one transaction.
const SHARE: Duration = Duration::from_millis(10);
/// How long a busy writer waits for more work before it begins.
const LINGER: Duration = Duration::from_millis(1);

/// Writes until the outlet is closed and nothing waits.
pub(super) fn until_closed(connection: &Connection, outlet: &Outlet, writing: &Writing) {
    // Nobody else takes from it.
    let receiver = outlet.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = Words::new();
    let mut waiting = Waiting::default();
    let mut busy = false;
    while waiting.fill(&receiver, busy) {
        let _writing = writing.lock();
        busy = write(connection, &mut words, &mut waiting) > 1;
    }
}

/// Work that was handed in and not begun.
#[derive(Default)]
struct Waiting {
    urgent: VecDeque<Box<dyn Work>>,
    other: Turns,
}

impl Waiting {
    /// Takes what was handed in; if there is nothing, waits for it. Who was `busy` a moment ago and has one piece alone waits a little for more.
    /// False: there is none, and there will be none.
    fn fill(&mut self, receiver: &Receiver<Box<dyn Work>>, busy: bool) -> bool {
        if self.len() == 0 {
            let Ok(first) = receiver.recv() else {
                return false;
            };
            self.add(first);
        }
        self.drain(receiver);
        if busy && self.len() == 1 {
            match receiver.recv_timeout(LINGER) {
                Ok(work) => {
                    self.add(work);
                    self.drain(receiver);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        true
    }

    fn drain(&mut self, receiver: &Receiver<Box<dyn Work>>) {
        loop {
            match receiver.try_recv() {
                Ok(work) => self.add(work),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn add(&mut self, work: Box<dyn Work>) {
        if work.is_urgent() {
            self.urgent.push_back(work);
        } else {
            self.other.add(work);
        }
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.other.len()
    }

    /// What comes next in a batch.
    fn next(&mut self, batch: &mut Batch) -> Option<Box<dyn Work>> {
        if batch.done.len() < BATCH
            && batch.others_since.is_none()
            && let Some(work) = self.urgent.pop_front()
        {
            return Some(work);
        }
        match batch.others_since {
            Some(since) if since.elapsed() >= SHARE => None,
            Some(_) => self.other.next(),
            None => {
                batch.others_since = Some(Instant::now());
                self.other.next()
            }
        }
    }

    /// Everything, for an answer without having been tried.
    fn all(&mut self) -> impl Iterator<Item = Box<dyn Work>> + '_ {
        self.urgent
            .drain(..)
            .chain(std::iter::from_fn(|| self.other.next()))
    }
}

/// Work that is not urgent, a piece of each tenant in turn: one that has fifty lanes has as many pieces here, and nobody else waits for all of
/// them. What is done for no tenant, such as to draw lanes, has turns like a tenant's.
#[derive(Default)]
struct Turns(VecDeque<Line>);

/// What waits of one tenant; never empty.
type Line = (Option<TenantName>, VecDeque<Box<dyn Work>>);

impl Turns {
    fn add(&mut self, work: Box<dyn Work>) {
        match self
            .0
            .iter_mut()
            .find(|(whose, _)| whose.as_ref() == work.whose())
        {
            Some((_, line)) => line.push_back(work),
            None => self.0.push_back((work.whose().cloned(), [work].into())),
        }
    }

    fn next(&mut self) -> Option<Box<dyn Work>> {
        let (whose, mut line) = self.0.pop_front()?;
        let work = line.pop_front();
        if !line.is_empty() {
            self.0.push_back((whose, line));
        }
        work
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, line)| line.len()).sum()
    }
}

/// What one transaction has done.
#[derive(Default)]
struct Batch {
    done: Vec<Box<dyn Work>>,
    /// Since when what is not urgent has its turn.
    others_since: Option<Instant>,
}

/// Why a batch was not committed; nothing of it was written.
enum Undone {
    /// A piece failed, for reasons of its own.
    Piece,
    Database(StoreError),
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Database(error)
    }
}

/// Does a batch and answers for it; says how many pieces it had.
fn write(connection: &Connection, words: &mut Words, waiting: &mut Waiting) -> usize {
    let mut batch = Batch::default();
    let together = transaction(connection, || {
        while let Some(mut work) = waiting.next(&mut batch) {
            let outcome = together(connection, words, work.as_mut());
            batch.done.push(work);
            outcome?;
        }
        Ok(())
    });
    let mut done = batch.done;
    let committed = match together {
        Ok(()) => Ok(()),
        Err(Undone::Database(error)) => {
            if done.is_empty() {
                // No transaction could begin: who waits is told, and may come again.
                done.extend(waiting.all());
            }
            Err(error)
        }
        // It was alone: what it says of itself is its answer.
        Err(Undone::Piece) if done.len() == 1 => Ok(()),
        Err(Undone::Piece) => apart(connection, words, &mut done),
    };
    let pieces = done.len();
    for work in done {
        work.finish(committed.clone());
    }
    pieces
}

/// Does a batch of which a piece failed, each behind a savepoint.
fn apart(
    connection: &Connection,
    words: &mut Words,
    batch: &mut [Box<dyn Work>],
) -> Result<(), StoreError> {
    let done = transaction(connection, || {
        for work in batch.iter_mut() {
            item(connection, words, work.as_mut())?;
        }
        Ok(())
    });
    done.map_err(|undone| match undone {
        Undone::Database(error) => error,
        Undone::Piece => StoreError::unavailable("a piece of work failed outside of its savepoint"),
    })
}

/// Commits what was done, or none of it.
fn transaction(
    connection: &Connection,
    work: impl FnOnce() -> Result<(), Undone>,
) -> Result<(), Undone> {
    let committed = run(connection, "BEGIN IMMEDIATE")
        .map_err(Undone::from)
        .and_then(|()| work())
        .and_then(|()| Ok(run(connection, "COMMIT")?));
    if committed.is_err() && !connection.is_autocommit() {
        // The transaction is void whatever this says; the next BEGIN tells.
        let _ = run(connection, "ROLLBACK");
    }
    committed
}

/// One piece of work without a savepoint.
fn together(connection: &Connection, words: &mut Words, work: &mut dyn Work) -> Result<(), Undone> {
    work.run(&mut Transaction { connection, words })
        .map_err(|stop| match stop {
            _ if !connection.is_autocommit() => Undone::Piece,
            // A full disk or an error of the disk makes SQLite give up the whole transaction.
            Stop::Database(error) => Undone::Database(error),
            Stop::Own => {
                Undone::Database(StoreError::unavailable("SQLite gave the transaction up"))
            }
        })
}

/// One piece of work behind a savepoint. An error: the whole transaction is lost.
fn item(connection: &Connection, words: &mut Words, work: &mut dyn Work) -> Result<(), StoreError> {
    run(connection, "SAVEPOINT item")?;
    let mut tx = Transaction { connection, words };
    let Err(stop) = work.run(&mut tx) else {
        return run(connection, "RELEASE item");
    };
    if connection.is_autocommit() {
        return Err(match stop {
            Stop::Database(error) => error,
            Stop::Own => StoreError::unavailable("SQLite gave the transaction up"),
        });
    }
    run(connection, "ROLLBACK TO item")?;
    run(connection, "RELEASE item")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};

    use rusqlite::OpenFlags;

    use super::super::connect;
    use super::*;
    use crate::backend::Tx;

    type Told = Arc<Mutex<Vec<Result<(), StoreError>>>>;

    struct Piece(Told);

    impl Work for Piece {
        fn run(&mut self, tx: &mut dyn Tx) -> Result<(), Stop> {
            tx.execute("INSERT INTO t VALUES (1)", &[])
                .map(drop)
                .map_err(Stop::Database)
        }

        fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
            self.0.lock().unwrap().push(committed);
        }
    }

    #[test]
    fn where_no_transaction_can_begin_everybody_is_told_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let holder = connect(&path, access, 1024).unwrap();
        holder
            .execute_batch("CREATE TABLE t (a INT) STRICT")
            .unwrap();
        let writer = connect(&path, access, 1024).unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        run(&holder, "BEGIN IMMEDIATE").unwrap();

        let told = Told::default();
        let (sender, receiver) = channel::<Box<dyn Work>>();
        for _ in 0..3 {
            sender.send(Box::new(Piece(Arc::clone(&told)))).unwrap();
        }
        drop(sender);
        // It ends: nothing is left that it would try for ever.
        until_closed(
            &writer,
            &Arc::new(Mutex::new(receiver)),
            &Writing::default(),
        );
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 3);
        for answer in told.iter() {
            assert!(matches!(answer, Err(StoreError::Busy { .. })), "{answer:?}");
        }
    }
}
