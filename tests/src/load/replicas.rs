//! Deliveries lost and runs doubled over many kills of one or the other of two replicas on Postgres.

use std::path::Path;

use super::figure::{Figure, whole};
use super::plane::{Plane, Webhooks};
use crate::burst::with_traps;
use crate::manifest::short_lived;
use crate::replicas::kills;
use crate::{Plugin, Postgres, Route, Scene};

const ROUNDS: u32 = 200;
const IN_A_ROUND: usize = 20;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::InPlace).await;
    let server = Postgres::start().await;
    let mut scene = with_traps(Scene::builder("replicas"))
        .cluster(plane.access())
        .program(penstock)
        .postgres(&server)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into())
        .start()
        .await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let ledger = kills(&mut scene, &mut second, &second_url, ROUNDS, IN_A_ROUND).await;
    let count = ledger.count(&scene).await;
    let of = |what: &str| format!("two replicas on Postgres: {what}");
    vec![
        Figure::at_most(
            &of("acknowledged deliveries lost"),
            whole(count.lost.len()),
            "deliveries",
            0.0,
        ),
        Figure::at_most(&of("runs doubled"), whole(count.doubled.len()), "runs", 0.0),
        Figure::plain(&of("kills"), f64::from(ROUNDS), "kills"),
        Figure::at_least(
            &of("deliveries acknowledged"),
            whole(ledger.acknowledged.len()),
            "deliveries",
            f64::from(ROUNDS),
        ),
        Figure::plain(&of("runs created"), whole(count.runs), "runs"),
        Figure::plain(&of("visible failures"), whole(count.failed), "deliveries"),
    ]
}
