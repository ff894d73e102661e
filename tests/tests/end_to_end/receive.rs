//! What is taken in, and what is turned away with which status.

use http::{HeaderMap, HeaderValue};
use penstock_doubles::gitlab::{Change, Delivery, Hook, Push, sign};
use penstock_guests::Behaviour;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Postgres, Scene, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

fn push(scene: &Scene) -> Change {
    scene.gitlab.push(
        Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{}", rand::random::<u64>())),
    )
}

async fn quiet(name: &str) -> Scene {
    Scene::builder(name)
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await
}

/// The first line that comes back for these bytes.
async fn raw(scene: &Scene, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(scene.url().trim_start_matches("http://"))
        .await
        .unwrap();
    stream.write_all(request).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    line
}

/// The same delivery with one header changed, or taken away.
fn with(delivery: &Delivery, name: &'static str, value: Option<&str>) -> HeaderMap {
    let mut headers = delivery.headers.clone();
    match value {
        Some(value) => headers.insert(name, HeaderValue::from_str(value).unwrap()),
        None => headers.remove(name),
    };
    headers
}

#[tokio::test]
async fn each_bad_request_has_its_status_and_leaves_nothing_behind() {
    let scene = quiet("table").await;
    let good = push(&scene).delivery(scene.hook);
    let (url, poster) = (scene.hook_url("acme"), scene.poster());
    let status = async |url: &str, headers: HeaderMap, body: Vec<u8>| {
        poster.post_to(url, headers, body).await.unwrap().status
    };

    let unsigned = with(&good, "webhook-signature", None);
    assert_eq!(status(&url, unsigned, good.body.to_vec()).await, 401);
    let forged = with(
        &good,
        "webhook-signature",
        Some("v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    );
    assert_eq!(status(&url, forged, good.body.to_vec()).await, 401);
    let mut changed = good.body.to_vec();
    changed.push(b' ');
    assert_eq!(
        status(&url, good.headers.clone(), changed).await,
        401,
        "the signature is over the body's bytes"
    );
    let other_hook = scene.hook_url("other");
    assert_eq!(
        status(&other_hook, good.headers.clone(), good.body.to_vec()).await,
        401,
        "another hook's key"
    );
    assert_eq!(
        status(
            &scene.hook_url("nobody"),
            good.headers.clone(),
            good.body.to_vec()
        )
        .await,
        404
    );
    let elsewhere = format!("{}/hooks/gitlab/elsewhere/acme", scene.url());
    assert_eq!(
        status(&elsewhere, good.headers.clone(), good.body.to_vec()).await,
        404
    );

    let signed = |body: &[u8]| {
        let key = &scene
            .secrets
            .iter()
            .find(|(what, _)| *what == "the signing token")
            .unwrap()
            .1;
        let stamp = good.headers["webhook-timestamp"].to_str().unwrap();
        let id = good.headers["webhook-id"].to_str().unwrap();
        with(
            &good,
            "webhook-signature",
            Some(&sign(&format!("whsec_{key}"), id, stamp, body)),
        )
    };
    for body in [&b"no json"[..], b"{\"object_kind\":", b"\xff\xfe"] {
        assert_eq!(
            status(&url, signed(body), body.to_vec()).await,
            400,
            "{body:?}"
        );
    }
    let announced = format!(
        "POST /hooks/gitlab/main/acme HTTP/1.1\r\nhost: penstock\r\ncontent-length: {}\r\n\r\n",
        26 * 1024 * 1024 + 1
    );
    assert!(
        raw(&scene, announced.as_bytes())
            .await
            .starts_with("HTTP/1.1 413 "),
        "before a byte of it is read"
    );

    let kept = scene.penstock.command(&["deliveries", "list"]).await.json();
    assert_eq!(kept, json!([]), "nothing was kept");
    let metrics = scene.penstock.metrics().await;
    for (hook, result) in [
        ("acme", "unverified"),
        ("acme", "not-json"),
        ("acme", "too-large"),
        ("unknown", "unknown-hook"),
    ] {
        assert!(
            metrics.contains(&format!(r#"hook="{hook}",result="{result}""#)),
            "{result} is not counted in\n{metrics}"
        );
    }
    assert!(
        !metrics.contains("nobody"),
        "a name from the network is no label"
    );
    assert_eq!(
        scene.post(&good).await.status,
        202,
        "and the good one is taken"
    );
}

#[tokio::test]
async fn one_tenant_s_key_has_no_effect_on_another_tenant_s_project() {
    let scene = quiet("tenants").await;
    let theirs = scene
        .gitlab
        .push(Push::new("other/api", "topic", "oscar").write("a.txt", "theirs"));
    let body = theirs.delivery(scene.other_hook).body;
    // Signed with acme's own key, and about other's project.
    let mut forged = push(&scene).delivery(scene.hook);
    let key = &scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "the signing token")
        .unwrap()
        .1;
    let stamp = forged.headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .to_owned();
    let id = forged.headers["webhook-id"].to_str().unwrap().to_owned();
    let signature = sign(&format!("whsec_{key}"), &id, &stamp, &body);
    forged.headers.insert(
        "webhook-signature",
        HeaderValue::from_str(&signature).unwrap(),
    );
    forged.body = body;
    let answer = scene.post(&forged).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let metrics = scene.penstock.metrics().await;
    let counted = metrics
        .lines()
        .any(|line| line.contains("out-of-scope") && line.contains("acme") && line.ends_with(" 1"));
    assert!(counted, "a count and the hook's name are kept:\n{metrics}");
    assert_eq!(
        scene.penstock.command(&["deliveries", "list"]).await.json(),
        json!([])
    );
    assert!(scene.runs().await.is_empty());
    assert!(
        scene
            .gitlab
            .statuses("other/api", &theirs.commit)
            .is_empty()
    );
}

#[tokio::test]
async fn a_body_that_gives_another_project_s_id_a_name_of_its_own_tenant_has_no_effect() {
    let scene = quiet("ids").await;
    let theirs = scene.gitlab.edit(|world| world.project_id("other/api"));
    let forged = push(&scene).bend(|body| {
        body["project_id"] = json!(theirs);
        body["project"]["id"] = json!(theirs);
    });
    let delivery = scene.send_one(&forged).await;
    let told = scene.outcome(&delivery, "failed").await;
    assert!(
        told["routes"][0]["why"]
            .as_str()
            .unwrap()
            .contains("other/api"),
        "GitLab was asked by id: {told:#}"
    );
    scene.settled().await;
    assert!(scene.runs().await.is_empty());

    // Nor does it take the project away from whose it is.
    let own = scene
        .gitlab
        .push(Push::new("other/api", "topic", "oscar").write("a.txt", "theirs"));
    let answer = scene.post(&own.delivery(scene.other_hook)).await;
    let told = scene.outcome(&answer.delivery(), "unrouted").await;
    let why = told["delivery"]["why"].as_str().unwrap();
    assert!(why.contains("no route of the tenant `other/**`"), "{why}");
}

#[tokio::test]
async fn a_signature_that_is_present_must_verify_even_beside_a_good_token() {
    let scene = Scene::builder("both")
        .plugin(Plugin::misbehave("pipelines", Behaviour::Nothing))
        .edit(|config| {
            let token = config["gitlab"][0]["hooks"][1]["token"].clone();
            config["gitlab"][0]["hooks"][0]["token"] = token;
        })
        .start()
        .await;
    let good = push(&scene).delivery(scene.hook);
    let token = &scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "the hook's secret token")
        .unwrap()
        .1;
    let (url, poster) = (scene.hook_url("acme"), scene.poster());
    let mut headers = with(&good, "x-gitlab-token", Some(token));
    headers.insert(
        "webhook-signature",
        HeaderValue::from_static("v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    );
    assert_eq!(
        poster
            .post_to(&url, headers.clone(), good.body.clone())
            .await
            .unwrap()
            .status,
        401
    );
    headers.remove("webhook-signature");
    assert_eq!(
        poster
            .post_to(&url, headers, good.body.clone())
            .await
            .unwrap()
            .status,
        202,
        "the token alone is good"
    );
}

#[tokio::test]
async fn a_signature_of_yesterday_is_not_good_today() {
    let scene = quiet("stale").await;
    let stale = push(&scene).delivery(scene.hook);
    let key = &scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "the signing token")
        .unwrap()
        .1;
    let stamp: i64 = stale.headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    for shift in [-86_400, 86_400] {
        let stamp = (stamp + shift).to_string();
        let id = stale.headers["webhook-id"].to_str().unwrap();
        let mut headers = with(&stale, "webhook-timestamp", Some(&stamp));
        let signature = sign(&format!("whsec_{key}"), id, &stamp, &stale.body);
        headers.insert(
            "webhook-signature",
            HeaderValue::from_str(&signature).unwrap(),
        );
        let answer = scene
            .poster()
            .post_to(&stale.url, headers, stale.body.clone())
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "shifted by {shift} s");
    }
}

#[tokio::test]
async fn gitlab_17_with_a_secret_token_and_no_ids_is_taken_in_once() {
    let scene = Scene::builder("seventeen")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .gitlab_version("17.3.2")
        .edit(|config| {
            let token = config["gitlab"][0]["hooks"][1]["token"].clone();
            config["gitlab"][0]["hooks"][0] =
                json!({ "name": "acme", "scope": { "group": "acme" }, "token": token });
        })
        .start()
        .await;
    let made = push(&scene).delivery(scene.hook);
    assert!(
        !made.headers.contains_key("idempotency-key") && !made.headers.contains_key("webhook-id")
    );
    let token = &scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "the hook's secret token")
        .unwrap()
        .1;
    let headers = with(&made, "x-gitlab-token", Some(token));
    let post = async || {
        scene
            .poster()
            .post_to(&made.url, headers.clone(), made.body.clone())
            .await
            .unwrap()
    };
    let first = post().await;
    assert_eq!(first.status, 202);
    let again = post().await;
    assert_eq!(
        (again.status, again.body["status"].as_str()),
        (200, Some("duplicate"))
    );
    assert_eq!(again.delivery(), first.delivery());
    scene.run_of(&first.delivery()).await;
}

#[tokio::test]
async fn a_delivery_that_comes_twice_decides_once_and_the_answer_says_how_to_retry_it() {
    let scene = quiet("twice").await;
    let made = push(&scene).delivery(scene.hook);
    let first = scene.post(&made).await;
    assert_eq!(
        (first.status, first.body["status"].as_str()),
        (202, Some("accepted"))
    );
    // Its host is the one that the public reaches; whoever holds the API's token may follow it.
    let link = first.body["link"].as_str().unwrap();
    let path = &link[link.find("/api/").unwrap()..];
    assert_eq!(
        path,
        format!("/api/v1/deliveries/main/{}", first.delivery())
    );
    let shown = scene.explain(&first.delivery()).await;
    assert_eq!(shown["delivery"]["delivery"], first.delivery());
    scene.run_of(&first.delivery()).await;
    let again = scene.post(&made).await;
    assert_eq!(
        (again.status, again.body["status"].as_str()),
        (200, Some("duplicate"))
    );
    assert_eq!(again.delivery(), first.delivery());
    assert_eq!(
        again.body["retry"],
        format!("penstock deliveries retry {}", first.delivery())
    );
    assert!(
        again.body["first"].as_str().unwrap().ends_with('Z'),
        "it says when the first one came"
    );
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test]
async fn the_same_event_through_two_hooks_decides_once() {
    let scene = Scene::builder("hooks")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .edit(|config| {
            let mut second = config["gitlab"][0]["hooks"][0].clone();
            second["name"] = json!("api");
            second["scope"] = json!({ "project": PROJECT });
            config["gitlab"][0]["hooks"]
                .as_array_mut()
                .unwrap()
                .push(second);
        })
        .start()
        .await;
    let key = scene
        .secrets
        .iter()
        .find(|(what, _)| *what == "the signing token")
        .unwrap()
        .1
        .clone();
    let url = scene.hook_url("api");
    scene.gitlab.edit(|world| {
        world.hook(Hook::project(PROJECT, &url).signing_token(&format!("whsec_{key}")))
    });
    let sent = push(&scene).send().await;
    assert_eq!(sent.len(), 2, "the group's hook and the project's");
    let said: Vec<serde_json::Value> = sent
        .iter()
        .map(|sent| serde_json::from_str(&sent.body).unwrap())
        .collect();
    assert_eq!(said[0]["status"], "accepted");
    assert_eq!(said[1]["status"], "same-event");
    assert_eq!(said[1]["first"], said[0]["delivery"]);
    scene.run_of(said[0]["delivery"].as_str().unwrap()).await;
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1);
    let second = scene.explain(said[1]["delivery"].as_str().unwrap()).await;
    assert_eq!(second["delivery"]["outcome"], "same-event");
}

