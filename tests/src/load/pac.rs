//! What a decision about a `.tekton` folder of 50 files costs: time and calls to GitLab, the first time and with the folder unchanged. And the
//! calls to GitLab for one whole run, from the push to its last status, with and without credentials to clone.

use std::path::Path;

use penstock_doubles::gitlab::Push;
use serde_json::json;

use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use crate::scene::PROJECT;
use crate::{Plugin, Route, Scene};

const FILES: usize = 50;
const CACHED: usize = 40;

/// One file: a run of two tasks of the folder.
fn run(number: usize) -> String {
    format!(
        r#"apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: build-{number}-
  annotations:
    pipelinesascode.tekton.dev/on-event: "[push]"
    pipelinesascode.tekton.dev/on-target-branch: "[main-{number}]"
    pipelinesascode.tekton.dev/max-keep-runs: "5"
spec:
  params:
    - {{ name: url, value: "{{{{ repo_url }}}}" }}
    - {{ name: revision, value: "{{{{ revision }}}}" }}
    - {{ name: branch, value: "{{{{ source_branch }}}}" }}
  pipelineSpec:
    params: [{{ name: url }}, {{ name: revision }}, {{ name: branch }}]
    tasks:
      - name: clone
        taskSpec:
          params: [{{ name: url, default: "" }}]
          steps:
            - name: clone
              image: registry.example.com/git:2
              script: |
                #!/bin/sh
                set -eu
                git clone "$(params.url)" /workspace/source
      - name: test
        runAfter: [clone]
        taskSpec:
          steps:
            - name: test
              image: registry.example.com/build:1
              script: |
                #!/bin/sh
                make -C /workspace/source test TARGET={number}
"#
    )
}

/// Measures it. The route observes: what is measured is the decision, not the run.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let plugin = Plugin::new("pipelines", &crate::plugin::guest("pipelines-as-code"))
        .settings(json!({ "push-with-merge-request": "run" }));
    let scene = Scene::builder("pac")
        .cluster(plane.access())
        .program(penstock)
        .plugin_by(plugin, Route::to("pipelines").on(&["push"]).observe())
        .start()
        .await;
    let mut push = Push::new(PROJECT, "main-7", "alice");
    for number in 0..FILES {
        push = push.write(&format!(".tekton/{number:02}.yaml"), run(number));
    }
    let cold = one(&scene, push).await;
    let mut cached = Vec::new();
    for number in 0..CACHED {
        let push = Push::new(PROJECT, "main-7", "alice").write("src/main.rs", format!("{number}"));
        cached.push(one(&scene, push).await);
    }
    let mut seconds: Vec<f64> = cached.iter().map(|it| it.milliseconds).collect();
    seconds.sort_by(f64::total_cmp);
    let most = |of: fn(&Cost) -> usize| cached.iter().map(of).max().unwrap_or_default() as f64;
    let plain = calls_for_a_run(&plane, penstock, Clones::Nothing).await;
    let cloning = calls_for_a_run(&plane, penstock, Clones::Itself).await;
    vec![
        Figure::plain(
            "calls to GitLab for one run, from push to last status, median of 10",
            plain,
            "calls",
        ),
        Figure::plain(
            "the same for a run that clones: its token made and revoked",
            cloning,
            "calls",
        ),
        Figure::plain(
            "a decision about a new folder of 50 files",
            cold.milliseconds,
            "ms",
        ),
        Figure::at_most(
            "calls to GitLab for a new folder of 50 files",
            cold.folder as f64,
            "calls",
            2.0,
        ),
        Figure::plain(
            "a decision about an unchanged folder of 50 files, median of 40",
            super::figure::percentile(&seconds, 50.0),
            "ms",
        ),
        Figure::plain(
            "a decision about an unchanged folder of 50 files, slowest of 40",
            super::figure::percentile(&seconds, 100.0),
            "ms",
        ),
        Figure::at_most(
            "calls to GitLab for an unchanged folder of 50 files, most of 40",
            most(|it| it.folder),
            "calls",
            2.0,
        ),
        Figure::plain(
            "calls to GitLab for the whole delivery then, its confirmation included, most of 40",
            most(|it| it.all),
            "calls",
        ),
    ]
}

