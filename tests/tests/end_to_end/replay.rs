//! Decisions run again from the command line: from the store alone, to the same bytes, and a clear word where something is another.

use penstock_doubles::gitlab::Push;
use penstock_guests::Behaviour;
use penstock_tests::plugin::guest;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use rusqlite::params;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

async fn push(scene: &Scene, branch: &str) -> String {
    let push = Push::new(PROJECT, branch, "alice").write("a.txt", branch.to_owned());
    scene.send_one(&scene.gitlab.push(push)).await
}

/// What it fetches is not granted, so that nothing leaves this machine.
fn on_push(name: &str, behaviour: Behaviour) -> (Plugin, Route) {
    (
        Plugin::misbehave(name, behaviour).grant("fetch", json!(["files.example"])),
        Route::to(name).on(&["push"]),
    )
}

#[tokio::test]
async fn every_decision_comes_out_the_same_and_one_that_was_cut_as_far_as_it_went() {
    let mut builder = Scene::builder("replay");
    for (plugin, route) in [
        on_push("asks", Behaviour::EchoLookups),
        on_push(
            "counts",
            Behaviour::StateCount {
                key: "n".to_owned(),
            },
        ),
        on_push("traps", Behaviour::Trap),
    ] {
        builder = builder.plugin_by(plugin, route);
    }
    let (spins, route) = on_push("spins", Behaviour::Loop);
    let mut scene = builder
        .plugin_by(spins.limit("cpu", "30ms"), route)
        .start()
        .await;
    let mut last = String::new();
    for n in 0..5 {
        last = push(&scene, &format!("topic-{n}")).await;
    }
    scene.settled().await;
    // Nothing but the store is needed: neither GitLab, nor the server, nor the plugins of the configuration.
    scene.reconfigure(|config| {
        config["plugins"] = json!([]);
        config["routes"] = json!([]);
    });
    scene.penstock.terminate().await;

    let told = scene.penstock.command(&["replay", "--since", "1h"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let all = told.json();
    assert_eq!(
        (&all["decisions"], &all["same"], &all["same_prefix"]),
        (&20.into(), &15.into(), &5.into()),
        "{all:#}"
    );
    let one = ["replay", "--since", "1h", "--plugin", "counts"];
    assert_eq!(scene.penstock.command(&one).await.json()["same"], 5);
    let none = ["replay", "--since", "1ms"];
    assert_eq!(scene.penstock.command(&none).await.json()["decisions"], 0);

    let told = scene
        .penstock
        .command(&["explain", &last, "--rerun"])
        .await
        .json();
    let results: Vec<(&str, &str)> = told["rerun"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["plugin"].as_str().unwrap(),
                it["result"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            ("asks", "same"),
            ("counts", "same"),
            ("traps", "same"),
            ("spins", "same-prefix")
        ]
    );
    for (route, again) in told["routes"]
        .as_array()
        .unwrap()
        .iter()
        .zip(told["rerun"].as_array().unwrap())
    {
        assert_eq!(route["record"], again["record"], "the digest of the record");
    }
    let text = scene
        .penstock
        .text_command(&["explain", &last, "--rerun"])
        .await;
    assert!(text.out.contains("the same bytes"), "{}", text.out);
}

#[tokio::test]
async fn a_range_over_a_map_in_go_goes_the_same_way_again_by_the_seed_of_the_record_alone() {
    let goes = Plugin::new("goes", &guest("misbehave-go")).settings(json!({ "do": "map" }));
    let scene = Scene::builder("gopher")
        .plugin_by(goes, Route::to("goes").on(&["push"]))
        .start()
        .await;
    let (first, second) = (push(&scene, "one").await, push(&scene, "two").await);
    let order = async |delivery: &str| {
        let told = scene.outcome(delivery, "decided").await;
        told["routes"][0]["reasons"][0].as_str().unwrap().to_owned()
    };
    let (one, two) = (order(&first).await, order(&second).await);
    let numbers = one.split(' ').filter(|it| *it != "|").count();
    assert_eq!(numbers, 200, "four maps of fifty: {one}");
    // Go does draw it by lot, so two records with other seeds have other orders.
    assert_ne!(one, two);
    for delivery in [&first, &second] {
        let again = ["explain", delivery.as_str(), "--rerun"];
        let told = scene.penstock.command(&again).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        let rerun = told.json();
        assert_eq!(rerun["rerun"][0]["result"], "same", "{rerun:#}");
        assert_eq!(rerun["rerun"][0]["record"], rerun["routes"][0]["record"]);
    }
    // Nothing but the seed is what the lot is drawn by: with another one it goes another way.
    replace_record(&scene, &first, |record| {
        let seed = record["seed"][0].as_u64().unwrap();
        record["seed"][0] = (seed ^ 1).into();
    });
    let again = ["explain", first.as_str(), "--rerun"];
    let told = scene.penstock.text_command(&again).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(told.out.contains("outcome/plan/reasons/0"), "{}", told.out);
}

#[tokio::test]
async fn a_plugin_decides_nothing_before_its_bytes_are_in_the_store() {
    let (asks, route) = on_push("asks", Behaviour::Nothing);
    let mut scene = Scene::builder("kept").plugin_by(asks, route).start().await;
    let store = scene.store();
    let rule = "CREATE TRIGGER no_plugin BEFORE INSERT ON blobs WHEN NEW.plugin = 1 BEGIN SELECT RAISE(ABORT, 'no room'); END";
    store.execute_batch(rule).unwrap();
    let goes = Plugin::new("asks", &guest("misbehave-go")).yaml();
    scene.reconfigure(|config| config["plugins"][0] = goes);
    scene
        .penstock
        .logged("a plugin does not load; its deliveries wait")
        .await;
    let delivery = push(&scene, "topic").await;
    until("a word about the plugin", async || {
        let told = scene.explain(&delivery).await;
        assert_eq!(told["delivery"]["outcome"], "waiting", "{told:#}");
        let why = told["routes"][0]["why"].as_str()?;
        why.contains("is being loaded").then_some(())
    })
    .await;
    store.execute_batch("DROP TRIGGER no_plugin").unwrap();
    scene.outcome(&delivery, "decided").await;
    let again = ["explain", delivery.as_str(), "--rerun"];
    let told = scene.penstock.command(&again).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

/// Puts another record in the place of a decision's, with a digest that fits: what somebody would do who can write to the database.
fn replace_record(scene: &Scene, delivery: &str, change: impl Fn(&mut Value)) {
    let store = scene.store();
    let packed: Vec<u8> = store
        .query_row(
            "SELECT b.content FROM routes r JOIN blobs b ON b.digest = r.record WHERE r.delivery = ?1",
            [delivery],
            |row| row.get(0),
        )
        .unwrap();
    let bytes = match packed.split_first().unwrap() {
        (1, packed) => zstd::decode_all(packed).unwrap(),
        (_, plain) => plain.to_vec(),
    };
    let mut record: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut record);
    let changed = serde_json::to_vec(&record).unwrap();
    let digest = Sha256::digest(&changed).to_vec();
    let plain = [vec![0], changed].concat();
    store
        .execute(
            "INSERT INTO blobs (digest, size, content, plugin, touched_at) VALUES (?1, 1, ?2, 0, 9000000000000)",
            params![digest, plain],
        )
        .unwrap();
    store
        .execute(
            "UPDATE routes SET record = ?2 WHERE delivery = ?1",
            params![delivery, digest],
        )
        .unwrap();
}

#[tokio::test]
async fn what_is_another_now_is_named_with_its_place_and_ends_with_a_status_of_its_own() {
    let (asks, route) = on_push("asks", Behaviour::EchoLookups);
    let scene = Scene::builder("differs")
        .plugin_by(asks, route)
        .start()
        .await;
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(push(&scene, &format!("topic-{n}")).await);
    }
    scene.settled().await;
    replace_record(&scene, &sent[0], |record| {
        // The second question: another pointer into the payload than the plugin asks for.
        assert!(
            record["calls"][1]["lookup"]
                .to_string()
                .contains("/object_kind")
        );
        let asked = record["calls"][1]["lookup"].to_string();
        record["calls"][1]["lookup"] =
            serde_json::from_str(&asked.replace("/object_kind", "/elsewhere")).unwrap();
    });
    replace_record(&scene, &sent[1], |record| {
        record["outcome"]["plan"]["reasons"][0] = "somebody else's reason".into();
    });
    let told = scene.penstock.command(&["replay", "--since", "1h"]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    let all: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(
        (&all["same"], &all["differ"]),
        (&2.into(), &2.into()),
        "{all:#}"
    );
    let of = |delivery: &str| {
        let reports = all["reports"].as_array().unwrap();
        reports
            .iter()
            .find(|it| it["delivery"] == delivery)
            .unwrap_or_else(|| panic!("{all:#}"))
    };
    let question = of(&sent[0]);
    assert_eq!(question["position"], 2, "{question:#}");
    assert!(question["then"].to_string().contains("/elsewhere"));
    assert!(question["now"].to_string().contains("/object_kind"));
    let reason = of(&sent[1]);
    assert_eq!(reason["what"], "outcome/plan/reasons/0", "{reason:#}");
    let text = scene
        .penstock
        .text_command(&["explain", &sent[0], "--rerun"])
        .await;
    assert_eq!(text.code, Some(3));
    assert!(
        text.out
            .contains("DIFFERS: host call 2: the argument of delivery.at was"),
        "{}",
        text.out
    );

    // A record that was changed without its digest is not even run.
    let store = scene.store();
    let changed = store
        .execute(
            "UPDATE blobs SET content = x'007b7d' WHERE digest = (SELECT record FROM routes WHERE delivery = ?1)",
            [&sent[2]],
        )
        .unwrap();
    assert_eq!(changed, 1);
    let text = scene
        .penstock
        .text_command(&["explain", &sent[2], "--rerun"])
        .await;
    assert_eq!(text.code, Some(4), "{text:?}");
    assert!(text.out.contains("could not be run"), "{}", text.out);
    let plugin = "DELETE FROM blobs WHERE plugin = 1";
    assert_eq!(store.execute(plugin, []).unwrap(), 1);
    let text = scene
        .penstock
        .text_command(&["explain", &sent[3], "--rerun"])
        .await;
    assert_eq!(text.code, Some(4), "{text:?}");
    assert!(text.out.contains("not in the store"), "{}", text.out);
}
