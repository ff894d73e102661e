//! The process is killed at random moments of a burst, again and again: what was acknowledged has exactly one run on the API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic, and says what it counted"
)]

use std::time::Duration;

use penstock_tests::burst::{Count, Ledger, moment, pushes, send_within, with_traps};
use penstock_tests::manifest::short_lived;
use penstock_tests::replicas::kills;
use penstock_tests::scene::Builder;
use penstock_tests::{Plugin, Postgres, Route, Scene};

const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_millis(400);
const IN_A_ROUND: usize = 10;
const TRAPS: usize = 2;

fn rounds(otherwise: u32) -> u32 {
    std::env::var("PENSTOCK_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn scene(name: &str) -> Builder {
    let builder = Scene::builder(name).plugin_by(
        Plugin::starts("pipelines", &short_lived()),
        Route::to("pipelines").on(&["push"]),
    );
    with_traps(builder).edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into())
}

#[tokio::test]
async fn a_hundred_kills_in_a_burst_lose_nothing_and_double_nothing() {
    let mut scene = scene("kill").start().await;
    let mut ledger = Ledger::default();
    let mut restarts = Duration::ZERO;
    let rounds = rounds(100);
    for round in 0..rounds {
        ledger.surely_in(&scene, round).await;
        let at = moment(SOONEST, LATEST);
        let mut load = pushes(&scene, IN_A_ROUND);
        // What got no answer may be sent again, as a person would in GitLab: it is the same delivery.
        load.extend(ledger.trapping(&scene, TRAPS));
        load.extend(ledger.again(3));
        let sending = tokio::spawn(send_within(scene.poster(), load, at.mul_f64(1.2)));
        // The moment is drawn, so that over the rounds it meets every step.
        tokio::time::sleep(at).await;
        scene.penstock.kill9();
        for (delivery, answer) in sending.await.unwrap() {
            ledger.note(delivery, answer);
        }
        restarts += scene.penstock.restart().await;
    }
    let found = ledger.check(&scene).await;
    let sent = ledger.acknowledged.len() + ledger.unanswered.len();
    println!(
        "{rounds} kills: {sent} deliveries, {} acknowledged, {} runs, {} failures; back in {:?} each",
        ledger.acknowledged.len(),
        found.runs,
        found.failed,
        restarts / rounds.max(1)
    );
    means_something(&ledger, &found, rounds);
}

/// Enough was acknowledged, and both of what may come of it came.
fn means_something(ledger: &Ledger, found: &Count, rounds: u32) {
    let rounds = usize::try_from(rounds).unwrap();
    assert!(
        ledger.acknowledged.len() >= rounds
            && found.runs > rounds / 2
            && found.failed > rounds / 10,
        "too few were acknowledged to mean anything: {}, {} runs, {} failures",
        ledger.acknowledged.len(),
        found.runs,
        found.failed
    );
}

#[tokio::test]
async fn two_replicas_on_postgres_of_which_one_or_the_other_is_killed_lose_and_double_nothing() {
    let server = Postgres::start().await;
    let mut scene = scene("replicas").postgres(&server).start().await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let rounds = rounds(10);
    let ledger = kills(&mut scene, &mut second, &second_url, rounds, 2 * IN_A_ROUND).await;
    let found = ledger.check(&scene).await;
    println!(
        "{rounds} kills: {} acknowledged, {} runs, {} failures",
        ledger.acknowledged.len(),
        found.runs,
        found.failed
    );
    means_something(&ledger, &found, rounds);
}
