//! Postgres: a few threads with a connection each, for any number of servers at a time.
//!
//! A session whose commits would not be durable is refused. A connection that broke is made again, with growing pauses; work is
//! tried again only where it is certain that it was not committed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use penstock_model::secret::Secret;
use postgres::error::SqlState;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, Statement};

use super::dialect::Dialect;
use super::sqlite::Setup;
use super::tls::Tls;
use super::value::{Param, Row, Value};
use super::{Intake, Outlet, Stop, Tx, Work, next, spawn};
use crate::error::{OpenError, StoreError};

/// Pieces of work in one transaction at most.
const BATCH: usize = 256;
/// Connections that do one piece at a time.
const WORKERS: usize = 6;
/// Connections that append deliveries in batches.
const APPENDERS: usize = 2;
/// How often contended work is tried before its caller hears of it.
const TRIES: u32 = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '30s'; SET standard_conforming_strings = on";

/// The threads of an open database.
pub(crate) struct Postgres {
    pub(crate) appends: Intake,
    pub(crate) writes: Intake,
    pub(crate) reads: Intake,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Postgres {
    /// Connects, checks that commits are durable, and starts the threads. `prepare` checks or makes the tables.
    pub(crate) fn open(
        url: &Secret,
        prepare: impl FnOnce(&mut dyn Setup) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let mut config: Config = url.reveal().parse().map_err(|_| OpenError::Url)?;
        config.connect_timeout(CONNECT_WITHIN);
        if config.get_application_name().is_none() {
            config.application_name("penstock");
        }
        let tls = Tls::new()?;
        prepare(&mut connect(&config, &tls)?)?;

        let mut threads = Vec::new();
        let (appends, outlet) = Intake::new();
        for _ in 0..APPENDERS {
            let mut line = Line::new(config.clone(), tls.clone());
            let outlet = Outlet::clone(&outlet);
            threads.push(spawn("store-append", move || {
                while let Some(first) = next(&outlet) {
                    let mut batch = vec![first];
                    super::waiting(&outlet, &mut batch, BATCH);
                    line.write(batch);
                }
            })?);
        }
        let (writes, outlet) = Intake::new();
        for _ in 0..WORKERS {
            let mut line = Line::new(config.clone(), tls.clone());
            let outlet = Outlet::clone(&outlet);
            threads.push(spawn("store-write", move || {
                while let Some(work) = next(&outlet) {
                    line.write(vec![work]);
                }
            })?);
        }
        let (reads, outlet) = Intake::new();
        for _ in 0..WORKERS / 2 {
            let mut line = Line::new(config.clone(), tls.clone());
            let outlet = Outlet::clone(&outlet);
            threads.push(spawn("store-read", move || {
                while let Some(work) = next(&outlet) {
                    line.read(work);
                }
            })?);
        }
        Ok(Self {
            appends,
            writes,
            reads,
            threads: Mutex::new(threads),
        })
    }

    /// Does what waits and ends the threads.
    pub(crate) fn close(&self) {
        self.appends.close();
        self.writes.close();
        self.reads.close();
        super::join(&mut self.threads.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Setup for Client {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.batch_execute(sql).map_err(fault)
    }

    fn texts(&mut self, sql: &str) -> Result<Vec<String>, StoreError> {
        let rows = self.query(sql, &[]).map_err(fault)?;
        rows.iter()
            .map(|row| row.try_get(0).map_err(fault))
            .collect()
    }
}

/// A session whose commits are durable. What the role, the database or the server set is looked at before it is set here: a
/// setting that somebody made on purpose is refused in the open, not overruled in silence.
fn connect(config: &Config, tls: &Tls) -> Result<Client, OpenError> {
    let mut client = config.connect(tls.clone()).map_err(fault)?;
    for setting in ["fsync", "synchronous_commit"] {
        let value = show(&mut client, setting)?;
        if value == "off" {
            return Err(not_durable(setting, value));
        }
    }
    client.batch_execute(SESSION).map_err(fault)?;
    match show(&mut client, "synchronous_commit")? {
        value if value == "on" => Ok(client),
        value => Err(not_durable("synchronous_commit", value)),
    }
}

fn not_durable(setting: &str, value: String) -> OpenError {
    OpenError::NotDurable {
        setting: setting.to_owned(),
        value,
    }
}

fn show(client: &mut Client, setting: &str) -> Result<String, StoreError> {
    client
        .query_one("SELECT current_setting($1)", &[&setting])
        .and_then(|row| row.try_get(0))
        .map_err(fault)
}

/// One session, with the statements that it has prepared.
struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

/// A thread's way to the database: a session, or when to try for one again.
struct Line {
    config: Config,
    tls: Tls,
    session: Option<Session>,
    pause: Duration,
    not_before: Option<(Instant, StoreError)>,
}

/// Why a transaction was not committed.
enum Lost {
    /// Nothing was written; it may be tried again.
    Surely(StoreError),
    /// The answer to COMMIT never came.
    Unknown(StoreError),
}

impl Line {
    fn new(config: Config, tls: Tls) -> Self {
        Self {
            config,
            tls,
            session: None,
            pause: Duration::from_millis(50),
            not_before: None,
        }
    }

    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.client.is_closed())
        {
            self.session = None;
        }
        if self.session.is_none() {
            if let Some((not_before, error)) = &self.not_before
                && Instant::now() < *not_before
            {
                return Err(error.clone());
            }
            match connect(&self.config, &self.tls) {
                Ok(client) => {
                    self.pause = Duration::from_millis(50);
                    self.not_before = None;
                    self.session = Some(Session {
                        client,
                        statements: HashMap::new(),
                    });
                }
                Err(error) => {
                    let error = match error {
                        OpenError::Store(error) => error,
                        other => StoreError::unavailable(other.to_string()),
                    };
                    self.not_before = Some((Instant::now() + self.pause, error.clone()));
                    self.pause = LONGEST_PAUSE.min(self.pause * 2);
                    return Err(error);
                }
            }
        }
        self.session.as_mut().ok_or(StoreError::Closed)
    }

    /// Does a batch in one transaction. If a piece fails, the batch is done again with a savepoint for each.
    fn write(&mut self, mut batch: Vec<Box<dyn Work>>) {
        batch.sort_by(|left, right| left.order().cmp(right.order()));
        let mut guards: Vec<i64> = batch
            .iter()
            .flat_map(|work| work.guards())
            .copied()
            .collect();
        guards.sort_unstable();
        guards.dedup();
        let mut apart = false;
        let mut tries = 0;
        let committed = loop {
            tries += 1;
            let done = match self.session() {
                Ok(session) => session.write(&mut batch, &guards, apart),
                Err(error) => break Err(error),
            };
            match done {
                Ok(Whole::Committed) => break Ok(()),
                Ok(Whole::OneFailed) => apart = true,
                Err(Lost::Unknown(error)) => break Err(error),
                // Contended work goes again at once: whoever it met is done or waits for it.
                Err(Lost::Surely(StoreError::Contended { .. })) if tries < TRIES => {}
                // A session that the server ended meanwhile is noticed only when it is used.
                Err(Lost::Surely(StoreError::Unavailable { .. })) if tries < 3 => {
                    self.session = None;
                }
                Err(Lost::Surely(error)) => break Err(error),
            }
        };
        for work in batch {
            work.finish(committed.clone());
        }
    }

    fn read(&mut self, mut work: Box<dyn Work>) {
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let done = match self.session() {
                Ok(session) => session.read(work.as_mut()),
                Err(error) => break Err(error),
            };
            match done {
                Err(StoreError::Contended { .. } | StoreError::Unavailable { .. }) if tries < 3 => {
                    self.session = None;
                }
                other => break other,
            }
        };
        work.finish(done);
    }
}

