//! Deliveries lost and runs doubled over many kills in a burst.

use std::path::Path;
use std::time::Duration;

use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use crate::burst::{Ledger, moment, pushes, send_within, with_traps};
use crate::manifest::short_lived;
use crate::progress::{Progress, said};
use crate::{Plugin, Route, Scene};

const ROUNDS: u32 = 300;
const IN_A_ROUND: usize = 20;
const TRAPS: usize = 2;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::InPlace).await;
    let mut scene = with_traps(Scene::builder("kill"))
        .cluster(plane.access())
        .program(penstock)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into())
        .start()
        .await;
    let mut ledger = Ledger::default();
    let mut progress = Progress::begin("kills, SQLite", u64::from(ROUNDS));
    for round in 0..ROUNDS {
        let at = moment(Duration::from_millis(20), Duration::from_millis(300));
        let mut load = pushes(&scene, IN_A_ROUND);
        load.extend(ledger.trapping(&scene, TRAPS));
        load.extend(ledger.again(5));
        let sending = tokio::spawn(send_within(scene.poster(), load, at.mul_f64(1.2)));
        tokio::time::sleep(at).await;
        scene.penstock.kill9();
        for (delivery, answer) in sending.await.expect("a sender that ends") {
            ledger.note(delivery, answer);
        }
        scene.penstock.restart().await;
        progress.done(u64::from(round) + 1);
    }
    said("counting what became of each delivery");
    let count = ledger.count(&scene).await;
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    vec![
        Figure::at_most(
            "acknowledged deliveries lost",
            number(count.lost.len()),
            "deliveries",
            0.0,
        ),
        Figure::at_most("runs doubled", number(count.doubled.len()), "runs", 0.0),
        Figure::plain("kills", f64::from(ROUNDS), "kills"),
        Figure::at_least(
            "deliveries acknowledged",
            number(ledger.acknowledged.len()),
            "deliveries",
            f64::from(ROUNDS),
        ),
        Figure::plain("runs created", number(count.runs), "runs"),
        Figure::plain("visible failures", number(count.failed), "deliveries"),
    ]
}
