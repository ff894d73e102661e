//! A finished run is deleted once, and no other object is.

use penstock_cluster::Deleted;
use penstock_control_plane::wait;
use penstock_model::admit::DeleteOrder;
use penstock_model::run::RunState;

use crate::{LIMIT, effect, of, order, place, runs, spec};

#[tokio::test]
async fn only_the_run_that_is_meant_is_deleted_and_only_when_it_has_ended() {
    let (place, cluster) = place("delete").await;
    let run_effect = effect(&place, "run");
    let run = order(&place, run_effect, spec("true"));
    place.hold_pods().await.unwrap();
    let uid = cluster.create_run(&run, run_effect).await.unwrap().uid;
    let meant = DeleteOrder {
        of: of(),
        run: run_effect,
        cluster: run.cluster.clone(),
        namespace: run.namespace.clone(),
        creator: run.creator.clone(),
        name: run.name.clone(),
        uid,
    };
    let other_uid = DeleteOrder {
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        ..meant.clone()
    };
    let other_effect = DeleteOrder {
        run: effect(&place, "another"),
        ..meant.clone()
    };
    assert_eq!(cluster.delete_run(&meant).await, Ok(Deleted::Unfinished));
    place.let_pods_finish().await.unwrap();
    wait::until("the run's end", LIMIT, async || {
        let now = cluster.run_status(&run.namespace, &run.name).await?;
        Ok(now.filter(|now| now.state == RunState::Succeeded))
    })
    .await
    .unwrap();
    assert_eq!(cluster.delete_run(&other_uid).await, Ok(Deleted::Gone));
    assert_eq!(cluster.delete_run(&other_effect).await, Ok(Deleted::Gone));
    let there = runs(&place).await.get_opt(&run.name).await.unwrap();
    let there = there.expect("another object of the name is left alone");
    assert_eq!(there.metadata.deletion_timestamp, None);

    assert_eq!(cluster.delete_run(&meant).await, Ok(Deleted::Asked));
    wait::until("its deletion", LIMIT, async || {
        let left = cluster.delete_run(&meant).await?;
        Ok((left == Deleted::Gone).then_some(()))
    })
    .await
    .unwrap();
}
