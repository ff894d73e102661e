//! What `check` finds, and that it finds it.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use penstock_cluster::{Check, Cluster, Verdict};
use penstock_control_plane::{
    TestPlace,
    place::{CREATOR, RUN_AS},
    shared, wait,
};
use penstock_model::tenant::{Place, PlacePolicy, When};
use serde_json::json;

use crate::{LIMIT, place, unbind};

pub(crate) fn model_place(place: &TestPlace) -> Place {
    Place {
        name: "ci".into(),
        cluster: "test".into(),
        namespace: place.namespace().to_owned(),
        creator: CREATOR.to_owned(),
        run_as: RUN_AS.to_owned(),
        when: When::Member,
        policy: PlacePolicy::default(),
    }
}

/// Checks until something is found that is not good: RBAC is not told of a change at once. What a busy API server left unanswered is no finding.
async fn first_fault(cluster: &Cluster, place: &Place) -> Check {
    wait::until("a finding", LIMIT, async || {
        let checks = cluster.check_place(place).await;
        Ok(checks
            .into_iter()
            .find(|check| !matches!(check.verdict, Verdict::Good | Verdict::Unknown)))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_cluster_and_a_place_as_in_the_examples_are_good() {
    let (place, cluster) = place("good").await;
    let mut checks = cluster.check_cluster().await;
    checks.extend(cluster.check_place(&model_place(&place)).await);
    let odd: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict != Verdict::Good)
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(
        checks
            .iter()
            .any(|check| check.detail.starts_with("Kubernetes v1.")),
        "{checks:#?}"
    );
    assert!(checks.len() >= 10);
}

#[tokio::test]
async fn a_run_as_that_may_start_runs_is_found() {
    let (place, cluster) = place("mighty").await;
    let client = shared().await.unwrap().client().await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "mistake" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "creator" },
        // Whoever grants to a group grants to `run-as` too.
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("system:serviceaccounts:{}", place.namespace()) }],
    }))
    .unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client, place.namespace());
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    let fault = first_fault(&cluster, &model_place(&place)).await;
    assert_eq!(fault.verdict, Verdict::Bad);
    assert!(
        fault.what.contains("`run-as`") && fault.detail.contains("create pipelineruns"),
        "{fault:#?}"
    );
}

#[tokio::test]
async fn a_missing_right_is_found_with_its_remedy() {
    let (place, cluster) = place("weak").await;
    unbind(&place, "creator").await;
    let fault = first_fault(&cluster, &model_place(&place)).await;
    assert_eq!(fault.verdict, Verdict::Bad);
    assert!(
        fault
            .remedy
            .unwrap()
            .contains("verbs: [create, get, patch]")
    );

    unbind(&place, "penstock-tokens").await;
    let fresh = crate::connect(place.host_kubeconfig()).await;
    let fault = wait::until("a finding", LIMIT, async || {
        let checks = fresh.check_place(&model_place(&place)).await;
        Ok(checks
            .into_iter()
            .find(|check| check.what.contains("tokens") && !check.ok()))
    });
    assert!(
        fault
            .await
            .unwrap()
            .remedy
            .unwrap()
            .contains("serviceaccounts/token")
    );
}

#[tokio::test]
async fn one_account_for_both_and_a_creator_that_reads_secrets_are_found() {
    let (place, cluster) = place("both").await;
    let mut same = model_place(&place);
    same.run_as = CREATOR.to_owned();
    let checks = cluster.check_place(&same).await;
    assert_eq!(checks[0].verdict, Verdict::Bad, "{checks:#?}");

    let client = shared().await.unwrap().client().await.unwrap();
    let roles: Api<Role> = Api::namespaced(client, place.namespace());
    let mut role = roles.get("creator").await.unwrap();
    let more = serde_json::from_value(
        json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }),
    )
    .unwrap();
    role.rules.get_or_insert_default().push(more);
    roles
        .replace("creator", &PostParams::default(), &role)
        .await
        .unwrap();
    let fault = first_fault(&cluster, &model_place(&place)).await;
    assert_eq!(
        (fault.verdict, fault.detail.as_str()),
        (Verdict::Weak, "it may get secrets")
    );
}