enum Whole {
    Committed,
    OneFailed,
}

impl Session {
    fn write(
        &mut self,
        batch: &mut [Box<dyn Work>],
        guards: &[i64],
        apart: bool,
    ) -> Result<Whole, Lost> {
        self.batch("BEGIN").map_err(Lost::Surely)?;
        match self.pieces(batch, guards, apart) {
            Ok(()) => {}
            Err(stop) => {
                self.batch("ROLLBACK").map_err(Lost::Surely)?;
                return match stop {
                    Stop::Own if apart || batch.len() == 1 => Ok(Whole::Committed),
                    Stop::Own => Ok(Whole::OneFailed),
                    Stop::Database(error) => Err(Lost::Surely(error)),
                };
            }
        }
        self.batch("COMMIT").map_err(|error| match error {
            // The server itself says that it did not commit.
            StoreError::Contended { .. } => Lost::Surely(error),
            other => Lost::Unknown(other),
        })?;
        Ok(Whole::Committed)
    }

    fn pieces(
        &mut self,
        batch: &mut [Box<dyn Work>],
        guards: &[i64],
        apart: bool,
    ) -> Result<(), Stop> {
        if !guards.is_empty() {
            let locks = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(k) FROM (SELECT k FROM unnest($1::bigint[]) AS u(k) ORDER BY k) AS o) AS l";
            self.client
                .query(locks, &[&guards])
                .map_err(|error| Stop::Database(fault(error)))?;
        }
        for work in batch {
            if !apart {
                work.run(self)?;
                continue;
            }
            self.batch("SAVEPOINT item").map_err(Stop::Database)?;
            let after = match work.run(self) {
                Ok(()) => "RELEASE item",
                Err(Stop::Own) => "ROLLBACK TO item; RELEASE item",
                Err(stop) => return Err(stop),
            };
            self.batch(after).map_err(Stop::Database)?;
        }
        Ok(())
    }

    fn read(&mut self, work: &mut dyn Work) -> Result<(), StoreError> {
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let done = work.run(self);
        self.batch("ROLLBACK")?;
        match done {
            Ok(()) | Err(Stop::Own) => Ok(()),
            Err(Stop::Database(error)) => Err(error),
        }
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(fault)
    }

    fn statement(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let words = Dialect::Postgres.statement(sql);
        let statement = self.client.prepare(&words).map_err(fault)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Tx for Session {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params
            .iter()
            .map(|param| param as &(dyn ToSql + Sync))
            .collect();
        self.client.execute(&statement, &params).map_err(fault)
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params
            .iter()
            .map(|param| param as &(dyn ToSql + Sync))
            .collect();
        let rows = self.client.query(&statement, &params).map_err(fault)?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|column| row.try_get::<_, Value>(column).map_err(fault))
                    .collect::<Result<_, _>>()
                    .map(Row::new)
            })
            .collect()
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) if *ty == Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
            Self::Int(value) => value.to_sql(ty, out),
            Self::Text(value) => value.as_ref().to_sql(ty, out),
            Self::Bytes(value) => value.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Int(i64::from(i32::from_sql(ty, raw)?)),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            _ => Self::Text(String::from_sql(ty, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::BYTEA) || <String as FromSql<'_>>::accepts(ty)
    }
}

