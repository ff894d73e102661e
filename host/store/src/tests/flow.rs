//! Limits: who is started, who waits, and who goes first.

use std::time::Duration;

use penstock_model::admit::{Order, Task};
use penstock_model::effect::{self, CancelScope};
use penstock_model::flow::{FlowLimits, Limit};
use penstock_model::id::{Digest, EffectId, ProjectId};
use penstock_model::lane::{Lane, Subject};
use penstock_model::run::RunState;

use super::bed::Bed;
use super::on_both;
use super::world::{cancel, effect_id, of_tenant, ordering, start};
use crate::{CreatedRun, Drawn, Granted, Queue, RunObservation, Store};

on_both![
    a_run_over_its_limit_waits_and_goes_when_another_has_ended,
    whoever_waits_goes_before_whoever_comes_later,
    only_so_many_are_created_in_a_second,
    room_goes_to_the_tenant_with_the_fewest_in_flight,
    projects_of_a_tenant_take_turns,
    a_draw_lines_up_only_so_many,
    a_restart_changes_no_place,
    a_run_that_waits_holds_up_neither_its_lane_nor_a_stop,
    a_cancelled_run_leaves_its_line,
    a_queue_takes_the_least_limit_of_its_unfinished_runs,
    limits_that_are_lifted_let_all_go,
    a_failed_try_gives_its_room_back,
    a_run_that_is_seen_first_is_counted,
    a_clock_that_was_set_back_stops_nothing_for_long,
    explain_says_what_a_run_waits_for,
];

const ACME: &str = "acme/**";

fn in_flight(most: u32) -> Limit {
    Limit {
        in_flight: Some(most),
        per_second: None,
    }
}

fn per_second(most: u32) -> Limit {
    Limit {
        in_flight: None,
        per_second: Some(most),
    }
}

fn lane_of(id: &str, project: u64) -> Lane {
    Lane {
        instance: "main".into(),
        project: Some(ProjectId(project)),
        subject: Subject::Ref(id.into()),
    }
}

/// A start of a pipeline, in a lane that the delivery names.
fn wanted(id: &str, key: &str, tenant: &str, project: u64, pipeline: &str) -> Order {
    let mut order = start(id, key, 'a', "main");
    if let Task::StartRun(run) = &mut order.task {
        run.of.tenant = tenant.into();
        run.of.project = ProjectId(project);
        run.pipeline = pipeline.to_owned();
        run.lane = lane_of(id, project);
    }
    order
}

fn queued(mut order: Order, concurrency: Option<u32>) -> Order {
    if let Task::StartRun(run) = &mut order.task {
        run.queue = Some(effect::Queue {
            name: "deploy".to_owned(),
            concurrency,
        });
    }
    order
}

