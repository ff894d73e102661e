//! The disk is full, read-only or torn: nothing is taken in that is not kept, it is said why, and it goes on by itself when it can.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use penstock_tests::burst::{Ledger, pushes, send_within};
use penstock_tests::power::scene;
use penstock_tests::preload::Shim;
use penstock_tests::{Scene, until};

/// While the disk is like this, nothing is taken in; when it is well again, everything goes on by itself, once.
async fn check(name: &str, spoil: fn(&Shim, bool), says: &str) {
    let shim = Shim::new();
    let scene = scene(name, &shim).start().await;
    let mut ledger = Ledger::default();
    let before = pushes(&scene, 1).remove(0);
    ledger.surely(&scene, before).await;
    // In the middle of a burst, so that decisions and effects are under way.
    let load = pushes(&scene, 30);
    let sending = tokio::spawn(send_within(
        scene.poster(),
        load,
        Duration::from_millis(300),
    ));
    tokio::time::sleep(Duration::from_millis(150)).await;
    spoil(&shim, true);
    for (delivery, answer) in sending.await.unwrap() {
        ledger.note(delivery, answer);
    }
    // A slow disk may first make it say that the store does not answer.
    until(&format!("a host that is not ready: {says}"), async || {
        let (status, body) = scene.penstock.get("/readyz").await?;
        (status == 503 && body.contains(says)).then_some(())
    })
    .await;
    assert_eq!(scene.penstock.get("/healthz").await.unwrap().0, 200);
    for delivery in ledger.again(3).into_iter().chain(pushes(&scene, 2)) {
        let answer = scene.post(&delivery).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        let said = answer.body["error"].as_str().unwrap();
        assert!(said.contains("could not be stored"), "{said}");
        ledger.note(delivery, Some(answer));
    }
    scene.penstock.logged(says).await;
    assert!(
        !ledger.acknowledged.is_empty() && !ledger.unanswered.is_empty(),
        "it came in the middle"
    );
    let kept = kept(&scene, &ledger).await;
    assert_eq!(
        kept,
        ledger.acknowledged.len(),
        "of a refused one nothing is kept"
    );

    spoil(&shim, false);
    until("a host that is ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 200).then_some(())
    })
    .await;
    for delivery in ledger.again(usize::MAX) {
        let answer = scene.post(&delivery).await;
        ledger.note(delivery, Some(answer));
    }
    assert!(ledger.unanswered.is_empty());
    ledger.check(&scene).await;
}

/// How many of all deliveries that were sent the store knows.
async fn kept(scene: &Scene, ledger: &Ledger) -> usize {
    let mut kept = 0;
    for id in ledger.acknowledged.iter().chain(ledger.unanswered.keys()) {
        kept += usize::from(!scene.explain(id).await["delivery"].is_null());
    }
    kept
}

#[tokio::test]
async fn a_full_disk_answers_503_and_loses_nothing() {
    check("full", Shim::fill_disk, "full").await;
}

#[tokio::test]
async fn a_disk_that_became_read_only_answers_503_and_loses_nothing() {
    check(
        "readonly",
        Shim::read_only,
        "its file system has become read-only",
    )
    .await;
}

#[tokio::test]
async fn a_store_that_can_t_be_written_is_named_at_the_start() {
    let shim = Shim::new();
    let mut scene = scene("refusing", &shim).prepare().await;
    shim.read_only(true);
    scene.penstock.spawn();
    assert!(!scene.penstock.ended().await.success());
    let said = scene.penstock.log_tail();
    assert!(said.contains("penstock.db"), "{said}");
    shim.read_only(false);
    scene.penstock.restart().await;
}

/// Half of the database's pages are another's.
#[tokio::test]
async fn a_torn_database_takes_nothing_in_and_says_so() {
    let shim = Shim::new();
    let mut scene = scene("torn", &shim).start().await;
    let mut ledger = Ledger::default();
    for (delivery, answer) in send_within(scene.poster(), pushes(&scene, 10), Duration::ZERO).await
    {
        ledger.note(delivery, answer);
    }
    ledger.check(&scene).await;
    scene.penstock.terminate().await;
    let (runs, told) = (runs(&scene).await, scene.gitlab.calls().len());
    assert!(!runs.is_empty());
    let path = shim.disk().join("penstock.db");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in (2..pages).step_by(2) {
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
    }
    scene.penstock.spawn();
    let delivery = pushes(&scene, 1).remove(0);
    // It may notice at once, and end; or when it first reads what is torn.
    let ended = until("an answer or an end", async || {
        if scene.penstock.has_ended() {
            return Some(true);
        }
        let answer = scene.poster().post(&delivery).await?;
        assert_eq!(answer.status, 503, "{answer:?}");
        Some(false)
    })
    .await;
    if !ended {
        // It may also end now.
        let ready = scene.penstock.get("/readyz").await;
        assert!(ready.is_none_or(|(status, _)| status == 503));
    }
    scene.penstock.logged("restore it from a backup").await;
    scene.penstock.kill9();
    assert_eq!(self::runs(&scene).await, runs, "nothing was half done");
    let written = scene.gitlab.calls().split_off(told);
    let written: Vec<_> = written.iter().filter(|it| it.method != "GET").collect();
    assert!(written.is_empty(), "{written:?}");
}

/// Each run of the namespace, and what it was made to be.
async fn runs(scene: &Scene) -> BTreeMap<String, String> {
    let all = scene.runs().await.into_iter();
    all.map(|run| (run.metadata.uid.unwrap(), run.data["spec"].to_string()))
        .collect()
}