#[tokio::test]
async fn a_payload_that_can_t_be_read_is_kept_and_shown() {
    let scene = quiet("unreadable").await;
    let bent = push(&scene).bend(|body| body["commits"] = json!("not a list"));
    let delivery = scene.send_one(&bent).await;
    let told = scene.outcome(&delivery, "unreadable").await;
    assert!(
        told["delivery"]["why"]
            .as_str()
            .unwrap()
            .contains("commits"),
        "{told:#}"
    );
    let shown = scene
        .penstock
        .command(&["deliveries", "show", &delivery])
        .await
        .json();
    assert!(shown["body"].as_str().unwrap().contains("not a list"));
}

#[tokio::test]
async fn a_spent_budget_answers_503_and_gives_way_when_it_is_free_again() {
    let scene = Scene::builder("budget")
        .plugin(Plugin::misbehave("pipelines", Behaviour::Nothing))
        .edit(|config| config["bodies"] = json!("64KiB"))
        .start()
        .await;
    let made = push(&scene).delivery(scene.hook);
    // Somebody sends nearly as much as the budget holds, and not the rest.
    let address = scene.url().trim_start_matches("http://").to_owned();
    // A signature that may be right, for all that can be told before the body is there.
    let stamp = made.headers["webhook-timestamp"].to_str().unwrap();
    let head = format!(
        "POST /hooks/gitlab/main/acme HTTP/1.1\r\nhost: {address}\r\ncontent-length: 65536\r\nwebhook-id: slow\r\n\
         webhook-timestamp: {stamp}\r\nwebhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
    );
    let slow = tokio::spawn(async move {
        // The host gives it up after some seconds, and then it begins again.
        loop {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let part = [head.as_bytes(), &[b' '; 65_000]].concat();
            if stream.write_all(&part).await.is_ok() {
                let _ = stream.read(&mut [0; 1024]).await;
            }
        }
    });
    let refused = until("a spent budget", async || {
        let answer = scene.poster().post(&made).await?;
        (answer.status == 503).then_some(answer)
    });
    let answer = refused.await;
    assert!(
        answer.body["error"].as_str().unwrap().contains("budget"),
        "{answer:?}"
    );
    slow.abort();
    until("a free budget", async || {
        let answer = scene.poster().post(&made).await?;
        (200..300).contains(&answer.status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_away_answers_503_and_what_was_taken_before_is_decided_after() {
    let mut server = Postgres::start().await;
    let scene = Scene::builder("storeless")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .postgres(&server)
        .start()
        .await;
    let first = scene.send_one(&push(&scene)).await;
    scene.run_of(&first).await;
    server.stop();
    until("a host that is not ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 503).then_some(())
    })
    .await;
    assert_eq!(
        scene.penstock.get("/healthz").await.unwrap().0,
        200,
        "it lives"
    );
    let made = push(&scene).delivery(scene.hook);
    assert_eq!(scene.post(&made).await.status, 503);
    server.resume().await;
    until("a host that is ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 200).then_some(())
    })
    .await;
    assert_eq!(scene.post(&made).await.status, 202);
    scene.run_of(&penstock_tests::burst::id(&made)).await;
}
