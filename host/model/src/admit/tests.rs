//! What the tests of `admit` share: an event, places, and a plan of one effect.

mod clone;
mod effects;
mod fields;
mod manifests;
mod whatever;

use serde_json::{Value, json};

use super::*;
use crate::effect::{EffectKind, RunTarget, StartRun};
use crate::event::{EventKind, MergeRequest, MergeRequestEvent, Push};
use crate::id::{DeliveryId, Timestamp};
use crate::lane::Subject;
use crate::scope::{Project, Provenance, Scope};
use crate::tenant::{PlacePolicy, When};

pub(super) const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

pub(super) fn commit(text: &str) -> CommitId {
    CommitId::parse(text).unwrap()
}

pub(super) fn place(when: When, policy: PlacePolicy) -> Place {
    Place {
        name: "ci".into(),
        cluster: "prod".into(),
        namespace: "ci-pay".into(),
        creator: "penstock".into(),
        run_as: "builder".into(),
        when,
        policy,
    }
}

/// Everything that a policy can allow.
pub(super) fn generous() -> PlacePolicy {
    PlacePolicy {
        pod_template: true,
        secrets: vec!["ci-*".into()],
        config_maps: None,
        volume_claims: None,
        host_paths: vec!["/data".into()],
        csi_drivers: vec!["csi.example.com".into()],
        token_audiences: vec!["sts".into()],
        resolvers: ["git", "bundles", "hub", "http", "cluster"]
            .map(str::to_owned)
            .into(),
        images: Some(vec!["registry.example.com/ci/**".into(), "alpine:*".into()]),
        security_context: true,
        timeout: Some(3600),
        keep_runs: None,
        service_accounts: vec!["deployer".into()],
        labels: vec!["app.kubernetes.io/*".into(), "example.com/*".into()],
        annotations: vec![
            "example.com/*".into(),
            "pipelinesascode.tekton.dev/*".into(),
            "tekton.dev/tags".into(),
        ],
        clone: true,
        log_excerpts: None,
    }
}

fn merge_request() -> MergeRequest {
    MergeRequest {
        iid: 7,
        title: "Mend it".into(),
        state: "opened".into(),
        draft: false,
        source_project: Some(ProjectId(17)),
        source_branch: "mend".into(),
        target_branch: "main".into(),
        head: commit(COMMIT),
        author: crate::id::UserId(3),
        labels: vec![],
        web_url: "https://gitlab.example.com/acme/pay/api/-/merge_requests/7".into(),
    }
}

/// A setting to judge plans in.
pub(super) struct Setting {
    pub(super) event: Event,
    pub(super) lane: Lane,
    pub(super) grants: Grants,
    pub(super) places: Vec<Place>,
    pub(super) head: Option<CommitId>,
    pub(super) heads: Vec<(RefName, CommitId)>,
}

impl Setting {
    /// A merge request of a member, everything granted.
    pub(super) fn new(place: Place) -> Self {
        let trust = match place.when {
            When::Member => Trust::Member,
            When::Protected => Trust::Protected,
            When::Fork => Trust::Untrusted,
        };
        let all = Grant {
            effects: [
                EffectKind::StartRun,
                EffectKind::CancelRuns,
                EffectKind::Comment,
                EffectKind::CommitStatus,
                EffectKind::RequestApproval,
                EffectKind::Extension,
            ]
            .into(),
            ..Grant::default()
        };
        Self {
            event: Event {
                delivery: DeliveryId::new("d-1"),
                received_at: Timestamp(0),
                instance: "main".into(),
                instance_url: "https://gitlab.example.com".into(),
                tenant: "acme/{team}/**".into(),
                scope: Scope::Project(Project {
                    id: ProjectId(17),
                    path: "acme/pay/api".into(),
                    default_branch: Some("main".into()),
                    web_url: "https://gitlab.example.com/acme/pay/api".into(),
                    visibility: "private".into(),
                }),
                actor: None,
                provenance: Provenance {
                    trust,
                    ref_protected: trust == Trust::Protected,
                    source_project: None,
                    confirmed: true,
                },
                ref_name: Some("refs/heads/mend".into()),
                commit: Some(commit(COMMIT)),
                kind: EventKind::MergeRequest(MergeRequestEvent {
                    merge_request: merge_request(),
                    action: "update".into(),
                    old_head: None,
                    changed: vec![],
                    system: false,
                }),
            },
            lane: Lane {
                instance: "main".into(),
                project: Some(ProjectId(17)),
                subject: Subject::MergeRequest(7),
            },
            grants: Grants {
                base: all.clone(),
                from_fork: all,
            },
            places: vec![place],
            head: None,
            heads: Vec::new(),
        }
    }

    /// The same for a push to a branch.
    pub(super) fn pushed(mut self) -> Self {
        self.lane.subject = Subject::Ref("refs/heads/mend".into());
        self.event.kind = EventKind::Push(Push {
            ref_name: "refs/heads/mend".into(),
            before: None,
            after: Some(commit(COMMIT)),
            commits: vec![],
            total_commits: 0,
        });
        self
    }

    pub(super) fn admit(&self, effects: Vec<(&str, Action)>) -> Admitted {
        let plan = Plan {
            effects: effects
                .into_iter()
                .map(|(key, action)| Effect {
                    key: key.into(),
                    action,
                })
                .collect(),
            ..Plan::default()
        };
        admit(
            &plan,
            Context {
                event: &self.event,
                lane: &self.lane,
                route: &"acme/** pipelines".into(),
                attempt: 1,
                plugin: &"pipelines".into(),
                digest: Digest::of(b"plugin"),
                grants: &self.grants,
                places: &self.places,
                head: self.head.as_ref(),
                past: false,
                delivery_url: Some("https://penstock.example.com/deliveries/d-1"),
                heads: &self.heads,
            },
        )
    }

    /// Judges one manifest; the order, or (path, rule) of all that is wrong.
    pub(super) fn run(&self, manifest: &str) -> Result<RunOrder, Vec<(String, String)>> {
        let mut admitted = self.admit(vec![("run/build", start(manifest))]);
        match admitted.orders.pop() {
            Some(Order {
                task: Task::StartRun(run),
                ..
            }) => {
                assert!(admitted.refused.is_empty());
                Ok(*run)
            }
            Some(other) => panic!("{other:?}"),
            None => Err(admitted
                .refused
                .into_iter()
                .map(|it| (it.path, it.rule))
                .collect()),
        }
    }
}

pub(super) fn start_run(manifest: &str) -> StartRun {
    StartRun {
        manifest: manifest.to_owned(),
        pipeline: "build".into(),
        target: None,
        place: None,
        gate: None,
        status_name: None,
        queue: None,
        keep: None,
        secrets: vec![],
        extras: vec![],
    }
}

pub(super) fn start(manifest: &str) -> Action {
    Action::StartRun(Box::new(start_run(manifest)))
}

/// The smallest run that means anything.
pub(super) fn smallest() -> Value {
    json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "spec": { "pipelineRef": { "name": "build" } },
    })
}
