//! kube-rs, as Penstock uses it, against the Kubernetes stand-in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::HashMap, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Namespace, Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{
        ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
        WatchEvent, WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use penstock_doubles::kubernetes::{FAIL, HOLD, Kubernetes};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

async fn client(kubernetes: &Kubernetes, token: Option<&str>) -> Client {
    let mut config = Kubeconfig::from_yaml(&kubernetes.kubeconfig()).unwrap();
    if let Some(token) = token {
        config.auth_infos[0].auth_info.as_mut().unwrap().token = Some(token.to_owned().into());
    }
    Client::try_from(
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .unwrap(),
    )
    .unwrap()
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("tekton.dev", "v1", kind))
}

fn runs(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "ci", &resource("PipelineRun"))
}

fn run(name: &str, labels: Value, annotations: Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "metadata": { "name": name, "labels": labels, "annotations": annotations },
        "spec": { "pipelineSpec": { "tasks": [{ "name": "build", "taskSpec": {} }, { "name": "test", "taskSpec": {} }] } },
    }))
    .unwrap()
}

async fn start() -> (Kubernetes, Client) {
    let kubernetes = Kubernetes::start().await;
    kubernetes
        .namespace("ci")
        .account("ci", "penstock")
        .pace(Duration::from_millis(20));
    let client = client(&kubernetes, None).await;
    (kubernetes, client)
}

