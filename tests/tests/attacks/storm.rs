//! Two replicas whose calls all write one key of a plugin's state: each is counted once, whichever replica made it.

use std::collections::BTreeMap;

use penstock_doubles::gitlab::Push;
use penstock_guests::Behaviour;
use penstock_tests::burst::id;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Postgres, Route, Scene, until};

/// So many pushes go to the two of them in one burst, each in a lane of its own.
const BURST: usize = 40;

/// What a replica logs when the state changed under a call of its own.
const ANEW: &str = "the state changed under a call; it is made anew";

/// The count that a delivery was decided with.
async fn count(scene: &Scene, delivery: &str) -> u64 {
    let told = scene.outcome(delivery, "decided").await;
    // An attempt before it that lost its state is shown too.
    let mut routes = told["routes"].as_array().unwrap().iter();
    let route = routes.find(|it| it["outcome"] == "decided").unwrap();
    let reason = route["reasons"][0].as_str().unwrap();
    reason.strip_prefix("count is ").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_two_replicas_on_one_key_are_each_counted_once() {
    let server = Postgres::start().await;
    let counter = Plugin::misbehave(
        "counter",
        Behaviour::StateSlowCount {
            key: "pushes".to_owned(),
            turns: 30_000_000,
        },
    );
    let scene = Scene::builder("storm")
        .postgres(&server)
        .plugin_by(counter, Route::to("counter").on(&["push"]))
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into())
        .start()
        .await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let logs = || [scene.penstock.logs(), second.logs()];

    // Both decide, and both lose a call to another's: bursts come until that was seen.
    let mut sent = Vec::new();
    let mut bursts = 0;
    while !logs()
        .iter()
        .all(|log| log.contains(ANEW) && log.contains("decided"))
    {
        bursts += 1;
        assert!(bursts <= 10, "the replicas never met");
        let posting = (0..BURST).map(|n| {
            let push = Push::new(PROJECT, &format!("topic-{bursts}-{n}"), "alice")
                .write("a.txt", n.to_string());
            let mut delivery = scene.gitlab.push(push).delivery(scene.hook);
            if n % 2 == 0 {
                delivery.url = delivery.url.replace(scene.url(), &second_url);
            }
            let scene = &scene;
            async move {
                let answer = scene.post(&delivery).await;
                assert_eq!(answer.status, 202, "{answer:?}");
                id(&delivery)
            }
        });
        sent.extend(futures_util::future::join_all(posting).await);
        scene.settled().await;
    }

    // One that lost its state five times in a row has failed, as it is written, and goes again by hand.
    let mut failed = 0;
    for delivery in &sent {
        let told = until("an outcome", async || {
            let told = scene.explain(delivery).await;
            let outcome = told["delivery"]["outcome"].as_str()?;
            (outcome != "waiting").then_some(told)
        })
        .await;
        if told["delivery"]["outcome"] == "decided" {
            continue;
        }
        failed += 1;
        let why = told["routes"][0]["why"].as_str().unwrap_or_default();
        assert!(why.starts_with("state-conflict: "), "{told:#}");
        let again = ["deliveries", "retry", delivery];
        let retried = scene.penstock.text_command(&again).await;
        assert!(retried.success, "{}", retried.err);
        scene.outcome(delivery, "decided").await;
    }

    let mut by_count = BTreeMap::new();
    for delivery in &sent {
        by_count
            .entry(count(&scene, delivery).await)
            .or_insert_with(Vec::new)
            .push(delivery);
    }
    let expect: Vec<u64> = (1..=sent.len() as u64).collect();
    let found: Vec<u64> = by_count.keys().copied().collect();
    assert_eq!(found, expect, "{by_count:?}");
    let kept =
        server.number("SELECT convert_from(value, 'UTF8') FROM plugin_state WHERE key = 'pushes'");
    assert_eq!(kept, sent.len() as u64, "the state itself");
    let anew: usize = logs().iter().map(|log| log.matches(ANEW).count()).sum();
    println!(
        "{} calls by two replicas on one key: {anew} were made anew, {failed} went again by hand",
        sent.len()
    );
}
