//! Ends of logs: kept once, given to the plugin with the run's end, gone when contents go.

use std::time::Duration;

use super::bed::Bed;
use super::on_both;
use super::runs::queued;
use crate::Ages;
use penstock_model::run::RunState;

on_both![the_end_of_a_log_is_kept_once_and_goes_when_contents_go];

async fn the_end_of_a_log_is_kept_once_and_goes_when_contents_go(bed: Bed) {
    let mut seen = queued(&bed, "d1", 'a').await;
    assert_eq!(bed.store.keep_excerpt(&seen.id, "boom").await, Ok(true));
    assert_eq!(bed.store.keep_excerpt(&seen.id, "later").await, Ok(false));
    seen.state = RunState::Failed;
    seen.finished_at = Some(bed.now());
    bed.store
        .run_observed(seen.clone(), bed.now())
        .await
        .unwrap();
    let kept = async || bed.store.run(&seen.id).await.unwrap().unwrap().log_excerpt;
    assert_eq!(kept().await.as_deref(), Some("boom"));
    let ages = Ages::default();
    bed.store
        .purge(
            bed.now().plus(ages.contents - Duration::from_secs(60)),
            ages,
        )
        .await
        .unwrap();
    assert_eq!(kept().await.as_deref(), Some("boom"));
    bed.store
        .purge(
            bed.now().plus(ages.contents + Duration::from_secs(60)),
            ages,
        )
        .await
        .unwrap();
    assert_eq!(kept().await, None);
}
