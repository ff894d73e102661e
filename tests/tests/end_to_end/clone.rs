//! Credentials to clone: made before a run, good while it runs, gone when it ends, whenever the host is killed.

use std::time::Duration;

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use penstock_doubles::gitlab::{Break, Change, Fault, Proposal, Push};
use penstock_tests::burst::Ledger;
use penstock_tests::manifest::running;
use penstock_tests::postgres::Postgres;
use penstock_tests::scene::{Builder, FORK, PROJECT};
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

/// A run that mounts its Secret, and a rule that asks for it.
fn rule(script: &str, others: &[&str]) -> Value {
    let mut manifest = running(script);
    manifest["spec"]["workspaces"] = json!([{ "name": "auth", "secret": { "secretName": "git" } }]);
    manifest["spec"]["pipelineSpec"]["workspaces"] = json!([{ "name": "auth" }]);
    json!([{
        "name": "build",
        "on": ["push", "merge_request"],
        "template": manifest,
        "secrets": [{ "name": "git", "clone": others }],
    }])
}

fn scene(name: &str, script: &str, others: &[&str]) -> Builder {
    let plugin = Plugin::trigger_map("pipelines", rule(script, others))
        .grant("elsewhere", json!(["acme/web"]));
    Scene::builder(name)
        .plugin_by(plugin, Route::to("pipelines").on(&["push"]))
        .sealed()
        .edit(|config| {
            config["tenants"][0]["places"]["ci"]["policy"] = json!({ "clone": true });
        })
}

fn push(scene: &Scene) -> Change {
    let text = format!("{}", rand::random::<u64>());
    scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", text))
}

async fn secrets(scene: &Scene) -> Vec<Secret> {
    let client = scene.access().client().await.unwrap();
    let all: Api<Secret> = Api::namespaced(client, scene.place.namespace());
    let mut found = all.list(&Default::default()).await.unwrap().items;
    found.retain(|it| {
        it.metadata
            .name
            .as_deref()
            .unwrap()
            .starts_with("penstock-clone-")
    });
    found
}

