//! SIGTERM: takes no more, finishes or gives back, within its limit, and loses nothing.

use std::time::Duration;

use penstock_tests::burst::{Ledger, pushes, send_within};
use penstock_tests::manifest::short_lived;
use penstock_tests::{Plugin, Route, Scene};

/// What the server promises, and a little for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_host_that_is_told_to_end_under_load_ends_in_time_and_loses_nothing() {
    let mut scene = Scene::builder("shutdown")
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 1_000_000.into())
        .start()
        .await;
    let mut ledger = Ledger::default();
    let before = pushes(&scene, 1).remove(0);
    ledger.surely(&scene, before).await;
    let mut rounds = 0;
    // More than three, where none came in the middle.
    while rounds < 3 || ledger.unanswered.is_empty() && rounds < 15 {
        let load = pushes(&scene, 40);
        let sending = tokio::spawn(send_within(scene.poster(), load, Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_millis(300 * (rounds % 3 + 1))).await;
        let (status, took) = scene.penstock.terminate().await;
        assert!(
            status.success(),
            "it ends well: {status}\n{}",
            scene.penstock.log_tail()
        );
        assert!(took < LIMIT, "it took {took:?}");
        for (delivery, answer) in sending.await.unwrap() {
            ledger.note(delivery, answer);
        }
        scene.penstock.restart().await;
        rounds += 1;
    }
    assert!(
        !ledger.acknowledged.is_empty() && !ledger.unanswered.is_empty(),
        "the signal came in the middle"
    );
    ledger.check(&scene).await;
    let logs = scene.penstock.logs();
    assert_eq!(
        logs.matches("\"stopped\"").count() as u64,
        rounds,
        "each life ended by itself"
    );
}
