//! Hostile plugins beside each other in one server: each is stopped by its own limit, recorded, and `explain` shows which; nothing of them is left.

use std::path::Path;

use penstock_doubles::gitlab::{Break, Fault, Push};
use penstock_guests::{Behaviour, Settings};
use penstock_tests::manifest::short_lived;
use penstock_tests::plugin::guest;
use penstock_tests::scene::PROJECT;
use penstock_tests::wait::until;
use penstock_tests::{Plugin, Route, Scene};
use penstock_written_guests::{
    answers_a_gibibyte, answers_a_million_effects, answers_no_case, answers_no_text, empty,
    grows_a_table, grows_memories, leaks_handles, takes_minutes, trigger, with_instances,
};
use serde_json::Value;

fn told_to(name: &str, behaviour: Behaviour) -> Plugin {
    Plugin::misbehave(name, behaviour)
}

/// Each with the word that it must end with.
fn failing(folder: &Path) -> Vec<(&'static str, Plugin)> {
    let bad = told_to;
    vec![
        ("trap", bad("traps", Behaviour::Trap)),
        (
            "cpu-exceeded",
            bad("loops", Behaviour::Loop).limit("cpu", "100ms"),
        ),
        (
            "deadline-passed",
            bad("dawdles", Behaviour::Loop)
                .limit("cpu", "60s")
                .limit("deadline", "100ms"),
        ),
        (
            "memory-exceeded",
            bad("eats", Behaviour::Memory { bytes: None }),
        ),
        (
            "stack-overflow",
            bad("recurses", Behaviour::Recursion { depth: None }),
        ),
        (
            "host-calls-exceeded",
            bad("asks", Behaviour::HostCalls { count: None }),
        ),
        (
            "host-bytes-exceeded",
            bad("reads", Behaviour::HostBytes { count: None }).limit("total-bytes", "4KiB"),
        ),
        (
            "record-exceeded",
            bad("tells", Behaviour::HostBytes { count: None }).limit("record", "8KiB"),
        ),
        (
            "output-exceeded",
            bad("shouts", Behaviour::BigAnswer { bytes: 4 << 20 }),
        ),
        (
            "effects-exceeded",
            bad("wants", Behaviour::ManyEffects { count: 65 }),
        ),
        (
            "state-exceeded",
            bad(
                "hoards",
                Behaviour::StateGrow {
                    count: None,
                    bytes: 10,
                },
            ),
        ),
        (
            "handles-exceeded",
            written("holds", folder, &leaks_handles()),
        ),
        ("bad-answer", written("babbles", folder, &answers_no_text())),
        ("bad-answer", written("invents", folder, &answers_no_case())),
        (
            "memory-exceeded",
            written("eats-by-three", folder, &grows_memories()),
        ),
        (
            "memory-exceeded",
            written("lays-tables", folder, &grows_a_table()).limit("memory", "384KiB"),
        ),
        (
            "output-exceeded",
            written("claims", folder, &answers_a_gibibyte()).limit("memory", "1100MiB"),
        ),
        (
            "output-exceeded",
            written("demands", folder, &answers_a_million_effects()).limit("memory", "1100MiB"),
        ),
        (
            "deadline-passed",
            bad("hangs", Behaviour::EchoLookups)
                .grant("fetch", serde_json::json!(["files.example"]))
                .limit("deadline", "200ms"),
        ),
    ]
}

/// Goes on, and most of what it says is lost.
fn floods() -> Plugin {
    let behaviour = Behaviour::LogFlood {
        count: Some(90),
        bytes: 1000,
    };
    told_to("floods", behaviour)
}

