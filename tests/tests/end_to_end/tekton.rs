//! What the tests of the plugin for `.tekton` folders share: the plugin as docs/pipelines-as-code.md has it, a pipeline, its comment.

use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

/// A PipelineRun of one task whose step runs this script; `more` stands among its annotations.
pub(crate) fn pipeline(name: &str, event: &str, branch: &str, script: &str, more: &str) -> String {
    format!(
        r#"apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: {name}-
  annotations:
    pipelinesascode.tekton.dev/on-event: "[{event}]"
    pipelinesascode.tekton.dev/on-target-branch: "[{branch}]"
{more}
spec:
  pipelineSpec:
    results: [{{ name: digest, value: $(tasks.work.results.digest) }}]
    tasks:
      - name: work
        taskSpec:
          results: [{{ name: digest }}]
          steps:
            - name: work
              image: example.com/builder
              script: "{script}"
"#
    )
}

pub(crate) const BUILT: &str = "echo -n sha256:abc > $(results.digest.path)";

/// The route of the page.
pub(crate) fn route() -> Route {
    Route::to("pipelines").on(&[
        "push",
        "tag_push",
        "merge_request",
        "note",
        "request",
        "run_finished",
    ])
}

/// The plugin, with these settings.
pub(crate) fn plugin(settings: Value) -> Plugin {
    Plugin::new(
        "pipelines",
        &penstock_tests::plugin::guest("pipelines-as-code"),
    )
    .settings(settings)
}

/// With what the page grants it for forks.
pub(crate) fn for_forks(plugin: Plugin) -> Plugin {
    let grant = json!({
        "delivery": true,
        "gitlab-read": ["files", "commits"],
        "cluster-read": ["places", "runs"],
        "state": true,
        "effects": ["start-run", "cancel-runs", "comment", "commit-status"],
    });
    plugin.grant("from-fork", grant)
}

/// Penstock's comments on the merge request.
pub(crate) fn comments(scene: &Scene, iid: u64) -> Vec<String> {
    let notes = scene.gitlab.notes(PROJECT, iid);
    let bodies = notes.iter().filter_map(|note| note["body"].as_str());
    bodies
        .filter(|body| body.contains("**Pipelines**"))
        .map(str::to_owned)
        .collect()
}

/// The comment, once it is as it should be.
pub(crate) async fn comment(
    scene: &Scene,
    iid: u64,
    what: &str,
    fits: impl Fn(&str) -> bool,
) -> String {
    until(&format!("a comment with {what}"), async || {
        comments(scene, iid).into_iter().find(|body| fits(body))
    })
    .await
}
