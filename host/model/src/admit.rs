//! The one gate between a plan and the world.
//!
//! Pure: a plan, the event it answers, the tenant's places and the plugin's grants go in; orders for the outbox and refusals come
//! out. Nothing a plugin writes reaches the cluster or GitLab but through an order made here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::about::About;
pub use self::clone::CloneSecret;
pub use self::manifest::manifest_digest;
use self::walk::Fault;
use crate::effect::{Action, CancelScope, CommentTarget, Effect, Plan, Queue, StatusState};
use crate::event::Event;
use crate::grant::{Grant, Grants};
use crate::id::{
    ClusterName, CommitId, Digest, EffectId, EffectKey, InstanceName, PlaceName, PluginName,
    ProjectId, ProjectPath, RefName, RouteName, TenantName,
};
use crate::lane::Lane;
use crate::scope::Trust;
use crate::tenant::Place;

mod about;
pub mod clone;
mod duration;
pub mod label;
mod manifest;
mod reference;
mod rules;
mod schema;
mod speak;
mod start_run;
mod walk;

/// What a plan is judged against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The event that the plan answers.
    pub event: &'a Event,
    /// The lane of the event's delivery.
    pub lane: &'a Lane,
    /// The route that led to the plugin.
    pub route: &'a RouteName,
    /// From 1; one more for each `deliveries retry`.
    pub attempt: u32,
    /// The plugin.
    pub plugin: &'a PluginName,
    /// Digest of the component's bytes.
    pub digest: Digest,
    /// What the plugin was granted.
    pub grants: &'a Grants,
    /// The tenant's places for this project.
    pub places: &'a [Place],
    /// Head of the event's ref or merge request as GitLab gave it when the event was decided; none: it could not be confirmed, and nothing is superseded.
    pub head: Option<&'a CommitId>,
    /// GitLab has gone on since the event, which came late: it starts what it asks for and cancels nothing.
    pub past: bool,
    /// Page of the delivery at this host, for a label-like annotation; none: the host has no address of its own.
    pub delivery_url: Option<&'a str>,
    /// Refs whose head the plugin asked for in this call, with what GitLab answered: an event of a commit alone may start a run for one of them.
    pub heads: &'a [(RefName, CommitId)],
}

/// What a plan comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// To be done, cancels first, else in the plan's order.
    pub orders: Vec<Order>,
    /// Not to be done.
    pub refused: Vec<Refusal>,
}

/// One effect that is to be done, whole: who carries it out needs nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Id of the effect.
    pub id: EffectId,
    /// Key that the plugin gave it.
    pub key: EffectKey,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Create a PipelineRun.
    StartRun(Box<RunOrder>),
    /// Cancel runs. It resolves to a [`StopOrder`] for each run in the transaction that commits the decision.
    CancelRuns(CancelOrder),
    /// Stop one run.
    StopRun(StopOrder),
    /// Delete one run that has ended.
    DeleteRun(DeleteOrder),
    /// Write, edit or take away a comment.
    Comment(CommentOrder),
    /// Set a commit status.
    SetStatus(StatusOrder),
}

/// A project as an order names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectOf {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// GitLab's id.
    pub project: ProjectId,
    /// Its path when the event was decided.
    pub path: ProjectPath,
    /// The tenant.
    pub tenant: TenantName,
}

