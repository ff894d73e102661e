//! SQLite: one thread owns the only connection that writes, a few read, one checkpoints.
//!
//! The writer does what waits in one transaction and answers after COMMIT: one wait for the disk serves many.

mod log;
mod write;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use super::dialect::Dialect;
use super::value::{Param, Row, Value};
use super::{Intake, Outlet, Tx, next, spawn};
use crate::error::{OpenError, StoreError};
use log::Writing;

/// How long another process' lock is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Between two looks of a command for the lock of a server that is busy, and how many looks: 30 s. Such a lock is free for a moment between two
/// transactions, which SQLite's own pauses of up to 100 ms would miss.
const GLANCE: Duration = Duration::from_millis(1);
const GLANCES: i32 = 30_000;
const READERS: usize = 3;
/// Pages that the connection which writes keeps, in KiB.
const WRITER_CACHE: u32 = 8 * 1024;
/// The same of one that reads: the system keeps the file's pages as well.
const READER_CACHE: u32 = 1024;

/// The threads of an open database.
pub(crate) struct Sqlite {
    pub(crate) writes: Intake,
    pub(crate) reads: Intake,
    held: Mutex<Held>,
}

/// What is given back when the store is closed.
struct Held {
    workers: Vec<JoinHandle<()>>,
    checkpoints: Vec<JoinHandle<()>>,
    /// Dropping it ends the checkpoints.
    ending: Option<Sender<()>>,
    /// Keeps other servers out.
    lock: Option<File>,
}

/// Who opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one server.
    Server,
    /// A command next to it.
    Beside,
}

impl Sqlite {
    /// Opens the database with its threads. `prepare` checks or makes the tables on the connection that will write.
    pub(crate) fn open(
        path: &Path,
        role: Role,
        prepare: impl FnOnce(&mut dyn Setup) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let lock = match role {
            Role::Server => Some(lock(path)?),
            Role::Beside if path.exists() => None,
            Role::Beside => {
                return Err(OpenError::Missing {
                    path: path.to_owned(),
                });
            }
        };
        if role == Role::Server {
            create(path)?;
        }
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE)?;
        if role == Role::Beside {
            writer
                .busy_handler(Some(|glances: i32| {
                    std::thread::sleep(GLANCE);
                    glances < GLANCES
                }))
                .map_err(fault)?;
        }
        durable(&writer)?;
        prepare(&mut writer)?;

        let (writes, outlet) = Intake::new();
        let writing = Writing::default();
        let mut threads = vec![{
            let writing = Writing::clone(&writing);
            spawn("store-write", move || {
                write::until_closed(&writer, &outlet, &writing);
            })?
        }];
        let (reads, outlet) = Intake::new();
        for _ in 0..READERS {
            let outlet = Outlet::clone(&outlet);
            let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE)?;
            threads.push(spawn("store-read", move || {
                read_until_closed(&reader, &outlet);
            })?);
        }
        let mut checkpoints = Vec::new();
        let mut ending = None;
        if role == Role::Server {
            let (end, ended) = channel();
            let path_of_log = log_of(path);
            let connection = log::connection(path)?;
            checkpoints.push(spawn("store-checkpoint", move || {
                log::move_until_closed(&connection, &path_of_log, &ended, &writing);
            })?);
            ending = Some(end);
        }
        Ok(Self {
            writes,
            reads,
            held: Mutex::new(Held {
                workers: threads,
                checkpoints,
                ending,
                lock,
            }),
        })
    }

    /// Does what waits, ends the threads and gives the lock back.
    pub(crate) fn close(&self) {
        self.writes.close();
        self.reads.close();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        super::join(&mut held.workers);
        held.ending.take();
        super::join(&mut held.checkpoints);
        if let Some(lock) = held.lock.take() {
            give_back(&lock);
        }
    }
}

/// A connection while migrations run.
pub(crate) trait Setup {
    fn dialect(&self) -> Dialect;
    /// Runs several statements at once.
    fn batch(&mut self, sql: &str) -> Result<(), StoreError>;
    /// Gives the first column of all rows, as text.
    fn texts(&mut self, sql: &str) -> Result<Vec<String>, StoreError>;
}

impl Setup for Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.execute_batch(sql).map_err(fault)
    }

    fn texts(&mut self, sql: &str) -> Result<Vec<String>, StoreError> {
        let mut statement = self.prepare(sql).map_err(fault)?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(fault)?;
        rows.collect::<Result<_, _>>().map_err(fault)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let path = beside(path, ".lock");
    let wrong = |error: std::io::Error| OpenError::Path {
        path: path.clone(),
        what: error.to_string(),
    };
    let file = private(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Held { path }),
        Err(TryLockError::Error(error)) => Err(wrong(error)),
    }
}

/// To close the file is not enough: a child that is being started still has it, until it becomes its program.
fn give_back(lock: &File) {
    if let Err(error) = lock.unlock() {
        tracing::warn!(%error, "the store's lock could not be given back");
    }
}

/// Makes the file, if there is none, for nobody else to read. SQLite gives its log the same rights.
fn create(path: &Path) -> Result<(), OpenError> {
    let made = private(path).and_then(|file| {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        file.metadata()
    });
    let file = made.map_err(|error| OpenError::Path {
        path: path.to_owned(),
        what: error.to_string(),
    })?;
    let log = std::fs::metadata(log_of(path)).map_or(0, |log| log.len());
    if file.len() == 0 && log > 0 {
        // SQLite would take this for a new database and throw the log away.
        return Err(OpenError::Store(StoreError::Corrupt {
            what: "the database file is empty and its log is not".to_owned(),
        }));
    }
    Ok(())
}

fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn connect(path: &Path, access: OpenFlags, cache: u32) -> Result<Connection, StoreError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(256);
    // Without this a plan depends on values that were bound, and a statement is parsed and planned again each time they change.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(fault)?;
    connection
        .execute_batch(&format!(
            "PRAGMA cache_size = -{cache}; PRAGMA temp_store = MEMORY;"
        ))
        .map_err(fault)?;
    Ok(connection)
}

/// Sets what makes a commit durable, and reads it back.
fn durable(connection: &Connection) -> Result<(), OpenError> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(fault)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
        .map_err(fault)?;
    let level: i64 = connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .map_err(fault)?;
    for (setting, value, good) in [
        ("journal_mode", mode.clone(), mode == "wal"),
        ("synchronous", level.to_string(), level == 2),
    ] {
        if !good {
            return Err(StoreError::unavailable(format!(
                "SQLite keeps `{setting} = {value}` on this file system, which is not durable; put the store on a local disk"
            ))
            .into());
        }
    }
    Ok(())
}

/// A transaction of a connection.
struct Transaction<'a> {
    connection: &'a Connection,
    words: &'a mut Words,
}

impl Transaction<'_> {
    fn statement(
        &mut self,
        sql: &'static str,
    ) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        let words = self
            .words
            .entry(sql)
            .or_insert_with(|| Dialect::Sqlite.statement(sql));
        self.connection.prepare_cached(words).map_err(fault)
    }
}

impl Tx for Transaction<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, StoreError> {
        let changed = self
            .statement(sql)?
            .execute(rusqlite::params_from_iter(params))
            .map_err(fault)?;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.statement(sql)?;
        let columns = statement.column_count();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(fault)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let values = (0..columns)
                .map(|column| row.get_ref(column).map_err(fault).and_then(value))
                .collect::<Result<_, _>>()?;
            found.push(Row::new(values));
        }
        Ok(found)
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<Value, StoreError> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Int(value)),
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
        ValueRef::Text(bytes) => String::from_utf8(bytes.to_vec())
            .map(Value::Text)
            .map_err(|_| StoreError::unreadable("a text is not UTF-8")),
        ValueRef::Real(_) => Err(StoreError::unreadable("a number has a fraction")),
    }
}

type Words = HashMap<&'static str, Cow<'static, str>>;

fn run(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map(drop)
        .map_err(fault)
}

fn read_until_closed(connection: &Connection, outlet: &Outlet) {
    let mut words = Words::new();
    while let Some(mut work) = next(outlet) {
        let done = run(connection, "BEGIN").map(|()| {
            let mut tx = Transaction {
                connection,
                words: &mut words,
            };
            // What it found, or why not, is in the work.
            let _ = work.run(&mut tx);
        });
        if !connection.is_autocommit() {
            let _ = run(connection, "ROLLBACK");
        }
        work.finish(done);
    }
}

/// What went wrong, in the store's words.
fn fault(error: rusqlite::Error) -> StoreError {
    let rusqlite::Error::SqliteFailure(failure, message) = &error else {
        return StoreError::Rejected {
            what: error.to_string(),
        };
    };
    let what = message.clone().unwrap_or_else(|| failure.to_string());
    match failure.code {
        ErrorCode::DiskFull => StoreError::Full { what },
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::ReadOnly { what },
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy { what },
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt { what },
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
            StoreError::Rejected { what }
        }
        // SQLite has one word for all that a disk may answer.
        ErrorCode::SystemIoFailure => StoreError::Unavailable {
            what: format!(
                "{what}: the disk fails, or its file system has become read-only; the kernel's log says which"
            ),
        },
        _ => StoreError::Unavailable { what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn fresh(path: &Path) -> Connection {
        create(path).unwrap();
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE).unwrap();
        durable(&connection).unwrap();
        connection
            .execute_batch("CREATE TABLE t (a BLOB) STRICT")
            .unwrap();
        connection
    }

    #[test]
    fn a_file_that_takes_no_writes_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let _writer = fresh(&path);
        let reader = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE).unwrap();
        let error = run(&reader, "INSERT INTO t VALUES (x'00')").unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("give Penstock's account the right")
        );
    }

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let held = lock(&path).unwrap();
        let _child = held.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(OpenError::Held { .. })));
        give_back(&held);
        drop(held);
        assert!(lock(&path).is_ok());
    }

    #[test]
    fn no_space_is_told_as_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let writer = fresh(&folder.path().join("penstock.db"));
        writer
            .query_row("PRAGMA max_page_count = 20", [], |_| Ok(()))
            .unwrap();
        let error = run(&writer, "INSERT INTO t VALUES (zeroblob(1000000))").unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    }

    #[test]
    fn another_process_that_keeps_the_lock_is_told_as_busy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let holder = fresh(&path);
        run(&holder, "BEGIN IMMEDIATE").unwrap();
        let other = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE).unwrap();
        other.busy_timeout(Duration::ZERO).unwrap();
        let error = run(&other, "BEGIN IMMEDIATE").unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    }
}
