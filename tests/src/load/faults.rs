//! Everything around Penstock fails for a while: does it converge, and in what time?

use std::path::Path;
use std::time::Duration;

use super::figure::{Figure, whole};
use super::plane::{Plane, Webhooks};
use crate::Scene;
use crate::faults::{bad_day, scene};
use crate::preload::Shim;

/// Seconds that the clock is off, one after the other.
const CLOCK: [i64; 6] = [90, -90, 200, 0, -200, 0];

/// Measures it.
pub(super) async fn measure(penstock: &Path, lasts: Duration) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::InPlace).await;
    let shim = Shim::new();
    let builder = Scene::builder("faults").program(penstock);
    let (builder, proxy) = scene(builder, plane.access(), &shim).await;
    let scene = builder.start().await;
    let found = bad_day(&scene, &proxy, &shim, rand::random(), lasts, &CLOCK).await;
    let (api_broken, api_passed) = found.api;
    let (gitlab_calls, gitlab_broken) = found.gitlab;
    let calls = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let percent = |part: f64, all: f64| 100.0 * part / all;
    vec![
        Figure::at_most(
            "acknowledged deliveries without a run",
            whole(found.lost.len()),
            "deliveries",
            0.0,
        ),
        Figure::at_most("runs doubled", whole(found.doubled.len()), "runs", 0.0),
        Figure::at_most(
            "deliveries without their final status",
            whole(found.wrong_status.len()),
            "deliveries",
            0.0,
        ),
        Figure::plain(
            "converged after the end of the faults",
            found.converged_in.as_secs_f64(),
            "s",
        ),
        Figure::plain("faults for", lasts.as_secs_f64(), "s"),
        Figure::plain(
            "deliveries acknowledged",
            whole(found.ledger.acknowledged.len()),
            "deliveries",
        ),
        Figure::plain(
            "done while it was bad",
            whole(found.done_before),
            "deliveries",
        ),
        Figure::plain(
            "calls to the API server that failed",
            percent(calls(api_broken), calls(api_broken + api_passed)),
            "%",
        ),
        Figure::plain(
            "calls to GitLab that failed",
            percent(whole(gitlab_broken), whole(gitlab_calls)),
            "%",
        ),
        Figure::plain("watches cut", calls(found.watches), "watches"),
        Figure::plain("steps of the clock", whole(found.steps), "steps"),
    ]
}
