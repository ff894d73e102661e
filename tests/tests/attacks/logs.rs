//! Whoever reads the logs stands still, with the pipe full: receiving and everything behind it goes on.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use penstock_tests::burst::{Ledger, pushes, send_within};
use penstock_tests::manifest::short_lived;
use penstock_tests::{Plugin, Route, Scene};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

#[tokio::test]
async fn logs_that_nobody_reads_hold_up_nothing() {
    let mut scene = Scene::builder("unread")
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .environment("PENSTOCK_LOG", "debug")
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into())
        .prepare()
        .await;
    let pipe = scene.penstock.log_path().to_owned();
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    // Held open, and never read: it takes 64 KiB.
    let _reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&pipe)
        .unwrap();
    scene.penstock.restart().await;
    let sending = send_within(scene.poster(), pushes(&scene, 100), Duration::from_secs(1));
    let sent = tokio::time::timeout(Duration::from_secs(90), sending).await;
    let mut ledger = Ledger::default();
    for (delivery, answer) in sent.expect("an answer to each in time") {
        ledger.note(delivery, answer);
    }
    assert_eq!(ledger.acknowledged.len(), 100);
    ledger.check(&scene).await;
}
