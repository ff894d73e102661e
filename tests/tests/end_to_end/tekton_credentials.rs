//! Runs of a `.tekton` folder that clone: asked for by `/incoming` or from a fork, with a token of their own and never the host's.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use penstock_control_plane::TestPlace;
use penstock_doubles::gitlab::{Proposal, Push};
use penstock_tests::scene::{Builder, FORK, PROJECT, annotation};
use penstock_tests::{Scene, until};
use serde_json::json;

use crate::tekton::{for_forks, plugin, route};

const SECRET: &str = "incoming-secret-of-the-api";

/// What a team has: a clone by the convention of Pipelines-as-Code.
fn cloning(name: &str, event: &str) -> String {
    format!(
        r#"apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: {name}-
  annotations:
    pipelinesascode.tekton.dev/on-event: "[{event}]"
    pipelinesascode.tekton.dev/on-target-branch: "[main]"
spec:
  params:
    - {{ name: url, value: "{{{{ repo_url }}}}" }}
    - {{ name: revision, value: "{{{{ revision }}}}" }}
    - {{ name: version, value: "{{{{ version }}}}" }}
  workspaces:
    - {{ name: auth, secret: {{ secretName: "{{{{ git_auth_secret }}}}" }} }}
  pipelineSpec:
    params: [{{ name: url }}, {{ name: revision }}, {{ name: version }}]
    workspaces: [{{ name: auth }}]
    tasks:
      - name: clone
        workspaces: [{{ name: auth }}]
        taskSpec:
          workspaces: [{{ name: auth }}]
          steps: [{{ name: clone, image: example.com/git, script: git clone }}]
"#
    )
}

fn scene(name: &str) -> Builder {
    Scene::builder(name)
        .plugin_by(for_forks(plugin(json!({}))), route())
        .place_for_forks()
        .sealed()
        .edit(|config| {
            for place in ["ci", "untrusted"] {
                config["tenants"][0]["places"][place]["policy"] = json!({ "clone": true });
            }
        })
}

async fn secrets(scene: &Scene, place: &TestPlace) -> Vec<Secret> {
    let client = scene.access().client().await.unwrap();
    let all: Api<Secret> = Api::namespaced(client, place.namespace());
    let mut found = all.list(&Default::default()).await.unwrap().items;
    found.retain(|it| {
        it.data
            .as_ref()
            .is_some_and(|it| it.contains_key(".gitconfig"))
    });
    found
}

fn value(secret: &Secret, key: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
}

/// The token in a Secret opens the project alone, and is none of the host's.
fn check_secret(scene: &Scene, secret: &Secret) -> (String, String) {
    let keys: Vec<&String> = secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(
        keys,
        [".git-credentials", ".gitconfig", "git-provider-token"]
    );
    let token = value(secret, "git-provider-token");
    let credentials = value(secret, ".git-credentials");
    assert!(credentials.contains(&token) && credentials.contains("/acme/api.git\n"));
    for (what, host) in &scene.secrets {
        assert!(!credentials.contains(host), "{what} is in the Secret");
    }
    let all = scene.gitlab.edit(|world| world.deploy_tokens(PROJECT));
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["scopes"], json!(["read_repository"]));
    assert!(
        all[0]["expires_at"].is_string(),
        "it ends by itself: {all:#?}"
    );
    let username = all[0]["username"].as_str().unwrap().to_owned();
    let clones = |project: &str| {
        scene
            .gitlab
            .edit(|world| world.clones(project, &username, &token))
    };
    assert!(clones(PROJECT) && !clones(FORK) && !clones("acme/web"));
    (username, token)
}

async fn nothing_left(scene: &Scene, place: &TestPlace, (username, token): (String, String)) {
    until("the Secret and the token to be gone", async || {
        let left = secrets(scene, place).await.len();
        let good = scene
            .gitlab
            .edit(|world| world.clones(PROJECT, &username, &token));
        (left == 0 && !good).then_some(())
    })
    .await;
    assert_eq!(
        scene.runs_in(place).await.len(),
        1,
        "the run is still there"
    );
}

