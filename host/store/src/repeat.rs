//! Statuses that a newer pipeline of a merge request has to be given again: GitLab looks at one pipeline alone.
//!
//! What is current is the last status that was ordered of each name. Whether a pipeline has it is read from what came of posting it.

use std::collections::{BTreeMap, BTreeSet};

use penstock_model::admit::{Order, StatusOrder, Task};
use penstock_model::id::{CommitId, EffectId, InstanceName, ProjectId, TenantName, Timestamp};
use serde_json::Value;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::claim::Queue;
use crate::error::StoreError;
use crate::outbox::{follow, read_order, status_lane};
use crate::store::Store;

/// The commit whose statuses are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusesOf {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// Statuses of this tenant's projects alone.
    pub tenant: TenantName,
    /// The project that the code comes from.
    pub code: ProjectId,
    /// The commit.
    pub commit: CommitId,
}

impl StatusesOf {
    fn lane(&self) -> String {
        status_lane(&self.instance, self.code, &self.commit)
    }
}

/// A merge request's head pipeline of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPipeline {
    /// The commit.
    pub of: StatusesOf,
    /// The project of the merge request.
    pub project: ProjectId,
    /// Its number.
    pub merge_request: u64,
    /// The pipeline.
    pub pipeline: u64,
}

/// The current status of one name.
struct Current {
    id: EffectId,
    order: Order,
    stands: Stands,
}

/// Where the current status of a name stands.
enum Stands {
    /// It is in this pipeline, if GitLab said in which.
    In(Option<u64>),
    /// It will ask for the head pipeline by itself when its turn comes.
    Waits,
    /// GitLab refuses it, or it was given up: nothing older may take its place.
    Failed,
}

impl Stands {
    fn lacks(&self, pipeline: u64) -> bool {
        matches!(self, Self::In(found) if *found != Some(pipeline))
    }
}

/// Whose status it is: of which merge request.
type About = (ProjectId, u64);

/// The current statuses of a commit that belong to merge requests.
fn current(
    tx: &mut dyn Tx,
    of: &StatusesOf,
) -> Result<BTreeMap<(About, String), Current>, StoreError> {
    let lane = of.lane();
    let rows = tx.query(
        "SELECT id, content, state, result FROM effects WHERE lane = ?1 AND kind = 'commit-status' AND tenant = ?2 \
         AND state <> 'withdrawn' AND content IS NOT NULL ORDER BY seq",
        params![&lane, of.tenant.as_str()],
    )?;
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    // One that is being posted may have asked for the head pipeline before there was this one.
    let held = tx
        .first(
            "SELECT 1 FROM lanes WHERE queue = ?1 AND lane = ?2 AND owner IS NOT NULL",
            params![Queue::Act.as_str(), &lane],
        )?
        .is_some();
    let mut last = BTreeMap::new();
    let mut first_waits = true;
    for mut row in rows {
        let id = row.effect_id()?;
        let order = read_order(&row.bytes()?, &id.hex())?;
        let state = row.text()?;
        let result: Option<Value> = row.opt_json()?;
        let stands = match state.as_str() {
            "done" => Stands::In(result.and_then(|it| it.get("pipeline")?.as_u64())),
            "waiting" if held && std::mem::take(&mut first_waits) => Stands::In(None),
            "waiting" => Stands::Waits,
            _ => Stands::Failed,
        };
        let Task::SetStatus(StatusOrder {
            of,
            merge_request: Some(iid),
            name,
            ..
        }) = &order.task
        else {
            continue;
        };
        let key = ((of.project, *iid), name.clone());
        last.insert(key, Current { id, order, stands });
    }
    Ok(last)
}

/// Those that the pipeline has not got.
fn missing(tx: &mut dyn Tx, new: &NewPipeline) -> Result<Vec<Current>, StoreError> {
    let about = (new.project, new.merge_request);
    let all = current(tx, &new.of)?.into_iter();
    Ok(all
        .filter(|((it, _), current)| *it == about && current.stands.lacks(new.pipeline))
        .map(|(_, current)| current)
        .collect())
}

fn repeat(tx: &mut dyn Tx, new: &NewPipeline, now: Timestamp) -> Result<usize, StoreError> {
    let all = missing(tx, new)?;
    for it in &all {
        // Once for each pipeline, however often it is told of.
        let again = Order {
            id: it.id.follow_up(&format!("pipeline/{}", new.pipeline)),
            ..it.order.clone()
        };
        follow(tx, &it.id, &[again], now)?;
    }
    Ok(all.len())
}

impl Store {
    /// Merge requests with a current status of the commit that is not in this pipeline.
    ///
    /// # Errors
    /// The store's.
    pub async fn statuses_elsewhere(
        &self,
        of: StatusesOf,
        pipeline: u64,
    ) -> Result<BTreeSet<(ProjectId, u64)>, StoreError> {
        self.read(move |tx| {
            let all = current(tx, &of)?.into_iter();
            Ok(all
                .filter(|(_, it)| it.stands.lacks(pipeline))
                .map(|((about, _), _)| about)
                .collect())
        })
        .await
    }

    /// A status of the commit was ordered since a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_statuses(&self, of: StatusesOf, since: Timestamp) -> Result<bool, StoreError> {
        let lane = of.lane();
        self.read(move |tx| {
            let row = tx.first(
                "SELECT 1 FROM effects WHERE lane = ?1 AND kind = 'commit-status' AND tenant = ?2 AND created_at >= ?3 LIMIT 1",
                params![&lane, of.tenant.as_str(), since],
            )?;
            Ok(row.is_some())
        })
        .await
    }

    /// Orders the current statuses of a commit again, for a pipeline that has not got them; says how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn repeat_statuses(
        &self,
        new: NewPipeline,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let looked = new.clone();
        // Mostly there is nothing to repeat, and nothing to write.
        let none = self.read(move |tx| missing(tx, &looked)).await?.is_empty();
        if none {
            return Ok(0);
        }
        let count = self.write(move |tx| repeat(tx, &new, now)).await?;
        self.hint(Queue::Act);
        Ok(count)
    }
}
