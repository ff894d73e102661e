//! A merge request's new head pipeline gets the current statuses again.
//!
//! 'Pipelines must succeed' looks at the head pipeline alone: a status that was set before it began is in another one, and counts no more. A new pipeline is
//! told of by its event, whether or not a route takes that, or found when merge requests are gone through.

use penstock_gitlab::{ApiError, Client, Parsed, ScopeClaim, head_pipeline};
use penstock_model::event::EventKind;
use penstock_model::id::{InstanceName, ProjectId, TenantName, Timestamp};
use penstock_store::{NewPipeline, StatusesOf, StoreError, StoredDelivery};

use crate::host::Host;
use crate::live::Instance;

/// GitLab's source of a pipeline that statuses made, such as ours: all that is in it was put there by statuses.
const EXTERNAL: &str = "external";

/// Why statuses were not repeated.
#[derive(Debug, thiserror::Error)]
pub enum NotRepeated {
    /// GitLab has no answer now.
    #[error("GitLab: {0}")]
    Gitlab(#[from] ApiError),
    /// The store has none.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Repeats statuses if the event tells of a pipeline that has not got them. What fails is not tried again for this event: a pipeline tells of each of its
/// states, and merge requests are gone through.
pub(crate) async fn of_event(
    host: &Host,
    instance: &Instance,
    stored: &StoredDelivery,
    parsed: &Parsed,
) {
    let (EventKind::Pipeline(pipeline), ScopeClaim::Project { id, .. }, Some(tenant)) =
        (&parsed.kind, &parsed.scope, &stored.tenant)
    else {
        return;
    };
    if pipeline.source == EXTERNAL {
        return;
    }
    let of = StatusesOf {
        instance: stored.key.instance.clone(),
        // A body may name any project's id, and its hook speaks for this tenant alone.
        tenant: tenant.clone(),
        code: parsed.source_project.unwrap_or(*id),
        commit: pipeline.sha.clone(),
    };
    if let Err(error) = elsewhere(host, &instance.client, of, pipeline.id).await {
        tracing::warn!(%error, pipeline = pipeline.id, "the statuses that a pipeline may lack could not be looked at");
    }
}

async fn elsewhere(
    host: &Host,
    client: &Client,
    of: StatusesOf,
    pipeline: u64,
) -> Result<(), NotRepeated> {
    let (instance, tenant) = (of.instance.clone(), of.tenant.clone());
    let requests = host.store.statuses_elsewhere(of, pipeline).await?;
    for (project, iid) in requests {
        repeat(host, client, &instance, &tenant, (project, iid)).await?;
    }
    Ok(())
}

/// Looks at a merge request's head pipeline and orders what it has not got; says how many statuses.
///
/// # Errors
/// GitLab or the store has no answer.
pub async fn repeat(
    host: &Host,
    client: &Client,
    instance: &InstanceName,
    tenant: &TenantName,
    (project, merge_request): (ProjectId, u64),
) -> Result<usize, NotRepeated> {
    let Some(head) = head_pipeline(client, project, merge_request).await? else {
        return Ok(0);
    };
    let new = NewPipeline {
        of: StatusesOf {
            instance: instance.clone(),
            tenant: tenant.clone(),
            code: head.source,
            commit: head.commit,
        },
        project,
        merge_request,
        pipeline: head.pipeline,
    };
    let count = host.store.repeat_statuses(new, Timestamp::now()).await?;
    if count > 0 {
        tracing::info!(%project, merge_request, pipeline = head.pipeline, count, "a new pipeline is given the statuses again");
    }
    Ok(count)
}