/// A PipelineRun to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrder {
    /// Whose it is.
    pub of: ProjectOf,
    /// The plugin that asked for it.
    pub plugin: PluginName,
    /// Digest of the component's bytes.
    pub plugin_digest: Digest,
    /// The place.
    pub place: PlaceName,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// The account that creates it.
    pub creator: String,
    /// The account that its pods get.
    pub run_as: String,
    /// Name of the PipelineRun: from the effect's id.
    pub name: String,
    /// The PipelineRun as it is sent: rebuilt from an allow-list, every reserved field the host's.
    pub manifest: serde_json::Value,
    /// [`manifest_digest`] of `manifest`; it stands in the annotation [`label::MANIFEST_DIGEST`] too.
    pub manifest_digest: Digest,
    /// What kind of run it is.
    pub pipeline: String,
    /// Name of its commit status.
    pub status_name: String,
    /// The commit it is about.
    pub commit: CommitId,
    /// The ref it is about.
    pub ref_name: Option<RefName>,
    /// The merge request it is about.
    pub merge_request: Option<u64>,
    /// The project that the code comes from, where it isn't the event's.
    pub source_project: Option<ProjectId>,
    /// How far the event was trusted.
    pub trust: Trust,
    /// The event's lane: what a cancel by lane finds it by.
    pub lane: Lane,
    /// A limit that it shares.
    pub queue: Option<Queue>,
    /// Finished runs of this pipeline to keep.
    pub keep: Option<u32>,
    /// Secrets to be made before it and deleted when it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<CloneSecret>,
    /// Its end is given to the plugin, and so many run-finished events led to it; none: its end is given to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at_depth: Option<u32>,
}

/// Runs to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Whose they are.
    pub of: ProjectOf,
    /// The plugin that asked; only its own runs are meant.
    pub plugin: PluginName,
    /// Which runs.
    pub scope: CancelScope,
    /// Only those of this pipeline.
    pub pipeline: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// The event's lane.
    pub lane: Lane,
    /// Head of the lane as GitLab gave it; runs of other commits are superseded. None: nothing is.
    pub head: Option<CommitId>,
    /// GitLab has gone on since the event: nothing is cancelled.
    #[serde(default)]
    pub past: bool,
}

/// One run to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Whose it is.
    pub of: ProjectOf,
    /// The run.
    pub run: EffectId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// The account that created it and stops it.
    pub creator: String,
    /// Name of the PipelineRun.
    pub name: String,
    /// UID of the PipelineRun, where it is known: another object of that name is left alone.
    pub uid: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// Whether its `finally` tasks still run.
    #[serde(default)]
    pub how: StopHow,
}

/// How a run is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopHow {
    /// Its tasks are cancelled, its `finally` tasks still run.
    #[default]
    RunFinally,
    /// All of it is cancelled: what a run comes to that did not end in time.
    AtOnce,
}

/// One run to delete: it has ended, and newer ones of its pipeline are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteOrder {
    /// Whose it is.
    pub of: ProjectOf,
    /// The run.
    pub run: EffectId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// The account that created it and deletes it.
    pub creator: String,
    /// Name of the PipelineRun.
    pub name: String,
    /// UID of the PipelineRun: another object of that name is left alone.
    pub uid: String,
}

/// A comment to write, edit or take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentOrder {
    /// Whose it is.
    pub of: ProjectOf,
    /// The plugin that asked.
    pub plugin: PluginName,
    /// Key of the effect: with plugin and target it names the one living comment.
    pub key: EffectKey,
    /// Where.
    pub target: CommentTarget,
    /// Markdown; none takes it away.
    pub body: Option<String>,
}

/// A commit status to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusOrder {
    /// Whose it is.
    pub of: ProjectOf,
    /// The commit.
    pub commit: CommitId,
    /// The status' name.
    pub name: String,
    /// Its state.
    pub state: StatusState,
    /// At most 255 characters.
    pub description: String,
    /// Where a click leads.
    pub target_url: Option<String>,
    /// The ref it is about, which decides the pipeline that it lands in.
    pub ref_name: Option<RefName>,
    /// The merge request it is about.
    pub merge_request: Option<u64>,
    /// The project that the code comes from, where it isn't `of`.
    pub source_project: Option<ProjectId>,
    /// The run it tells of, if it does.
    pub run: Option<EffectId>,
}

/// One reason why an effect is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Key of the effect.
    pub key: EffectKey,
    /// Path of the field, such as `manifest.spec.podTemplate`; empty: the effect as a whole.
    pub path: String,
    /// The rule that it breaks, in a sentence.
    pub rule: String,
    /// What to do about it, in a sentence.
    pub remedy: String,
    /// Name of the commit status that shows the refusal, where the effect would have had one.
    pub status_name: Option<String>,
}

