//! SQLite's write-ahead log: moved into the database beside the writer, and begun anew when it is large.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY, READER_CACHE, connect, fault};
use crate::error::StoreError;

/// Between checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// A write-ahead log of more pages than this, 32 MiB, begins anew.
const LARGE_LOG: i64 = 8 * 1024;
/// What is left of the log is copied in so short a time that the writer may wait for it.
const SHORT: Duration = Duration::from_millis(8);
/// Copies beside the writer before the log begins anew, each of what was written during the one before.
const COPIES: usize = 5;
/// Between two looks whether readers are done with a log that begins anew, and how many looks.
const LOOK: Duration = Duration::from_micros(500);
const LOOKS: i32 = 8;

/// Held by the writer during each transaction, and while the log begins anew: SQLite's own lock would have the writer ask again after ever longer
/// sleeps. It is handed on in turn, so that a writer which is always busy gives it up too.
pub(super) type Writing = Arc<parking_lot::Mutex<()>>;

/// The connection that moves the log. It waits for readers for a few milliseconds alone, since the writer waits meanwhile.
pub(super) fn connection(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE)?;
    connection
        .busy_handler(Some(|looks: i32| {
            std::thread::sleep(LOOK);
            looks < LOOKS
        }))
        .map_err(fault)?;
    Ok(connection)
}

/// Moves the log into the database so that the writer never has to.
pub(super) fn move_until_closed(
    connection: &Connection,
    log: &Path,
    ended: &Receiver<()>,
    writing: &Writing,
) {
    let mut open = true;
    while open {
        open = ended.recv_timeout(CHECKPOINT_EVERY) == Err(RecvTimeoutError::Timeout);
        let size = std::fs::metadata(log).map_or(0, |log| log.len());
        if size == 0 {
            continue;
        }
        let outcome = if open {
            checkpoint(connection, writing)
        } else {
            last_checkpoint(connection)
        };
        if let Err(error) = outcome {
            tracing::warn!(error = %fault(error), "the store's log could not be checkpointed");
        }
    }
}

/// Copies the log into the database. To begin it anew nobody may write until everything is copied: so most of it is copied before, beside the
/// writer, until little is left. A reader that still needs the log puts it off to the next time. The log's file keeps its size and is written over: a
/// file that grows costs the writer the file system's own log with each sync.
fn checkpoint(connection: &Connection, writing: &Writing) -> rusqlite::Result<()> {
    if copy(connection, "PRAGMA wal_checkpoint(PASSIVE)")? <= LARGE_LOG {
        return Ok(());
    }
    for _ in 0..COPIES {
        let begun = Instant::now();
        copy(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        if begun.elapsed() < SHORT {
            break;
        }
    }
    let _alone = writing.lock();
    copy(connection, "PRAGMA wal_checkpoint(RESTART)").map(drop)
}

/// Copies all of it and leaves an empty file.
fn last_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    copy(connection, "PRAGMA wal_checkpoint(TRUNCATE)").map(drop)
}

/// The pages in the log when it began. Who is in the way is no error, and what is not copied is next time.
fn copy(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.query_row(sql, [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::tests::fresh;
    use super::super::{log_of, run};
    use super::*;

    /// How large the log's file is, and how many pages of it count.
    fn log(path: &Path, connection: &Connection) -> (u64, i64) {
        let size = std::fs::metadata(log_of(path)).unwrap().len();
        (
            size,
            copy(connection, "PRAGMA wal_checkpoint(PASSIVE)").unwrap(),
        )
    }

    const LARGE: &str = "INSERT INTO t VALUES (zeroblob(40000000))";
    const SMALL: &str = "INSERT INTO t VALUES (x'00')";

    fn with_a_large_log() -> (TempDir, PathBuf, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let writer = fresh(&path);
        run(&writer, LARGE).unwrap();
        (folder, path, writer)
    }

    #[test]
    fn a_large_log_begins_anew_in_the_same_file() {
        let (_folder, path, writer) = with_a_large_log();
        let beside = connection(&path).unwrap();
        let (large, _) = log(&path, &beside);
        assert!(large > 40_000_000);
        checkpoint(&beside, &Writing::default()).unwrap();
        run(&writer, SMALL).unwrap();
        let (size, pages) = log(&path, &beside);
        assert!(pages < 10, "{pages}");
        assert_eq!(size, large);
        last_checkpoint(&beside).unwrap();
        let (size, _) = log(&path, &beside);
        assert_eq!(size, 0, "whoever copies the closed store's file has all");
    }

    #[test]
    fn a_reader_that_needs_the_log_keeps_it_and_holds_up_nobody() {
        let (_folder, path, writer) = with_a_large_log();
        let reader = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let count = |reader: &Connection| {
            reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        };
        assert_eq!(count(&reader), Ok(1));
        let beside = connection(&path).unwrap();
        checkpoint(&beside, &Writing::default()).unwrap();
        // The lock is free again, though the reader is still there.
        writer.busy_timeout(Duration::ZERO).unwrap();
        run(&writer, SMALL).unwrap();
        let (_, pages) = log(&path, &beside);
        assert!(pages > LARGE_LOG, "{pages}");
        assert_eq!(count(&reader), Ok(1), "as it was when it began");
        reader.execute_batch("COMMIT").unwrap();
        checkpoint(&beside, &Writing::default()).unwrap();
        run(&writer, SMALL).unwrap();
        let (_, pages) = log(&path, &beside);
        assert!(pages < 10, "{pages}");
        assert_eq!(count(&reader), Ok(3));
    }

    #[test]
    fn the_log_begins_anew_between_two_transactions() {
        let (_folder, path, writer) = with_a_large_log();
        let writing = Writing::default();
        let held = writing.lock();
        let other = {
            let (writing, beside) = (Writing::clone(&writing), connection(&path).unwrap());
            std::thread::spawn(move || checkpoint(&beside, &writing))
        };
        // However long this takes, the log is as it was, and nothing is in the writer's way.
        writer.busy_timeout(Duration::ZERO).unwrap();
        run(&writer, SMALL).unwrap();
        assert!(!other.is_finished());
        drop(held);
        other.join().unwrap().unwrap();
        run(&writer, SMALL).unwrap();
        let (_, pages) = log(&path, &connection(&path).unwrap());
        assert!(pages < 10, "{pages}");
    }
}
