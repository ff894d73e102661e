//! Runs: observations, lists, figures of the past; projects and their pins.

use std::time::Duration;

use penstock_model::id::{ProjectId, Timestamp};
use penstock_model::lookup::RunFilter;
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{commit, delivery, lane, ordering, start, status};
use crate::{Queue, RunObservation};

on_both![
    a_run_only_moves_forward,
    another_object_of_that_name_says_nothing,
    the_same_news_twice_follow_up_once,
    runs_are_listed_newest_first_and_narrowed,
    a_summary_counts_what_ended,
    a_project_keeps_the_tenant_it_was_first_seen_in,
];

/// Decides a run and gives its observation.
pub(super) async fn queued(bed: &Bed, id: &str, c: char) -> RunObservation {
    let mut new = delivery(id, bed.now());
    new.lane = lane(1, id);
    let claim = bed.routed(new, &["r"]).await;
    let order = start(id, "run", c, id);
    bed.store
        .commit(&claim, ordering(id, "r", vec![order.clone()]), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    RunObservation {
        id: order.id,
        cluster: "prod".into(),
        uid: "uid-1".to_owned(),
        state: RunState::Running,
        reason: "Running".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    }
}

const ALL: [RunState; 8] = [
    RunState::Queued,
    RunState::Gated,
    RunState::Running,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Canceled,
    RunState::Refused,
    RunState::Gone,
];

async fn a_run_only_moves_forward(bed: Bed) {
    for (number, from) in ALL.into_iter().enumerate() {
        for to in ALL {
            let id = format!("d{number}-{}", to.as_str());
            let mut seen = queued(&bed, &id, 'a').await;
            seen.state = from;
            seen.reason = "first".to_owned();
            bed.store
                .run_observed(seen.clone(), bed.now())
                .await
                .unwrap();
            seen.state = to;
            seen.reason = "second".to_owned();
            let changed = bed
                .store
                .run_observed(seen.clone(), bed.now())
                .await
                .unwrap();
            let forward = !from.is_final() && to >= from;
            assert_eq!(changed, forward, "{from:?} to {to:?}");
            let run = bed.store.run(&seen.id).await.unwrap().unwrap().run;
            assert_eq!(run.state, if forward { to } else { from });
        }
    }
}

async fn another_object_of_that_name_says_nothing(bed: Bed) {
    let seen = queued(&bed, "d1", 'a').await;
    assert_eq!(
        bed.store.run_observed(seen.clone(), bed.now()).await,
        Ok(true)
    );
    let mut other = seen.clone();
    other.state = RunState::Failed;
    other.uid = "uid-2".to_owned();
    assert_eq!(bed.store.run_observed(other, bed.now()).await, Ok(false));
    let mut elsewhere = seen.clone();
    elsewhere.state = RunState::Failed;
    elsewhere.cluster = "other".into();
    assert_eq!(
        bed.store.run_observed(elsewhere, bed.now()).await,
        Ok(false)
    );
    let mut unknown = seen;
    unknown.id = super::world::effect_id("nobody", "r", "run");
    assert_eq!(bed.store.run_observed(unknown, bed.now()).await, Ok(false));
}

async fn the_same_news_twice_follow_up_once(bed: Bed) {
    let mut seen = queued(&bed, "d1", 'a').await;
    seen.state = RunState::Failed;
    seen.reason = "task `test` failed".to_owned();
    seen.failed_task = Some("test".to_owned());
    seen.results = vec![("image".to_owned(), "sha256:0".to_owned())];
    seen.follow_ups = vec![status("d1", "failed", 'a')];
    seen.started_at = Some(Timestamp(1000));
    assert_eq!(
        bed.store.run_observed(seen.clone(), bed.now()).await,
        Ok(true)
    );
    assert_eq!(
        bed.store.run_observed(seen.clone(), bed.now()).await,
        Ok(false)
    );
    let run = bed.store.run(&seen.id).await.unwrap().unwrap();
    assert_eq!(run.failed_task.as_deref(), Some("test"));
    assert_eq!(run.run.results, seen.results);
    assert_eq!(run.run.finished_at, Some(bed.now()));
    assert_eq!(run.run.started_at, Some(Timestamp(1000)));
    assert_eq!(bed.store.runs_unfinished(&"prod".into()).await.unwrap(), []);
    let lanes = bed.claim_all(Queue::Act).await;
    let statuses = lanes
        .iter()
        .filter(|claim| claim.lane.starts_with("status:"));
    assert_eq!(statuses.count(), 1);
}

async fn runs_are_listed_newest_first_and_narrowed(bed: Bed) {
    for (id, c) in [("d1", 'a'), ("d2", 'b'), ("d3", 'a')] {
        queued(&bed, id, c).await;
        bed.pass(Duration::from_secs(1));
    }
    let list = async |filter: RunFilter, limit| {
        let runs = bed
            .store
            .runs(
                &"pipelines".into(),
                &"main".into(),
                ProjectId(1),
                filter,
                limit,
            )
            .await
            .unwrap();
        let refs = runs
            .into_iter()
            .map(|run| run.ref_name.unwrap().to_string());
        refs.collect::<Vec<_>>()
    };
    assert_eq!(
        list(RunFilter::default(), 2).await,
        ["refs/heads/d3", "refs/heads/d2"]
    );
    let of_commit = RunFilter {
        commit: Some(commit('a')),
        ..RunFilter::default()
    };
    assert_eq!(list(of_commit, 9).await, ["refs/heads/d3", "refs/heads/d1"]);
    let of_ref = RunFilter {
        ref_name: Some("refs/heads/d2".into()),
        pipeline: Some("build".to_owned()),
        ..RunFilter::default()
    };
    assert_eq!(list(of_ref, 9).await, ["refs/heads/d2"]);
    let of_request = RunFilter {
        merge_request: Some(4),
        ..RunFilter::default()
    };
    assert!(list(of_request, 9).await.is_empty());
}

async fn a_summary_counts_what_ended(bed: Bed) {
    let outcomes = [
        (RunState::Succeeded, 10),
        (RunState::Failed, 30),
        (RunState::Succeeded, 20),
        (RunState::Canceled, 1),
    ];
    for (number, (state, seconds)) in outcomes.into_iter().enumerate() {
        let mut seen = queued(&bed, &format!("d{number}"), 'a').await;
        seen.state = state;
        seen.started_at = Some(bed.now());
        bed.pass(Duration::from_secs(seconds));
        seen.finished_at = Some(bed.now());
        bed.store.run_observed(seen, bed.now()).await.unwrap();
    }
    let summary = |pipeline: &'static str, days| {
        let (store, now) = (bed.store.clone(), bed.now());
        async move {
            store
                .summary(
                    &"pipelines".into(),
                    &"main".into(),
                    ProjectId(1),
                    pipeline,
                    days,
                    now,
                )
                .await
                .unwrap()
        }
    };
    let found = summary("build", 1).await;
    assert_eq!((found.runs, found.failed, found.canceled), (4, 1, 1));
    assert_eq!(found.median_duration, Some(20));
    assert_eq!(found.last_success.unwrap().0, bed.now().0 - 1000);
    assert_eq!(summary("other", 1).await.runs, 0);
    bed.pass(Duration::from_secs(2 * 24 * 60 * 60));
    assert_eq!(summary("build", 1).await.runs, 0);
}

