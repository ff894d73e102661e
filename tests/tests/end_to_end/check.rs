//! `penstock check` against GitLab's stand-in and a real cluster: what is good is good, and each fault is found with its remedy.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::PostParams;
use penstock_control_plane::wait;
use penstock_doubles::gitlab::{Access, Push, Token};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::{Builder, PROJECT};
use penstock_tests::{LIMIT, Plugin, Scene};
use serde_json::{Value, json};

fn scene(name: &str) -> Builder {
    Scene::builder(name)
        .plugin(Plugin::starts("pipelines", &short_lived()))
        // Hooks of a group are shown to its owners alone.
        .seed(|world| {
            for group in ["acme", "other"] {
                world.member(group, "penstock", Access::Owner);
            }
        })
        // They are looked for by the address under which GitLab knows them.
        .edit(|config| {
            let listen = config["listen"].as_str().unwrap();
            config["public-url"] = format!("http://{listen}").into();
        })
}

/// What `check` found, and whether it ended well.
async fn check(scene: &Scene) -> (Vec<Value>, bool) {
    let words = ["check", "--project", PROJECT, "--output", "json"];
    let told = scene.penstock.text_command(&words).await;
    let found = serde_json::from_str(&told.out)
        .unwrap_or_else(|error| panic!("{error} in: {}{}", told.out, told.err));
    for (what, secret) in &scene.secrets {
        assert!(!told.out.contains(secret), "{what} is in the answer");
    }
    (found, told.success)
}

/// The finding about this, which is bad and says what to do in these words.
async fn bad(scene: &Scene, what: &str, detail: &str, remedy: &str) {
    let is_it = |it: &Value| {
        it["verdict"] == "bad"
            && contains(&it["what"], what)
            && contains(&it["detail"], detail)
            && contains(&it["remedy"], remedy)
    };
    // RBAC is not told of a change at once, nor of all its parts in the same moment.
    let looked = wait::until("the finding", LIMIT, async || {
        let (found, success) = check(scene).await;
        Ok(found.iter().any(is_it).then_some(success))
    })
    .await;
    match looked {
        Ok(success) => assert!(!success, "something is bad"),
        Err(error) => panic!("{error:#}: {what} in {:#?}", check(scene).await.0),
    }
}

fn contains(value: &Value, part: &str) -> bool {
    value.as_str().unwrap_or_default().contains(part)
}

#[tokio::test]
async fn a_host_that_is_set_up_as_the_examples_say_is_good() {
    let scene = scene("check-good").prepare().await;
    let (found, success) = check(&scene).await;
    assert!(success, "{found:#?}");
    let odd: Vec<_> = found.iter().filter(|it| it["verdict"] != "good").collect();
    assert!(odd.is_empty(), "{odd:#?}");
    for part in [
        "configuration",
        "plugin `pipelines`",
        "project `acme/api`",
        "GitLab `main`",
        "token of `main`",
        "hook `acme` of `main`",
        "hook `other` of `main`",
        "cluster `prod`: cluster `prod` answers",
        "Tekton Pipelines is installed",
        "the host may watch pipelineruns in all namespaces",
        "are two accounts",
        "the host gets tokens of account `creator`",
        "account `creator` may create pipelineruns",
        "account `run-as` can't start or change anything",
    ] {
        let there = found.iter().any(|it| contains(&it["what"], part));
        assert!(there, "nothing was found about {part} in {found:#?}");
    }
    let text = scene
        .penstock
        .text_command(&["check", "--project", PROJECT])
        .await;
    assert!(
        text.out
            .contains("ok       GitLab `main`: answers; version 19"),
        "{}",
        text.out
    );
}