#[tokio::test]
async fn a_request_with_parameters_starts_the_run_that_is_meant_for_it_and_it_clones() {
    let mut scene = scene("tekton-incoming").prepare().await;
    let secret = scene.folder().join("secrets/incoming");
    std::fs::write(&secret, SECRET).unwrap();
    let id = scene.gitlab.edit(|world| world.project_id(PROJECT));
    scene.reconfigure(|config| {
        config["gitlab"][0]["incoming"] = json!([{
            "name": "api", "project": PROJECT, "project-id": id, "secret": { "file": secret },
            "targets": ["main"], "params": ["version"],
        }]);
    });
    scene.penstock.restart().await;
    let head = scene
        .gitlab
        .push(
            Push::new(PROJECT, "main", "maria")
                .write(".tekton/nightly.yaml", cloning("nightly", "incoming"))
                .write(".tekton/test.yaml", cloning("test", "pull_request")),
        )
        .commit;
    scene.place.hold_pods().await.unwrap();
    let body = |name: &str| {
        json!({
            "repository": "api", "branch": "main", "pipelinerun": name, "secret": SECRET,
            "params": { "version": "1.2" },
        })
    };
    // What is not meant for such requests is started by none.
    let (status, told) = scene.incoming(&body("test")).await;
    assert_eq!(status, 202, "{told:#}");
    let told = scene
        .outcome(told["delivery"].as_str().unwrap(), "decided")
        .await;
    assert_eq!(told["runs"], json!([]), "{told:#}");

    // What is asked when the host starts is over.
    let round = r#"penstock_reconciled_total{instance="main",what="round"} 1"#;
    scene.penstock.counted(round).await;
    let before = scene.gitlab.calls().len();
    let (status, told) = scene.incoming(&body("nightly")).await;
    assert_eq!(status, 202, "{told:#}");
    let run = scene.run_of(told["delivery"].as_str().unwrap()).await;
    assert_eq!(run.data["spec"]["params"][1]["value"], head);
    assert_eq!(run.data["spec"]["params"][2]["value"], "1.2");
    let found = secrets(&scene, &scene.place).await;
    assert_eq!(found.len(), 1);
    let named = run.data["spec"]["workspaces"][0]["secret"]["secretName"].as_str();
    assert_eq!(found[0].metadata.name.as_deref(), named);
    let opens = check_secret(&scene, &found[0]);
    scene.place.let_pods_finish().await.unwrap();
    scene.status(&head, "Penstock / nightly", "success").await;
    nothing_left(&scene, &scene.place, opens).await;
    // From the request to the end: the branch and who asks, the folder, three statuses, a token made and revoked.
    scene.settled().await;
    let calls = scene.gitlab.calls().len() - before;
    assert!(calls <= 12, "{calls} calls to GitLab for one run");
}

#[tokio::test]
async fn a_fork_is_cloned_from_the_target_with_a_token_of_the_target() {
    let scene = scene("tekton-fork-clone").start().await;
    drop(
        scene.gitlab.push(
            Push::new(FORK, "mend", "mallory")
                .write(".tekton/test.yaml", cloning("test", "pull_request")),
        ),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "mend", "mallory").from_fork(FORK));
    scene.send_one(&proposed).await;
    let place = scene.fork_place.as_ref().unwrap();
    place.hold_pods().await.unwrap();
    let allowed = scene
        .gitlab
        .comment(PROJECT, proposed.number, "alice", "/ok-to-test");
    scene.send_one(&allowed).await;
    let run = until("the fork's run", async || scene.runs_in(place).await.pop()).await;
    assert_eq!(annotation(&run, "penstock.dev/trust"), "untrusted");
    let params = &run.data["spec"]["params"];
    let url = params[0]["value"].as_str().unwrap();
    assert!(url.ends_with("/acme/api"), "not the fork's: {url}");
    // The target holds the commit as `refs/merge-requests/N/head`.
    assert_eq!(params[1]["value"], proposed.commit);
    let found = secrets(&scene, place).await;
    let opens = check_secret(&scene, &found[0]);
    assert!(
        scene
            .gitlab
            .edit(|world| world.deploy_tokens(FORK))
            .is_empty()
    );
    place.let_pods_finish().await.unwrap();
    nothing_left(&scene, place, opens).await;
}
