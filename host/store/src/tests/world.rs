//! Deliveries, decisions and orders to test with.

use penstock_model::admit::{Admitted, CancelOrder, Order, ProjectOf, RunOrder, StatusOrder, Task};
use penstock_model::effect::{CancelScope, Plan, StatusState};
use penstock_model::event::{Event, EventKind};
use penstock_model::id::{CommitId, Digest, EffectId, ProjectId, RefName, RouteName, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_model::lookup::Content;
use penstock_model::record::{DecisionRecord, Outcome, StateChange, StateWrite, Usage};
use penstock_model::scope::{Project, Provenance, Scope, Trust};

use crate::{Decision, DeliveryKey, Mode, NewDelivery, Settlement};

pub(crate) fn key(id: &str) -> DeliveryKey {
    DeliveryKey {
        instance: "main".into(),
        id: id.into(),
    }
}

pub(crate) fn commit(c: char) -> CommitId {
    CommitId::parse(&c.to_string().repeat(40)).unwrap()
}

/// Lane of a branch of a project.
pub(crate) fn lane(project: u64, branch: &str) -> Lane {
    Lane {
        instance: "main".into(),
        project: Some(ProjectId(project)),
        subject: Subject::Ref(RefName::new(format!("refs/heads/{branch}"))),
    }
}

/// A push to `main` of project 1 of the tenant `acme/**`.
pub(crate) fn delivery(id: &str, now: Timestamp) -> NewDelivery {
    let body = format!("{{\"object_kind\":\"push\",\"id\":\"{id}\"}}").into_bytes();
    NewDelivery {
        key: key(id),
        hook: "acme".into(),
        event_header: "Push Hook".to_owned(),
        kind: "push".to_owned(),
        headers: vec![("x-gitlab-event".to_owned(), "Push Hook".to_owned())],
        body_digest: Digest::of(&body),
        body: body.into(),
        tenant: Some("acme/**".into()),
        project: Some((ProjectId(1), "acme/api".into())),
        lane: lane(1, "main"),
        received_at: now,
    }
}

/// Of another tenant, in a lane of its own.
pub(crate) fn of_tenant(id: &str, tenant: &str, project: u64, now: Timestamp) -> NewDelivery {
    NewDelivery {
        tenant: Some(tenant.into()),
        project: Some((
            ProjectId(project),
            format!("{tenant}/p{project}").as_str().into(),
        )),
        lane: lane(project, "main"),
        ..delivery(id, now)
    }
}

pub(crate) fn record(id: &str) -> DecisionRecord {
    let project = Project {
        id: ProjectId(1),
        path: "acme/api".into(),
        default_branch: Some("main".to_owned()),
        web_url: "https://gitlab.example.com/acme/api".to_owned(),
        visibility: "private".to_owned(),
    };
    DecisionRecord {
        contract: "0.1.0".to_owned(),
        plugin: "pipelines".into(),
        digest: Digest::of(b"plugin"),
        settings: "{}".to_owned(),
        event: Event {
            delivery: id.into(),
            received_at: Timestamp(1),
            instance: "main".into(),
            instance_url: "https://gitlab.example.com".to_owned(),
            tenant: "acme/**".into(),
            scope: Scope::Project(project),
            actor: None,
            provenance: Provenance::unconfirmed(),
            ref_name: Some("refs/heads/main".into()),
            commit: Some(commit('a')),
            kind: EventKind::Other("push".to_owned()),
        },
        seed: [7; 32],
        time: Timestamp(2),
        limits: penstock_model::limits::Limits::default(),
        calls: Vec::new(),
        log: Vec::new(),
        state: StateChange::default(),
        outcome: Outcome::Plan(Plan {
            reasons: vec!["main moved".to_owned()],
            ..Plan::default()
        }),
        cut: false,
        withheld: None,
        usage: Usage {
            host_calls: 3,
            ..Usage::default()
        },
    }
}

/// Decides with no effects.
pub(crate) fn decision(id: &str, route: &str) -> Decision {
    Decision {
        delivery: key(id),
        route: route.into(),
        attempt: 1,
        settlement: Settlement::Decided,
        why: None,
        mode: Mode::Act,
        record: Some(record(id).into()),
        admitted: Admitted::default(),
        state: StateChange::default(),
        orders: Vec::new(),
        refused_ends: Vec::new(),
        head: None,
    }
}

/// Decides with these orders.
pub(crate) fn ordering(id: &str, route: &str, orders: Vec<Order>) -> Decision {
    Decision {
        admitted: Admitted {
            orders,
            refused: Vec::new(),
        },
        ..decision(id, route)
    }
}

/// Writes one key of state, having read it at a version.
pub(crate) fn writes(key: &str, read: u64, value: Option<&str>) -> StateChange {
    StateChange {
        read: [(key.to_owned(), read)].into(),
        listed: Vec::new(),
        written: [(
            key.to_owned(),
            StateWrite {
                value: value.map(|value| Content(value.as_bytes().to_vec())),
                days: None,
            },
        )]
        .into(),
    }
}

pub(crate) fn of() -> ProjectOf {
    ProjectOf {
        instance: "main".into(),
        project: ProjectId(1),
        path: "acme/api".into(),
        tenant: "acme/**".into(),
    }
}

pub(crate) fn effect_id(delivery: &str, route: &str, key: &str) -> EffectId {
    let route: RouteName = route.into();
    EffectId::new(&"main".into(), &delivery.into(), &route, 1, &key.into())
}

fn order(delivery: &str, key: &str, task: Task) -> Order {
    Order {
        id: effect_id(delivery, "r", key),
        key: key.into(),
        task,
    }
}

/// Starts a run of commit `c` on a branch.
pub(crate) fn start(delivery: &str, key: &str, c: char, branch: &str) -> Order {
    let manifest = serde_json::json!({ "kind": "PipelineRun" });
    let run = RunOrder {
        of: of(),
        plugin: "pipelines".into(),
        plugin_digest: Digest::of(b"plugin"),
        place: "ci".into(),
        cluster: "prod".into(),
        namespace: "ci-acme".to_owned(),
        creator: "penstock".to_owned(),
        run_as: "ci".to_owned(),
        name: effect_id(delivery, "r", key).object_name("build"),
        manifest_digest: Digest::of(manifest.to_string().as_bytes()),
        manifest,
        pipeline: "build".to_owned(),
        status_name: "build".to_owned(),
        commit: commit(c),
        ref_name: Some(RefName::new(format!("refs/heads/{branch}"))),
        merge_request: None,
        source_project: None,
        trust: Trust::Member,
        lane: lane(1, branch),
        queue: None,
        keep: None,
        secrets: Vec::new(),
        end_at_depth: None,
    };
    order(delivery, key, Task::StartRun(Box::new(run)))
}

/// Cancels runs as the event of a branch's lane.
pub(crate) fn cancel(
    delivery: &str,
    scope: CancelScope,
    branch: &str,
    head: Option<char>,
) -> Order {
    let cancel = CancelOrder {
        of: of(),
        plugin: "pipelines".into(),
        scope,
        pipeline: None,
        reason: "a newer commit was pushed".to_owned(),
        lane: lane(1, branch),
        head: head.map(commit),
        past: false,
    };
    order(delivery, "cancel", Task::CancelRuns(cancel))
}

/// Sets the status of commit `c`.
pub(crate) fn status(delivery: &str, key: &str, c: char) -> Order {
    let status = StatusOrder {
        of: of(),
        commit: commit(c),
        name: key.to_owned(),
        state: StatusState::Running,
        description: "building".to_owned(),
        target_url: None,
        ref_name: None,
        merge_request: None,
        source_project: None,
        run: None,
    };
    order(delivery, key, Task::SetStatus(status))
}