#[tokio::test]
async fn what_is_wrong_with_gitlab_is_found_with_its_remedy() {
    let mut scene = scene("check-gitlab")
        .seed(|world| {
            world.token(Token::new("glpat-only-reads", "penstock").scopes(&["read_api"]));
        })
        .prepare()
        .await;
    // Nobody listens: GitLab gives the hook up after four deliveries, and with each more for longer: here for an hour.
    for n in 0..10 {
        let push = Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{n}"));
        scene.gitlab.push(push).send().await;
        if n < 9 {
            scene.gitlab.advance(Duration::from_secs(60 * 60));
        }
    }
    bad(
        &scene,
        "hook `acme`",
        "GitLab has disabled it",
        "send a test event",
    )
    .await;

    let read_only = scene.folder().join("secrets/read-only");
    std::fs::write(&read_only, "glpat-only-reads").unwrap();
    scene.reconfigure(|config| config["gitlab"][0]["token"]["file"] = json!(read_only));
    bad(
        &scene,
        "token of `main`",
        "scopes read_api",
        "it needs the scope `api`",
    )
    .await;
    std::fs::write(&read_only, "glpat-nobody-s").unwrap();
    bad(
        &scene,
        "token of `main`",
        "401",
        "make a new token with the scope `api`",
    )
    .await;

    let secret = scene.folder().join("secrets/incoming");
    std::fs::write(&secret, "a secret").unwrap();
    scene.reconfigure(|config| {
        config["gitlab"][0]["token"]["file"] = json!(scene_token(config));
        config["gitlab"][0]["incoming"] = json!([{
            "name": "api", "project": PROJECT, "project-id": 999_999,
            "secret": { "file": secret }, "targets": ["main"],
        }]);
        config["tenants"][0]["places"]["ci"]["policy"] = json!({ "clone": true });
    });
    bad(
        &scene,
        "entry `api` of `incoming`",
        "project 999999 is not `acme/api`",
        "look the id up",
    )
    .await;
    bad(
        &scene,
        "credentials to clone",
        "there is no `sealing-key`",
        "openssl rand",
    )
    .await;
    let id = scene.gitlab.edit(|world| world.project_id(PROJECT));
    scene.reconfigure(|config| config["gitlab"][0]["incoming"][0]["project-id"] = json!(id));
    let (found, _) = check(&scene).await;
    let entry = found
        .iter()
        .find(|it| contains(&it["what"], "entry `api`"))
        .unwrap();
    assert_eq!(entry["verdict"], "good", "{entry:#}");

    scene.reconfigure(|config| {
        config["public-url"] = "https://elsewhere.example.com".into();
        config["gitlab"][0]["token"]["file"] = json!(scene_token(config));
    });
    bad(
        &scene,
        "hook `other`",
        "no webhook with the address https://elsewhere.example.com/hooks/gitlab/main/other",
        "add it in `other`",
    )
    .await;

    // A role that is too low hides the hooks, and says which would do.
    scene.gitlab.edit(|world| {
        world.member("acme", "penstock", Access::Maintainer);
    });
    let (found, _) = check(&scene).await;
    let hook = found
        .iter()
        .find(|it| contains(&it["what"], "hook `acme`"))
        .unwrap();
    assert_eq!(hook["verdict"], "unknown");
    assert!(contains(&hook["remedy"], "the role Owner"), "{hook:#}");

    scene.reconfigure(|config| config["gitlab"][0]["url"] = "http://127.0.0.1:1".into());
    bad(
        &scene,
        "GitLab `main`",
        "",
        "look at `url`, `ca` and the network",
    )
    .await;
}

/// Where the good token of a scene lies: beside the other secrets.
fn scene_token(config: &Value) -> String {
    let api = config["api-token"]["file"].as_str().unwrap();
    api.replace("api-token", "gitlab-token")
}

#[tokio::test]
async fn what_is_wrong_in_the_cluster_is_found_with_its_remedy() {
    let mut scene = scene("check-cluster").prepare().await;
    let client = scene.access().client().await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client, scene.place.namespace());
    let binding = |role: &str, account: &str| -> RoleBinding {
        serde_json::from_value(json!({
            "metadata": { "name": account },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": scene.place.namespace() }],
        }))
        .unwrap()
    };
    bindings
        .create(&PostParams::default(), &binding("creator", "run-as"))
        .await
        .unwrap();
    bad(
        &scene,
        "account `run-as` can't start or change anything",
        "create pipelineruns",
        "run-as",
    )
    .await;

    bindings
        .delete("creator", &Default::default())
        .await
        .unwrap();
    bad(
        &scene,
        "account `creator` may create pipelineruns",
        "",
        "verbs: [create, get, patch]",
    )
    .await;
    bindings
        .delete("penstock-tokens", &Default::default())
        .await
        .unwrap();
    bad(
        &scene,
        "the host gets tokens of account `creator`",
        "may not ask for tokens",
        "resources: [serviceaccounts/token]",
    )
    .await;

    scene.reconfigure(|config| {
        config["plugins"][0]["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    });
    bad(
        &scene,
        "plugin `pipelines`",
        "digest",
        "wait until it loads",
    )
    .await;

    // One account for both is a mistake in the configuration itself.
    scene.reconfigure(|config| config["tenants"][0]["places"]["ci"]["run-as"] = "creator".into());
    let told = scene.penstock.text_command(&["check"]).await;
    assert!(!told.success);
    assert!(
        told.err
            .contains("`creator` and `run-as` are both `creator`")
            && told.err.contains("give them an account of their own"),
        "{}",
        told.err
    );
}
