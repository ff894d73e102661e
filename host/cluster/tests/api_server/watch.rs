//! The watch sees what becomes of runs, whatever happens to the API server.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use kube::api::DeleteParams;
use penstock_cluster::{RunSeen, RunStatus};
use penstock_control_plane::{ControlPlane, Options, TestPlace};
use penstock_model::{id::EffectId, run::RunState};

use crate::{LIMIT, connect, effect, order, place, spec};

/// Reads on until something fits; says what came before if nothing does.
async fn until<T>(
    watch: &mut Pin<Box<dyn Stream<Item = RunSeen> + Send>>,
    mut fits: impl FnMut(&RunSeen) -> Option<T>,
) -> T {
    let mut before = Vec::new();
    let found = tokio::time::timeout(LIMIT, async {
        while let Some(seen) = watch.next().await {
            if let Some(found) = fits(&seen) {
                return found;
            }
            before.push(seen);
        }
        panic!("the watch ended after {before:#?}")
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("nothing fits within {LIMIT:?}"),
    }
}

fn change(seen: &RunSeen, effect: EffectId, state: RunState) -> Option<RunStatus> {
    match seen {
        RunSeen::Changed(run) if run.effect == effect && run.state == state => Some(run.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_run_is_seen_until_it_succeeds_with_its_results() {
    let (place, cluster) = place("seen").await;
    let mut watch = cluster.watch().boxed();
    until(&mut watch, |seen| {
        matches!(seen, RunSeen::Listed(_)).then_some(())
    })
    .await;
    let effect = effect(&place, "run");
    let order = order(
        &place,
        effect,
        spec("echo -n sha256:1 > /tekton/results/digest"),
    );
    let created = cluster.create_run(&order, effect).await.unwrap();
    until(&mut watch, |seen| change(seen, effect, RunState::Running)).await;
    let run = until(&mut watch, |seen| change(seen, effect, RunState::Succeeded)).await;
    assert_eq!(
        (run.uid, run.namespace.as_str()),
        (created.uid, place.namespace())
    );
    assert!(run.started_at.unwrap() <= run.finished_at.unwrap());
    assert_eq!(run.children[0].task, "build");
}

#[tokio::test]
async fn a_run_that_fails_names_its_task_step_and_exit_code() {
    let (place, cluster) = place("fails").await;
    let mut watch = cluster.watch().boxed();
    let effect = effect(&place, "run");
    let order = order(&place, effect, spec("echo no; exit 3"));
    cluster.create_run(&order, effect).await.unwrap();
    let run = until(&mut watch, |seen| change(seen, effect, RunState::Failed)).await;
    assert_eq!(run.reason, "Failed");
    let failed = cluster.failed_task(&run).await.unwrap().unwrap();
    assert_eq!(
        failed.to_string(),
        "task `build` failed in step `compile` with exit code 3"
    );
}

#[tokio::test]
async fn the_watch_goes_on_after_the_api_server_was_killed() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let place = TestPlace::create(plane.access(), "restart").await.unwrap();
    let cluster = connect(place.host_kubeconfig()).await;
    place.hold_pods().await.unwrap();
    let (old, new) = (effect(&place, "old"), effect(&place, "new"));
    let first = order(&place, old, spec("true"));
    let created = cluster.create_run(&first, old).await.unwrap();

    let mut watch = cluster.watch().boxed();
    let listed = until(&mut watch, |seen| match seen {
        RunSeen::Listed(listed) => Some(listed.clone()),
        _ => None,
    });
    assert_eq!(listed.await, [old]);

    plane.restart_api_server().await.unwrap();
    // The pool's connections are dead by now; an order may be tried again until it is carried out.
    let second = order(&place, new, spec("true"));
    let again =
        penstock_control_plane::wait::until("the second run", LIMIT, async || {
            match cluster.create_run(&second, new).await {
                Ok(created) => Ok(Some(created)),
                Err(error) if error.is_transient() => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
    again.await.unwrap();
    place.let_pods_finish().await.unwrap();
    until(&mut watch, |seen| change(seen, new, RunState::Succeeded)).await;

    let admin = place.pipeline_runs(plane.client().await.unwrap());
    admin
        .delete(&first.name, &DeleteParams::default())
        .await
        .unwrap();
    let last = until(&mut watch, |seen| match seen {
        RunSeen::Deleted(run) if run.effect == old => Some(run.clone()),
        _ => None,
    });
    assert_eq!(last.await.uid, created.uid);
}