/// Each with what `explain` must say about it: none of them ever runs.
fn refused(folder: &Path) -> Vec<(&'static str, Plugin)> {
    let settings = "export penstock:plugin/settings@0.1.0;";
    let two = format!(
        "{settings} export penstock:plugin/trigger@0.1.0; export penstock:plugin/approval@0.1.0;"
    );
    let core = b"\0asm\x01\0\0\0";
    let mut large = b"\0asm\x0d\0\x01\0".to_vec();
    large.resize(200 << 20, 0);
    let in_validate = serde_json::to_value(Settings {
        behaviour: Behaviour::Loop,
        in_validate: true,
    });
    vec![
        (
            "`delivery`",
            told_to("ungranted", Behaviour::Nothing).grant("delivery", false.into()),
        ),
        ("exports both", written("two-kinds", folder, &empty(&two))),
        ("core WebAssembly module", written("core", folder, core)),
        ("209715200 bytes", written("large", folder, &large)),
        (
            "cpu-exceeded",
            written(
                "starts-for-ever",
                folder,
                &trigger("(func $start (loop (br 0))) (start $start)", ""),
            )
            .limit("cpu", "100ms"),
        ),
        (
            "cpu-exceeded",
            Plugin::new("checks-for-ever", &guest("misbehave"))
                .settings(in_validate.unwrap())
                .limit("cpu", "100ms"),
        ),
        (
            "bytes of memory and tables",
            written("begins-large", folder, &trigger("(memory $more 2000)", "")),
        ),
        (
            "20 memories",
            written("remembers", folder, &trigger(&"(memory 1)".repeat(19), "")),
        ),
        (
            "core instances and 64 are allowed",
            written("multiplies", folder, &with_instances(&trigger("", ""), 70)),
        ),
    ]
}

fn written(name: &str, folder: &Path, wasm: &[u8]) -> Plugin {
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, wasm).unwrap();
    Plugin::new(name, &file)
}

