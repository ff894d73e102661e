//! The one gate between a plan and the world.
//!
//! Pure: a plan, the event it answers, the tenant's places and the plugin's grants go in; orders for the outbox and refusals come
//! out. Nothing a plugin writes reaches the cluster or GitLab but through an order made here.

use serde::{Deserialize, Serialize};

use crate::effect::{CancelScope, CommentTarget, Queue, StatusState};
use crate::event::Event;
use crate::grant::Grants;
use crate::id::{
    ClusterName, CommitId, Digest, EffectId, EffectKey, InstanceName, PlaceName, PluginName,
    ProjectId, ProjectPath, RefName, RouteName, TenantName,
};
use crate::lane::Lane;
use crate::scope::Trust;
use crate::tenant::Place;

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
    /// Page of the delivery at this host, for a label-like annotation; none: the host has no address of its own.
    pub delivery_url: Option<&'a str>,
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
    /// Digest of `manifest` in serde_json's compact form; it stands in an annotation too.
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
pub fn admit(plan: &crate::effect::Plan, context: Context<'_>) -> Admitted {
    let _ = (plan, context);
    Admitted::default()
}
