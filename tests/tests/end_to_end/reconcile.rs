//! What GitLab did not tell is made up for.

use std::time::Duration;

use penstock_doubles::gitlab::{Access, Break, Fault, Hook, Proposal, Push, Trigger};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::{FORK, PROJECT};
use penstock_tests::{Plugin, Postgres, Route, Scene, until};
use serde_json::{Value, json};

fn push(branch: &str, content: &str) -> Push {
    Push::new(PROJECT, branch, "alice").write("a.txt", content.to_owned())
}

fn rules() -> Value {
    json!([
        { "name": "build", "on": ["push", "merge_request"], "template": short_lived() },
        { "name": "tagged", "on": ["tag_push"], "template": short_lived() },
        { "name": "asked", "on": ["note"], "when": "event.note.text == '/test'", "template": short_lived() },
    ])
}

/// A scene whose host reconciles all the time, and whose user may see the group's hooks.
fn eager(name: &str) -> penstock_tests::Builder {
    Scene::builder(name)
        .plugin_by(
            Plugin::trigger_map("pipelines", rules()),
            Route::to("pipelines").on(&["push", "tag_push", "merge_request", "note"]),
        )
        .seed(|world| {
            world.member("acme", "penstock", Access::Owner);
        })
        // Longer than a delivery takes that is sent at once, also on a busy machine with a slow disk.
        .edit(|config| config["reconcile"] = json!({ "every": "500ms", "settle": "10s" }))
}

/// A figure of the metrics, by the beginning of its line.
async fn figure(scene: &Scene, line: &str) -> Option<f64> {
    let text = scene.penstock.metrics().await;
    let found = text.lines().find(|it| it.starts_with(line))?;
    found.rsplit(' ').next()?.parse().ok()
}

const ROUNDS: &str = r#"penstock_reconciled_total{instance="main",what="round"}"#;

/// Waits until a round that began after now is over.
async fn a_round(scene: &Scene) {
    let rounds = async || figure(scene, ROUNDS).await.unwrap_or_default();
    let before = rounds().await;
    until("two more rounds", async || {
        (rounds().await >= before + 2.0).then_some(())
    })
    .await;
}

async fn listed(scene: &Scene, kind: &str) -> Vec<Value> {
    let all = scene
        .penstock
        .command(&["deliveries", "list", "--limit", "100"])
        .await
        .json();
    let mut all = all.as_array().cloned().unwrap_or_default();
    all.retain(|it| it["kind"] == kind);
    all
}

#[tokio::test]
async fn what_failed_while_the_host_was_away_is_taken_in_once_and_the_hook_is_enabled_again() {
    let mut scene = eager("missed").prepare().await;
    let mut lost = Vec::new();
    for branch in ["one", "two", "three", "four"] {
        let change = scene.gitlab.push(push(branch, branch));
        let sent = change.send().await;
        assert!(sent.iter().all(|it| it.status.is_none()), "{sent:?}");
        lost.push(change);
    }
    // Four failures in a row: GitLab calls the hook no more.
    scene.penstock.restart().await;
    for change in &lost {
        scene.status(&change.commit, "build", "failed").await;
    }
    let enabled = r#"penstock_hook_state{instance="main",hook="acme",state="enabled"} 1"#;
    until("the hook, enabled", async || {
        let (_, text) = scene.penstock.get("/metrics").await?;
        text.lines().any(|line| line == enabled).then_some(())
    })
    .await;
    a_round(&scene).await;
    assert_eq!(listed(&scene, "push").await.len(), 4);
    assert!(
        listed(&scene, "sweep").await.is_empty(),
        "the log told of all"
    );
    // What it told of comes by the hook from now on.
    let change = scene.gitlab.push(push("five", "five"));
    scene.send_one(&change).await;
    scene.status(&change.commit, "build", "failed").await;
}

