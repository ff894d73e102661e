//! What the accounts of `examples/cluster/` may and may not do.

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Pod, Secret, ServiceAccount},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use penstock_control_plane::{
    TestPlace,
    place::{CREATOR, RUN_AS},
    shared,
};

use crate::{refusal, run};

#[tokio::test]
async fn creator_creates_runs_and_nothing_else() {
    let place = TestPlace::create(shared().await.unwrap(), "creator")
        .await
        .unwrap();
    let creator = place.client_as(CREATOR).await.unwrap();
    let runs = place.pipeline_runs(creator.clone());

    runs.create(&PostParams::default(), &run("mine", "true"))
        .await
        .unwrap();
    runs.get("mine").await.unwrap();
    // One at a time: runs that are kept no longer. Never all at once.
    let all = runs
        .delete_collection(&Default::default(), &ListParams::default())
        .await;
    assert_eq!(refusal(all.map(|_| ())).0, 403);
    assert_eq!(refusal(runs.list(&ListParams::default()).await).0, 403);
    let secrets: Api<Secret> = Api::namespaced(creator.clone(), place.namespace());
    assert_eq!(refusal(secrets.list(&ListParams::default()).await).0, 403);
    let pods: Api<Pod> = Api::namespaced(creator, place.namespace());
    assert_eq!(refusal(pods.list(&ListParams::default()).await).0, 403);
}

#[tokio::test]
async fn creator_makes_and_deletes_the_secrets_of_runs_and_no_others() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "secrets").await.unwrap();
    let client = place.client_as(CREATOR).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, place.namespace());
    let of_all: Api<Secret> = Api::namespaced(cluster.client().await.unwrap(), place.namespace());
    let secret = |name: &str, kind: &str| -> Secret {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": name, "annotations": { "kubernetes.io/service-account.name": "run-as" } },
            "type": kind,
            "stringData": { "key": "value" },
        }))
        .unwrap()
    };
    let params = PostParams::default();
    of_all
        .create(&params, &secret("somebody-elses", "Opaque"))
        .await
        .unwrap();
    // A policy that was just applied is in force a moment later.
    let (code, message) =
        penstock_control_plane::wait::until("the policy", crate::LIMIT, async || {
            let name = format!("probe-{}", uuid::Uuid::new_v4().simple());
            Ok(secrets
                .create(&params, &secret(&name, "Opaque"))
                .await
                .err()
                .map(|error| refusal::<()>(Err(error))))
        })
        .await
        .unwrap();
    assert_eq!(code, 422, "{message}");
    assert!(message.contains("penstock-clone-"), "{message}");

    let mine = "penstock-clone-0123456789abcdef0123-0";
    secrets
        .create(&params, &secret(mine, "Opaque"))
        .await
        .unwrap();
    assert_eq!(refusal(secrets.get(mine).await).0, 403, "it reads none");
    let token = secret(
        "penstock-clone-token-0",
        "kubernetes.io/service-account-token",
    );
    let (code, message) = refusal(secrets.create(&params, &token).await);
    assert_eq!(code, 422, "{message}");
    let (code, message) = refusal(
        secrets
            .delete("somebody-elses", &Default::default())
            .await
            .map(|_| ()),
    );
    assert_eq!(code, 422, "{message}");
    secrets.delete(mine, &Default::default()).await.unwrap();
    assert!(of_all.get_opt(mine).await.unwrap().is_none());
}

#[tokio::test]
async fn creator_of_one_place_creates_nothing_in_another() {
    let cluster = shared().await.unwrap();
    let place = TestPlace::create(cluster, "one").await.unwrap();
    let other = TestPlace::create(cluster, "other").await.unwrap();
    let runs = other.pipeline_runs(place.client_as(CREATOR).await.unwrap());
    assert_eq!(
        refusal(
            runs.create(&PostParams::default(), &run("theirs", "true"))
                .await
        )
        .0,
        403
    );
}

#[tokio::test]
async fn run_as_can_not_create_a_run() {
    let place = TestPlace::create(shared().await.unwrap(), "run-as")
        .await
        .unwrap();
    let runs = place.pipeline_runs(place.client_as(RUN_AS).await.unwrap());
    let (code, message) = refusal(
        runs.create(&PostParams::default(), &run("stolen", "true"))
            .await,
    );
    assert_eq!(code, 403);
    assert!(
        message.contains(":run-as\" cannot create resource \"pipelineruns\""),
        "{message}"
    );
    assert_eq!(refusal(runs.list(&ListParams::default()).await).0, 403);
}

#[tokio::test]
async fn the_host_watches_runs_and_asks_for_tokens_of_creator_alone() {
    let place = TestPlace::create(shared().await.unwrap(), "host")
        .await
        .unwrap();
    let host = place.host_client().await.unwrap();
    let runs = place.pipeline_runs(host.clone());
    runs.list(&ListParams::default()).await.unwrap();
    assert_eq!(
        refusal(
            runs.create(&PostParams::default(), &run("own", "true"))
                .await
        )
        .0,
        403
    );

    let accounts: Api<ServiceAccount> = Api::namespaced(host.clone(), place.namespace());
    let ask = TokenRequest::default();
    let params = PostParams::default();
    accounts
        .create_token_request(CREATOR, &params, &ask)
        .await
        .unwrap();
    assert_eq!(
        refusal(accounts.create_token_request(RUN_AS, &params, &ask).await).0,
        403
    );
    let elsewhere: Api<ServiceAccount> = Api::namespaced(host, "tekton-pipelines");
    assert_eq!(
        refusal(
            elsewhere
                .create_token_request("tekton-pipelines-controller", &params, &ask)
                .await
        )
        .0,
        403
    );
}
