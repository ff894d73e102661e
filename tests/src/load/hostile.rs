//! Neighbours: a well-behaved plugin beside one that computes for ever, in as many calls at once as it may.
//!
//! What is timed is what a developer waits for: from the 2xx that GitLab gets to the decision in the store. Both halves are of one run and of one server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use penstock_doubles::gitlab::{Delivery, Push};
use penstock_guests::Behaviour;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::disk::Disk;
use super::feed;
use super::figure::{Figure, percentile};
use super::plane::{Plane, Webhooks};
use crate::burst::id;
use crate::plugin::guest;
use crate::progress::said;
use crate::{Plugin, Route, Scene, until, until_within};

/// Deliveries of the well-behaved plugin in each half, and how many of them in a second.
const GOOD: usize = 1_000;
const A_SECOND: u32 = 40;
/// How long their decisions may take in all.
const DECIDED_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Calls of the hostile one: each computes for its whole limit, so they last longer than the half does.
const HOSTILE: u32 = 400;
/// The rate at which the goal of the 2xx is set, and for how long.
const FAST: u32 = 1_000;
const FAST_SECONDS: u32 = 10;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let scene = Scene::builder("hostile")
        .cluster(plane.access())
        .program(penstock)
        .plugin_by(
            Plugin::new("bench", &guest("bench")),
            Route::to("bench").on(&["push"]).observe(),
        )
        .plugin_by(
            Plugin::misbehave("hostile", Behaviour::Loop).limit("cpu", "500ms"),
            Route::to("hostile").on(&["push"]).of_tenant("other/**"),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into())
        .environment("PENSTOCK_LOG", "warn")
        .start()
        .await;
    said("the neighbour alone");
    let mut deliveries = feed::pushes(&scene, 2 * GOOD);
    let beside = deliveries.split_off(GOOD);
    let alone = timed(&scene, deliveries).await;
    scene.settled().await;

    said("the hostile plugin gets to its cap");
    let attack: Vec<Delivery> = (0..HOSTILE)
        .map(|n| {
            let push = Push::new("other/api", &format!("loop-{n}"), "oscar").write("a.txt", "a");
            scene.gitlab.push(push).delivery(scene.other_hook)
        })
        .collect();
    for delivery in &attack {
        let answer = scene.poster().post(delivery).await.expect("an answer");
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    // At its cap: more calls than it may have at once have ended.
    until("the hostile plugin at its cap", async || {
        (failed(&scene) >= 8).then_some(())
    })
    .await;
    said("the neighbour beside it");
    let disk = Disk::watch(scene.folder());
    let neighbour = timed(&scene, beside).await;
    let at_its_cap = failed(&scene);
    said("1,000 deliveries/s beside it");
    let fast = feed::pushes(&scene, (FAST * FAST_SECONDS) as usize);
    let answered = send(&scene, fast, FAST).await;
    let sync = percentile(&disk.stop(), 99.0);
    assert!(
        failed(&scene) < HOSTILE,
        "the hostile plugin was done before the measurement: it shows nothing"
    );
    let (then, now) = (percentile(&alone, 99.0), percentile(&neighbour, 99.0));
    vec![
        Figure::at_most(
            "a neighbour's p99 to decided beside a hostile plugin at its cap / alone",
            now / then,
            "x",
            3.0,
        ),
        Figure::plain("its p99 alone", then, "ms"),
        Figure::plain("its p99 beside the hostile plugin", now, "ms"),
        Figure::plain("its p50 alone", percentile(&alone, 50.0), "ms"),
        Figure::plain(
            "its p50 beside the hostile plugin",
            percentile(&neighbour, 50.0),
            "ms",
        ),
        Figure::plain(
            "calls of the hostile plugin that were stopped meanwhile",
            f64::from(at_its_cap),
            "calls",
        ),
        Figure::at_most(
            "p99 to 2xx at 1,000 deliveries/s of 8 KB beside the hostile plugin",
            percentile(&answered.took, 99.0),
            "ms",
            10.0 + 2.0 * sync,
        ),
        Figure::plain("p99 of fdatasync in the same run", sync, "ms"),
        Figure::at_most(
            "deliveries refused in the same run",
            f64::from(answered.refused),
            "deliveries",
            0.0,
        ),
    ]
}

/// Milliseconds from 2xx to decided, sorted.
async fn timed(scene: &Scene, deliveries: Vec<Delivery>) -> Vec<f64> {
    let ids: BTreeSet<String> = deliveries.iter().map(id).collect();
    let sent = send(scene, deliveries, A_SECOND).await;
    assert_eq!(sent.refused, 0, "a delivery of the neighbour was refused");
    let what = "all decisions of the neighbour";
    let found = until_within(what, DECIDED_WITHIN, async || {
        let found = decided(scene, &ids);
        (found.len() == ids.len()).then_some(found)
    });
    let mut took = found.await;
    took.sort_by(f64::total_cmp);
    took
}

/// What became of deliveries that were sent.
#[derive(Default)]
struct Answered {
    /// Milliseconds to each answer, sorted.
    took: Vec<f64>,
    /// How many got none, or another than 2xx.
    refused: u32,
}

/// Sends each at its time, whether or not the one before was answered.
async fn send(scene: &Scene, deliveries: Vec<Delivery>, a_second: u32) -> Answered {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sending = JoinSet::new();
    for delivery in deliveries {
        let due: Instant = ticks.tick().await.into_std();
        let poster = scene.poster();
        sending.spawn(async move {
            let answer = poster.post(&delivery).await;
            let well = answer.is_some_and(|answer| answer.status == 202);
            (due.elapsed().as_secs_f64() * 1000.0, well)
        });
    }
    let mut answered = Answered::default();
    while let Some(sent) = sending.join_next().await {
        let (milliseconds, well) = sent.expect("a sender that ends");
        answered.took.push(milliseconds);
        answered.refused += u32::from(!well);
    }
    answered.took.sort_by(f64::total_cmp);
    answered
}

/// Milliseconds from received to decided of those that are, as the store has them.
fn decided(scene: &Scene, ids: &BTreeSet<String>) -> Vec<f64> {
    let store = scene.store();
    let mut rows = store
        .prepare(
            "SELECT d.id, r.settled_at - d.received_at FROM routes r JOIN deliveries d \
             ON d.instance = r.instance AND d.id = r.delivery WHERE r.plugin = 'bench' AND r.outcome = 'decided'",
        )
        .expect("a statement");
    let rows = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    let rows = rows.map(|row: rusqlite::Result<(String, f64)>| row.expect("a row"));
    rows.filter(|(id, _)| ids.contains(id))
        .map(|(_, took)| took)
        .collect()
}

/// Calls of the hostile plugin that were stopped.
fn failed(scene: &Scene) -> u32 {
    scene
        .store()
        .query_row(
            "SELECT count(*) FROM routes WHERE plugin = 'hostile' AND outcome = 'failed'",
            [],
            |row| row.get(0),
        )
        .expect("a count")
}