#[tokio::test]
async fn a_head_that_no_delivery_told_of_becomes_a_sweep_and_its_delivery_comes_too_late() {
    let scene = eager("sweep").start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    scene.status(&known.commit, "build", "failed").await;
    a_round(&scene).await;
    assert!(
        listed(&scene, "sweep").await.is_empty(),
        "nothing was lost yet"
    );

    // Sent to nobody, as if the hook had been disabled.
    let lost = scene.gitlab.push(push("topic", "two"));
    scene.status(&lost.commit, "build", "failed").await;
    let sweeps = listed(&scene, "sweep").await;
    assert_eq!(sweeps.len(), 1, "{sweeps:#?}");
    let id = sweeps[0]["delivery"].as_str().unwrap();
    let explained = scene.penstock.command(&["explain", id]).await.json();
    assert_eq!(explained["routes"][0]["trust"], "member");
    assert!(explained["routes"][0]["actor"].is_null());

    let late = scene.send_one(&lost).await;
    let unrouted = until("the late delivery, settled", async || {
        let explained = scene.penstock.command(&["explain", &late]).await.json();
        (explained["delivery"]["outcome"] == "unrouted").then_some(explained)
    })
    .await;
    let why = unrouted["delivery"]["why"].as_str().unwrap();
    assert!(why.contains(id), "{why}");
    a_round(&scene).await;
    assert_eq!(scene.runs().await.len(), 2, "one for each commit");
}

#[tokio::test]
async fn an_annotated_tag_that_was_swept_is_not_decided_again_when_its_webhook_comes() {
    let scene = eager("sweep-tag").start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    scene.status(&known.commit, "build", "failed").await;
    a_round(&scene).await;
    let lost = scene
        .gitlab
        .tag(PROJECT, "v1", &known.commit, Some("the first"), "alice");
    let id = until("a sweep of it, decided", async || {
        let sweeps = listed(&scene, "sweep").await;
        let sweep = sweeps.into_iter().find(|it| it["outcome"] == "decided")?;
        sweep["delivery"].as_str().map(str::to_owned)
    })
    .await;
    let explained = scene.outcome(&id, "decided").await;
    assert_eq!(explained["runs"][0]["pipeline"], "tagged", "{explained:#}");

    let late = scene.send_one(&lost).await;
    let unrouted = scene.outcome(&late, "unrouted").await;
    let why = unrouted["delivery"]["why"].as_str().unwrap();
    assert!(why.contains(&id), "{why}");
    a_round(&scene).await;
    assert_eq!(scene.runs().await.len(), 2, "of the push, and of the tag");
}

#[tokio::test]
async fn a_difference_is_believed_without_going_through_everything_again() {
    let mut scene = eager("second-look")
        .edit(|config| config["reconcile"] = json!({ "every": "1h", "settle": "10s" }))
        .start()
        .await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    scene.status(&known.commit, "build", "failed").await;
    until("the first look", async || {
        figure(&scene, ROUNDS).await.filter(|rounds| *rounds >= 1.0)
    })
    .await;
    let lost = scene.gitlab.push(push("topic", "two"));
    let calls = |path: &str| scene.gitlab.calls_to("GET", path).len();
    let (listings, hooks) = (calls("/groups/acme/projects"), calls("/groups/acme/hooks"));
    scene.penstock.terminate().await;
    scene.penstock.restart().await;
    scene.status(&lost.commit, "build", "failed").await;
    only_these_are_swept(&scene, &[&lost.commit]).await;
    let calls = |path: &str| scene.gitlab.calls_to("GET", path).len();
    // Each of the two processes went through everything once.
    assert_eq!(calls("/groups/acme/projects"), 2 * listings);
    assert_eq!(calls("/groups/acme/hooks"), 2 * hooks);
    let text = scene.penstock.metrics().await;
    let rounds = text.lines().find(|line| line.starts_with(ROUNDS)).unwrap();
    assert!(rounds.ends_with(" 1"), "{rounds}");
}

#[tokio::test]
async fn a_fork_s_merge_request_that_was_lost_is_trusted_as_little_as_ever() {
    let scene = eager("sweep-fork").place_for_forks().start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    a_round(&scene).await;
    let _ = scene
        .gitlab
        .push(Push::new(FORK, "evil", "mallory").write("a.txt", "evil"));
    let proposal = Proposal::new(PROJECT, "evil", "mallory").from_fork(FORK);
    let lost = scene.gitlab.propose(proposal);
    let sweep = until("a sweep of it, decided", async || {
        let sweeps = listed(&scene, "sweep").await;
        sweeps.into_iter().find(|it| it["outcome"] == "decided")
    })
    .await;
    let id = sweep["delivery"].as_str().unwrap();
    let explained = scene.penstock.command(&["explain", id]).await.json();
    assert_eq!(explained["routes"][0]["trust"], "untrusted");
    assert_eq!(explained["routes"][0]["commit"], lost.commit);
}

