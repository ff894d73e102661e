//! A manifest as a plugin writes it: whatever goes in, what comes out has the place's accounts, name and namespace, and none of the refused fields.
//!
//! The first byte chooses the place: how much it is trusted, and whether its policy allows all that a policy can allow.

use penstock_model::admit::{Admitted, Context, RunOrder, Task, admit, manifest_digest};
use penstock_model::effect::{Action, Effect, EffectKind, Plan, StartRun};
use penstock_model::event::{Event, EventKind};
use penstock_model::grant::{Grant, Grants};
use penstock_model::id::{CommitId, Digest, ProjectId, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_model::scope::{Project, Provenance, Scope, Trust};
use penstock_model::tenant::{Place, PlacePolicy, When};
use serde_json::Value;

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Never in a run, wherever it stands.
const NEVER: &[&str] = &[
    "managedBy",
    "ownerReferences",
    "finalizers",
    "generateName",
    "serviceAccountNames",
    "nfs",
];
/// Only where a place's policy allows it, and never in a place for forks.
const RISKY: &[&str] = &[
    "podTemplate",
    "hostPath",
    "csi",
    "secretName",
    "secretRef",
    "secretKeyRef",
    "resolver",
];
/// What holds a plugin's own names: a key in there is no field.
const DATA: &[&str] = &[
    "value",
    "default",
    "labels",
    "annotations",
    "properties",
    "matrix",
];

/// Runs it.
pub fn run(data: &[u8]) {
    let Some((choice, manifest)) = data.split_first() else {
        return;
    };
    let Ok(manifest) = std::str::from_utf8(manifest) else {
        return;
    };
    let when = match choice & 3 {
        0 => When::Protected,
        1 => When::Member,
        _ => When::Fork,
    };
    let place = place(when, choice & 4 != 0);
    let admitted = judge(&place, manifest);
    for order in &admitted.orders {
        let Task::StartRun(run) = &order.task else {
            panic!("an order that nobody asked for: {order:?}");
        };
        obeys(run, &place, choice & 4 != 0);
    }
    assert_eq!(
        admitted.orders.is_empty(),
        !admitted.refused.is_empty(),
        "admitted or refused, and not both: {admitted:?}"
    );
    for refusal in &admitted.refused {
        assert!(
            !refusal.path.is_empty() && !refusal.rule.is_empty(),
            "{refusal:?}"
        );
    }
}

fn obeys(run: &RunOrder, place: &Place, generous: bool) {
    let manifest = &run.manifest;
    assert_eq!(manifest["apiVersion"], "tekton.dev/v1");
    assert_eq!(manifest["kind"], "PipelineRun");
    assert_eq!(manifest["metadata"]["name"], run.name);
    assert_eq!(manifest["metadata"]["namespace"], place.namespace);
    assert_eq!(
        manifest["spec"]["taskRunTemplate"]["serviceAccountName"],
        place.run_as
    );
    assert_eq!((&run.creator, &run.run_as), (&place.creator, &place.run_as));
    assert_eq!(run.manifest_digest, manifest_digest(manifest));
    let top: Vec<&str> = manifest
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(top, ["apiVersion", "kind", "metadata", "spec"]);
    fields(manifest, &mut |key, value| {
        assert!(!NEVER.contains(&key), "{key} in {manifest}");
        if place.when == When::Fork || !generous {
            assert!(!RISKY.contains(&key), "{key} in {manifest}");
        }
        if key == "serviceAccountName" {
            let other = generous && place.when != When::Fork && *value == "deployer";
            assert!(*value == *place.run_as || other, "{value} in {manifest}");
        }
        if matches!(key, "privileged" | "hostNetwork" | "hostPID" | "hostIPC") {
            let off = *value == false || *value == 0;
            assert!(
                off || (generous && place.when != When::Fork),
                "{key}: {value}"
            );
        }
    });
}

/// Every field of the run, those of a plugin's own data left out.
fn fields(of: &Value, see: &mut impl FnMut(&str, &Value)) {
    match of {
        Value::Object(object) => {
            for (key, value) in object {
                see(key, value);
                if !DATA.contains(&key.as_str()) {
                    fields(value, see);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, see)),
        _ => {}
    }
}

fn place(when: When, generous: bool) -> Place {
    let list = |text: &str| vec![text.to_owned()];
    let policy = if generous {
        PlacePolicy {
            pod_template: true,
            secrets: list("ci-*"),
            host_paths: list("/data"),
            csi_drivers: list("csi.example.com"),
            token_audiences: list("sts"),
            resolvers: ["git", "bundles", "hub", "http", "cluster"]
                .map(str::to_owned)
                .into(),
            security_context: true,
            service_accounts: list("deployer"),
            labels: list("example.com/*"),
            annotations: list("example.com/*"),
            ..PlacePolicy::default()
        }
    } else {
        PlacePolicy::default()
    };
    Place {
        name: "ci".into(),
        cluster: "prod".into(),
        namespace: "ci-pay".to_owned(),
        creator: "penstock".to_owned(),
        run_as: "builder".to_owned(),
        when,
        policy,
    }
}

fn judge(place: &Place, manifest: &str) -> Admitted {
    let grant = Grant {
        effects: [EffectKind::StartRun].into(),
        ..Grant::default()
    };
    let grants = Grants {
        base: grant.clone(),
        from_fork: grant,
    };
    let trust = match place.when {
        When::Protected => Trust::Protected,
        When::Member => Trust::Member,
        When::Fork => Trust::Untrusted,
    };
    let commit = CommitId::parse(COMMIT).unwrap();
    let event = Event {
        delivery: "d-1".into(),
        received_at: Timestamp(1),
        instance: "main".into(),
        instance_url: "https://gitlab.example.com".to_owned(),
        tenant: "acme".into(),
        scope: Scope::Project(Project {
            id: ProjectId(7),
            path: "acme/api".into(),
            default_branch: Some("main".into()),
            web_url: "https://gitlab.example.com/acme/api".to_owned(),
            visibility: "private".to_owned(),
        }),
        actor: None,
        provenance: Provenance {
            trust,
            ref_protected: trust == Trust::Protected,
            source_project: None,
            confirmed: true,
        },
        ref_name: Some("refs/heads/main".into()),
        commit: Some(commit.clone()),
        kind: EventKind::Other("fuzz".to_owned()),
    };
    let plan = Plan {
        effects: vec![Effect {
            key: "run/build".into(),
            action: Action::StartRun(Box::new(StartRun {
                manifest: manifest.to_owned(),
                pipeline: "build".to_owned(),
                target: None,
                place: None,
                gate: None,
                status_name: None,
                queue: None,
                keep: None,
                secrets: Vec::new(),
                extras: Vec::new(),
            })),
        }],
        ..Plan::default()
    };
    let context = Context {
        event: &event,
        lane: &Lane {
            instance: "main".into(),
            project: Some(ProjectId(7)),
            subject: Subject::Ref("refs/heads/main".into()),
        },
        route: &"acme p".into(),
        attempt: 1,
        plugin: &"p".into(),
        digest: Digest::of(b"plugin"),
        grants: &grants,
        places: std::slice::from_ref(place),
        head: Some(&commit),
        heads: &[],
        past: false,
        delivery_url: None,
    };
    admit(&plan, context)
}
