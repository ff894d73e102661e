//! How many finished runs of a pipeline are kept in their cluster.
//!
//! When a run ends that asks to keep only so many, the deletion of the oldest beyond them is ordered in the same transaction. What
//! is deleted is the object: the run's row and its effect stay, so that it is never made again.

use penstock_model::admit::{DeleteOrder, Order, ProjectOf, Task};
use penstock_model::id::{EffectId, ProjectId, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::outbox::{Origin, effect_lane, host_key, insert};

/// Deletions that the end of one run orders; those beyond are ordered by the next.
const AT_ONCE: u32 = 100;

/// Orders the deletion of runs of the pipeline of this one, which has just ended, beyond what it asks to keep.
pub(crate) fn prune(tx: &mut dyn Tx, ended: &EffectId, now: Timestamp) -> Result<(), StoreError> {
    let of = tx.first(
        "SELECT keep, instance, project, plugin, pipeline FROM runs WHERE id = ?1",
        params![&ended.hex()],
    )?;
    let Some(mut row) = of else {
        return Ok(());
    };
    let Some(keep) = row.opt_uint()? else {
        return Ok(());
    };
    let (instance, project) = (row.text()?, row.uint()?);
    let (plugin, pipeline) = (row.text()?, row.text()?);
    let beyond = tx.query(
        "SELECT id, instance, project, project_path, tenant, cluster, namespace, creator, name, uid FROM runs \
         WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND pipeline = ?4 AND finished = 1 AND uid IS NOT NULL \
         AND pruned = 0 AND state <> 'gone' ORDER BY finished_at DESC, delivery_seq DESC, id LIMIT ?5 OFFSET ?6",
        params![&instance, project, &plugin, &pipeline, AT_ONCE, keep],
    )?;
    for mut row in beyond {
        let run = row.effect_id()?;
        let of = ProjectOf {
            instance: row.text()?.into(),
            project: ProjectId(row.uint()?),
            path: row.text()?.into(),
            tenant: row.text()?.into(),
        };
        let delete = DeleteOrder {
            of,
            run,
            cluster: row.text()?.into(),
            namespace: row.text()?,
            creator: row.text()?,
            name: row.text()?,
            uid: row.text()?,
        };
        order(tx, delete, now)?;
    }
    Ok(())
}

fn order(tx: &mut dyn Tx, delete: DeleteOrder, now: Timestamp) -> Result<(), StoreError> {
    let run = delete.run;
    tx.execute(
        "UPDATE runs SET pruned = 1 WHERE id = ?1",
        params![&run.hex()],
    )?;
    let Some(origin) = Origin::of_effect(tx, &run)? else {
        return Ok(());
    };
    let order = Order {
        id: run.follow_up("delete"),
        key: host_key("delete"),
        task: Task::DeleteRun(delete),
    };
    let lane = effect_lane(&order, None);
    insert(tx, &order, &lane, &origin, now).map(drop)
}