#[tokio::test]
async fn a_command_in_a_comment_that_no_delivery_told_of_is_found_once() {
    let scene = eager("lost-comment").start().await;
    let branch = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&branch).await;
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&opened).await;
    a_round(&scene).await;
    let told = scene
        .gitlab
        .comment(PROJECT, opened.number, "alice", "/test");
    scene.send_one(&told).await;
    let _ = scene
        .gitlab
        .comment(PROJECT, opened.number, "alice", "/test");
    let _ = scene
        .gitlab
        .comment(PROJECT, opened.number, "alice", "no command");
    until("the comment, found", async || {
        let notes = listed(&scene, "note").await;
        (notes.len() == 2).then_some(())
    })
    .await;
    a_round(&scene).await;
    a_round(&scene).await;
    let notes = listed(&scene, "note").await;
    assert_eq!(notes.len(), 2);
    let found = notes.iter().find(|it| {
        let id = it["delivery"].as_str().unwrap_or_default();
        id.starts_with("found-note:")
    });
    let id = found.unwrap()["delivery"].as_str().unwrap();
    let explained = scene.outcome(id, "decided").await;
    assert_eq!(explained["routes"][0]["trust"], "member");
    assert_eq!(explained["routes"][0]["actor"], "alice");
    assert_eq!(explained["runs"][0]["pipeline"], "asked", "{explained:#}");
}

#[tokio::test]
async fn what_can_t_be_seen_is_said() {
    // Only a maintainer of the group: GitLab does not show it the group's hooks.
    let scene = eager("unseen")
        .seed(|world| {
            world.member("acme", "penstock", Access::Maintainer);
        })
        .start()
        .await;
    until("what can't be made up for", async || {
        figure(&scene, r#"penstock_unrecovered{instance="main"}"#)
            .await
            .filter(|count| *count >= 1.0)
    })
    .await;
    let state = r#"penstock_hook_state{instance="main",hook="acme",state="unknown"} 1"#;
    let text = scene.penstock.metrics().await;
    assert!(text.lines().any(|line| line == state), "{text}");
    // Whoever asks why nothing came is told.
    let head = scene.gitlab.edit(|world| world.commit_id(PROJECT, "main"));
    let what = format!("{PROJECT}@{}", head.unwrap());
    let told = scene.penstock.command(&["explain", &what]).await.json();
    let lost = told["findings"].as_array().unwrap().iter().any(|it| {
        let detail = it["detail"].as_str().unwrap();
        detail.contains("can't be made up for: calls of the hook `acme`")
    });
    assert!(lost, "{told:#}");
}

#[tokio::test]
async fn a_comment_that_was_edited_before_it_was_found_is_not_lost_silently() {
    let mut scene = eager("edited-comment").start().await;
    drop(scene.gitlab.push(push("topic", "one")));
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&opened).await;
    a_round(&scene).await;
    const UNRECOVERED: &str = r#"penstock_unrecovered{instance="main"}"#;
    let before = figure(&scene, UNRECOVERED).await.unwrap();
    let comment = scene
        .gitlab
        .comment(PROJECT, opened.number, "alice", "/test");
    // Edited a while later: what it said first is nowhere any more.
    scene.gitlab.advance(Duration::from_secs(5));
    drop(
        scene
            .gitlab
            .edit_comment(PROJECT, opened.number, comment.number, "/deploy"),
    );
    until("the comment, told of", async || {
        let count = figure(&scene, UNRECOVERED).await;
        count.filter(|count| *count > before)
    })
    .await;
    a_round(&scene).await;
    a_round(&scene).await;
    let lost = Some(before + 1.0);
    assert_eq!(figure(&scene, UNRECOVERED).await, lost, "told of once only");
    scene.penstock.kill9();
    scene.penstock.restart().await;
    a_round(&scene).await;
    assert_eq!(figure(&scene, UNRECOVERED).await, lost, "forgotten");
    let said = format!(
        "comment {} of `{PROJECT}!{}`",
        comment.number, opened.number
    );
    scene.penstock.logged(&said).await;
    assert!(listed(&scene, "note").await.is_empty());
}

