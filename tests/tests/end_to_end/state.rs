//! What a plugin keeps commits with its decision, or not at all.

use std::time::Duration;

use penstock_doubles::gitlab::Push;
use penstock_guests::Behaviour;
use penstock_tests::burst::{Ledger, moment, pushes, send_within};
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene};

fn counter() -> Plugin {
    Plugin::misbehave(
        "counter",
        Behaviour::StateCount {
            key: "pushes".to_owned(),
        },
    )
}

/// The counts that the deliveries were decided with, sorted.
async fn counts(scene: &Scene, deliveries: impl IntoIterator<Item = String>) -> Vec<u64> {
    let mut counts = Vec::new();
    for delivery in deliveries {
        let told = scene.explain(&delivery).await;
        assert_eq!(told["delivery"]["outcome"], "decided", "{told:#}");
        let reason = told["routes"][0]["reasons"][0].as_str().unwrap();
        counts.push(reason.strip_prefix("count is ").unwrap().parse().unwrap());
    }
    counts.sort_unstable();
    counts
}

#[tokio::test]
async fn each_push_is_counted_once_also_when_calls_meet() {
    let scene = Scene::builder("count")
        .plugin_by(counter(), Route::to("counter").on(&["push"]))
        .start()
        .await;
    let mut sent = Vec::new();
    for branch in 0..8 {
        let push = Push::new(PROJECT, &format!("topic-{branch}"), "alice").write("a.txt", "a");
        sent.push(scene.send_one(&scene.gitlab.push(push)).await);
    }
    scene.settled().await;
    assert_eq!(counts(&scene, sent).await, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_write_of_a_call_that_fails_is_not_kept() {
    let failing = Plugin::misbehave("counter", Behaviour::StateThenError);
    let mut scene = Scene::builder("unkept")
        .plugin_by(failing, Route::to("counter").on(&["push"]))
        .start()
        .await;
    let push = |n: u32| {
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", n.to_string()))
    };
    let failed = scene.send_one(&push(1)).await;
    scene.outcome(&failed, "failed").await;
    let second = push(2);
    let counting = Plugin::misbehave(
        "counter",
        Behaviour::StateCount {
            key: "left-behind".to_owned(),
        },
    )
    .yaml();
    scene.reconfigure(|config| config["plugins"][0] = counting);
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let delivery = scene.send_one(&second).await;
    scene.outcome(&delivery, "decided").await;
    assert_eq!(counts(&scene, [delivery]).await, [1]);
}

#[tokio::test]
async fn a_counter_is_right_after_many_kills_between_its_write_and_the_commit() {
    let mut scene = Scene::builder("killed")
        .plugin_by(counter(), Route::to("counter").on(&["push"]))
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 1_000_000.into())
        .start()
        .await;
    let mut ledger = Ledger::default();
    for _ in 0..25 {
        let at = moment(Duration::from_millis(20), Duration::from_millis(250));
        let sending = tokio::spawn(send_within(
            scene.poster(),
            pushes(&scene, 6),
            at.mul_f64(1.2),
        ));
        // The moment of the crash is drawn, so that over the rounds it meets every step.
        tokio::time::sleep(at).await;
        scene.penstock.kill9();
        for (delivery, answer) in sending.await.unwrap() {
            ledger.note(delivery, answer);
        }
        scene.penstock.restart().await;
    }
    let outcomes = scene.settled().await;
    let decided = outcomes["decided"];
    assert_eq!(outcomes.values().sum::<u64>(), decided, "{outcomes:?}");
    assert!(decided >= ledger.acknowledged.len() as u64);
    // Some were taken in and their answer was lost: they were decided all the same.
    let mut known: Vec<String> = ledger.acknowledged.iter().cloned().collect();
    for id in ledger.unanswered.keys() {
        if scene.explain(id).await["delivery"]["outcome"] == "decided" {
            known.push(id.clone());
        }
    }
    assert_eq!(
        counts(&scene, known).await,
        (1..=decided).collect::<Vec<_>>()
    );
}
