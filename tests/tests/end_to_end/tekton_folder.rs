//! A project's `.tekton` folder, from a push, a tag, a merge request, a comment and a fork to runs in a real cluster.

use penstock_doubles::gitlab::{Break, Change, Fault, Proposal, Push};
use penstock_tests::scene::{FORK, PROJECT, annotation};
use penstock_tests::{Scene, until};
use serde_json::{Value, json};

use crate::tekton::{self, for_forks, plugin, route};

const RUN: &str = r#"
apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: NAME-
  annotations:
    pipelinesascode.tekton.dev/on-event: "[EVENT]"
    pipelinesascode.tekton.dev/on-target-branch: "[BRANCH]"
spec:
  params:
    - { name: revision, value: "{{ revision }}" }
    - { name: tag, value: "{{ git_tag }}" }
  pipelineRef: { name: PIPELINE }
"#;

/// The pipeline and the task that all runs refer to.
const REST: &str = r#"
apiVersion: tekton.dev/v1
kind: Pipeline
metadata: { name: build }
spec:
  params: [{ name: revision }, { name: tag }]
  tasks: [{ name: build, taskRef: { name: compile } }]
---
apiVersion: tekton.dev/v1
kind: Task
metadata: { name: compile }
spec:
  steps: [{ name: compile, image: example.com/builder, script: "echo built" }]
"#;

fn run(name: &str, event: &str, branch: &str) -> String {
    RUN.replace("NAME", name)
        .replace("EVENT", event)
        .replace("BRANCH", branch)
        .replace("PIPELINE", "build")
}

fn folder(push: Push) -> Push {
    push.write(".tekton/push.yaml", run("push", "push", "main"))
        .write(".tekton/tag.yaml", run("release", "push", "refs/tags/v*"))
        .write(".tekton/mr.yaml", run("test", "pull_request", "main"))
        .write(".tekton/rest.yaml", REST)
}

/// The project's folder stands on main; what its own push starts is of no interest.
async fn scene(name: &str) -> (Scene, Change) {
    let scene = Scene::builder(name)
        .plugin_by(
            for_forks(plugin(json!({
                "on-no-match": "success", "repository": { "concurrency_limit": 5 }
            }))),
            route(),
        )
        .place_for_forks()
        .start()
        .await;
    let change = scene
        .gitlab
        .push(folder(Push::new(PROJECT, "main", "maria")));
    (scene, change)
}

/// The body of Penstock's comment on the merge request, once it has this part.
async fn comment(scene: &Scene, iid: u64, part: &str) -> String {
    tekton::comment(scene, iid, part, |body| body.contains(part)).await
}

fn iid(change: &Change) -> u64 {
    change.number
}

#[tokio::test]
async fn a_push_and_a_tag_start_the_runs_that_are_for_them() {
    let (scene, pushed) = scene("tekton-push").await;
    let delivery = scene.send_one(&pushed).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(run.data["spec"]["params"][0]["value"], pushed.commit);
    let task = &run.data["spec"]["pipelineSpec"]["tasks"][0];
    assert_eq!(task["taskSpec"]["steps"][0]["name"], "compile", "{task}");
    scene
        .status(&pushed.commit, "Penstock / push", "success")
        .await;
    assert_eq!(annotation(&run, "penstock.dev/ref"), "refs/heads/main");

    let tagged = scene.gitlab.tag(PROJECT, "v1.0", "main", None, "maria");
    let delivery = scene.send_one(&tagged).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(run.data["spec"]["params"][1]["value"], "v1.0");
    assert_eq!(run.data["spec"]["params"][0]["value"], pushed.commit);
    scene
        .status(&pushed.commit, "Penstock / release", "success")
        .await;
    let of_the_tag = scene.gitlab.statuses(PROJECT, &pushed.commit);
    assert!(
        of_the_tag
            .iter()
            .any(|it| it["name"] == "Penstock / release" && it["ref"] == "v1.0"),
        "{of_the_tag:#?}"
    );
}

