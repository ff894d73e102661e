//! No secret that is in play is written or said anywhere.

use std::path::Path;

use http::HeaderValue;
use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Postgres, Route, Scene};

/// Every file below a folder but those that the operator put there.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() == "secrets" {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            let bytes = match std::fs::read(&path) {
                // The host took it away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.unwrap(),
            };
            found.push((path.display().to_string(), bytes));
        }
    }
}

async fn everything_said(scene: &Scene, deliveries: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut said = Vec::new();
    files(scene.folder(), &mut said);
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["deliveries", "list"],
        vec!["effects", "list", "--state", "done"],
        vec!["effects", "list", "--state", "refused"],
        vec!["check"],
    ];
    for delivery in deliveries {
        commands.push(vec!["explain", delivery]);
        commands.push(vec!["deliveries", "show", delivery]);
    }
    for words in commands {
        for told in [
            scene.penstock.command(&words).await,
            scene.penstock.text_command(&words).await,
        ] {
            said.push((
                format!("penstock {}", words.join(" ")),
                format!("{}{}", told.out, told.err).into_bytes(),
            ));
        }
    }
    for path in ["/metrics", "/readyz", "/api/v1/deliveries"] {
        said.push((
            path.to_owned(),
            scene.penstock.get(path).await.unwrap().1.into_bytes(),
        ));
    }
    for run in scene.runs().await {
        said.push(("a run".to_owned(), serde_json::to_vec(&run).unwrap()));
    }
    for call in scene.gitlab.calls() {
        said.push((
            call.path.clone(),
            [call.path.as_bytes(), &call.body].concat(),
        ));
    }
    said
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_answer_the_store_or_a_run() {
    let scene = Scene::builder("secrets")
        .plugin_by(
            Plugin::starts("pipelines", &running("exit 1")),
            Route::to("pipelines").on(&["push", "pipeline"]),
        )
        .environment("PENSTOCK_LOG", "debug,h2=info,hyper_util=info")
        .start()
        .await;
    check(scene).await;
}

#[tokio::test]
async fn no_secret_is_said_with_postgres_either() {
    let server = Postgres::start().await;
    let scene = Scene::builder("secrets-pg")
        .plugin_by(
            Plugin::starts("pipelines", &running("exit 1")),
            Route::to("pipelines").on(&["push", "pipeline"]),
        )
        .environment("PENSTOCK_LOG", "debug,h2=info,hyper_util=info")
        .postgres(&server)
        .start()
        .await;
    check(scene).await;
}

async fn check(scene: Scene) {
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"));
    let delivery = scene.send_one(&change).await;
    scene.status(&change.commit, "build", "failed").await;

    // A variable of a pipeline, and a header of the hook's own.
    let (variable, header) = (random(), random());
    let pipeline = scene
        .gitlab
        .pipeline(PROJECT, "topic", "push", "success", "alice");
    let value = variable.clone();
    let bent = pipeline.bend(move |body| {
        body["object_attributes"]["variables"] =
            serde_json::json!([{ "key": "DEPLOY_KEY", "value": value }]);
    });
    let mut made = bent.delivery(scene.hook);
    made.headers
        .insert("x-deploy-key", HeaderValue::from_str(&header).unwrap());
    made.headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {header}")).unwrap(),
    );
    let answer = scene.post(&made).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let second = answer.delivery();
    scene.settled().await;
    // Requests that are refused are where credentials are looked at most closely.
    let mut wrong = made.clone();
    wrong.headers.remove("webhook-signature");
    wrong
        .headers
        .insert("x-gitlab-token", HeaderValue::from_str(&header).unwrap());
    assert_eq!(scene.post(&wrong).await.status, 401);

    let shown = scene
        .penstock
        .command(&["deliveries", "show", &second])
        .await
        .json();
    assert!(
        shown["body"].as_str().unwrap().contains("DEPLOY_KEY"),
        "the variable's name is kept, its value is not"
    );

    let mut secrets = scene.secrets.clone();
    secrets.push(("the value of a CI variable", variable));
    secrets.push(("the value of a header", header));
    for (place, bytes) in everything_said(&scene, &[delivery, second]).await {
        for (what, secret) in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{what} is in {place}");
        }
    }
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
