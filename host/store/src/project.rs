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

impl Store {
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