/// A task by its path, and one of another project by its address in this GitLab.
#[tokio::test]
async fn tasks_by_a_path_and_by_the_address_of_a_granted_project_come_into_the_run() {
    let task = |name: &str| {
        format!(
            "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {{ name: {name} }}\nspec:\n  steps: [{{ name: {name}, image: example.com/{name}, script: 'true' }}]\n"
        )
    };
    let scene = Scene::builder("tekton-remote")
        .plugin_by(
            plugin(json!({})).grant("elsewhere", json!(["acme/web"])),
            route(),
        )
        .start()
        .await;
    for project in ["acme/web", "other/api"] {
        drop(
            scene
                .gitlab
                .push(Push::new(project, "main", "maria").write("ci/lint.yaml", task("lint"))),
        );
    }
    let run = |name: &str, project: &str| {
        format!(
            "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  generateName: {name}-\n  annotations:\n    \
             pipelinesascode.tekton.dev/on-event: push\n    pipelinesascode.tekton.dev/on-target-branch: main\n    \
             pipelinesascode.tekton.dev/task: tasks/unit.yaml\n    \
             pipelinesascode.tekton.dev/task-1: {}/{project}/-/raw/main/ci/lint.yaml\nspec:\n  pipelineSpec:\n    tasks:\n      \
             - {{ name: unit, taskRef: {{ name: unit }} }}\n      - {{ name: lint, taskRef: {{ name: lint }} }}\n",
            scene.gitlab.url()
        )
    };
    let pushed = scene.gitlab.push(
        Push::new(PROJECT, "main", "maria")
            .write("tasks/unit.yaml", task("unit"))
            .write(".tekton/good.yaml", run("good", "acme/web"))
            .write(".tekton/bad.yaml", run("bad", "other/api")),
    );
    let delivery = scene.send_one(&pushed).await;
    let made = scene.run_of(&delivery).await;
    let tasks = &made.data["spec"]["pipelineSpec"]["tasks"];
    for (at, name) in ["unit", "lint"].iter().enumerate() {
        assert_eq!(
            tasks[at]["taskSpec"]["steps"][0]["image"],
            format!("example.com/{name}"),
            "{tasks:#}"
        );
    }
    scene
        .status(&pushed.commit, "Penstock / good", "success")
        .await;
    let explained = scene.explain(&delivery).await;
    let warnings = explained["routes"][0]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{explained:#}");
    assert_eq!(warnings[0]["path"], ".tekton/bad.yaml");
    assert_eq!(warnings[0]["line"], 9);
    assert!(
        warnings[0]["message"]
            .as_str()
            .unwrap()
            .contains("other/api"),
        "{explained:#}"
    );
    assert_eq!(
        scene.runs().await.len(),
        1,
        "what is not granted starts nothing"
    );
}

#[tokio::test]
async fn a_merge_request_and_a_comment_on_it_start_runs_and_the_comment_shows_them() {
    let (scene, _) = scene("tekton-merge").await;
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a")),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    let delivery = scene.send_one(&proposed).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(run.data["spec"]["params"][0]["value"], proposed.commit);
    scene
        .status(&proposed.commit, "Penstock / test", "success")
        .await;
    comment(&scene, iid(&proposed), "✅ succeeded").await;

    // A stranger's comment starts nothing, a developer's does.
    let stranger = scene
        .gitlab
        .comment(PROJECT, iid(&proposed), "mallory", "/test");
    let delivery = scene.send_one(&stranger).await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(
        told["routes"][0]["effects"].as_array().map_or(0, Vec::len),
        0,
        "{told:#}"
    );
    let asked = scene
        .gitlab
        .comment(PROJECT, iid(&proposed), "alice", "/test test");
    let delivery = scene.send_one(&asked).await;
    let again = scene.run_of(&delivery).await;
    assert_ne!(again.metadata.name, run.metadata.name);
    // One comment, however often it changed.
    scene.settled().await;
    let notes = scene.gitlab.notes(PROJECT, iid(&proposed));
    let ours = notes.iter().filter(|note| {
        note["body"]
            .as_str()
            .is_some_and(|it| it.contains("**Pipelines**"))
    });
    assert_eq!(ours.count(), 1);
}

#[tokio::test]
async fn a_broken_file_is_shown_with_its_line_and_is_gone_when_it_is_mended() {
    let (scene, _) = scene("tekton-mistake").await;
    drop(
        scene.gitlab.push(
            Push::new(PROJECT, "topic", "alice")
                .write(".tekton/x.yaml", "kind: PipelineRun\nmetadata: [\n"),
        ),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&proposed).await;
    let body = comment(&scene, iid(&proposed), "To mend").await;
    assert!(body.contains("`.tekton/x.yaml:2:"), "{body}");
    scene.status(&proposed.commit, "Penstock", "failed").await;
    let mended = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").delete(".tekton/x.yaml"));
    scene.send(&mended).await;
    until("a comment without a mistake", async || {
        let notes = scene.gitlab.notes(PROJECT, iid(&proposed));
        let ours: Vec<&Value> = notes
            .iter()
            .filter(|note| {
                note["body"]
                    .as_str()
                    .is_some_and(|it| it.contains("**Pipelines**"))
            })
            .collect();
        (ours.len() == 1 && !ours[0]["body"].as_str().unwrap().contains("To mend")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_fork_runs_in_the_place_for_forks_after_it_was_allowed_and_not_before() {
    let (scene, pushed) = scene("tekton-fork").await;
    scene.send(&pushed).await;
    drop(
        scene
            .gitlab
            .push(folder(Push::new(FORK, "topic", "mallory")).write("a.txt", "from the fork")),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "mallory").from_fork(FORK));
    let delivery = scene.send_one(&proposed).await;
    scene.outcome(&delivery, "decided").await;
    comment(&scene, iid(&proposed), "/ok-to-test").await;
    let own = scene
        .gitlab
        .comment(PROJECT, iid(&proposed), "mallory", "/ok-to-test");
    scene.send(&own).await;
    scene.settled().await;
    let forks = scene.fork_place.as_ref().unwrap();
    assert!(scene.runs_in(forks).await.is_empty());
    let allowed = scene
        .gitlab
        .comment(PROJECT, iid(&proposed), "alice", "/ok-to-test");
    let delivery = scene.send_one(&allowed).await;
    scene.outcome(&delivery, "decided").await;
    let run = until("the fork's run", async || {
        scene.runs_in(forks).await.into_iter().next()
    })
    .await;
    assert_eq!(run.data["spec"]["params"][0]["value"], proposed.commit);
    assert_eq!(annotation(&run, "penstock.dev/trust"), "untrusted");
}

#[tokio::test]
async fn who_lost_the_right_while_the_plugin_was_slow_starts_nothing() {
    let (scene, pushed) = scene("tekton-demoted").await;
    let first = scene.send_one(&pushed).await;
    scene.outcome(&first, "decided").await;
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a")),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    // The plugin waits for the folder longer than a confirmation is good for.
    let slow = Fault::new("GET", "/repository/tree", Break::Late(17_000)).times(1);
    scene.gitlab.order(slow);
    let before = scene.gitlab.calls_to("GET", "/repository/tree").len();
    let delivery = scene.send_one(&proposed).await;
    until("the plugin's question", async || {
        let now = scene.gitlab.calls_to("GET", "/repository/tree").len();
        (now > before).then_some(())
    })
    .await;
    scene
        .gitlab
        .edit(|world| _ = world.remove_member("acme", "alice"));
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(told["routes"][0]["trust"], "untrusted", "{told:#}");
    assert_eq!(told["runs"], json!([]), "{told:#}");
    scene
        .penstock
        .logged("changed under a slow call; it is made anew")
        .await;
}
