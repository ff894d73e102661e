//! How long GitLab waits for its 2xx at 1,000 deliveries a second, while everything else goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::disk::Disk;
use super::feed;
use super::figure::{Figure, percentile};
use super::plane::{Plane, Webhooks};

const A_SECOND: usize = 1_000;
const SECONDS: usize = 15;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let scene = feed::scene("answer", plane.access(), penstock)
        .environment("PENSTOCK_LOG", "warn")
        .start()
        .await;
    let mut deliveries = feed::pushes(&scene, A_SECOND * SECONDS + 1);
    // The plugin is there, and every loop has done its work once.
    let first = deliveries.pop().expect("a delivery");
    assert_eq!(scene.post(&first).await.status, 202);
    scene.run_of(&crate::burst::id(&first)).await;
    let poster = scene.poster();
    let disk = Disk::watch(scene.folder());
    // Each at its time, whether or not the one before was answered: GitLab's senders don't wait for each other.
    let mut ticks =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(A_SECOND).expect("a rate"));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut sending = JoinSet::new();
    for delivery in deliveries {
        let due = ticks.tick().await.into_std();
        let poster = poster.clone();
        sending.spawn(async move {
            let answer = poster.post(&delivery).await;
            let well = answer.is_some_and(|answer| answer.status == 202);
            (due.elapsed().as_secs_f64() * 1000.0, well)
        });
    }
    let offered = f64::from(u32::try_from(A_SECOND * SECONDS).expect("a count"))
        / begun.elapsed().as_secs_f64();
    let (mut took, mut refused) = (Vec::new(), 0_u32);
    while let Some(sent) = sending.join_next().await {
        let (milliseconds, well) = sent.expect("a sender that ends");
        took.push(milliseconds);
        refused += u32::from(!well);
    }
    took.sort_by(f64::total_cmp);
    let sync = percentile(&disk.stop(), 99.0);
    vec![
        Figure::at_most(
            "p99 to 2xx at 1,000 deliveries/s of 8 KB",
            percentile(&took, 99.0),
            "ms",
            10.0 + 2.0 * sync,
        ),
        Figure::plain(
            "p50 to 2xx at 1,000 deliveries/s of 8 KB",
            percentile(&took, 50.0),
            "ms",
        ),
        Figure::plain("p99 of fdatasync in the same run", sync, "ms"),
        Figure::plain("deliveries offered in the same run", offered, "1/s"),
        Figure::at_most(
            "deliveries refused in the same run",
            f64::from(refused),
            "deliveries",
            0.0,
        ),
    ]
}