async fn decided(bed: &Bed, id: &str, tenant: &str, project: u64, orders: Vec<Order>) {
    let mut new = of_tenant(id, tenant, project, bed.now());
    new.lane = lane_of(id, project);
    let claim = bed.routed(new, &["r"]).await;
    bed.store
        .commit(&claim, ordering(id, "r", orders), bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
}

/// Asks for a run `build` in each of these deliveries.
async fn ask(bed: &Bed, tenant: &str, project: u64, ids: &[&str]) {
    for id in ids {
        let order = wanted(id, "run", tenant, project, "build");
        decided(bed, id, tenant, project, vec![order]).await;
    }
}

/// The delivery that an effect of these tests follows from.
fn named(id: EffectId, ids: &[&str]) -> String {
    let found = ids.iter().find(|name| effect_id(name, "r", "run") == id);
    found.map_or_else(|| id.hex(), |name| (*name).to_owned())
}

/// Does all that is to be done now, and gives the runs that were created, in order.
async fn work(store: &Store, bed: &Bed) -> Vec<EffectId> {
    let mut started = Vec::new();
    loop {
        let claims = store
            .claim(
                Queue::Act,
                "worker",
                super::bed::TTL,
                super::bed::MANY,
                1,
                bed.now(),
            )
            .await
            .unwrap();
        let Some(claim) = claims.into_iter().next() else {
            return started;
        };
        while let Some(effect) = store.next_effect(&claim, bed.now()).await.unwrap() {
            let id = effect.order.id;
            if matches!(effect.order.task, Task::StartRun(_)) {
                started.push(id);
                let made = CreatedRun {
                    id,
                    uid: format!("uid-{id}"),
                    stored_digest: Digest::of(b"spec"),
                    web_url: None,
                    follow_ups: vec![],
                };
                store.run_created(&claim, made, bed.now()).await.unwrap();
            } else {
                store
                    .effect_done(&claim, &id, serde_json::Value::Null, bed.now())
                    .await
                    .unwrap();
            }
        }
        store.release(claim, None, bed.now()).await.unwrap();
    }
}

async fn started(bed: &Bed, ids: &[&str]) -> Vec<String> {
    let started = work(&bed.store, bed).await;
    started.into_iter().map(|id| named(id, ids)).collect()
}

async fn ended(bed: &Bed, id: EffectId) {
    let seen = RunObservation {
        id,
        cluster: "prod".into(),
        uid: format!("uid-{id}"),
        state: RunState::Succeeded,
        reason: "Succeeded".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    };
    assert!(bed.store.run_observed(seen, bed.now()).await.unwrap());
}

async fn give(bed: &Bed) -> Granted {
    bed.store.give_room(bed.now()).await.unwrap()
}

/// Ends a run and gives the next that are started.
async fn next_after(bed: &Bed, ended_one: &str, ids: &[&str]) -> Vec<String> {
    ended(bed, effect_id(ended_one, "r", "run")).await;
    give(bed).await;
    started(bed, ids).await
}

async fn line(bed: &Bed, ids: &[&str]) -> Vec<(String, u64, u64)> {
    let queue = bed.store.queue(100).await.unwrap();
    queue
        .into_iter()
        .map(|it| (named(it.id, ids), it.place, it.of))
        .collect()
}

async fn a_run_over_its_limit_waits_and_goes_when_another_has_ended(bed: Bed) {
    let ids = ["d1", "d2", "d3"];
    for limit in 0..5 {
        let mut limits = FlowLimits::lifted();
        match limit {
            0 => limits.cluster = in_flight(1),
            1 => limits.tenant = in_flight(1),
            2 => limits.place = in_flight(1),
            3 => limits.project = in_flight(1),
            _ => limits.pipeline = in_flight(1),
        }
        bed.store.limit_flow(limits);
        let project = 10 + limit;
        let names: Vec<String> = ids.iter().map(|id| format!("{id}-{limit}")).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        ask(&bed, ACME, project, &ids).await;
        assert_eq!(started(&bed, &ids).await, [ids[0]], "limit {limit}");
        assert_eq!(
            line(&bed, &ids).await,
            [(names[1].clone(), 1, 2), (names[2].clone(), 2, 2)]
        );
        assert_eq!(give(&bed).await.granted, 0, "there is no room yet");
        assert_eq!(started(&bed, &ids).await, [""; 0]);
        assert_eq!(next_after(&bed, ids[0], &ids).await, [ids[1]]);
        assert_eq!(next_after(&bed, ids[1], &ids).await, [ids[2]]);
        ended(&bed, effect_id(ids[2], "r", "run")).await;
        assert_eq!(line(&bed, &ids).await, []);
    }
}

async fn a_draw_lines_up_only_so_many(bed: Bed) {
    bed.store.limit_flow(FlowLimits {
        cluster: in_flight(1),
        ..FlowLimits::lifted()
    });
    let names: Vec<String> = (0..50).map(|n| format!("d{n}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    ask(&bed, ACME, 1, &ids).await;
    let drawn = bed
        .store
        .draw_effects("worker", super::bed::TTL, super::bed::MANY, 64, bed.now())
        .await
        .unwrap();
    // Others wait for a draw: the rest of it is for transactions of their own.
    let lined_up = bed.store.queue(100).await.unwrap().len();
    assert!(lined_up <= 32, "{lined_up}");
    let mut begun = 0;
    for Drawn { claim, first } in drawn {
        let first = match first {
            Some(effect) => Some(effect),
            None => bed.store.next_effect(&claim, bed.now()).await.unwrap(),
        };
        begun += usize::from(first.is_some());
        bed.store.release(claim, None, bed.now()).await.unwrap();
    }
    assert_eq!(begun, 1);
    assert_eq!(bed.store.queue(100).await.unwrap().len(), 49);
}

async fn whoever_waits_goes_before_whoever_comes_later(bed: Bed) {
    let ids = ["d1", "d2", "d3", "other"];
    bed.store.limit_flow(FlowLimits {
        tenant: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["d1", "d2"]).await;
    assert_eq!(started(&bed, &ids).await, ["d1"]);
    ended(&bed, effect_id("d1", "r", "run")).await;
    // There is room, but it is d2's; another tenant waits for nobody.
    ask(&bed, ACME, 2, &["d3"]).await;
    ask(&bed, "other/**", 3, &["other"]).await;
    assert_eq!(started(&bed, &ids).await, ["other"]);
    give(&bed).await;
    assert_eq!(started(&bed, &ids).await, ["d2"]);
    assert_eq!(next_after(&bed, "d2", &ids).await, ["d3"]);
}

async fn only_so_many_are_created_in_a_second(bed: Bed) {
    let ids = ["d1", "d2", "d3", "d4"];
    bed.store.limit_flow(FlowLimits {
        cluster: per_second(2),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &ids).await;
    assert_eq!(started(&bed, &ids).await, ["d1", "d2"]);
    let granted = give(&bed).await;
    assert_eq!(granted.granted, 0);
    assert_eq!(
        granted.again_at,
        Some(bed.now().plus(Duration::from_millis(500)))
    );
    bed.pass(Duration::from_millis(500));
    assert_eq!(give(&bed).await.granted, 1);
    assert_eq!(started(&bed, &ids).await, ["d3"]);
    bed.pass(Duration::from_millis(499));
    assert_eq!(give(&bed).await.granted, 0);
    bed.pass(Duration::from_millis(1));
    assert_eq!(give(&bed).await.granted, 1);
    assert_eq!(started(&bed, &ids).await, ["d4"]);
}

async fn room_goes_to_the_tenant_with_the_fewest_in_flight(bed: Bed) {
    let ids = ["a1", "a2", "a3", "a4", "a5", "b1", "b2"];
    bed.store.limit_flow(FlowLimits {
        cluster: in_flight(2),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["a1", "a2", "a3", "a4", "a5"]).await;
    assert_eq!(started(&bed, &ids).await, ["a1", "a2"]);
    ask(&bed, "other/**", 2, &["b1", "b2"]).await;
    assert_eq!(started(&bed, &ids).await, [""; 0]);
    // `other` has nothing in flight, however long the others wait.
    assert_eq!(next_after(&bed, "a1", &ids).await, ["b1"]);
    assert_eq!(next_after(&bed, "a2", &ids).await, ["a3"]);
    assert_eq!(next_after(&bed, "b1", &ids).await, ["b2"]);
    assert_eq!(next_after(&bed, "a3", &ids).await, ["a4"]);
}

async fn projects_of_a_tenant_take_turns(bed: Bed) {
    let ids = ["a1", "a2", "a3", "b1", "b2"];
    bed.store.limit_flow(FlowLimits {
        tenant: per_second(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["a1", "a2", "a3"]).await;
    ask(&bed, ACME, 2, &["b1", "b2"]).await;
    let mut order = started(&bed, &ids).await;
    while order.len() < ids.len() {
        // Each ends at once: nobody has more in flight than another.
        ended(&bed, effect_id(order.last().unwrap(), "r", "run")).await;
        bed.pass(Duration::from_secs(1));
        assert_eq!(give(&bed).await.granted, 1);
        order.extend(started(&bed, &ids).await);
    }
    // The first went out before anybody waited.
    assert_eq!(order, ["a1", "a2", "b1", "a3", "b2"]);
}

async fn a_restart_changes_no_place(mut bed: Bed) {
    let ids = ["d1", "d2", "d3"];
    let limits = FlowLimits {
        project: in_flight(1),
        ..FlowLimits::lifted()
    };
    bed.store.limit_flow(limits.clone());
    ask(&bed, ACME, 1, &ids).await;
    assert_eq!(started(&bed, &ids).await, ["d1"]);
    let before = line(&bed, &ids).await;
    assert_eq!(before.len(), 2);
    let old = bed.store.clone();
    old.close().await;
    bed.store = Store::open(bed.target.clone()).await.unwrap();
    bed.store.limit_flow(limits);
    assert_eq!(line(&bed, &ids).await, before);
    assert_eq!(give(&bed).await.granted, 0, "d1 is still counted");
    assert_eq!(next_after(&bed, "d1", &ids).await, ["d2"]);
    assert_eq!(next_after(&bed, "d2", &ids).await, ["d3"]);
}

async fn a_run_that_waits_holds_up_neither_its_lane_nor_a_stop(bed: Bed) {
    bed.store.limit_flow(FlowLimits {
        pipeline: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["d1"]).await;
    assert_eq!(work(&bed.store, &bed).await.len(), 1);
    let orders = vec![
        wanted("d2", "run", ACME, 1, "build"),
        wanted("d2", "lint", ACME, 1, "lint"),
    ];
    decided(&bed, "d2", ACME, 1, orders).await;
    let lint = effect_id("d2", "r", "lint");
    assert_eq!(work(&bed.store, &bed).await, [lint]);
    // A stop in that lane is done too, while the other start waits.
    let mut stop = cancel("d3", CancelScope::Runs(vec![lint.hex()]), "main", None);
    if let Task::CancelRuns(cancel) = &mut stop.task {
        cancel.of.tenant = ACME.into();
    }
    decided(&bed, "d3", ACME, 1, vec![stop]).await;
    let lane = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&lane, bed.now()).await.unwrap();
    assert!(matches!(effect.unwrap().order.task, Task::StopRun(_)));
}

async fn a_cancelled_run_leaves_its_line(bed: Bed) {
    let ids = ["d1", "d2", "d3"];
    bed.store.limit_flow(FlowLimits {
        project: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &ids).await;
    assert_eq!(started(&bed, &ids).await, ["d1"]);
    let second = effect_id("d2", "r", "run").hex();
    let cancel = cancel("d4", CancelScope::Runs(vec![second]), "main", None);
    decided(&bed, "d4", ACME, 1, vec![cancel]).await;
    assert_eq!(line(&bed, &ids).await, [("d3".to_owned(), 1, 1)]);
    assert_eq!(next_after(&bed, "d1", &ids).await, ["d3"]);
    ended(&bed, effect_id("d3", "r", "run")).await;
    assert_eq!(give(&bed).await, Granted::default());
    let withdrawn = bed.store.run(&effect_id("d2", "r", "run")).await.unwrap();
    assert_eq!(withdrawn.unwrap().run.state, RunState::Canceled);
}

async fn a_queue_takes_the_least_limit_of_its_unfinished_runs(bed: Bed) {
    let ids = ["d1", "d2", "d3", "d4"];
    let limits = [Some(2), Some(2), Some(1), None];
    for (id, limit) in ids.iter().zip(limits) {
        let order = queued(wanted(id, "run", ACME, 1, id), limit);
        decided(&bed, id, ACME, 1, vec![order]).await;
    }
    // The third asks for one at a time, so that is the queue's limit until it has ended.
    assert_eq!(started(&bed, &ids).await, ["d1"]);
    assert_eq!(next_after(&bed, "d1", &ids).await, ["d2"]);
    assert_eq!(next_after(&bed, "d2", &ids).await, ["d3"]);
    // Now nobody limits it: the last needs no room.
    assert_eq!(next_after(&bed, "d3", &ids).await, ["d4"]);
    let queues = bed.store.queue(10).await.unwrap();
    assert_eq!(queues, []);
}

async fn limits_that_are_lifted_let_all_go(bed: Bed) {
    let ids = ["d1", "d2", "d3"];
    bed.store.limit_flow(FlowLimits {
        cluster: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &ids).await;
    assert_eq!(started(&bed, &ids).await, ["d1"]);
    bed.store.limit_flow(FlowLimits::lifted());
    assert_eq!(give(&bed).await.granted, 2);
    assert_eq!(started(&bed, &ids).await, ["d2", "d3"]);
}

async fn a_failed_try_gives_its_room_back(bed: Bed) {
    bed.store.limit_flow(FlowLimits {
        tenant: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["d1"]).await;
    let claim = bed.claim_lane("run:").await;
    let effect = bed.store.next_effect(&claim, bed.now()).await.unwrap();
    let again = bed.now().plus(Duration::from_secs(60));
    bed.store
        .effect_retry(&claim, &effect.unwrap().order.id, again, "away", bed.now())
        .await
        .unwrap();
    bed.release(claim).await;
    ask(&bed, ACME, 2, &["d2"]).await;
    assert_eq!(started(&bed, &["d1", "d2"]).await, ["d2"]);
    // Tried again, it finds no room and waits like any other.
    bed.pass(Duration::from_secs(60));
    assert_eq!(started(&bed, &["d1", "d2"]).await, [""; 0]);
    assert_eq!(next_after(&bed, "d2", &["d1", "d2"]).await, ["d1"]);
}

async fn a_run_that_is_seen_first_is_counted(bed: Bed) {
    let ids = ["d1", "d2"];
    bed.store.limit_flow(FlowLimits {
        tenant: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["d1"]).await;
    let id = effect_id("d1", "r", "run");
    let seen = RunObservation {
        id,
        cluster: "prod".into(),
        uid: format!("uid-{id}"),
        state: RunState::Running,
        reason: "Running".to_owned(),
        web_url: None,
        started_at: None,
        finished_at: None,
        results: vec![],
        failed_task: None,
        follow_ups: vec![],
    };
    bed.store.run_observed(seen, bed.now()).await.unwrap();
    ask(&bed, ACME, 2, &["d2"]).await;
    assert_eq!(started(&bed, &ids).await, [""; 0]);
    assert_eq!(next_after(&bed, "d1", &ids).await, ["d2"]);
}

async fn a_clock_that_was_set_back_stops_nothing_for_long(bed: Bed) {
    bed.store.limit_flow(FlowLimits {
        project: per_second(1),
        ..FlowLimits::lifted()
    });
    bed.pass(Duration::from_secs(24 * 60 * 60));
    ask(&bed, ACME, 1, &["d1"]).await;
    assert_eq!(started(&bed, &["d1"]).await, ["d1"]);
    bed.back(Duration::from_secs(24 * 60 * 60));
    ask(&bed, ACME, 1, &["d2", "d3"]).await;
    assert_eq!(started(&bed, &["d2"]).await, ["d2"]);
    bed.pass(Duration::from_secs(1));
    give(&bed).await;
    assert_eq!(started(&bed, &["d3"]).await, ["d3"]);
}

async fn explain_says_what_a_run_waits_for(bed: Bed) {
    bed.store.limit_flow(FlowLimits {
        tenant: in_flight(1),
        ..FlowLimits::lifted()
    });
    ask(&bed, ACME, 1, &["d1", "d2", "d3"]).await;
    started(&bed, &[]).await;
    let explained = bed.store.explain(None, &"d3".into()).await.unwrap();
    assert_eq!(
        explained.unwrap().effects[0].why.as_deref(),
        Some("waits for room, 2 of 2 in its line: tenant acme/** has 1 of 1 runs in flight")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_count_at_the_same_time_never_let_in_one_too_many() {
    let bed = Bed::postgres().await;
    let limits = FlowLimits {
        tenant: in_flight(3),
        ..FlowLimits::lifted()
    };
    let names: Vec<String> = (0..20).map(|n| format!("d{n}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    ask(&bed, ACME, 1, &ids).await;
    let mut workers = tokio::task::JoinSet::new();
    for claim in bed.claim_all(Queue::Act).await {
        let target = bed.target.clone();
        let (limits, now) = (limits.clone(), bed.now());
        workers.spawn(async move {
            let store = Store::open(target).await.unwrap();
            store.limit_flow(limits);
            let next = store.next_effect(&claim, now).await.unwrap();
            store.close().await;
            next.is_some()
        });
    }
    let found = workers.join_all().await;
    assert_eq!(found.len(), 20);
    assert_eq!(found.iter().filter(|found| **found).count(), 3);
    assert_eq!(bed.store.queue(100).await.unwrap().len(), 17);
}