fn condition(run: &DynamicObject) -> (String, String) {
    let condition = &run.data["status"]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// What a watcher told so far: the newest state of each run.
struct Seen<S> {
    events: S,
    newest: HashMap<String, DynamicObject>,
}

impl<S: Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + Unpin> Seen<S> {
    fn new(events: S) -> Self {
        Self {
            events,
            newest: HashMap::new(),
        }
    }

    /// Reads on until `wanted` holds of the newest state of this run.
    async fn until(
        &mut self,
        name: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> DynamicObject {
        let search = async {
            loop {
                if let Some(run) = self.newest.get(name).filter(|run| wanted(run)) {
                    return run.clone();
                }
                // Errors (a cut, a 410) are the watcher's own to mend.
                if let Ok(watcher::Event::Apply(run) | watcher::Event::InitApply(run)) =
                    self.events.next().await.unwrap()
                {
                    self.newest.insert(run.metadata.name.clone().unwrap(), run);
                }
            }
        };
        tokio::time::timeout(LIMIT, search)
            .await
            .unwrap_or_else(|_| panic!("{name} did not come so far"))
    }
}

#[tokio::test]
async fn a_watcher_sees_runs_of_its_label_from_start_to_end_through_cuts_and_compaction() {
    let (kubernetes, client) = start().await;
    let runs = runs(&client);
    let mut seen = Seen::new(Box::pin(watcher(
        runs.clone(),
        watcher::Config::default().labels("penstock=yes"),
    )));
    let ours = json!({ "penstock": "yes" });
    runs.create(
        &PostParams::default(),
        &run("foreign", json!({}), json!({})),
    )
    .await
    .unwrap();
    runs.create(
        &PostParams::default(),
        &run("good", ours.clone(), json!({})),
    )
    .await
    .unwrap();
    runs.create(
        &PostParams::default(),
        &run("bad", ours.clone(), json!({ FAIL: "test" })),
    )
    .await
    .unwrap();
    let ended = |run: &DynamicObject| run.data["status"]["completionTime"].is_string();
    let good = seen.until("good", ended).await;
    assert_eq!(
        condition(&good),
        ("True".to_owned(), "Succeeded".to_owned())
    );
    let bad = seen.until("bad", ended).await;
    assert_eq!(condition(&bad), ("False".to_owned(), "Failed".to_owned()));
    assert_eq!(
        bad.data["status"]["childReferences"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    assert!(!seen.newest.contains_key("foreign"));
    kubernetes.cut_watches();
    runs.create(
        &PostParams::default(),
        &run("after-cut", ours.clone(), json!({})),
    )
    .await
    .unwrap();
    seen.until("after-cut", ended).await;
    kubernetes.compact();
    kubernetes.cut_watches();
    runs.create(
        &PostParams::default(),
        &run("after-compaction", ours, json!({})),
    )
    .await
    .unwrap();
    seen.until("after-compaction", ended).await;
    let watches = kubernetes
        .calls()
        .into_iter()
        .filter(|call| call.query.contains("watch=true"))
        .count();
    assert!(watches >= 2, "the watch was opened again after it was cut");

    let tasks: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "ci", &resource("TaskRun"));
    let of_bad = tasks
        .list(&ListParams::default().labels("tekton.dev/pipelineRun=bad"))
        .await
        .unwrap();
    let failed: Vec<_> = of_bad
        .iter()
        .filter(|task| condition(task).0 == "False")
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        failed[0].metadata.labels.as_ref().unwrap()["tekton.dev/pipelineTask"],
        "test"
    );
    let pods: Api<Pod> = Api::namespaced(client, "ci");
    let log = pods
        .logs(
            failed[0].data["status"]["podName"].as_str().unwrap(),
            &kube::api::LogParams::default(),
        )
        .await;
    assert_eq!(log.unwrap(), "test: begun\ntest: failed by order\n");
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_is_told_410() {
    let (kubernetes, client) = start().await;
    let runs = runs(&client);
    let old = runs
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    runs.create(&PostParams::default(), &run("a", json!({}), json!({})))
        .await
        .unwrap();
    kubernetes.compact();
    let mut events = pin!(runs.watch(&WatchParams::default(), &old).await.unwrap());
    let event = tokio::time::timeout(LIMIT, events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(event, WatchEvent::Error(status) if status.code == 410));
}

#[tokio::test]
async fn a_run_is_created_once_and_held_until_it_is_cancelled() {
    let (_kubernetes, client) = start().await;
    let runs = runs(&client);
    let mut seen = Seen::new(Box::pin(watcher(runs.clone(), watcher::Config::default())));
    runs.create(
        &PostParams::default(),
        &run("held", json!({}), json!({ HOLD: "true" })),
    )
    .await
    .unwrap();
    let again = runs
        .create(&PostParams::default(), &run("held", json!({}), json!({})))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = again else {
        panic!("{again}")
    };
    assert_eq!(
        (status.code, status.reason.as_str()),
        (409, "AlreadyExists")
    );
    seen.until("held", |run| condition(run).1 == "Running")
        .await;
    let cancel = Patch::Merge(json!({ "spec": { "status": "Cancelled" } }));
    runs.patch("held", &PatchParams::default(), &cancel)
        .await
        .unwrap();
    let ended = seen.until("held", |run| condition(run).0 == "False").await;
    assert_eq!(condition(&ended).1, "Cancelled");
    assert_eq!(ended.metadata.generation, Some(2));

    let mut pending = run("pending", json!({}), json!({}));
    pending.data["spec"]["status"] = json!("PipelineRunPending");
    runs.create(&PostParams::default(), &pending).await.unwrap();
    seen.until("pending", |run| condition(run).1 == "PipelineRunPending")
        .await;
    let release: kube::core::params::Patch<()> = Patch::Json(
        serde_json::from_value(json!([{ "op": "remove", "path": "/spec/status" }])).unwrap(),
    );
    runs.patch("pending", &PatchParams::default(), &release)
        .await
        .unwrap();
    seen.until("pending", |run| condition(run).0 == "True")
        .await;
    runs.delete("pending", &Default::default()).await.unwrap();
    assert!(runs.get_opt("pending").await.unwrap().is_none());
}

#[tokio::test]
async fn a_minted_token_may_do_what_its_account_was_granted_and_nothing_else() {
    let (kubernetes, admin) = start().await;
    kubernetes.grant("ci", "penstock", &["create", "get"], "pipelineruns");
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "ci");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let minted = accounts
        .create_token_request("penstock", &PostParams::default(), &request)
        .await
        .unwrap();
    let token = minted.status.unwrap().token.unwrap();
    assert_eq!(
        kubernetes.account_of(&token).as_deref(),
        Some("system:serviceaccount:ci:penstock")
    );

    let creator = client(&kubernetes, Some(&token)).await;
    runs(&creator)
        .create(&PostParams::default(), &run("mine", json!({}), json!({})))
        .await
        .unwrap();
    let journal = kubernetes.calls();
    let created = journal
        .iter()
        .find(|call| call.method == "POST" && call.path.ends_with("/pipelineruns"))
        .unwrap();
    assert_eq!(
        (created.account.as_str(), created.status),
        ("system:serviceaccount:ci:penstock", 201)
    );

    let refused = runs(&creator)
        .delete("mine", &Default::default())
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}")
    };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let elsewhere: Api<DynamicObject> =
        Api::namespaced_with(creator.clone(), "default", &resource("PipelineRun"));
    assert!(elsewhere.get("mine").await.is_err());

    let reviews: Api<SelfSubjectAccessReview> = Api::all(creator);
    let ask = async |verb: &str| {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some("ci".to_owned()),
                    verb: Some(verb.to_owned()),
                    group: Some("tekton.dev".to_owned()),
                    resource: Some("pipelineruns".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        reviews
            .create(&PostParams::default(), &review)
            .await
            .unwrap()
            .status
            .unwrap()
            .allowed
    };
    assert!(ask("create").await);
    assert!(!ask("delete").await);
    assert!(
        client(&kubernetes, Some("made up"))
            .await
            .apiserver_version()
            .await
            .is_err()
    );
    assert_eq!(
        admin.apiserver_version().await.unwrap().git_version,
        "v1.36.1"
    );
}

#[tokio::test]
async fn deleting_a_namespace_takes_its_runs_along_and_a_run_its_tasks() {
    let (kubernetes, client) = start().await;
    let runs = runs(&client);
    let mut seen = Seen::new(Box::pin(watcher(runs.clone(), watcher::Config::default())));
    runs.create(&PostParams::default(), &run("one", json!({}), json!({})))
        .await
        .unwrap();
    runs.create(
        &PostParams::default(),
        &run("two", json!({}), json!({ HOLD: "true" })),
    )
    .await
    .unwrap();
    seen.until("one", |run| condition(run).0 == "True").await;
    seen.until("two", |run| condition(run).1 == "Running").await;
    assert_eq!(kubernetes.objects("taskruns", "ci").len(), 4);
    runs.delete("one", &Default::default()).await.unwrap();
    assert_eq!(kubernetes.objects("taskruns", "ci").len(), 2);
    Api::<Namespace>::all(client)
        .delete("ci", &Default::default())
        .await
        .unwrap();
    assert!(kubernetes.objects("pipelineruns", "ci").is_empty());
    assert!(kubernetes.objects("taskruns", "ci").is_empty());
}