fn route_of<'a>(told: &'a Value, plugin: &Plugin) -> &'a Value {
    told["routes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["route"] == format!("acme/** {}", plugin.name))
        .unwrap_or_else(|| panic!("no route to {} in {told:#}", plugin.name))
}

/// Bytes that a process holds, the files that it maps left out.
fn held(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kib * 1024
}

async fn push(scene: &Scene, branch: &str) -> String {
    let push = Push::new(PROJECT, branch, "alice").write("a.txt", branch.to_owned());
    scene.send_one(&scene.gitlab.push(push)).await
}

#[tokio::test]
async fn explain_shows_by_which_limit_each_hostile_plugin_was_stopped_and_nothing_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let bad = failing(folder.path());
    let mut scene = Scene::builder("hostile");
    for (_, plugin) in &bad {
        scene = scene.plugin(plugin.clone());
    }
    let scene = scene
        .plugin(Plugin::starts("good", &short_lived()))
        .plugin(floods())
        .start()
        .await;
    // One plugin alone reads a folder.
    let folders = Fault::new("GET", "/repository/tree", Break::Hang);
    scene.gitlab.order(folders);
    let delivery = push(&scene, "topic").await;
    scene.run_of(&delivery).await;
    let told = scene.outcome(&delivery, "failed").await;
    let said = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(said.success, "{}", said.err);
    for (word, plugin) in &bad {
        let route = route_of(&told, plugin);
        assert_eq!(route["outcome"], "failed", "{route:#}");
        let why = route["why"].as_str().unwrap_or_default();
        assert!(why.starts_with(&format!("{word}:")), "{word}: {route:#}");
        assert!(
            said.out.contains(&format!("{word}:")),
            "{word} is not in\n{}",
            said.out
        );
        let counted = format!(
            r#"penstock_plugin_failures_total{{plugin="{}",kind="{word}"}} "#,
            plugin.name
        );
        scene.penstock.counted(&counted).await;
    }
    let good = Plugin::starts("good", &short_lived());
    let route = route_of(&told, &good);
    assert_eq!(route["outcome"], "decided", "{route:#}");

    let route = route_of(&told, &floods());
    assert_eq!(route["outcome"], "decided", "{route:#}");
    let dropped = route["usage"]["log_dropped"].as_u64().unwrap();
    assert!(dropped > 20_000, "{route:#}");
    let says = format!("dropped {dropped} bytes of its log");
    assert!(said.out.contains(&says), "{says} is not in\n{}", said.out);

    // The first rounds bring up what stays: pools, caches, threads. Of what later rounds take nothing is left, also if it is but half a MiB for one
    // call of one of them.
    let rounds = async |numbers: std::ops::Range<u32>| {
        let mut sent = Vec::new();
        for n in numbers {
            sent.push(push(&scene, &format!("round-{n}")).await);
        }
        for delivery in sent {
            scene.outcome(&delivery, "failed").await;
        }
    };
    rounds(0..10).await;
    rounds(10..20).await;
    let before = held(scene.penstock.pid());
    rounds(20..30).await;
    rounds(30..40).await;
    rounds(40..50).await;
    let most = before + (12 << 20);
    until("the host's memory back where it was", async || {
        (held(scene.penstock.pid()) < most).then_some(())
    })
    .await;
}

#[tokio::test]
async fn explain_shows_why_a_hostile_component_is_not_even_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let bad = refused(folder.path());
    let mut scene = Scene::builder("unloaded")
        .plugin(Plugin::starts("good", &short_lived()))
        .prepare()
        .await;
    let add = |config: &mut Value, key: &str, value: Value| {
        config[key].as_array_mut().unwrap().push(value);
    };
    scene.reconfigure(|config| {
        for (_, plugin) in &bad {
            add(config, "plugins", plugin.yaml());
            add(config, "routes", Route::to(&plugin.name).yaml());
        }
    });
    scene.penstock.restart().await;
    let delivery = push(&scene, "topic").await;
    scene.run_of(&delivery).await;
    for (says, plugin) in &bad {
        until("a word about the component", async || {
            let told = scene.explain(&delivery).await;
            let route = route_of(&told, plugin);
            assert_eq!(route["outcome"], "waiting", "{route:#}");
            let why = route["why"].as_str().unwrap_or_default();
            if !why.contains("does not load") {
                return None;
            }
            assert!(why.contains(says), "{says}: {route:#}");
            Some(())
        })
        .await;
    }
    let checked = scene.penstock.text_command(&["check", "--offline"]).await;
    assert!(!checked.success, "{}", checked.out);
    for (says, plugin) in &bad {
        let all = format!("{}{}", checked.out, checked.err);
        assert!(all.contains(&plugin.name) && all.contains(says), "{all}");
    }
}

#[tokio::test]
async fn nothing_inside_can_be_fetched_whatever_is_granted() {
    let hosts = ["127.0.0.1", "localhost", "169.254.169.254"];
    let urls: Vec<String> = hosts
        .iter()
        .map(|host| format!("https://{host}/latest/meta-data/"))
        .collect();
    let fetching = told_to("fetches", Behaviour::Fetch { urls: urls.clone() })
        .grant("fetch", serde_json::json!(hosts));
    let scene = Scene::builder("fetch")
        .plugin_by(fetching, Route::to("fetches").on(&["push"]))
        .start()
        .await;
    let delivery = push(&scene, "topic").await;
    let told = scene.outcome(&delivery, "decided").await;
    let reasons = told["routes"][0]["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), urls.len(), "{told:#}");
    for (reason, url) in reasons.iter().zip(&urls) {
        let reason = reason.as_str().unwrap();
        assert!(
            reason.starts_with(url) && reason.contains("Denied"),
            "{reason}"
        );
    }
    let said = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(
        said.out.contains("does not lead to a public address"),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn a_storm_of_calls_on_one_key_counts_each_of_them_once() {
    let counter = told_to(
        "counter",
        Behaviour::StateSlowCount {
            key: "pushes".to_owned(),
            turns: 30_000_000,
        },
    )
    // Each of its calls is to end by itself, on a busy machine too.
    .limit("cpu", "20s")
    .limit("deadline", "5m");
    let scene = Scene::builder("storm")
        .plugin_by(counter, Route::to("counter").on(&["push"]))
        .start()
        .await;
    // Some must meet, or this would show nothing: pushes come until that was seen.
    let anew = "the state changed under a call; it is made anew";
    let mut sent = Vec::new();
    while !scene.penstock.logs().contains(anew) {
        assert!(sent.len() < 400, "they never met");
        for _ in 0..40 {
            sent.push(push(&scene, &format!("topic-{}", sent.len())).await);
        }
        let outcomes = scene.settled().await;
        assert_eq!(outcomes["decided"], sent.len() as u64, "{outcomes:?}");
    }
    let mut counts = Vec::new();
    for delivery in sent {
        let told = scene.explain(&delivery).await;
        let reason = told["routes"][0]["reasons"][0].as_str().unwrap();
        let count: u64 = reason.strip_prefix("count is ").unwrap().parse().unwrap();
        counts.push(count);
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn hostile_guests_in_python_and_javascript_are_stopped_too() {
    let of = |name: &str, file: &str, way: &str| {
        Plugin::new(name, &guest(file))
            .settings(serde_json::json!({ "do": way }))
            .limit("memory", "128MiB")
            // Guests give way to all others: on a busy machine two seconds of theirs take minutes.
            .limit("deadline", "10m")
    };
    let bad = [
        (
            "cpu-exceeded",
            of("snake", "misbehave-python", "loop").limit("cpu", "2s"),
        ),
        (
            "host-calls-exceeded",
            of("coffee", "misbehave-javascript", "host-calls"),
        ),
    ];
    let mut scene = Scene::builder("languages");
    for (_, plugin) in &bad {
        scene = scene.plugin_by(plugin.clone(), Route::to(&plugin.name).on(&["push"]));
    }
    let scene = scene.start().await;
    let delivery = push(&scene, "topic").await;
    // They are large, and compiled by a process that gives way to all others.
    let told = until_compiled("an outcome", async || {
        let told = scene.explain(&delivery).await;
        Ok((told["delivery"]["outcome"] == "failed").then_some(told))
    })
    .await;
    for (word, plugin) in &bad {
        let route = route_of(&told, plugin);
        let why = route["why"].as_str().unwrap_or_default();
        assert!(why.starts_with(&format!("{word}:")), "{word}: {route:#}");
    }
}

/// As [`until`], for as long as compiling may take.
async fn until_compiled<T>(
    what: &str,
    condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> T {
    let limit = std::time::Duration::from_secs(300);
    let found = penstock_control_plane::wait::until(what, limit, condition);
    found.await.unwrap_or_else(|error| panic!("{error:#}"))
}

#[tokio::test]
async fn a_component_that_takes_minutes_to_compile_is_refused_by_a_child_that_has_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let slow = written("slow", folder.path(), &takes_minutes());
    let mut scene = Scene::builder("slow")
        .environment("PENSTOCK_TEST_SECRET", "hunter2")
        .prepare()
        .await;
    scene.reconfigure(|config| {
        config["plugins"] = serde_json::json!([slow.yaml()]);
        config["routes"] = serde_json::json!([Route::to(&slow.name).yaml()]);
    });
    scene.penstock.restart().await;
    let delivery = push(&scene, "topic").await;
    let child = until("a compiling child that is confined", async || {
        let children = children(scene.penstock.pid());
        children
            .into_iter()
            .find(|child| file_of(*child, "status").contains("Seccomp:\t2"))
    })
    .await;
    assert_eq!(file_of(child, "environ"), "", "no environment");
    let limits = file_of(child, "limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let soft = line[name.len()..].split_whitespace().next().unwrap();
        soft.parse::<u64>().unwrap()
    };
    assert_eq!(limit("Max address space"), 3 << 30, "{limits}");
    assert_eq!(limit("Max cpu time"), 61, "{limits}");
    assert_eq!(limit("Max file size"), 0, "{limits}");
    assert_eq!(limit("Max open files"), 16, "{limits}");
    let folder = std::fs::read_link(format!("/proc/{child}/cwd")).unwrap();
    assert_eq!(folder, Path::new("/"));
    until_compiled("a word about the component", async || {
        let told = scene.explain(&delivery).await;
        let route = route_of(&told, &slow);
        assert_eq!(route["outcome"], "waiting", "{route:#}");
        let why = route["why"].as_str().unwrap_or_default();
        if !why.contains("does not load") {
            return Ok(None);
        }
        assert!(why.contains("compiling took longer than"), "{route:#}");
        Ok(Some(()))
    })
    .await;
}

/// A file about a process; empty if it has ended.
fn file_of(process: u32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default()
}

/// Processes that a process started.
fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|them| {
            let ids = them.split_whitespace().map(|id| id.parse().unwrap());
            ids.collect::<Vec<u32>>()
        })
        .collect()
}
