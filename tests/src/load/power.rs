//! Deliveries lost and runs doubled over many power cuts, and whether a disk whose syncs do nothing is found out.

use std::path::Path;
use std::time::Duration;

use super::figure::{Figure, whole};
use super::plane::{Plane, Webhooks};
use crate::burst::{Ledger, pushes, send_within};
use crate::power::{cuts, scene};
use crate::preload::{Forget, Shim};

const ROUNDS: u32 = 300;
const IN_A_ROUND: usize = 20;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::InPlace).await;
    let shim = Shim::new();
    let mut host = scene("power", &shim)
        .cluster(plane.access())
        .program(penstock)
        .start()
        .await;
    let found = cuts(&mut host, &shim, ROUNDS, IN_A_ROUND).await;
    let count = found.ledger.count(&host).await;
    let lost = count.lost.union(&found.forgotten).count();
    drop(host);

    // The same with syncs that do nothing, which is what `synchronous=OFF` comes to: it must be seen to lose.
    let shim = Shim::new();
    let mut host = scene("unsynced", &shim)
        .cluster(plane.access())
        .program(penstock)
        .start()
        .await;
    shim.drop_syncs(true);
    let mut ledger = Ledger::default();
    let load = pushes(&host, IN_A_ROUND);
    for (delivery, answer) in send_within(host.poster(), load, Duration::from_millis(50)).await {
        ledger.note(delivery, answer);
    }
    host.penstock.kill9();
    let _ = shim.cut_power(Forget::Everything);
    shim.drop_syncs(false);
    host.penstock.restart().await;
    let mut unsynced = 0;
    for id in &ledger.acknowledged {
        unsynced += usize::from(host.explain(id).await["delivery"].is_null());
    }
    vec![
        Figure::at_most(
            "acknowledged deliveries lost",
            whole(lost),
            "deliveries",
            0.0,
        ),
        Figure::at_most("runs doubled", whole(count.doubled.len()), "runs", 0.0),
        Figure::at_least(
            "the same with syncs that do nothing: lost",
            whole(unsynced),
            "deliveries",
            1.0,
        ),
        Figure::plain("power cuts", f64::from(ROUNDS), "cuts"),
        Figure::plain(
            "deliveries acknowledged",
            whole(found.ledger.acknowledged.len()),
            "deliveries",
        ),
        Figure::plain("runs created", whole(count.runs), "runs"),
        Figure::plain(
            "writes to the store's files",
            whole(found.disk.writes),
            "writes",
        ),
        Figure::plain(
            "of them not durable at a cut",
            whole(found.disk.unsynced),
            "writes",
        ),
    ]
}
