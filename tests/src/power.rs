//! Power cuts under load: the host is killed at random moments and its disk forgets what no sync made durable.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::burst::{Ledger, moment, pushes, send_within};
use crate::manifest::short_lived;
use crate::preload::{Cut, Forget, Shim};
use crate::progress::Progress;
use crate::scene::Builder;
use crate::{Plugin, Route, Scene};

/// How long each sync takes at least.
const SYNC: Duration = Duration::from_millis(8);

/// What the cuts did.
#[derive(Debug, Default)]
pub struct Cuts {
    /// What was sent and answered.
    pub ledger: Ledger,
    /// Deliveries that were acknowledged and that the store did not know after a cut.
    pub forgotten: BTreeSet<String>,
    /// Of all lives together.
    pub disk: Cut,
}

/// A scene on the shim's disk, with a plugin that starts a run for each push.
#[must_use]
pub fn scene(name: &str, shim: &Shim) -> Builder {
    let builder = Scene::builder(name)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into());
    shim.under(builder)
}

/// Cuts the power so many times in bursts of so many deliveries. In every other round sectors of what was not synced survive by a draw.
///
/// # Panics
/// If a good delivery is refused, or the host does not come back after a cut: then its database is damaged.
pub async fn cuts(scene: &mut Scene, shim: &Shim, rounds: u32, in_a_round: usize) -> Cuts {
    let mut found = Cuts::default();
    // A disk that takes its time: between a write and its sync there is room for a cut, on a quick one hardly.
    shim.slow_syncs(SYNC);
    let mut progress = Progress::begin("power cuts", u64::from(rounds));
    // More of them, where none met a write that was not durable yet: that is what they are for.
    for round in 0..5 * rounds {
        if round >= rounds && found.disk.unsynced > 0 {
            break;
        }
        let sure = pushes(scene, 1).remove(0);
        found.ledger.surely(scene, sure).await;
        let at = moment(Duration::from_millis(30), Duration::from_millis(300));
        let mut load = pushes(scene, in_a_round);
        load.extend(found.ledger.again(3));
        let sending = tokio::spawn(send_within(scene.poster(), load, at.mul_f64(1.1)));
        // The moment is drawn, so that over the rounds it meets every step.
        tokio::time::sleep(at).await;
        scene.penstock.kill9();
        for (delivery, answer) in sending.await.expect("a sender that ends") {
            found.ledger.note(delivery, answer);
        }
        let cut = shim.cut_power(match round % 2 {
            0 => Forget::Everything,
            _ => Forget::SomeSectors,
        });
        found.disk.writes += cut.writes;
        found.disk.syncs += cut.syncs;
        found.disk.unsynced += cut.unsynced;
        scene.penstock.restart().await;
        progress.done(u64::from(round) + 1);
    }
    for id in &found.ledger.acknowledged {
        if scene.explain(id).await["delivery"].is_null() {
            found.forgotten.insert(id.clone());
        }
    }
    found
}
