//! `penstock explain PROJECT@SHA` and of a merge request's address: why something did not start, also where nothing came.

use std::time::Duration;

use penstock_doubles::gitlab::{Access, Change, Proposal, Push};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene};
use serde_json::{Value, json};

/// Hooks are at the addresses that the configuration names, and GitLab shows them to Penstock's user.
async fn scene(name: &str) -> Scene {
    let rules = json!([
        { "name": "releases", "on": "push", "when": "event.branch.startsWith(\"release/\")", "template": short_lived() },
        { "name": "reviews", "on": "merge_request", "template": short_lived() },
    ]);
    Scene::builder(name)
        .plugin_by(
            Plugin::trigger_map("pipelines", rules.clone()),
            Route::to("pipelines").on(&["push"]),
        )
        .plugin_by(
            Plugin::trigger_map("tags", rules.clone()),
            Route::to("tags").on(&["tag_push"]),
        )
        .plugin_by(
            Plugin::trigger_map("others", rules),
            Route::to("others").of_tenant("other/**").on(&["note"]),
        )
        .seed(|world| {
            for group in ["acme", "other"] {
                world.member(group, "penstock", Access::Owner);
            }
        })
        .edit(|config| {
            config["public-url"] = format!("http://{}", config["listen"].as_str().unwrap()).into();
        })
        .start()
        .await
}

fn push(scene: &Scene, project: &str, branch: &str, by: &str) -> Change {
    let text = format!("{}", rand::random::<u64>());
    scene
        .gitlab
        .push(Push::new(project, branch, by).write("a.txt", text))
}

/// What `explain` says, after people were told the same.
async fn explain(scene: &Scene, what: &str) -> Value {
    let told = scene.penstock.command(&["explain", what]).await.json();
    let text = scene.penstock.text_command(&["explain", what]).await;
    assert!(text.success, "{}", text.err);
    for finding in told["findings"].as_array().unwrap() {
        for part in ["what", "detail"] {
            let part = finding[part].as_str().unwrap();
            assert!(text.out.contains(part), "{part} is not in\n{}", text.out);
        }
    }
    told
}

#[track_caller]
fn finds(told: &Value, verdict: &str, what: &str, detail: &str) {
    let found = told["findings"].as_array().unwrap().iter().any(|it| {
        let has = |field: &str, text: &str| it[field].as_str().unwrap().contains(text);
        it["verdict"] == verdict && has("what", what) && has("detail", detail)
    });
    assert!(
        found,
        "no {verdict} finding of {what}: {detail} in {told:#}"
    );
}