#[tokio::test]
async fn a_comment_whose_webhook_comes_while_it_is_found_is_decided_once() {
    let mut scene = eager("raced-comment").start().await;
    drop(scene.gitlab.push(push("topic", "one")));
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&opened).await;
    a_round(&scene).await;
    let comment = scene
        .gitlab
        .comment(PROJECT, opened.number, "alice", "/test");
    let sent = scene.send_one(&comment).await;
    let decided = scene.outcome(&sent, "decided").await;
    assert_eq!(decided["runs"][0]["pipeline"], "asked", "{decided:#}");
    scene.settled().await;
    let runs = scene.runs().await.len();
    scene.penstock.terminate().await;
    // As a look saw it that asked the store just before the webhook came: the comment is new, and no delivery tells of it.
    let store = scene.store();
    let hour = 3_600_000;
    for (change, expect) in [
        (
            format!(
                "UPDATE marks SET value = CAST(value AS INTEGER) - {hour} WHERE name LIKE 'comments/%'"
            ),
            2,
        ),
        (
            format!(
                "UPDATE deliveries SET received_at = received_at - 2 * {hour} WHERE id = '{sent}'"
            ),
            1,
        ),
    ] {
        let changed = store.execute(&change, []).unwrap();
        assert!((1..=expect).contains(&changed), "{change}: {changed}");
    }
    drop(store);
    scene.penstock.restart().await;
    let found = until("the comment, found", async || {
        let notes = listed(&scene, "note").await;
        let mut ids = notes.iter().filter_map(|it| it["delivery"].as_str());
        ids.find(|id| id.starts_with("found-note:"))
            .map(str::to_owned)
    })
    .await;
    let unrouted = scene.outcome(&found, "unrouted").await;
    let why = unrouted["delivery"]["why"].as_str().unwrap();
    assert!(why.contains(&sent), "{why}");
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), runs, "decided twice");
}

#[tokio::test]
async fn what_must_be_sent_again_is_sent_once_and_no_faster_than_gitlab_takes_it() {
    let mut scene = eager("resend").prepare().await;
    let mut lost = Vec::new();
    for branch in ["one", "two", "three"] {
        let change = scene.gitlab.push(push(branch, branch));
        change.send().await;
        lost.push(change);
    }
    scene.gitlab.edit(|world| world.forget_keys(scene.hook));
    scene.penstock.restart().await;
    let resends = || scene.gitlab.calls_to("POST", "/resend");
    until("the first", async || (!resends().is_empty()).then_some(())).await;
    // Somebody else had calls sent again too.
    let refused = Fault::new("POST", "/resend", Break::Status(429));
    scene.gitlab.order(refused.times(1));
    for change in &lost {
        scene.status(&change.commit, "build", "failed").await;
    }
    let made = resends();
    let paths: Vec<&str> = made.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    assert_eq!(paths[1], paths[2], "the refused one is tried again");
    assert_ne!(paths[0], paths[1], "what was sent again is not, once more");
    assert_ne!(paths[2], paths[3]);
    for pair in made.windows(2) {
        let pause = pair[1].at.duration_since(pair[0].at);
        assert!(pause.as_secs() >= 12, "{pause:?} between two of {paths:?}");
    }
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), lost.len());
    assert_eq!(listed(&scene, "push").await.len(), lost.len());
    assert!(listed(&scene, "sweep").await.is_empty());
}

#[tokio::test]
async fn a_host_that_is_killed_after_a_call_was_sent_again_does_not_have_it_sent_once_more() {
    let mut scene = eager("killed-resend").prepare().await;
    let mut lost = Vec::new();
    for branch in ["one", "two"] {
        let change = scene.gitlab.push(push(branch, branch));
        change.send().await;
        lost.push(change);
    }
    scene.gitlab.edit(|world| world.forget_keys(scene.hook));
    scene.penstock.restart().await;
    // The second waits for its turn when the host is killed.
    scene.status(&lost[0].commit, "build", "failed").await;
    scene.penstock.kill9();
    scene.penstock.restart().await;
    scene.status(&lost[1].commit, "build", "failed").await;
    let made = scene.gitlab.calls_to("POST", "/resend");
    let paths: Vec<&str> = made.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert_ne!(paths[0], paths[1]);
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), lost.len());
}

