//! What a plugin keeps commits with its decision, or not at all.

use std::time::Duration;

use penstock_doubles::gitlab::Push;
use penstock_doubles::proxy::{Then, Where};
use penstock_guests::Behaviour;
use penstock_tests::burst::{Ledger, moment, pushes, send_within};
use penstock_tests::proxied;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::Value;

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
async fn a_counter_is_right_after_a_kill_between_its_write_and_the_commit() {
    let counter = Plugin::misbehave(
        "counter",
        Behaviour::StateCountAndRead {
            key: "pushes".to_owned(),
            path: "a.txt".to_owned(),
        },
    )
    .grant("gitlab-read", serde_json::json!(["files"]));
    let builder = Scene::builder("between").plugin_by(counter, Route::to("counter").on(&["push"]));
    let (builder, proxy) = proxied::gitlab(builder).await;
    let mut scene = builder.start().await;
    let push = |n: u32| {
        let push = Push::new(PROJECT, &format!("topic-{n}"), "alice").write("a.txt", "a");
        scene.gitlab.push(push)
    };
    let (first, second) = (push(1), push(2));
    let mut held = proxy.hold("GET", "/repository/files/a\\.txt", Where::Request);
    let first = scene.send_one(&first).await;
    // It has written its count and waits for GitLab: nothing of the call is in the store.
    held.reached().await;
    scene.penstock.kill9();
    held.then(Then::GoOn);
    scene.penstock.restart().await;
    scene.outcome(&first, "decided").await;
    let second = scene.send_one(&second).await;
    scene.outcome(&second, "decided").await;
    assert_eq!(counts(&scene, [first, second]).await, [1, 2]);
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
        let sure = pushes(&scene, 1).remove(0);
        ledger.surely(&scene, sure).await;
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

/// It failed with this word, and what the plugin answered stands in a record that can be run again.
async fn withheld(scene: &Scene, delivery: &str, told: &Value, word: &str) {
    let route = &told["routes"][0];
    let why = route["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("{word}: ")), "{route:#}");
    assert_eq!(route["answer"], word, "{route:#}");
    assert!(route["record"].is_string(), "{route:#}");
    assert!(route["usage"]["host_calls"].as_u64() > Some(1), "{route:#}");
    let again = ["explain", delivery, "--rerun"];
    let rerun = scene.penstock.command(&again).await.json();
    assert_eq!(rerun["rerun"][0]["result"], "same", "{rerun:#}");
    let counted = format!(r#"penstock_plugin_failures_total{{plugin="counter",kind="{word}"}} 1"#);
    scene.penstock.counted(&counted).await;
}

#[tokio::test]
async fn a_plugin_that_fills_its_state_is_told_so_and_the_call_stands_in_a_record() {
    let hoarder = Plugin::misbehave(
        "counter",
        Behaviour::StateGrow {
            count: Some(1001),
            bytes: 1,
        },
    );
    let scene = Scene::builder("full")
        .plugin_by(hoarder, Route::to("counter").on(&["push"]))
        .edit(|config| {
            let limits = &mut config["plugins"][0]["limits"];
            limits["state-keys"] = 2000.into();
            limits["host-calls"] = 5000.into();
        })
        .start()
        .await;
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", "a");
    let delivery = scene.send_one(&scene.gitlab.push(push)).await;
    let told = scene.outcome(&delivery, "failed").await;
    withheld(&scene, &delivery, &told, "state-full").await;
    let why = told["routes"][0]["why"].as_str().unwrap();
    assert!(why.contains("more than 1000 keys"), "{why}");
    assert!(why.contains("let it remove keys"), "{why}");
    let store = scene.store();
    let kept: i64 = store
        .query_row("SELECT count(*) FROM plugin_state", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0, "nothing of it is kept");
}

/// Lets somebody be quicker from now on, each time that the host is about to keep a decision: when it compares what the call read, that has changed.
fn others_are_quicker(scene: &Scene) {
    for (rule, when) in [("quicker", "INSERT"), ("quicker_later", "UPDATE")] {
        let rule = format!(
            "CREATE TRIGGER {rule} AFTER {when} ON routes WHEN NEW.outcome = 'decided' \
             BEGIN UPDATE plugin_state SET version = version + 1; END"
        );
        scene.store().execute_batch(&rule).unwrap();
    }
}

/// A store that refuses what one statement does, now and for ever: a rule of the database, as a constraint of an operator's own would be.
fn refuse(scene: &Scene, rule: &str, on: &str) {
    let rule =
        format!("CREATE TRIGGER {rule} {on} BEGIN SELECT RAISE(ABORT, 'not in this house'); END");
    scene.store().execute_batch(&rule).unwrap();
}

#[tokio::test]
async fn a_decision_that_the_store_refuses_fails_with_its_words_and_the_call_stands_in_a_record() {
    let scene = Scene::builder("refused")
        .plugin_by(counter(), Route::to("counter").on(&["push"]))
        .start()
        .await;
    refuse(&scene, "no_state", "BEFORE INSERT ON plugin_state");
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", "a");
    let delivery = scene.send_one(&scene.gitlab.push(push)).await;
    let told = scene.outcome(&delivery, "failed").await;
    withheld(&scene, &delivery, &told, "not-stored").await;
    let why = told["routes"][0]["why"].as_str().unwrap();
    assert!(why.contains("not in this house"), "{why}");
    let said = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(said.out.contains("not-stored: "), "{}", said.out);

    // Once the store takes it, it is decided as if nothing had been.
    scene
        .store()
        .execute_batch("DROP TRIGGER no_state")
        .unwrap();
    let again = ["deliveries", "retry", &delivery];
    let retried = scene.penstock.text_command(&again).await;
    assert!(retried.success, "{}", retried.err);
    let told = scene.outcome(&delivery, "decided").await;
    let routes = told["routes"].as_array().unwrap();
    let second = routes.iter().find(|it| it["attempt"] == 2).unwrap();
    assert_eq!(second["reasons"][0], "count is 1", "{told:#}");
}

#[tokio::test]
async fn where_even_the_record_is_refused_the_failure_is_told_without_it() {
    let scene = Scene::builder("unrecorded")
        .plugin_by(counter(), Route::to("counter").on(&["push"]))
        .start()
        .await;
    // Written with the route, or later.
    for (rule, when) in [("no_record", "INSERT"), ("no_later_record", "UPDATE")] {
        let on = format!("BEFORE {when} ON routes WHEN NEW.record IS NOT NULL");
        refuse(&scene, rule, &on);
    }
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", "a");
    let delivery = scene.send_one(&scene.gitlab.push(push)).await;
    let told = scene.outcome(&delivery, "failed").await;
    let route = &told["routes"][0];
    let why = route["why"].as_str().unwrap();
    assert!(why.starts_with("not-stored: "), "{route:#}");
    assert!(why.contains("not in this house"), "{route:#}");
    assert!(route["record"].is_null(), "{route:#}");
    let store = scene.store();
    let kept: i64 = store
        .query_row("SELECT count(*) FROM plugin_state", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0, "nothing of it is kept");
}

#[tokio::test]
async fn a_call_that_loses_its_state_every_time_fails_with_a_record_that_can_be_run_again() {
    let scene = Scene::builder("lost")
        .plugin_by(counter(), Route::to("counter").on(&["push"]))
        .start()
        .await;
    let push = |n: u32| {
        let push = Push::new(PROJECT, "topic", "alice").write("a.txt", n.to_string());
        scene.gitlab.push(push)
    };
    let first = scene.send_one(&push(1)).await;
    scene.outcome(&first, "decided").await;
    // Somebody writes the key each time while the plugin decides.
    others_are_quicker(&scene);
    let second = scene.send_one(&push(2)).await;
    let told = until("an outcome", async || {
        let told = scene.explain(&second).await;
        let outcome = told["delivery"]["outcome"].as_str()?;
        (outcome != "waiting").then_some(told)
    })
    .await;
    assert_eq!(told["delivery"]["outcome"], "failed", "{told:#}");
    withheld(&scene, &second, &told, "state-conflict").await;
    let anew = until("five calls that were made anew", async || {
        let logs = scene.penstock.logs();
        let anew = logs.matches("the state changed under a call").count();
        (anew >= 5).then_some(anew)
    });
    assert_eq!(anew.await, 5);
    let store = scene.store();
    let value: String = store
        .query_row("SELECT CAST(value AS TEXT) FROM plugin_state", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(value, "1", "nothing of it is kept");
}