async fn a_project_keeps_the_tenant_it_was_first_seen_in(bed: Bed) {
    let pin = |path: &'static str, tenant: &'static str| {
        let (store, now) = (bed.store.clone(), bed.now());
        async move {
            store
                .pin_project(
                    &"main".into(),
                    ProjectId(7),
                    &path.into(),
                    &tenant.into(),
                    now,
                )
                .await
                .unwrap()
        }
    };
    let first = pin("acme/api", "acme/**").await;
    assert!(first.new);
    let renamed = pin("acme/backend", "acme/**").await;
    assert_eq!(
        (renamed.first_path.as_str(), renamed.new),
        ("acme/api", false)
    );
    assert_eq!(renamed.path.as_str(), "acme/backend");
    let moved = pin("evil/backend", "evil/**").await;
    assert_eq!(
        moved.tenant.as_str(),
        "acme/**",
        "whoever compares sees that it moved"
    );
    assert_eq!(moved.path.as_str(), "acme/backend");
    bed.store
        .repin(
            &"main".into(),
            ProjectId(7),
            &"evil/backend".into(),
            &"evil/**".into(),
            bed.now(),
        )
        .await
        .unwrap();
    assert_eq!(
        pin("evil/backend", "evil/**").await.tenant.as_str(),
        "evil/**"
    );
}
