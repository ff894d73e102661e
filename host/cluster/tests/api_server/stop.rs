//! Runs are stopped once, and only the run that is meant.

use kube::api::DeleteParams;
use penstock_cluster::{Cluster, RunStatus, Stopped};
use penstock_control_plane::{TestPlace, wait};
use penstock_model::{
    admit::{RunOrder, StopHow, StopOrder},
    run::RunState,
};

use crate::{LIMIT, audit, effect, order, place, runs, spec, stop_order};

/// Waits until the run's TaskRun is there.
async fn started(cluster: &Cluster, order: &RunOrder) -> RunStatus {
    wait::until("the run's start", LIMIT, async || {
        let run = cluster.run_status(&order.namespace, &order.name).await?;
        Ok(run.filter(|run| !run.children.is_empty()))
    })
    .await
    .unwrap()
}

async fn ended(cluster: &Cluster, order: &RunOrder) -> RunStatus {
    wait::until("the run's end", LIMIT, async || {
        let run = cluster.run_status(&order.namespace, &order.name).await?;
        Ok(run.filter(|run| run.state.is_final()))
    })
    .await
    .unwrap()
}

/// A run that goes on until it is stopped.
async fn endless(place: &TestPlace, cluster: &Cluster) -> (RunOrder, String) {
    let effect = effect(place, "run");
    let order = order(place, effect, spec("sleep infinity"));
    let uid = cluster.create_run(&order, effect).await.unwrap().uid;
    started(cluster, &order).await;
    (order, uid)
}

#[tokio::test]
async fn a_run_is_stopped_and_ends_as_canceled() {
    let (place, cluster) = place("stop").await;
    let (run, uid) = endless(&place, &cluster).await;
    let stop = stop_order(&run, effect(&place, "run"), Some(&uid));
    assert_eq!(cluster.stop_run(&stop).await.unwrap(), Stopped::Asked);
    let end = ended(&cluster, &run).await;
    assert_eq!(
        (end.state, end.spec_status.as_deref()),
        (RunState::Canceled, Some("CancelledRunFinally"))
    );
    assert_eq!(
        cluster.stop_run(&stop).await.unwrap(),
        Stopped::AlreadyFinished
    );
    let patchers = audit::who_when(1, place.namespace(), "patch", "pipelineruns", "").await;
    assert!(
        patchers.contains(&format!(
            "system:serviceaccount:{}:creator",
            place.namespace()
        )),
        "{patchers:?}"
    );

    runs(&place)
        .await
        .delete(&run.name, &DeleteParams::default())
        .await
        .unwrap();
    let gone = wait::until("the run's deletion", LIMIT, async || {
        Ok(Some(cluster.stop_run(&stop).await?).filter(|stopped| *stopped == Stopped::Gone))
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_run_without_a_known_uid_is_stopped_at_once_and_not_softened() {
    let (place, cluster) = place("hard").await;
    let (run, _) = endless(&place, &cluster).await;
    let stop = stop_order(&run, effect(&place, "run"), None);
    let hard = StopOrder {
        how: StopHow::AtOnce,
        ..stop.clone()
    };
    assert_eq!(cluster.stop_run(&hard).await.unwrap(), Stopped::Asked);
    let softer = cluster.stop_run(&stop).await.unwrap();
    assert!(
        matches!(softer, Stopped::Asked | Stopped::AlreadyFinished),
        "{softer:?}"
    );
    let end = ended(&cluster, &run).await;
    assert_eq!(
        (end.state, end.spec_status.as_deref()),
        (RunState::Canceled, Some("Cancelled"))
    );
}

#[tokio::test]
async fn another_object_of_the_name_is_left_alone() {
    let (place, cluster) = place("spare").await;
    let (run, _) = endless(&place, &cluster).await;
    let other_uid = stop_order(
        &run,
        effect(&place, "run"),
        Some("00000000-0000-0000-0000-000000000000"),
    );
    assert_eq!(cluster.stop_run(&other_uid).await.unwrap(), Stopped::Gone);
    let other_effect = stop_order(&run, effect(&place, "another"), None);
    assert_eq!(
        cluster.stop_run(&other_effect).await.unwrap(),
        Stopped::Gone
    );
    let still = cluster
        .run_status(&run.namespace, &run.name)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((still.state, still.spec_status), (RunState::Running, None));
}

#[tokio::test]
async fn the_api_server_itself_refuses_a_change_of_another_uid() {
    use kube::api::{Patch, PatchParams};
    let (place, cluster) = place("uid").await;
    let (run, _) = endless(&place, &cluster).await;
    let patch = serde_json::json!({ "metadata": { "uid": "00000000-0000-0000-0000-000000000000" }, "spec": { "status": "Cancelled" } });
    let answer = runs(&place)
        .await
        .patch(&run.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    let error = answer.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if matches!(status.code, 409 | 422)),
        "{error}"
    );
}

#[tokio::test]
async fn a_task_that_goes_on_after_its_run_was_marked_as_cancelled_is_stopped() {
    use kube::api::{Patch, PatchParams};
    let (place, cluster) = place("left-over").await;
    let (run, uid) = endless(&place, &cluster).await;
    // As Tekton leaves it when it did not see the TaskRun that it had just made: the run has ended, and is not looked at again.
    let status = serde_json::json!({ "status": {
        "completionTime": "2026-01-01T00:00:00Z",
        "conditions": [{ "type": "Succeeded", "status": "False", "reason": "Cancelled", "message": "cancelled", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    }});
    // Tekton may have the run in hand just now, and write over what it did not know: then it is said once more, until it stays said for a second.
    let all = runs(&place).await;
    let mut looks = 0;
    wait::until("a run that stays ended", LIMIT, async || {
        let now = cluster.run_status(&run.namespace, &run.name).await?;
        if now.is_some_and(|now| now.state.is_final()) {
            looks += 1;
        } else {
            looks = 0;
            all.patch_status(&run.name, &PatchParams::default(), &Patch::Merge(&status))
                .await?;
        }
        Ok((looks == 25).then_some(()))
    })
    .await
    .unwrap();
    let stop = StopOrder {
        how: StopHow::AtOnce,
        ..stop_order(&run, effect(&place, "run"), Some(&uid))
    };
    assert_eq!(
        cluster.stop_run(&stop).await.unwrap(),
        Stopped::LeftOver { tasks: 1 }
    );
    let client = penstock_control_plane::shared()
        .await
        .unwrap()
        .client()
        .await
        .unwrap();
    let kind = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
        "tekton.dev",
        "v1",
        "TaskRun",
    ));
    let tasks: kube::Api<kube::core::DynamicObject> =
        kube::Api::namespaced_with(client, place.namespace(), &kind);
    let reason = wait::until("the end of the task", LIMIT, async || {
        let all = tasks.list(&kube::api::ListParams::default()).await?;
        let condition = all.items[0].data["status"]["conditions"][0].clone();
        Ok((condition["status"] == "False").then(|| condition["reason"].clone()))
    });
    assert_eq!(reason.await.unwrap(), "TaskRunCancelled");
    assert_eq!(
        cluster.stop_run(&stop).await.unwrap(),
        Stopped::AlreadyFinished
    );
}