/// Changes the hook of the group `acme`, as its owner would on its page.
async fn change_hook(scene: &Scene, fields: &[(&str, &str)]) {
    let token = scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "GitLab's token");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http
        .put(format!(
            "{}/api/v4/groups/acme/hooks/{}",
            scene.gitlab.url(),
            scene.hook
        ))
        .header("PRIVATE-TOKEN", &token.unwrap().1)
        .json(
            &fields
                .iter()
                .copied()
                .collect::<std::collections::BTreeMap<_, _>>(),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

#[tokio::test]
async fn each_route_and_rule_is_told_with_the_first_condition_that_failed() {
    let scene = scene("explain-routes").await;
    let change = push(&scene, PROJECT, "topic", "alice");
    let delivery = scene.send_one(&change).await;
    scene.outcome(&delivery, "decided").await;

    let told = explain(&scene, &format!("{PROJECT}@{}", &change.commit[..10])).await;
    assert_eq!(told["deliveries"].as_array().unwrap().len(), 1, "{told:#}");
    let one = &told["deliveries"][0];
    assert_eq!(one["delivery"]["delivery"], delivery);
    let reasons = one["routes"][0]["reasons"].to_string();
    assert!(
        reasons.contains("rule `releases` does not match") && reasons.contains("is false"),
        "{reasons}"
    );
    assert!(
        reasons.contains("rule `reviews` does not match: it is not for `push` events"),
        "{reasons}"
    );
    let considered = one["considered"].as_array().unwrap();
    let whys: Vec<_> = considered
        .iter()
        .map(|it| (it["taken"].as_bool().unwrap(), it["why"].as_str().unwrap()))
        .collect();
    assert_eq!(
        whys,
        [
            (
                true,
                "its plugin asked for nothing; its reasons say which rule failed by what"
            ),
            (false, "it takes tag_push, and this is `push`"),
            (
                false,
                "it is of the tenant `other/**`, and the project is of `acme/**`"
            ),
        ]
    );
    finds(&told, "good", "hook `acme`", "enabled");
    finds(&told, "good", "GitLab `main`", "is on topic");

    // A delivery by its id tells of the routes too, and one that started something needs no findings.
    let same = scene.penstock.text_command(&["explain", &delivery]).await;
    assert!(
        same.out.contains("was not taken: it takes tag_push"),
        "{}",
        same.out
    );
    let change = push(&scene, PROJECT, "release/1", "alice");
    let delivery = scene.send_one(&change).await;
    scene.run_of(&delivery).await;
    let told = explain(&scene, &format!("{PROJECT}@{}", change.commit)).await;
    assert_eq!(told["deliveries"][0]["runs"].as_array().unwrap().len(), 1);
    assert_eq!(told["findings"], json!([]));
}

#[tokio::test]
async fn where_nothing_came_it_says_what_stands_in_the_way() {
    let mut scene = scene("explain-absent").await;
    let lost = push(&scene, PROJECT, "topic", "alice");
    let about = format!("{PROJECT}@{}", lost.commit);

    let told = explain(&scene, &about).await;
    assert_eq!(told["deliveries"], json!([]));
    finds(
        &told,
        "good",
        "tenant of `acme/api`",
        "whose routes take push",
    );
    finds(
        &told,
        "unknown",
        "the call itself",
        "nothing that can be seen",
    );

    change_hook(&scene, &[("push_events", "false")]).await;
    let told = explain(&scene, &about).await;
    finds(&told, "bad", "hook `acme`", "does not send push events");
    change_hook(
        &scene,
        &[
            ("push_events", "true"),
            ("push_events_branch_filter", "main*"),
        ],
    )
    .await;
    let told = explain(&scene, &about).await;
    finds(
        &told,
        "unknown",
        "hook `acme`",
        "branches that fit `main*` alone",
    );
    change_hook(&scene, &[("push_events_branch_filter", "")]).await;

    // More than three refs at once: GitLab sends nothing.
    let names = ["a", "b", "c", "d"];
    let many = scene
        .gitlab
        .create_branches(PROJECT, &names, "topic", "alice");
    assert!(many.send().await.iter().all(|sent| sent.hook != scene.hook));
    let told = explain(&scene, &about).await;
    finds(
        &told,
        "unknown",
        "GitLab `main`",
        "`alice` pushed 4 refs at once",
    );

    // Not on any branch, or not there at all.
    let told = explain(&scene, &format!("{PROJECT}@{}", "0".repeat(40))).await;
    finds(&told, "bad", "GitLab `main`", "has no commit");
    let told = explain(&scene, &format!("acme/nothing@{}", lost.commit)).await;
    finds(
        &told,
        "bad",
        "GitLab `main`",
        "shows no project `acme/nothing`",
    );

    // Not routed: no tenant, or none of its routes takes it.
    let told = explain(&scene, &format!("mallory/api@{}", lost.commit)).await;
    finds(&told, "bad", "tenant of `mallory/api`", "");
    let other = push(&scene, "other/api", "topic", "oscar");
    let told = explain(&scene, &format!("other/api@{}", other.commit)).await;
    finds(
        &told,
        "bad",
        "tenant of `other/api`",
        "no route of `other/**` takes push",
    );

    // Nobody takes the calls: GitLab disables the hook, with each more that fails for longer. `explain` needs no server.
    scene.penstock.kill9();
    for n in 0..10 {
        push(&scene, PROJECT, "topic", "alice").send().await;
        if n < 9 {
            scene.gitlab.advance(Duration::from_secs(60 * 60));
        }
    }
    let told = explain(&scene, &about).await;
    finds(&told, "bad", "hook `acme`", "GitLab has disabled it");

    scene.reconfigure(|config| config["public-url"] = "http://127.0.0.1:9/elsewhere".into());
    let told = explain(&scene, &about).await;
    finds(
        &told,
        "bad",
        "hook `acme`",
        "no webhook with the address http://127.0.0.1:9/elsewhere/hooks/gitlab/main/acme; one calls http://",
    );
    scene.reconfigure(|config| {
        let hooks = config["gitlab"][0]["hooks"].as_array_mut().unwrap();
        hooks.retain(|hook| hook["name"] != "acme");
    });
    let told = explain(&scene, &about).await;
    finds(
        &told,
        "bad",
        "hooks of `main`",
        "none of them speaks for `acme/api`",
    );
}

#[tokio::test]
async fn what_the_bot_pushed_and_what_asks_to_be_skipped_is_told() {
    let scene = scene("explain-bot").await;
    let own = push(&scene, PROJECT, "release/2", "penstock");
    let delivery = scene.send_one(&own).await;
    scene.outcome(&delivery, "unrouted").await;
    let told = explain(&scene, &format!("{PROJECT}@{}", own.commit)).await;
    let one = &told["deliveries"][0];
    let why = one["delivery"]["why"].as_str().unwrap();
    assert!(
        why.contains("`penstock` is Penstock's own user: what it does starts nothing"),
        "{why}"
    );
    assert_eq!(one["considered"][0]["why"], why, "{one:#}");

    let skipped = scene.gitlab.push(
        Push::new(PROJECT, "topic", "alice")
            .write("a.txt", "a")
            .message("docs [skip ci]"),
    );
    let told = explain(&scene, &format!("{PROJECT}@{}", skipped.commit)).await;
    finds(&told, "unknown", "GitLab `main`", "holds `[skip ci]`");
}

#[tokio::test]
async fn a_merge_request_is_asked_for_by_its_address() {
    let mut scene = scene("explain-mr").await;
    drop(push(&scene, PROJECT, "topic", "alice"));
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    let address = format!(
        "{}/{PROJECT}/-/merge_requests/{}/diffs",
        scene.gitlab.url(),
        opened.number
    );
    let told = explain(&scene, &address).await;
    assert_eq!(told["about"], format!("{PROJECT}!{}", opened.number));
    assert_eq!(told["deliveries"], json!([]));
    finds(
        &told,
        "bad",
        "tenant of `acme/api`",
        "no route of `acme/**` takes merge_request or note",
    );
    finds(
        &told,
        "good",
        "GitLab `main`",
        &format!("is at {}", opened.commit),
    );

    let delivery = scene.send_one(&opened).await;
    scene.outcome(&delivery, "unrouted").await;
    let told = explain(&scene, &address).await;
    assert_eq!(told["deliveries"][0]["delivery"]["delivery"], delivery);
    let considered = &told["deliveries"][0]["considered"][0];
    assert_eq!(
        considered["why"],
        "it takes push, and this is `merge_request`"
    );

    scene.reconfigure(|config| config["routes"][0]["on"] = json!(["push", "merge_request"]));
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;
    let retried = ["deliveries", "retry", &delivery];
    assert!(scene.penstock.command(&retried).await.success);
    scene.run_of(&delivery).await;
    let told = explain(&scene, &address).await;
    assert_eq!(told["findings"], json!([]), "{told:#}");

    let nothing = format!("{}/{PROJECT}/-/merge_requests/99", scene.gitlab.url());
    let told = explain(&scene, &nothing).await;
    finds(&told, "bad", "GitLab `main`", "no merge request !99");
    let rerun = scene
        .penstock
        .text_command(&["explain", &address, "--rerun"])
        .await;
    assert!(!rerun.success && rerun.err.contains("takes the id of a delivery"));
}
