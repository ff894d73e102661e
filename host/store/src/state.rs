//! What plugins remember about a project.
//!
//! Reads carry versions. Writes are made by a decision's transaction alone, and only if all that the call read is as it was. A
//! version is never given twice, not even for a key that was removed and written again.

use penstock_model::id::{InstanceName, PluginName, ProjectId, Timestamp};
use penstock_model::lookup::{Content, StateValue};
use penstock_model::record::StateChange;

use crate::backend::Tx;
use crate::backend::dialect::{Sequence, guard, guard_key, next};
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

const DAY: u64 = 24 * 60 * 60 * 1000;
/// Keys that a plugin may have in a project.
const MOST_KEYS: u64 = 1_000;
/// Bytes that they and their values may have together.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// Keys that are listed at a time.
const MOST_LISTED: u32 = 2_000;

/// Whose state it is: a plugin's, in one project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateScope {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// The project.
    pub project: ProjectId,
    /// The plugin.
    pub plugin: PluginName,
}

fn value(
    tx: &mut dyn Tx,
    scope: &StateScope,
    key: &str,
    now: Timestamp,
) -> Result<Option<StateValue>, StoreError> {
    let row = tx.first(
        "SELECT value, version FROM plugin_state WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND key = ?4 \
         AND (expires_at IS NULL OR expires_at > ?5)",
        params![
            scope.instance.as_str(),
            scope.project.0,
            scope.plugin.as_str(),
            key,
            now
        ],
    )?;
    row.map(|mut row| {
        Ok(StateValue {
            value: Content(row.bytes()?),
            version: row.uint()?,
        })
    })
    .transpose()
}

fn version(
    tx: &mut dyn Tx,
    scope: &StateScope,
    key: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let row = tx.first(
        "SELECT version FROM plugin_state WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND key = ?4 \
         AND (expires_at IS NULL OR expires_at > ?5)",
        params![
            scope.instance.as_str(),
            scope.project.0,
            scope.plugin.as_str(),
            key,
            now
        ],
    )?;
    row.map_or(Ok(0), |mut row| row.uint())
}

fn keys(
    tx: &mut dyn Tx,
    scope: &StateScope,
    prefix: &str,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let rows = tx.query(
        "SELECT key FROM plugin_state WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND key >= ?4 \
         AND substr(key, 1, ?5) = ?4 AND (expires_at IS NULL OR expires_at > ?6) ORDER BY key LIMIT ?7",
        params![
            scope.instance.as_str(),
            scope.project.0,
            scope.plugin.as_str(),
            prefix,
            prefix.chars().count(),
            now,
            limit.min(MOST_LISTED)
        ],
    )?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

/// Why what a call wrote must not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// What it read has changed.
    Changed { what: String },
    /// It would be more than a plugin may keep in a project.
    Full { what: &'static str, limit: u64 },
}

/// Writes what a call wrote if all that it read is as it was and there is room for it. Else it says why not, and the
/// transaction must be rolled back.
pub(crate) fn apply(
    tx: &mut dyn Tx,
    scope: &StateScope,
    change: &StateChange,
    now: Timestamp,
) -> Result<Option<Unfit>, StoreError> {
    // A key that was not there can't be held by its row.
    let project = scope.project.to_string();
    let parts = [
        "state",
        scope.instance.as_str(),
        &project,
        scope.plugin.as_str(),
    ];
    guard(tx, guard_key(parts))?;
    for (key, read) in &change.read {
        if version(tx, scope, key, now)? != *read {
            return Ok(Some(Unfit::Changed {
                what: format!("the value of `{key}`"),
            }));
        }
    }
    for (prefix, limit, seen) in &change.listed {
        if keys(tx, scope, prefix, *limit, now)? != *seen {
            return Ok(Some(Unfit::Changed {
                what: format!("the keys that begin with `{prefix}`"),
            }));
        }
    }
    for (key, write) in &change.written {
        let Some(content) = &write.value else {
            tx.execute(
                "DELETE FROM plugin_state WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND key = ?4",
                params![
                    scope.instance.as_str(),
                    scope.project.0,
                    scope.plugin.as_str(),
                    key
                ],
            )?;
            continue;
        };
        let version = next(tx, Sequence::Versions)?;
        let expires_at = write
            .days
            .map(|days| now.0.saturating_add(u64::from(days) * DAY));
        tx.execute(
            "INSERT INTO plugin_state (instance, project, plugin, key, value, version, written_at, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (instance, project, plugin, key) DO UPDATE SET \
             value = excluded.value, version = excluded.version, written_at = excluded.written_at, expires_at = excluded.expires_at",
            params![
                scope.instance.as_str(),
                scope.project.0,
                scope.plugin.as_str(),
                key,
                &content.0,
                version,
                now,
                expires_at
            ],
        )?;
    }
    // Whoever has too much can still remove.
    if change.written.values().any(|write| write.value.is_some()) {
        return full(tx, scope, now);
    }
    Ok(None)
}

/// What a plugin has too much of in a project, once what has expired is removed.
fn full(tx: &mut dyn Tx, scope: &StateScope, now: Timestamp) -> Result<Option<Unfit>, StoreError> {
    let (instance, project, plugin) = (
        scope.instance.as_str(),
        scope.project.0,
        scope.plugin.as_str(),
    );
    tx.execute(
        "DELETE FROM plugin_state WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND expires_at <= ?4",
        params![instance, project, plugin, now],
    )?;
    let mut row = tx
        .first(
            "SELECT count(*), coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM plugin_state \
             WHERE instance = ?1 AND project = ?2 AND plugin = ?3",
            params![instance, project, plugin],
        )?
        .ok_or_else(|| StoreError::unreadable("a count has no row"))?;
    Ok(if row.uint()? > MOST_KEYS {
        Some(Unfit::Full {
            what: "keys",
            limit: MOST_KEYS,
        })
    } else if row.uint()? > MOST_BYTES {
        Some(Unfit::Full {
            what: "bytes",
            limit: MOST_BYTES,
        })
    } else {
        None
    })
}

impl Store {
    /// The value of a key, with its version; none: there is none, or it has expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn state_value(
        &self,
        scope: &StateScope,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<StateValue>, StoreError> {
        let (scope, key) = (scope.clone(), key.to_owned());
        self.read(move |tx| value(tx, &scope, &key, now)).await
    }

    /// Keys that begin with a prefix, in the order of their bytes; never more than 2,000.
    ///
    /// # Errors
    /// The store's.
    pub async fn state_keys(
        &self,
        scope: &StateScope,
        prefix: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let (scope, prefix) = (scope.clone(), prefix.to_owned());
        self.read(move |tx| keys(tx, &scope, &prefix, limit, now))
            .await
    }
}
