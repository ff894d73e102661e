//! Decisions run again from the command line: 10,000 records of 8 KB payloads, on all cores, with everything compiled and read once before.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::feed::{self, Feed};
use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use crate::plugin::guest;
use crate::{Plugin, Route, Scene};

const RECORDS: u32 = 10_000;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let mut scene = Scene::builder("replay")
        .cluster(plane.access())
        .program(penstock)
        .plugin_by(
            Plugin::new("bench", &guest("bench")),
            Route::to("bench").on(&["push"]).observe(),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into())
        .environment("PENSTOCK_LOG", "warn")
        .start()
        .await;
    let deliveries = feed::pushes(&scene, RECORDS as usize);
    let feed = Feed::start(&scene.poster(), deliveries);
    feed.let_send(RECORDS as usize + 1_000);
    feed.finish().await;
    scene.settled().await;
    scene.penstock.terminate().await;
    // Warm: the store's pages are in memory and the plugin is compiled.
    replay(&scene).await;
    let begun = Instant::now();
    let told = replay(&scene).await;
    let took = begun.elapsed().as_secs_f64();
    let count = |key: &str| told[key].as_f64().expect("a count");
    vec![
        Figure::at_most(
            "10,000 records of 8 KB payloads run again, the whole command, warm",
            took,
            "s",
            10.0,
        ),
        Figure::plain(
            "records run again in a second",
            f64::from(RECORDS) / took,
            "1/s",
        ),
        Figure::at_least(
            "of them the same bytes",
            count("same"),
            "records",
            f64::from(RECORDS),
        ),
        Figure::at_most("of them another outcome", count("differ"), "records", 0.0),
    ]
}

async fn replay(scene: &Scene) -> Value {
    let told = scene.penstock.command(&["replay", "--since", "1d"]).await;
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"))
}