#[tokio::test]
async fn branches_and_tags_that_went_unseen_are_swept_and_start_nothing() {
    let scene = eager("deleted").start().await;
    let branch = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&branch).await;
    scene.status(&branch.commit, "build", "failed").await;
    let tag = scene
        .gitlab
        .tag(PROJECT, "v1", &branch.commit, None, "alice");
    scene.send_one(&tag).await;
    until("its run", async || {
        (scene.runs().await.len() == 2).then_some(())
    })
    .await;
    a_round(&scene).await;
    assert!(listed(&scene, "sweep").await.is_empty());

    drop(scene.gitlab.delete_branch(PROJECT, "topic", "alice"));
    drop(scene.gitlab.delete_tag(PROJECT, "v1", "alice"));
    let swept = until("both, swept", async || {
        let sweeps = listed(&scene, "sweep").await;
        let decided = sweeps.iter().all(|it| it["outcome"] == "decided");
        (sweeps.len() == 2 && decided).then_some(sweeps)
    })
    .await;
    for sweep in &swept {
        let id = sweep["delivery"].as_str().unwrap();
        let explained = scene.penstock.command(&["explain", id]).await.json();
        assert!(explained["routes"][0]["commit"].is_null(), "{explained:#}");
        assert_eq!(explained["runs"].as_array().map(Vec::len), Some(0));
    }
    a_round(&scene).await;
    assert_eq!(listed(&scene, "sweep").await.len(), 2, "once each");
    assert_eq!(scene.runs().await.len(), 2);

    // There again, at another commit: that is one difference more, and one run.
    let again = scene.gitlab.push(push("topic", "two"));
    scene.status(&again.commit, "build", "failed").await;
    assert_eq!(listed(&scene, "sweep").await.len(), 3);
    assert_eq!(scene.runs().await.len(), 3);
}

#[tokio::test]
async fn a_round_that_gitlab_cuts_short_goes_on() {
    let scene = eager("cut-short").start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    a_round(&scene).await;
    scene
        .gitlab
        .order(Fault::new("GET", "/repository/branches", Break::Status(503)).times(3));
    let lost = scene.gitlab.push(push("topic", "two"));
    scene.status(&lost.commit, "build", "failed").await;
}

