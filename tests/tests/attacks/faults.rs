//! Half a minute of a bad day; `cargo xtask measure faults` makes it ten.

use std::time::Duration;

use penstock_tests::Scene;
use penstock_tests::faults::{LEAST, STEPS, WATCHES, bad_day, scene};
use penstock_tests::preload::Shim;

/// Of so many calls so many fail, in each run of the test: which ones those are is left to the moment.
const SEED: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_fails_for_a_while_and_all_is_done_in_the_end() {
    let access = penstock_control_plane::shared().await.unwrap();
    let shim = Shim::new();
    let (builder, proxy) = scene(Scene::builder("faults"), access, &shim).await;
    let scene = builder.start().await;
    let lasts = Duration::from_secs(30);
    let found = bad_day(&scene, &proxy, &shim, SEED, lasts, &[5, -5, 0]).await;
    println!(
        "{} acknowledged, {} done while it was bad, the rest {:?} after; API server {:?} broken and passed, GitLab {:?} all and broken, {} watches cut, {} steps of the clock",
        found.ledger.acknowledged.len(),
        found.done_before,
        found.converged_in,
        found.api,
        found.gitlab,
        found.watches,
        found.steps,
    );
    assert!(found.lost.is_empty(), "without a run: {:?}", found.lost);
    assert!(found.doubled.is_empty(), "doubled: {:?}", found.doubled);
    assert!(
        found.wrong_status.is_empty(),
        "without their final status: {:?}\n{}",
        found.wrong_status,
        scene.penstock.log_tail()
    );
    assert!(
        found.ledger.acknowledged.len() > LEAST,
        "too few to mean anything"
    );
    assert!(found.watches > WATCHES, "no watch was cut");
    assert!(found.steps > STEPS, "the clock was not stepped");
    let (broken, passed) = found.api;
    let of_api = 100 * broken / (broken + passed).max(1);
    let (all, broken) = found.gitlab;
    let of_gitlab = 100 * broken / all.max(1);
    assert!(
        of_api >= 20 && of_gitlab >= 20,
        "the day was not bad: {of_api} % of the calls to the API server and {of_gitlab} % of those to GitLab were broken"
    );
}
