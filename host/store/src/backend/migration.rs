//! The tables, in numbered steps that are applied once and in order.
//!
//! A step must work while the previous release still runs: it adds, it never takes away what that release reads.

use super::dialect::{Dialect, guard_key};
use super::sqlite::Setup;
use crate::error::OpenError;

/// Name and SQL of each step, in order.
const STEPS: &[(&str, &str)] = &[
    (
        "0001_start",
        include_str!("../../migrations/0001_start.sql"),
    ),
    (
        "0002_handed_out",
        include_str!("../../migrations/0002_handed_out.sql"),
    ),
    ("0020_flow", include_str!("../../migrations/0020_flow.sql")),
    (
        "0040_run_finished",
        include_str!("../../migrations/0040_run_finished.sql"),
    ),
    (
        "0041_reconcile",
        include_str!("../../migrations/0041_reconcile.sql"),
    ),
    (
        "0042_status_lanes",
        include_str!("../../migrations/0042_status_lanes.sql"),
    ),
    (
        "0055_log_excerpt",
        include_str!("../../migrations/0055_log_excerpt.sql"),
    ),
    (
        "0056_told_waiting",
        include_str!("../../migrations/0056_told_waiting.sql"),
    ),
    (
        "0057_own_users",
        include_str!("../../migrations/0057_own_users.sql"),
    ),
    (
        "0060_clone",
        include_str!("../../migrations/0060_clone.sql"),
    ),
];

const APPLIED: &str = "SELECT name FROM penstock_migrations ORDER BY name";

/// Applies what is missing, one step in a transaction of its own; servers that start together wait for each other.
pub(crate) fn apply(setup: &mut dyn Setup) -> Result<(), OpenError> {
    let (begin, table) = match setup.dialect() {
        Dialect::Sqlite => (
            "BEGIN IMMEDIATE".to_owned(),
            "CREATE TABLE IF NOT EXISTS penstock_migrations (name TEXT PRIMARY KEY) STRICT",
        ),
        Dialect::Postgres => (
            format!(
                "BEGIN; SELECT pg_advisory_xact_lock({})",
                guard_key(["migrations"])
            ),
            "CREATE TABLE IF NOT EXISTS penstock_migrations (name TEXT COLLATE \"C\" PRIMARY KEY)",
        ),
    };
    for (name, sql) in STEPS {
        setup.batch(&begin)?;
        let done = step(setup, table, name, sql);
        setup.batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        done?;
    }
    Ok(())
}

fn step(setup: &mut dyn Setup, table: &str, name: &str, sql: &str) -> Result<(), OpenError> {
    setup.batch(table)?;
    if setup.texts(APPLIED)?.iter().any(|applied| applied == name) {
        return Ok(());
    }
    let sql = setup.dialect().migration(sql);
    setup
        .batch(&sql)
        .and_then(|()| {
            setup.batch(&format!(
                "INSERT INTO penstock_migrations (name) VALUES ('{name}')"
            ))
        })
        .map_err(|source| OpenError::Migration {
            name: name.to_owned(),
            source,
        })
}

/// Checks that nothing is missing, and changes nothing.
pub(crate) fn check(setup: &mut dyn Setup) -> Result<(), OpenError> {
    let there = match setup.dialect() {
        Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE name = 'penstock_migrations'",
        Dialect::Postgres => {
            "SELECT 'there'::text WHERE to_regclass('penstock_migrations') IS NOT NULL"
        }
    };
    let applied = if setup.texts(there)?.is_empty() {
        Vec::new()
    } else {
        setup.texts(APPLIED)?
    };
    match STEPS
        .iter()
        .find(|(name, _)| !applied.iter().any(|done| done == name))
    {
        Some((name, _)) => Err(OpenError::NotMigrated {
            name: (*name).to_owned(),
        }),
        None => Ok(()),
    }
}