/// There are sweeps of these commits and no others.
async fn only_these_are_swept(scene: &Scene, lost: &[&str]) {
    let swept = until("the sweeps", async || {
        let sweeps = listed(scene, "sweep").await;
        (sweeps.len() >= lost.len()).then_some(sweeps)
    })
    .await;
    let mut commits = Vec::new();
    for sweep in &swept {
        let id = sweep["delivery"].as_str().unwrap();
        let explained = until("the sweep, decided", async || {
            let explained = scene.penstock.command(&["explain", id]).await.json();
            (explained["delivery"]["outcome"] == "decided").then_some(explained)
        })
        .await;
        commits.push(
            explained["routes"][0]["commit"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    commits.sort_unstable();
    let mut lost = lost.to_vec();
    lost.sort_unstable();
    assert_eq!(commits, lost);
}

#[tokio::test]
async fn what_was_there_before_the_first_look_starts_nothing() {
    let mut scene = eager("first-sight").prepare().await;
    for branch in ["one", "two"] {
        drop(scene.gitlab.push(push(branch, branch)));
    }
    drop(scene.gitlab.propose(Proposal::new(PROJECT, "one", "alice")));
    scene.penstock.restart().await;
    a_round(&scene).await;
    let lost = scene.gitlab.push(push("three", "three"));
    scene.status(&lost.commit, "build", "failed").await;
    only_these_are_swept(&scene, &[&lost.commit]).await;
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test]
async fn a_webhook_that_comes_before_a_difference_is_believed_is_the_one_that_counts() {
    let scene = eager("on-its-way")
        .edit(|config| config["reconcile"] = json!({ "every": "200ms", "settle": "30s" }))
        .start()
        .await;
    a_round(&scene).await;
    let slow = scene.gitlab.push(push("slow", "one"));
    a_round(&scene).await;
    let delivery = scene.send_one(&slow).await;
    let lost = scene.gitlab.push(push("lost", "one"));
    for change in [&slow, &lost] {
        scene.status(&change.commit, "build", "failed").await;
    }
    only_these_are_swept(&scene, &[&lost.commit]).await;
    let runs = scene.runs_by_delivery().await;
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(runs.get(&delivery), Some(&1));
}

#[tokio::test]
async fn what_penstock_s_own_user_pushed_is_not_swept() {
    let scene = eager("own-push").start().await;
    a_round(&scene).await;
    let own = scene
        .gitlab
        .push(Push::new(PROJECT, "own", "penstock").write("a.txt", "own"));
    let id = scene.send_one(&own).await;
    scene.outcome(&id, "unrouted").await;
    a_round(&scene).await;
    let lost = scene.gitlab.push(push("lost", "one"));
    scene.status(&lost.commit, "build", "failed").await;
    only_these_are_swept(&scene, &[&lost.commit]).await;
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test]
async fn a_host_that_is_killed_again_and_again_in_the_middle_makes_up_for_each_head_once() {
    let mut scene = eager("killed-rounds").start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    scene.status(&known.commit, "build", "failed").await;
    a_round(&scene).await;
    let branches = ["a", "b", "c", "d", "e"];
    let lost: Vec<_> = branches
        .iter()
        .map(|branch| scene.gitlab.push(push(branch, branch)))
        .collect();
    for count in 1..=3 {
        // Killed as soon as something more was found: in the middle of finding the rest.
        until("a sweep more", async || {
            (listed(&scene, "sweep").await.len() >= count).then_some(())
        })
        .await;
        scene.penstock.kill9();
        scene.penstock.restart().await;
    }
    for change in &lost {
        scene.status(&change.commit, "build", "failed").await;
    }
    let lost: Vec<&str> = lost.iter().map(|change| change.commit.as_str()).collect();
    only_these_are_swept(&scene, &lost).await;
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1 + lost.len());
}

#[tokio::test]
async fn of_two_replicas_one_reconciles_and_the_other_goes_on_when_it_is_gone() {
    let postgres = Postgres::start().await;
    let mut scene = eager("two-reconcile").postgres(&postgres).start().await;
    let (mut second, _) = scene.replica();
    second.restart().await;
    a_round(&scene).await;
    let rounds_of_second = async || {
        let text = second.metrics().await;
        text.lines().any(|line| line.starts_with(ROUNDS))
    };
    let lost = scene.gitlab.push(push("one", "one"));
    scene.status(&lost.commit, "build", "failed").await;
    assert!(!rounds_of_second().await, "two reconcile at once");
    only_these_are_swept(&scene, &[&lost.commit]).await;

    // Asked to end it gives the part back; the other has it within its next look.
    scene.penstock.terminate().await;
    let more = scene.gitlab.push(push("two", "two"));
    scene.status(&more.commit, "build", "failed").await;
    only_these_are_swept(&scene, &[&lost.commit, &more.commit]).await;
    assert_eq!(scene.runs().await.len(), 2);
    second.kill9();
}

#[tokio::test]
async fn a_log_that_tells_of_what_is_not_the_hook_s_leads_to_nothing() {
    let scene = eager("forged-log").start().await;
    a_round(&scene).await;
    let foreign = scene
        .gitlab
        .push(Push::new("other/api", "topic", "oscar").write("a.txt", "x"));
    let own = scene.gitlab.push(push("topic", "one"));
    let body = foreign.delivery(scene.other_hook).body;
    // The id of the other's project under the path of ours, and bodies that are none.
    let mut mixed: Value = serde_json::from_slice(&own.delivery(scene.hook).body).unwrap();
    let other_id = scene.gitlab.edit(|world| world.project_id("other/api"));
    mixed["project_id"] = json!(other_id);
    mixed["project"]["id"] = json!(other_id);
    for body in [
        body.to_vec(),
        mixed.to_string().into_bytes(),
        b"[]".to_vec(),
        b"{\"object_kind\":\"push\"}".to_vec(),
    ] {
        scene
            .gitlab
            .edit(|world| world.log_failure(scene.hook, Trigger::Push, &body));
    }
    // What was lost at the same time is found by the look that looked at these.
    scene.status(&own.commit, "build", "failed").await;
    until("what can't be made up for", async || {
        figure(&scene, r#"penstock_unrecovered{instance="main"}"#)
            .await
            .filter(|count| *count >= 1.0)
    })
    .await;
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1, "that of our own lost push");
    assert!(
        scene
            .gitlab
            .statuses("other/api", &foreign.commit)
            .is_empty()
    );
    let all = scene.penstock.command(&["deliveries", "list"]).await.json();
    for delivery in all.as_array().unwrap() {
        assert_ne!(delivery["project"], "other/api", "{delivery}");
    }
}

#[tokio::test]
async fn a_project_that_is_gone_holds_up_no_other() {
    let scene = eager("gone").start().await;
    let known = scene.gitlab.push(push("topic", "one"));
    scene.send_one(&known).await;
    a_round(&scene).await;
    let web = scene.gitlab.edit(|world| world.project_id("acme/web"));
    let gone = format!("/projects/{web}/");
    scene
        .gitlab
        .order(Fault::new("GET", &gone, Break::Status(404)));
    let lost = scene.gitlab.push(push("topic", "two"));
    scene.status(&lost.commit, "build", "failed").await;
    let said = until("the project, named", async || {
        let logs = scene.penstock.logs();
        let named = |line: &&str| line.contains("acme/web") && line.contains("is not shown");
        logs.lines().find(named).map(str::to_owned)
    })
    .await;
    assert!(said.contains("this can't be made up for"), "{said}");
}

#[tokio::test]
async fn webhooks_of_projects_are_looked_at_where_the_group_has_none() {
    let mut scene = eager("project-hooks")
        .edit(|config| {
            let hooks = config["gitlab"][0]["hooks"].as_array_mut().unwrap();
            let mut each = hooks[0].clone();
            each["name"] = json!("each");
            hooks.push(each);
        })
        .prepare()
        .await;
    let key = scene
        .secrets
        .iter()
        .find(|(name, _)| *name == "the signing token")
        .map(|(_, key)| format!("whsec_{key}"))
        .unwrap();
    let url = scene.hook_url("each");
    let web = scene.gitlab.edit(|world| {
        world.hook(Hook::project(PROJECT, &url).signing_token(&key));
        world.remove_hook(scene.hook);
        world.project_id("acme/web")
    });
    let mut lost = Vec::new();
    for branch in ["one", "two", "three", "four"] {
        let change = scene.gitlab.push(push(branch, branch));
        change.send().await;
        lost.push(change);
    }
    scene.penstock.restart().await;
    for change in &lost {
        scene.status(&change.commit, "build", "failed").await;
    }
    for state in [
        r#"penstock_hook_state{instance="main",hook="each",state="enabled"} 1"#,
        r#"penstock_hook_state{instance="main",hook="acme",state="missing"} 1"#,
    ] {
        until(state, async || {
            let (_, text) = scene.penstock.get("/metrics").await?;
            text.lines().any(|line| line == state).then_some(())
        })
        .await;
    }
    assert!(listed(&scene, "sweep").await.is_empty());
    // One that is shown does not hide that others are not.
    let hidden = format!("/projects/{web}/hooks");
    scene
        .gitlab
        .order(Fault::new("GET", &hidden, Break::Status(403)));
    until("the others, named", async || {
        let logs = scene.penstock.logs();
        let named = "does not show the webhooks of `acme/web` to Penstock's user";
        logs.lines()
            .any(|line| line.contains("`each`") && line.contains(named))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_head_pipeline_that_nothing_told_of_is_given_the_statuses() {
    let scene = eager("untold-pipeline").start().await;
    drop(scene.gitlab.push(push("topic", "one")));
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&opened).await;
    scene.status(&opened.commit, "build", "failed").await;
    let own = format!("refs/merge-requests/{}/head", opened.number);
    let pipeline = scene
        .gitlab
        .pipeline(PROJECT, &own, "merge_request_event", "running", "alice");
    until("the status in it", async || {
        let rows = scene.gitlab.statuses(PROJECT, &opened.commit);
        let there = |row: &Value| row["pipeline_id"] == json!(pipeline.number);
        rows.into_iter().find(there)
    })
    .await;
}
