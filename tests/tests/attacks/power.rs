//! The power goes at random moments, and the disk forgets what was not synced.

use penstock_tests::burst::{Ledger, pushes, send_within};
use penstock_tests::power::{cuts, scene};
use penstock_tests::preload::{Forget, Shim};
use std::time::Duration;

#[tokio::test]
async fn what_was_acknowledged_outlives_power_cuts() {
    let shim = Shim::new();
    let mut scene = scene("power", &shim).start().await;
    let found = cuts(&mut scene, &shim, 20, 12).await;
    assert!(found.forgotten.is_empty(), "{:?}", found.forgotten);
    let runs = found.ledger.check(&scene).await.runs;
    println!(
        "{} acknowledged, {runs} runs; {:?}",
        found.ledger.acknowledged.len(),
        found.disk
    );
    assert!(
        found.ledger.acknowledged.len() >= 20,
        "too few to mean anything"
    );
    assert!(
        found.disk.unsynced > 0,
        "no cut met a write that was not durable: {:?}",
        found.disk
    );
}

/// The same build on a disk whose syncs do nothing, as with `synchronous=OFF`: it must lose what it acknowledged, or the test above shows nothing.
#[tokio::test]
async fn without_syncs_a_power_cut_loses_what_was_acknowledged() {
    let shim = Shim::new();
    let mut scene = scene("unsynced", &shim).start().await;
    shim.drop_syncs(true);
    let mut ledger = Ledger::default();
    let load = pushes(&scene, 12);
    for (delivery, answer) in send_within(scene.poster(), load, Duration::from_millis(50)).await {
        ledger.note(delivery, answer);
    }
    assert_eq!(ledger.acknowledged.len(), 12);
    scene.penstock.kill9();
    let cut = shim.cut_power(Forget::Everything);
    assert!(cut.unsynced > 0, "{cut:?}");
    shim.drop_syncs(false);
    scene.penstock.restart().await;
    let mut forgotten = 0;
    for id in &ledger.acknowledged {
        forgotten += usize::from(scene.explain(id).await["delivery"].is_null());
    }
    assert_eq!(forgotten, 12, "nothing was synced, so nothing is left");
}