/// What one decision cost.
struct Cost {
    milliseconds: f64,
    /// Calls for the folder and its files.
    folder: usize,
    all: usize,
}

async fn one(scene: &Scene, push: Push) -> Cost {
    let change = scene.gitlab.push(push);
    let seconds = spent(scene).await;
    let calls = scene.gitlab.calls().len();
    let delivery = scene.send_one(&change).await;
    let told = scene.outcome(&delivery, "decided").await;
    assert!(
        told.to_string().contains("build-7"),
        "the run of this branch was chosen: {told:#}"
    );
    let after = scene.gitlab.calls();
    let mut new = after.iter().skip(calls);
    let folder = |path: &str| {
        path.contains("/repository/tree")
            || path.contains("/api/graphql")
            || path.contains("/repository/blobs/")
            || path.contains("/repository/files/")
    };
    Cost {
        milliseconds: (spent(scene).await - seconds) * 1000.0,
        all: new.len(),
        folder: new.by_ref().filter(|call| folder(&call.path)).count(),
    }
}

/// What a run has credentials for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clones {
    Nothing,
    Itself,
}

/// One after the other, so that no two share a token. The run ends by its timeout: there is no kubelet.
async fn calls_for_a_run(plane: &Plane, penstock: &Path, clones: Clones) -> f64 {
    const RUNS: usize = 10;
    let plugin = Plugin::new("pipelines", &crate::plugin::guest("pipelines-as-code"));
    let scene = Scene::builder("pac-run")
        .cluster(plane.access())
        .program(penstock)
        .plugin_by(plugin, Route::to("pipelines").on(&["push"]))
        .sealed()
        .edit(|config| {
            config["tenants"][0]["places"]["ci"]["policy"] = json!({ "clone": true });
        })
        .start()
        .await;
    let workspace = match clones {
        Clones::Nothing => "",
        Clones::Itself => {
            "  workspaces: [{ name: auth, secret: { secretName: \"{{ git_auth_secret }}\" } }]\n"
        }
    };
    let file = format!(
        "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  generateName: one-\n  annotations:\n    \
         pipelinesascode.tekton.dev/on-event: push\n    pipelinesascode.tekton.dev/on-target-branch: main\nspec:\n{workspace}  \
         timeouts: {{ pipeline: 1s }}\n  pipelineSpec:\n    tasks: [{{ name: one, taskSpec: {{ steps: [{{ name: one, image: \
         example.com/one, script: make }}] }} }}]\n"
    );
    let mut costs = Vec::new();
    for number in 0..=RUNS {
        let push = Push::new(PROJECT, "main", "maria")
            .write(".tekton/one.yaml", file.clone())
            .write("a.txt", format!("{number}"));
        let change = scene.gitlab.push(push);
        let before = scene.gitlab.calls().len();
        scene.send_one(&change).await;
        scene
            .status(&change.commit, "Penstock / one", "failed")
            .await;
        scene.settled().await;
        crate::until("the token to be revoked", async || {
            let tokens = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
            tokens.iter().all(|it| it["revoked"] == true).then_some(())
        })
        .await;
        // The first fills what is kept of rights and files.
        if number > 0 {
            costs.push((scene.gitlab.calls().len() - before) as f64);
        }
    }
    assert_eq!(scene.runs().await.len(), RUNS + 1, "each push had its run");
    let made = scene
        .gitlab
        .edit(|world| world.deploy_tokens(PROJECT))
        .len();
    let expected = match clones {
        Clones::Nothing => 0,
        Clones::Itself => RUNS + 1,
    };
    assert_eq!(made, expected, "a token for each run that clones");
    costs.sort_by(f64::total_cmp);
    super::figure::percentile(&costs, 50.0)
}

/// Seconds that the plugin's calls took so far, host calls included.
async fn spent(scene: &Scene) -> f64 {
    let (_, text) = scene.penstock.get("/metrics").await.expect("metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with("penstock_decision_seconds_sum"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_default()
}
