//! Who acts, and what is said when somebody may not.

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use penstock_cluster::{CreateError, status_of};
use penstock_control_plane::{place::CREATOR, shared, wait};

use crate::{LIMIT, audit, effect, order, place, runs, spec, unbind};

#[tokio::test]
async fn a_run_is_created_by_the_creator_with_a_token_that_the_host_asked_for() {
    let (place, cluster) = place("who").await;
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("true"));
    cluster.create_run(&order, effect).await.unwrap();

    let namespace = place.namespace();
    let creators = audit::who_when(1, namespace, "create", "pipelineruns", "").await;
    assert_eq!(
        creators,
        [format!("system:serviceaccount:{namespace}:{CREATOR}")]
    );
    let askers = audit::who_when(1, namespace, "create", "serviceaccounts", "token").await;
    assert_eq!(askers, ["system:serviceaccount:penstock:penstock"]);
}

#[tokio::test]
async fn the_hosts_own_token_creates_nothing() {
    let (place, _) = place("host").await;
    let effect = effect(&place, "run");
    let object = serde_json::from_value(order(&place, effect, spec("true")).manifest).unwrap();
    let host = place.pipeline_runs(place.host_client().await.unwrap());
    let error = host
        .create(&PostParams::default(), &object)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 403),
        "{error}"
    );
}

#[tokio::test]
async fn many_runs_at_once_share_one_token() {
    let (place, cluster) = place("share").await;
    place.hold_pods().await.unwrap();
    let all = (0..20).map(|n| {
        let effect = effect(&place, &format!("run/{n}"));
        let order = order(&place, effect, spec("true"));
        let cluster = cluster.clone();
        async move { cluster.create_run(&order, effect).await }
    });
    for created in join_all(all).await {
        assert!(!created.unwrap().existed);
    }
    audit::who_when(20, place.namespace(), "create", "pipelineruns", "").await;
    let namespace = place.namespace();
    let askers = audit::who_when(1, namespace, "create", "serviceaccounts", "token").await;
    assert_eq!(askers.len(), 1);
}

#[tokio::test]
async fn a_creator_without_rights_is_told_which_rule_is_missing() {
    let (place, cluster) = place("denied").await;
    unbind(&place, "creator").await;
    let error = wait::until("the denial", LIMIT, async || {
        let effect = effect(&place, &uuid::Uuid::new_v4().to_string());
        let created = cluster
            .create_run(&order(&place, effect, spec("true")), effect)
            .await;
        // An API server that is busy may have something else to say first.
        Ok(created.err().filter(|error| !error.is_transient()))
    })
    .await
    .unwrap();
    let CreateError::Denied { message, remedy } = &error else {
        panic!("{error:?}")
    };
    assert!(
        message.contains("cannot create resource \"pipelineruns\""),
        "{message}"
    );
    assert!(
        remedy.contains("account `creator`") && remedy.contains(place.namespace()),
        "{remedy}"
    );
    assert!(
        remedy.contains("resources: [pipelineruns], verbs: [create, get, patch]"),
        "{remedy}"
    );
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_host_that_gets_no_tokens_is_told_which_rule_is_missing() {
    let (place, cluster) = place("tokenless").await;
    unbind(&place, "penstock-tokens").await;
    let client = place.host_client().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, place.namespace());
    wait::until("the denial", LIMIT, async || {
        let token = accounts
            .create_token_request(CREATOR, &PostParams::default(), &Default::default())
            .await;
        let denied =
            |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
        Ok(token.err().filter(denied))
    })
    .await
    .unwrap();
    let effect = effect(&place, "run");
    let error = cluster
        .create_run(&order(&place, effect, spec("true")), effect)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "denied", "{error:?}");
    let remedy = error.remedy().unwrap();
    assert!(
        remedy.contains("resources: [serviceaccounts/token], resourceNames: [creator]"),
        "{remedy}"
    );
}

#[tokio::test]
async fn a_creator_that_is_not_there_is_named() {
    let (place, cluster) = place("nobody").await;
    let client = shared().await.unwrap().client().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, place.namespace());
    accounts
        .delete(CREATOR, &DeleteParams::default())
        .await
        .unwrap();
    let effect = effect(&place, "run");
    let error = cluster
        .create_run(&order(&place, effect, spec("true")), effect)
        .await
        .unwrap_err();
    let expect = CreateError::NoAccount {
        namespace: place.namespace().into(),
        account: CREATOR.into(),
    };
    assert_eq!(error, expect);
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_replaced_and_the_run_is_created() {
    let (place, cluster) = place("revoked").await;
    let create = async |key: &str| {
        let effect = effect(&place, key);
        cluster
            .create_run(&order(&place, effect, spec("true")), effect)
            .await
    };
    create("first").await.unwrap();

    // A new account of the old name: tokens of the old one are void, once the API server's short memory of them ends.
    let client = shared().await.unwrap().client().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, place.namespace());
    let account = accounts.get(CREATOR).await.unwrap();
    accounts
        .delete(CREATOR, &DeleteParams::default())
        .await
        .unwrap();
    let mut fresh = ServiceAccount::default();
    fresh.metadata.name = account.metadata.name;
    accounts
        .create(&PostParams::default(), &fresh)
        .await
        .unwrap();

    wait::until("a second token", LIMIT, async || {
        match create(&uuid::Uuid::new_v4().to_string()).await {
            Err(error) if error.is_transient() => return Ok(None),
            created => drop(created?),
        }
        let tokens = audit::who(place.namespace(), "create", "serviceaccounts", "token").await;
        Ok((tokens.len() == 2).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_run_carries_what_it_is_found_by() {
    let (place, cluster) = place("marks").await;
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("true"));
    cluster.create_run(&order, effect).await.unwrap();
    let run = runs(&place).await.get(&order.name).await.unwrap();
    assert_eq!(
        run.metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"],
        "penstock"
    );
    let status = status_of(&serde_json::to_value(&run).unwrap()).unwrap();
    assert_eq!((status.effect, status.name), (effect, order.name));
}
