//! Runs are created once, and only as what they are.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::api::PostParams;
use penstock_cluster::{
    Access, Call, Cluster, ClusterSettings, CreateError, KubeconfigSource, spec_digest,
};
use penstock_control_plane::wait;
use penstock_model::{id::Digest, secret::Secret};
use serde_json::json;

use crate::{LIMIT, effect, order, place, runs, spec};

#[tokio::test]
async fn the_stored_run_is_the_api_servers_and_not_what_was_sent() {
    let (place, cluster) = place("stored").await;
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("true"));
    let created = cluster.create_run(&order, effect).await.unwrap();

    let run = runs(&place).await.get(&order.name).await.unwrap();
    assert!(!created.existed);
    assert_eq!(run.metadata.uid.as_deref(), Some(created.uid.as_str()));
    assert_eq!(
        created.stored.spec_digest().unwrap(),
        spec_digest(&run.data["spec"])
    );
    assert_ne!(
        created.stored.spec_digest().unwrap(),
        spec_digest(&order.manifest["spec"])
    );
    assert_eq!(
        created.stored.to_json().unwrap()["spec"]["timeouts"]["pipeline"],
        "1h0m0s"
    );
    // Tekton may have written to it already, and stands before us then if that was within the same second.
    let managers = run.metadata.managed_fields.as_ref().unwrap();
    assert!(
        managers
            .iter()
            .any(|it| it.manager.as_deref() == Some("penstock") && it.subresource.is_none()),
        "{managers:?}"
    );
}

#[tokio::test]
async fn an_order_that_is_repeated_finds_its_own_run() {
    let (place, cluster) = place("again").await;
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("true"));
    let first = cluster.create_run(&order, effect).await.unwrap();
    let second = cluster.create_run(&order, effect).await.unwrap();
    assert_eq!((second.existed, &second.uid), (true, &first.uid));
    assert_eq!(
        second.stored.spec_digest().unwrap(),
        first.stored.spec_digest().unwrap()
    );
}

#[tokio::test]
async fn a_foreign_object_of_the_name_is_not_taken_for_ours() {
    let (place, cluster) = place("foreign").await;
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("true"));
    let foreign = serde_json::from_value(order.manifest.clone()).unwrap();
    runs(&place)
        .await
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();

    let error = cluster.create_run(&order, effect).await.unwrap_err();
    assert_eq!(error.kind(), "name-taken");
    assert!(
        !error.is_transient() && error.to_string().contains(&order.name),
        "{error}"
    );
}

#[tokio::test]
async fn a_run_of_ours_with_another_manifest_is_not_what_was_ordered() {
    let (place, cluster) = place("other").await;
    let effect = effect(&place, "run");
    let mut order = order(&place, effect, spec("true"));
    cluster.create_run(&order, effect).await.unwrap();
    order.manifest_digest = Digest::of(b"another");
    assert_eq!(
        cluster.create_run(&order, effect).await.unwrap_err().kind(),
        "name-taken"
    );
}

#[tokio::test]
async fn a_refusal_by_tektons_admission_says_what_is_wrong() {
    let (place, cluster) = place("refused").await;
    let effect = effect(&place, "run");
    let broken = order(
        &place,
        effect,
        json!({ "pipelineSpec": { "tasks": [{ "name": "build" }] } }),
    );
    let error = cluster.create_run(&broken, effect).await.unwrap_err();
    let CreateError::Refused { message } = &error else {
        panic!("{error:?}")
    };
    assert!(message.contains("validation failed"), "{message}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_run_that_is_too_large_is_refused_for_good() {
    let (place, cluster) = place("large").await;
    let effect = effect(&place, "run");
    let mut huge = order(&place, effect, spec("true"));
    huge.manifest["spec"]["params"] = json!([{ "name": "x", "value": "y".repeat(4 << 20) }]);
    // The API server answers before it has read all of it, and closes: an answer that the client is slow to read is lost.
    let error = wait::until("the refusal", LIMIT, async || {
        let created = cluster.create_run(&huge, effect).await;
        Ok(created.err().filter(|error| !error.is_transient()))
    });
    let error = error.await.unwrap();
    assert_eq!(error.kind(), "too-large", "{error}");
}

#[tokio::test]
async fn a_cluster_that_is_away_is_for_another_try_and_is_measured() {
    // A port that answers nobody.
    let port = penstock_control_plane::ports::reserve().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "c", "cluster": { "server": format!("https://127.0.0.1:{port}") } }],
        "users": [{ "name": "u", "user": { "token": "hunter2" } }],
        "contexts": [{ "name": "a", "context": { "cluster": "c", "user": "u" } }],
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let access = Access::Kubeconfig {
        source: KubeconfigSource::Text(Secret::new(kubeconfig.to_string())),
        context: None,
    };
    let mut settings = ClusterSettings::new("away".into(), access);
    let notes = Arc::clone(&seen);
    settings.on_call = Some(Arc::new(move |call| {
        notes.lock().unwrap().push((call.call, call.status))
    }));
    settings.request_timeout = Duration::from_secs(5);
    let cluster = Cluster::connect(settings).await.unwrap();

    let (place, _) = place("away").await;
    let effect = effect(&place, "run");
    let error = cluster
        .create_run(&order(&place, effect, spec("true")), effect)
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
    assert_eq!(*seen.lock().unwrap(), [(Call::Token, None)]);
}
