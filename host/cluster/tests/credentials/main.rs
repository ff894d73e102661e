//! What the crate sends, seen from the other end of the line: which credentials go with which request, when a token is
//! replaced, and how long it is waited for an answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod stand_in;

use std::time::Duration;

use penstock_cluster::{Access, Cluster, ClusterSettings, CreateError, KubeconfigSource};
use penstock_model::{
    admit::{ProjectOf, RunOrder},
    id::{CommitId, Digest, EffectId, ProjectId},
    lane::{Lane, Subject},
    scope::Trust,
    secret::Secret,
};
use serde_json::json;

use stand_in::{Reply, StandIn};

async fn connect(server: &StandIn) -> Cluster {
    let access = Access::Kubeconfig {
        source: KubeconfigSource::Text(Secret::new(server.kubeconfig())),
        context: None,
    };
    let mut settings = ClusterSettings::new("test".into(), access);
    settings.request_timeout = Duration::from_secs(60);
    Cluster::connect(settings).await.unwrap()
}

fn effect(key: &str) -> EffectId {
    EffectId::new(&"main".into(), &"d".into(), &"r".into(), 1, &key.into())
}

fn order(effect: EffectId) -> RunOrder {
    let manifest = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": {} });
    RunOrder {
        of: ProjectOf {
            instance: "main".into(),
            project: ProjectId(1),
            path: "acme/api".into(),
            tenant: "acme/**".into(),
        },
        plugin: "tests".into(),
        plugin_digest: Digest::of(b"plugin"),
        place: "ci".into(),
        cluster: "test".into(),
        namespace: "ci-pay".to_owned(),
        creator: "creator".to_owned(),
        run_as: "run-as".to_owned(),
        name: effect.object_name("build"),
        manifest_digest: Digest::of(b"manifest"),
        manifest,
        pipeline: "build".to_owned(),
        status_name: "penstock/build".to_owned(),
        commit: CommitId::parse(&"a".repeat(40)).unwrap(),
        ref_name: None,
        merge_request: None,
        source_project: None,
        trust: Trust::Member,
        lane: Lane {
            instance: "main".into(),
            project: Some(ProjectId(1)),
            subject: Subject::Whole,
        },
        queue: None,
        keep: None,
        secrets: Vec::new(),
        end_at_depth: None,
    }
}

async fn create(cluster: &Cluster, key: &str) -> Result<(), CreateError> {
    let effect = effect(key);
    cluster.create_run(&order(effect), effect).await.map(|_| ())
}

#[tokio::test]
async fn the_hosts_certificate_never_goes_with_a_creators_token() {
    let server = StandIn::start(|_| None).await;
    create(&connect(&server).await, "run").await.unwrap();

    let requests = server.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|request| (request.certificate, request.authorization.as_deref()))
        .collect();
    assert_eq!(seen, [(true, None), (false, Some("Bearer token-1"))]);
    assert_eq!(
        requests[0].path,
        "/api/v1/namespaces/ci-pay/serviceaccounts/creator/token"
    );
    assert_eq!(
        requests[1].path,
        "/apis/tekton.dev/v1/namespaces/ci-pay/pipelineruns?fieldManager=penstock&fieldValidation=Strict"
    );
    assert_eq!(requests[0].body["spec"]["audiences"], json!([]));
    assert_eq!(requests[0].body["spec"]["expirationSeconds"], 600);
}

#[tokio::test]
async fn a_token_is_for_one_audience_also_where_the_api_server_takes_several() {
    let server = StandIn::start(|request| {
        let asked = request.body["spec"]["audiences"].as_array()?;
        asked
            .is_empty()
            .then(|| Reply::token("for-both", &["https://one", "https://two"], 600))
    })
    .await;
    let cluster = connect(&server).await;
    create(&cluster, "first").await.unwrap();
    let requests = server.requests();
    assert_eq!(
        requests[1].body["spec"]["audiences"],
        json!(["https://one"])
    );
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.as_deref() != Some("Bearer for-both"))
    );
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn a_token_is_kept_as_long_as_the_api_server_says() {
    let server = StandIn::start(|_| None).await;
    let cluster = connect(&server).await;
    create(&cluster, "first").await.unwrap();
    create(&cluster, "second").await.unwrap();
    assert_eq!(server.tokens(), 1);

    // Less was given than was asked for: it is over at once.
    let server =
        StandIn::start(|request| request.is_token().then(|| Reply::token("brief", &["a"], 0)))
            .await;
    let cluster = connect(&server).await;
    create(&cluster, "first").await.unwrap();
    create(&cluster, "second").await.unwrap();
    assert_eq!(server.tokens(), 2);
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced_once() {
    let server = StandIn::start(|request| {
        let void = request.authorization.as_deref() == Some("Bearer token-1");
        void.then(|| Reply::status(401, &json!({ "kind": "Status", "message": "Unauthorized" })))
    })
    .await;
    create(&connect(&server).await, "run").await.unwrap();
    assert_eq!(server.tokens(), 2);

    let server = StandIn::start(|request| {
        (!request.is_token())
            .then(|| Reply::status(401, &json!({ "kind": "Status", "message": "Unauthorized" })))
    })
    .await;
    let error = create(&connect(&server).await, "run").await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(server.requests().len(), 4);
    assert!(
        !format!("{error} {error:?}").contains("token-"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_busy_api_server_says_when_to_come_back_and_is_not_asked_again_before() {
    let server = StandIn::start(|request| {
        (!request.is_token()).then(|| Reply {
            retry_after: Some(7),
            ..Reply::status(429, &json!({ "message": "busy" }))
        })
    })
    .await;
    let error = create(&connect(&server).await, "run").await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    let server = StandIn::start(|request| (!request.is_token()).then(Reply::never)).await;
    let access = Access::Kubeconfig {
        source: KubeconfigSource::Text(Secret::new(server.kubeconfig())),
        context: None,
    };
    let mut settings = ClusterSettings::new("test".into(), access);
    settings.request_timeout = Duration::from_millis(300);
    let error = create(&Cluster::connect(settings).await.unwrap(), "run")
        .await
        .unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("did not answer within 300ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_foreign_answer_is_neither_a_run_nor_a_reason_to_give_up() {
    let server = StandIn::start(|request| {
        (!request.is_token()).then(|| Reply::status(201, &json!({ "hello": 1 })))
    })
    .await;
    let error = create(&connect(&server).await, "run").await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let server = StandIn::start(|request| {
        request
            .is_token()
            .then(|| Reply::status(201, &json!({ "token": "hunter2" })))
    })
    .await;
    let error = create(&connect(&server).await, "run").await.unwrap_err();
    assert!(
        error.is_transient() && !format!("{error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn requests_that_come_one_after_the_other_share_a_connection() {
    let server = StandIn::start(|_| None).await;
    let cluster = connect(&server).await;
    for n in 0..10 {
        create(&cluster, &format!("run/{n}")).await.unwrap();
    }
    assert_eq!(server.requests().len(), 11);
    assert_eq!(server.connections(), 2);
}