fn value(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

fn live(scene: &Scene, project: &str) -> usize {
    let all = scene.gitlab.edit(|world| world.deploy_tokens(project));
    all.iter().filter(|it| it["revoked"] == false).count()
}

/// Waits until neither GitLab nor the cluster holds anything of a run.
async fn nothing_left(scene: &Scene, project: &str) {
    until("nothing to be left", async || {
        let left = secrets(scene).await.len() + live(scene, project);
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_run_clones_with_a_token_of_its_own_that_ends_with_it() {
    let scene = scene("clone", "git clone", &[]).start().await;
    scene.place.hold_pods().await.unwrap();
    let (one, two) = (push(&scene), push(&scene));
    let first = scene.send_one(&one).await;
    let run = scene.run_of(&first).await;
    scene.run_of(&scene.send_one(&two).await).await;
    let found = secrets(&scene).await;
    assert_eq!(found.len(), 2, "one for each run");
    let named = run.data["spec"]["workspaces"][0]["secret"]["secretName"].as_str();
    assert!(found.iter().any(|it| it.metadata.name.as_deref() == named));

    let all = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
    assert_eq!(all.len(), 1, "one token for both: {all:#?}");
    assert_eq!(all[0]["scopes"], json!(["read_repository"]));
    assert!(all[0]["expires_at"].is_string(), "it ends by itself too");
    let username = all[0]["username"].as_str().unwrap();
    let token = value(&found[0], "git-provider-token");
    let good = || {
        scene
            .gitlab
            .edit(|world| world.clones(PROJECT, username, &token))
    };
    assert!(good());
    let credentials = value(&found[0], ".git-credentials");
    assert!(credentials.contains(&token) && credentials.contains("/acme/api.git\n"));
    assert!(value(&found[0], ".gitconfig").contains("helper = store"));

    for (what, secret) in &scene.secrets {
        assert!(!credentials.contains(secret), "{what} is in the Secret");
    }
    // The value is in the Secret and nowhere else.
    let store = std::fs::read(scene.store_path()).unwrap();
    let mut wal = scene.store_path().into_os_string();
    wal.push("-wal");
    let wal = std::fs::read(wal).unwrap_or_default();
    for kept in [store, wal] {
        let there = kept
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        assert!(!there, "the store has it in clear");
    }
    let told = scene.explain(&first).await.to_string();
    assert!(!told.contains(&token) && !scene.penstock.logs().contains(&token));
    let encoded = base64::engine::general_purpose::STANDARD.encode(&token);
    assert!(!run.data.to_string().contains(&token) && !run.data.to_string().contains(&encoded));

    scene.place.let_pods_finish().await.unwrap();
    scene.status(&one.commit, "build", "success").await;
    scene.status(&two.commit, "build", "success").await;
    nothing_left(&scene, PROJECT).await;
    assert!(!good(), "a clone with it fails now");
    assert_eq!(scene.runs().await.len(), 2, "the runs are still there");
    let calls = |method: &str| scene.gitlab.calls_to(method, "/deploy_tokens").len();
    assert_eq!((calls("POST"), calls("DELETE"), calls("GET")), (1, 1, 0));
}

#[tokio::test]
async fn other_projects_are_cloned_by_grant_and_each_with_its_own_token() {
    let scene = scene("clone-others", "git clone", &["acme/web"])
        .start()
        .await;
    scene.place.hold_pods().await.unwrap();
    let change = push(&scene);
    scene.run_of(&scene.send_one(&change).await).await;
    let found = secrets(&scene).await;
    let credentials = value(&found[0], ".git-credentials");
    assert!(credentials.contains("/acme/api\n") && credentials.contains("/acme/web\n"));
    assert!(value(&found[0], ".gitconfig").contains("useHttpPath = true"));
    assert_eq!((live(&scene, PROJECT), live(&scene, "acme/web")), (1, 1));
    scene.place.let_pods_finish().await.unwrap();
    nothing_left(&scene, PROJECT).await;
    nothing_left(&scene, "acme/web").await;
}

#[tokio::test]
async fn a_token_whose_answer_was_lost_is_revoked_and_made_anew() {
    let scene = scene("clone-lost", "git clone", &[]).start().await;
    scene.place.hold_pods().await.unwrap();
    scene
        .gitlab
        .order(Fault::new("POST", "/deploy_tokens", Break::LoseAnswer).times(1));
    let change = push(&scene);
    scene.run_of(&scene.send_one(&change).await).await;
    let all = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
    let revoked: Vec<_> = all.iter().map(|it| it["revoked"] == true).collect();
    assert_eq!(revoked, [true, false], "{all:#?}");
    scene.place.let_pods_finish().await.unwrap();
    nothing_left(&scene, PROJECT).await;
}

#[tokio::test]
async fn a_refusal_says_what_is_missing_and_leaves_nothing() {
    let scene = scene("clone-refused", "git clone", &[])
        .seed(|world| {
            world.member(
                "acme",
                "penstock",
                penstock_doubles::gitlab::Access::Developer,
            );
        })
        .start()
        .await;
    let change = push(&scene);
    scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(
        said.contains("Maintainer") || said.contains("acme/api"),
        "{said}"
    );
    nothing_left(&scene, PROJECT).await;
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_fork_s_run_gets_a_token_of_the_target_and_none_of_the_fork() {
    let plugin = Plugin::trigger_map("pipelines", rule("git clone", &[])).grant(
        "from-fork",
        json!({ "effects": ["start-run"], "delivery": true, "gitlab-read": ["files"] }),
    );
    let scene = Scene::builder("clone-fork")
        .plugin_by(plugin, Route::to("pipelines").on(&["merge_request"]))
        .place_for_forks()
        .sealed()
        .edit(|config| {
            config["tenants"][0]["places"]["untrusted"]["policy"] = json!({ "clone": true });
        })
        .start()
        .await;
    drop(
        scene
            .gitlab
            .push(Push::new(FORK, "mend", "mallory").write("a.txt", "a")),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "mend", "mallory").from_fork(FORK));
    scene.send(&proposed).await;
    let place = scene.fork_place.as_ref().unwrap();
    until("the run", async || {
        (!scene.runs_in(place).await.is_empty()).then_some(())
    })
    .await;
    let made = scene.gitlab.edit(|world| {
        (
            world.deploy_tokens(PROJECT).len(),
            world.deploy_tokens(FORK).len(),
        )
    });
    assert_eq!(made, (1, 0));
    until("the token to be revoked", async || {
        (live(&scene, PROJECT) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_hosts_share_one_token_and_either_takes_away_what_the_other_made() {
    let server = Postgres::start().await;
    let mut scene = scene("clone-hosts", "git clone", &[])
        .postgres(&server)
        .start()
        .await;
    let (mut second, _) = scene.replica();
    second.restart().await;
    scene.place.hold_pods().await.unwrap();
    // Six lanes, drawn by both.
    for number in 0..6 {
        let push = Push::new(PROJECT, &format!("topic-{number}"), "alice").write("a.txt", "a");
        scene.send_one(&scene.gitlab.push(push)).await;
    }
    until("six runs", async || {
        (scene.runs().await.len() == 6).then_some(())
    })
    .await;
    let all = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
    assert_eq!(all.len(), 1, "one token for all: {all:#?}");
    assert_eq!(secrets(&scene).await.len(), 6, "one Secret for each run");
    // Whichever of the two made it is not asked.
    scene.penstock.kill9();
    scene.place.let_pods_finish().await.unwrap();
    nothing_left(&scene, PROJECT).await;
    let calls = |method: &str| scene.gitlab.calls_to(method, "/deploy_tokens").len();
    assert_eq!((calls("POST"), calls("DELETE")), (1, 1));
}

#[tokio::test]
async fn a_host_that_is_killed_at_any_moment_leaves_no_token_and_no_secret() {
    let mut scene = scene("clone-kill", "git clone", &[])
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 1_000_000.into())
        .start()
        .await;
    // Every call of GitLab takes a while, so that kills fall between the steps.
    scene.gitlab.latency(Duration::from_millis(30));
    let mut ledger = Ledger::default();
    for round in 0..12_u64 {
        let delivery = push(&scene).delivery(scene.hook);
        let answer = scene.poster().post(&delivery).await;
        ledger.note(delivery, answer);
        tokio::time::sleep(Duration::from_millis(
            40 * round + rand::random_range(0..40),
        ))
        .await;
        scene.penstock.kill9();
        scene.penstock.restart().await;
    }
    scene.settled().await;
    let by_delivery = scene.runs_by_delivery().await;
    // One whose answer was lost may have been taken in.
    let (sure, maybe) = (&ledger.acknowledged, &ledger.unanswered);
    let has_run = |id: &String| by_delivery.contains_key(id);
    assert!(
        !sure.is_empty() && sure.iter().all(has_run),
        "each has its run"
    );
    let known = |id: &String| sure.contains(id) || maybe.contains_key(id);
    assert!(by_delivery.keys().all(known), "{by_delivery:?}");
    assert!(
        by_delivery.values().all(|runs| *runs == 1),
        "{by_delivery:?}"
    );
    nothing_left(&scene, PROJECT).await;
    let all = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
    assert!(
        !all.is_empty() && all.iter().all(|it| it["revoked"] == true),
        "{all:#?}"
    );
}
