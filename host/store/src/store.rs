//! The handle on an open store.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use penstock_model::flow::FlowLimits;
use penstock_model::id::Timestamp;
use penstock_model::secret::Secret;
use tokio::sync::Notify;

use crate::backend::postgres::Postgres;
use crate::backend::sqlite::{Role, Sqlite};
use crate::backend::value::params;
use crate::backend::{Hints, Tx, migration};
use crate::claim::{self, Claim, Queue};
use crate::error::{Failure, OpenError, StoreError};

/// Where the store is.
#[derive(Clone, Debug)]
pub enum Target {
    /// A file on a local disk, for one server at a time.
    Sqlite {
        /// The database file. Its folder must exist.
        path: PathBuf,
    },
    /// A database for any number of servers.
    Postgres {
        /// Such as `postgres://user:password@host:5432/database`; `sslmode=require` asks for TLS.
        url: Secret,
    },
}

/// An open store. Cloning gives another handle on the same one; the last handle closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    dispatch: Arc<Notify>,
    act: Arc<Notify>,
    room: Arc<Notify>,
    limits: RwLock<Arc<FlowLimits>>,
    /// Of each queue the tenant that this process served last.
    served: Mutex<HashMap<Queue, String>>,
}

enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Backend {
    fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close(),
            Self::Postgres(postgres) => postgres.close(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.backend.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner.backend {
            Backend::Sqlite(_) => "Store(SQLite)",
            Backend::Postgres(_) => "Store(Postgres)",
        })
    }
}

impl Store {
    /// Opens the store for a server: keeps other servers off a file, makes or completes the tables.
    ///
    /// # Errors
    /// It can't be reached, another server holds it, commits would not be durable, or a migration fails.
    pub async fn open(target: Target) -> Result<Self, OpenError> {
        Self::connect(target, Role::Server).await
    }

    /// Opens the store for a command next to a running server: takes no lock, changes no tables, keeps transactions short.
    ///
    /// # Errors
    /// There is none, it can't be reached, or its tables are older than this program.
    pub async fn open_beside(target: Target) -> Result<Self, OpenError> {
        Self::connect(target, Role::Beside).await
    }

    async fn connect(target: Target, role: Role) -> Result<Self, OpenError> {
        let prepare = match role {
            Role::Server => migration::apply,
            Role::Beside => migration::check,
        };
        let opening = tokio::task::spawn_blocking(move || match target {
            Target::Sqlite { path } => Sqlite::open(&path, role, prepare).map(Backend::Sqlite),
            Target::Postgres { url } => Postgres::open(&url, prepare).map(Backend::Postgres),
        });
        let backend = opening
            .await
            .map_err(|_| StoreError::unavailable("opening it was cut short"))??;
        let alone = matches!(backend, Backend::Sqlite(_)) && role == Role::Server;
        let inner = Inner {
            backend,
            dispatch: Arc::default(),
            act: Arc::default(),
            room: Arc::default(),
            limits: RwLock::new(Arc::new(FlowLimits::lifted())),
            served: Mutex::default(),
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        if alone {
            // The lock on the file proves that nobody else works here: what is claimed was a process' that died.
            let now = Timestamp::now();
            let left = store.write(move |tx| claim::take_over(tx, now)).await?;
            if left > 0 {
                tracing::info!(
                    lanes = left,
                    "took over what a server that died had in hand"
                );
            }
        }
        Ok(store)
    }

    /// Proves that the store can be written: commits a row.
    ///
    /// # Errors
    /// It can't.
    pub async fn writable(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO probe (name, written_at) VALUES ('ready', ?1) \
                 ON CONFLICT (name) DO UPDATE SET written_at = excluded.written_at",
                params![now],
            )
            .map(drop)
        })
        .await
    }

    /// Told each time that work for a loop was added in this process. One loop for each queue waits on it; work added by others
    /// is found by polling.
    pub fn wake(&self, queue: Queue) -> Arc<Notify> {
        Arc::clone(match queue {
            Queue::Dispatch => &self.inner.dispatch,
            Queue::Act => &self.inner.act,
        })
    }

    /// The tenant that this process served last.
    pub(crate) fn served(&self, queue: Queue) -> String {
        let served = self.inner.served.lock();
        let served = served.unwrap_or_else(PoisonError::into_inner);
        served.get(&queue).cloned().unwrap_or_default()
    }

    /// This tenant was served last.
    pub(crate) fn serve(&self, queue: Queue, tenant: String) {
        let served = self.inner.served.lock();
        let mut served = served.unwrap_or_else(PoisonError::into_inner);
        served.insert(queue, tenant);
    }

    pub(crate) fn hint(&self, queue: Queue) {
        match queue {
            Queue::Dispatch => self.inner.dispatch.notify_one(),
            Queue::Act => self.inner.act.notify_one(),
        }
    }

    /// Puts limits in force for what this process starts; until it is called there are none.
    pub fn limit_flow(&self, limits: FlowLimits) {
        let mut held = self
            .inner
            .limits
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(limits);
        drop(held);
        self.hint_room();
    }

    pub(crate) fn flow_limits(&self) -> Arc<FlowLimits> {
        Arc::clone(
            &self
                .inner
                .limits
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Told each time that there may be room for a start that waits, or that one begins to wait, in this process.
    pub fn room(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.room)
    }

    pub(crate) fn hint_room(&self) {
        self.inner.room.notify_one();
    }

    /// Finishes what was handed in and closes the store, for all handles.
    pub async fn close(self) {
        let inner = Arc::clone(&self.inner);
        let closing = tokio::task::spawn_blocking(move || inner.backend.close());
        if closing.await.is_err() {
            tracing::error!("closing the store was cut short");
        }
    }

    /// Runs an operation that writes, durable when this returns.
    pub(crate) async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure,
    {
        self.write_hinted(Hints::default(), operation).await
    }

    /// Like [`Store::write`], for the tenant whose lane is claimed: what it waits behind is no more of any other tenant's than of its own.
    pub(crate) async fn write_for<T, E, F>(&self, claim: &Claim, operation: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure,
    {
        let hints = Hints {
            whose: claim.tenant.clone(),
            ..Hints::default()
        };
        self.write_hinted(hints, operation).await
    }

    async fn write_hinted<T, E, F>(&self, hints: Hints, operation: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure,
    {
        let intake = match &self.inner.backend {
            Backend::Sqlite(sqlite) => &sqlite.writes,
            Backend::Postgres(postgres) => &postgres.writes,
        };
        intake.run(hints, operation).await
    }

    /// Like [`Store::write`], for what comes by the thousand and is done in batches by either database.
    pub(crate) async fn write_batched<T, E, F>(&self, hints: Hints, operation: F) -> Result<T, E>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure,
    {
        let intake = match &self.inner.backend {
            Backend::Sqlite(sqlite) => &sqlite.writes,
            Backend::Postgres(postgres) => &postgres.appends,
        };
        intake.run(hints, operation).await
    }

    /// Runs an operation that only reads, over one snapshot.
    pub(crate) async fn read<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        F: FnMut(&mut dyn Tx) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let intake = match &self.inner.backend {
            Backend::Sqlite(sqlite) => &sqlite.reads,
            Backend::Postgres(postgres) => &postgres.reads,
        };
        intake.run(Hints::default(), operation).await
    }
}