/// What went wrong, in the store's words. A server's detail lines are left out: they hold values.
fn fault(error: postgres::Error) -> StoreError {
    let Some(server) = error.as_db_error() else {
        let what = match std::error::Error::source(&error) {
            Some(source) => format!("Postgres: {error}: {source}"),
            None => format!("Postgres: {error}"),
        };
        return if error.is_closed() || is_io(&error) {
            StoreError::Unavailable { what }
        } else {
            StoreError::Rejected { what }
        };
    };
    let what = format!("Postgres: {} ({})", server.message(), server.code().code());
    let code = server.code();
    if *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::LOCK_NOT_AVAILABLE
    {
        return StoreError::Contended { what };
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::ReadOnly { what };
    }
    if *code == SqlState::DISK_FULL {
        return StoreError::Full { what };
    }
    match code.code().get(..2) {
        Some("XX") => StoreError::Corrupt { what },
        // Data, integrity and syntax: this one statement's affair.
        Some("22" | "23" | "42" | "54") => StoreError::Rejected { what },
        _ => StoreError::Unavailable { what },
    }
}

fn is_io(error: &postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    // A failed connect or handshake has no source of its own kind: anything but a conversion is the line's fault.
    error.to_string().starts_with("error connecting")
        || error.to_string().starts_with("error communicating")
        || error.to_string().starts_with("error performing TLS")
        || error.to_string().starts_with("timeout")
        || error.to_string().starts_with("connection")
}
