//! Which tenant a project was first seen in.
//!
//! Projects are pinned by GitLab's id: one that is renamed or handed over into another tenant's reach keeps its first tenant until
//! somebody says otherwise, so the caller can refuse it.

use penstock_model::id::{InstanceName, ProjectId, ProjectPath, TenantName, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

/// What is known about a project. A `tenant` other than the one that its path matches now: it moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The path under which it was first seen.
    pub first_path: ProjectPath,
    /// The path under which it was last seen in its tenant.
    pub path: ProjectPath,
    /// The tenant that it is pinned to.
    pub tenant: TenantName,
    /// It was never seen before.
    pub new: bool,
}

/// A project that is pinned to some tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedProject {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// GitLab's id.
    pub project: ProjectId,
    /// The path under which it was last seen in its tenant.
    pub path: ProjectPath,
}

/// Where a project is seen.
#[derive(Clone)]
struct Sighting {
    instance: InstanceName,
    project: ProjectId,
    path: ProjectPath,
    tenant: TenantName,
    now: Timestamp,
}

fn find(tx: &mut dyn Tx, seen: &Sighting) -> Result<Option<Pinned>, StoreError> {
    let row = tx.first(
        "SELECT first_path, path, tenant FROM projects WHERE instance = ?1 AND project = ?2",
        params![seen.instance.as_str(), seen.project.0],
    )?;
    row.map(|mut row| {
        Ok(Pinned {
            first_path: row.text()?.into(),
            path: row.text()?.into(),
            tenant: row.text()?.into(),
            new: false,
        })
    })
    .transpose()
}

fn pin(tx: &mut dyn Tx, seen: &Sighting) -> Result<Pinned, StoreError> {
    let new = tx.execute(
        "INSERT INTO projects (instance, project, first_path, path, tenant, pinned_at) VALUES (?1, ?2, ?3, ?3, ?4, ?5) \
         ON CONFLICT (instance, project) DO NOTHING",
        params![
            seen.instance.as_str(),
            seen.project.0,
            seen.path.as_str(),
            seen.tenant.as_str(),
            seen.now
        ],
    )? > 0;
    // A rename within the tenant is no move.
    tx.execute(
        "UPDATE projects SET path = ?3 WHERE instance = ?1 AND project = ?2 AND tenant = ?4 AND path <> ?3",
        params![
            seen.instance.as_str(),
            seen.project.0,
            seen.path.as_str(),
            seen.tenant.as_str()
        ],
    )?;
    let pinned = find(tx, seen)?
        .ok_or_else(|| StoreError::unreadable("a project vanished while it was looked at"))?;
    Ok(Pinned { new, ..pinned })
}

fn repin(tx: &mut dyn Tx, seen: &Sighting) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO projects (instance, project, first_path, path, tenant, pinned_at) VALUES (?1, ?2, ?3, ?3, ?4, ?5) \
         ON CONFLICT (instance, project) DO UPDATE SET \
         path = excluded.path, tenant = excluded.tenant, pinned_at = excluded.pinned_at",
        params![
            seen.instance.as_str(),
            seen.project.0,
            seen.path.as_str(),
            seen.tenant.as_str(),
            seen.now
        ],
    )
    .map(drop)
}

fn pinned_to(tx: &mut dyn Tx, tenant: &str) -> Result<Vec<PinnedProject>, StoreError> {
    let rows = tx.query(
        "SELECT instance, project, path FROM projects WHERE tenant = ?1 ORDER BY instance, path, project",
        params![tenant],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(PinnedProject {
                instance: row.text()?.into(),
                project: ProjectId(row.uint()?),
                path: row.text()?.into(),
            })
        })
        .collect()
}

/// Only what is still as it was looked at.
fn repin_each(
    tx: &mut dyn Tx,
    from: &TenantName,
    moves: &[(PinnedProject, TenantName)],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut moved = 0;
    for (pinned, tenant) in moves {
        moved += tx.execute(
            "UPDATE projects SET tenant = ?3, pinned_at = ?4 \
             WHERE instance = ?1 AND project = ?2 AND tenant = ?5 AND path = ?6",
            params![
                pinned.instance.as_str(),
                pinned.project.0,
                tenant.as_str(),
                now,
                from.as_str(),
                pinned.path.as_str()
            ],
        )?;
    }
    Ok(moved)
}

impl Store {
    /// The projects that are pinned to a tenant, by path.
    ///
    /// # Errors
    /// The store's.
    pub async fn pinned_to(&self, tenant: &TenantName) -> Result<Vec<PinnedProject>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |tx| pinned_to(tx, tenant.as_str())).await
    }

    /// Pins projects of one tenant to others, all or none, and says how many; one that was pinned elsewhere or renamed since it was looked at is
    /// left alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn repin_each(
        &self,
        from: &TenantName,
        moves: Vec<(PinnedProject, TenantName)>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let from = from.clone();
        self.write(move |tx| repin_each(tx, &from, &moves, now))
            .await
    }

    /// Pins a project to its tenant, if it was never seen, and says what it is pinned to.
    ///
    /// # Errors
    /// The store's.
    pub async fn pin_project(
        &self,
        instance: &InstanceName,
        project: ProjectId,
        path: &ProjectPath,
        tenant: &TenantName,
        now: Timestamp,
    ) -> Result<Pinned, StoreError> {
        let seen = Sighting {
            instance: instance.clone(),
            project,
            path: path.clone(),
            tenant: tenant.clone(),
            now,
        };
        let looking = seen.clone();
        let known = self.read(move |tx| find(tx, &looking)).await?;
        match known {
            Some(pinned) if pinned.path == seen.path || pinned.tenant != seen.tenant => Ok(pinned),
            _ => self.write(move |tx| pin(tx, &seen)).await,
        }
    }

    /// Pins a project to another tenant.
    ///
    /// # Errors
    /// The store's.
    pub async fn repin(
        &self,
        instance: &InstanceName,
        project: ProjectId,
        path: &ProjectPath,
        tenant: &TenantName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let seen = Sighting {
            instance: instance.clone(),
            project,
            path: path.clone(),
            tenant: tenant.clone(),
            now,
        };
        self.write(move |tx| repin(tx, &seen)).await
    }
}
