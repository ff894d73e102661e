//! Why the store could not do what was asked.
//!
//! Messages never hold a connection URL, a body or a value that was stored.

use std::path::PathBuf;

/// Why an operation on an open store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached or its disk answers with errors.
    #[error("the store is unavailable: {what}")]
    Unavailable {
        /// What the database said.
        what: String,
    },
    /// No space is left.
    #[error("the store's disk is full: {what}; free space or move the store to a larger disk")]
    Full {
        /// What the database said.
        what: String,
    },
    /// The file, the folder or the server accepts no writes.
    #[error("the store is read-only: {what}; give Penstock's account the right to write to it")]
    ReadOnly {
        /// What the database said.
        what: String,
    },
    /// Another process kept the database locked for longer than is waited.
    #[error("the store is locked by another process: {what}; end what holds it")]
    Busy {
        /// What the database said.
        what: String,
    },
    /// What is on the disk is no database, or a damaged one.
    #[error("the store is damaged: {what}; restore it from a backup")]
    Corrupt {
        /// What the database said.
        what: String,
    },
    /// The database refuses this one piece of data.
    #[error("the store refuses this: {what}")]
    Rejected {
        /// What the database said.
        what: String,
    },
    /// Others wrote the same rows, again and again.
    #[error("the store is contended: {what}; try again")]
    Contended {
        /// What the database said.
        what: String,
    },
    /// What was stored can't be read by this version.
    #[error("what is stored can't be read: {what}; a newer version may have written it")]
    Unreadable {
        /// Which row or column.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Trying again later may help: the fault is the store's, not of what was asked.
    pub fn is_unavailable(&self) -> bool {
        !matches!(self, Self::Rejected { .. } | Self::Unreadable { .. })
    }

    pub(crate) fn unreadable(what: impl Into<String>) -> Self {
        Self::Unreadable { what: what.into() }
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable { what: what.into() }
    }
}

/// Why a store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another server has the file.
    #[error(
        "another Penstock server holds `{path}`: stop it first; several servers at a time need Postgres"
    )]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no store to stand beside.
    #[error("there is no store at `{path}`: start `penstock serve` once, or name another file")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// The file can't be made or opened.
    #[error("can't open `{path}`: {what}")]
    Path {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// The URL of the database can't be read. It is not shown: it holds a password.
    #[error(
        "the Postgres URL can't be read: `postgres://user:password@host:5432/database` is wanted"
    )]
    Url,
    /// Postgres would answer before a commit is on its disk.
    #[error(
        "Postgres has `{setting} = {value}` for this role or database: what Penstock answers 2xx would not be durable; remove the setting (`ALTER ROLE … RESET {setting}`)"
    )]
    NotDurable {
        /// Name of the setting.
        setting: String,
        /// Its value.
        value: String,
    },
    /// The tables are older than this program and it may not change them.
    #[error("the store lacks the migration `{name}`: start `penstock serve` of this version once")]
    NotMigrated {
        /// The first migration that is missing.
        name: String,
    },
    /// A migration failed.
    #[error("migration `{name}` failed")]
    Migration {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a write under a claim was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The claim ended or another worker has it. Nothing was written.
    #[error("the claim on lane `{lane}` is no longer held")]
    Fenced {
        /// The lane.
        lane: String,
    },
    /// The lane has no such thing that waits.
    #[error("lane `{lane}` has no {what} that waits")]
    NotFound {
        /// The lane.
        lane: String,
        /// What was named.
        what: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An error that a transaction may end with: the store's own, or one of the operation.
pub(crate) trait Failure: From<StoreError> + Send + 'static {
    /// The store's own error, if that is what it is.
    fn store(&self) -> Option<&StoreError>;
}

impl Failure for StoreError {
    fn store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

macro_rules! failures {
    ($($error:ty),*) => {$(
        impl $crate::error::Failure for $error {
            fn store(&self) -> Option<&$crate::error::StoreError> {
                match self {
                    Self::Store(error) => Some(error),
                    _ => None,
                }
            }
        }
    )*};
}
pub(crate) use failures;

failures!(LaneError);