/// Judges a plan.
///
/// Cancels come first in the orders, else the plan's order holds; one effect that is refused does not hold up the others. An effect that
/// breaks several rules has a refusal for each of them.
pub fn admit(plan: &Plan, context: Context<'_>) -> Admitted {
    let grant = context.grants.at(context.event.provenance.trust);
    let about = About::new(context);
    let mut seen = BTreeSet::new();
    let mut admitted = Admitted::default();
    for effect in &plan.effects {
        let judged = if seen.insert(&effect.key) {
            judge(effect, &grant, about.as_ref(), context)
        } else {
            Err(vec![Fault::new(
                "",
                "another effect of the plan has the same key",
                "let the plugin give each effect a key of its own",
            )])
        };
        match judged {
            Ok(order) => admitted.orders.push(order),
            Err(faults) => admitted
                .refused
                .extend(faults.into_iter().map(|fault| Refusal {
                    key: effect.key.clone(),
                    path: fault.path,
                    rule: fault.rule,
                    remedy: fault.remedy,
                    status_name: status_name(&effect.action),
                })),
        }
    }
    let is_cancel = |order: &Order| matches!(order.task, Task::CancelRuns(_));
    admitted.orders.sort_by_key(|order| !is_cancel(order));
    admitted
}

fn judge(
    effect: &Effect,
    grant: &Grant,
    about: Option<&About<'_>>,
    context: Context<'_>,
) -> Result<Order, Vec<Fault>> {
    let kind = effect.action.kind();
    let trust = context.event.provenance.trust.as_str();
    if !grant.effects.contains(&kind) {
        let kind = kind.as_str();
        return Err(vec![Fault::new(
            "",
            format!(
                "plugin `{}` has no grant for `{kind}` in events that are {trust}",
                context.plugin
            ),
            format!(
                "add `{kind}` to `grants.effects` of the plugin, and for forks to `grants.from-fork.effects` too"
            ),
        )]);
    }
    let about = about.ok_or_else(|| {
        vec![Fault::new(
            "",
            "the event is of no project, and effects are always of one",
            "let the plugin ask for effects only in events of a project",
        )]
    })?;
    let id = EffectId::new(
        &context.event.instance,
        &context.event.delivery,
        context.route,
        context.attempt,
        &effect.key,
    );
    let unbuilt = |what: &str| {
        Err(vec![Fault::new(
            "",
            format!("{what} not built yet in this release"),
            "leave the effect out, or wait for the release that has it",
        )])
    };
    let task = match &effect.action {
        Action::StartRun(start) => Task::StartRun(Box::new(start_run::judge(
            id, start, grant, about, context,
        )?)),
        Action::CancelRuns(cancel) => Task::CancelRuns(speak::cancel(cancel, about, context)?),
        Action::Comment(comment) => {
            Task::Comment(speak::comment(&effect.key, comment, about, context)?)
        }
        Action::CommitStatus(status) => Task::SetStatus(speak::status(status, about, context)?),
        Action::RequestApproval(_) => return unbuilt("approvals are"),
        Action::Extension(extension) => {
            let kind: String = extension
                .kind
                .chars()
                .take(80)
                .flat_map(char::escape_debug)
                .collect();
            return unbuilt(&format!("the effect `{kind}` is"));
        }
    };
    Ok(Order {
        id,
        key: effect.key.clone(),
        task,
    })
}

/// Name of the status that shows a refusal, if GitLab would take it.
fn status_name(action: &Action) -> Option<String> {
    let name = match action {
        Action::StartRun(start) => start.status_name.as_ref().unwrap_or(&start.pipeline),
        Action::CommitStatus(status) => &status.name,
        Action::CancelRuns(_)
        | Action::Comment(_)
        | Action::RequestApproval(_)
        | Action::Extension(_) => return None,
    };
    start_run::status_name_fault("", name)
        .is_none()
        .then(|| name.clone())
}

#[cfg(test)]
mod tests;
