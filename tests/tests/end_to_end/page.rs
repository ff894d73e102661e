//! `links: penstock`: the link of a status opens the page of its run, and nothing else.

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene};

#[tokio::test]
async fn the_link_of_a_status_opens_the_page_of_its_run_and_nothing_else() {
    let mut manifest = running("echo no; exit 3");
    manifest["spec"]["pipelineSpec"]["tasks"][0]["name"] = "unit-tests".into();
    let scene = Scene::builder("page")
        .plugin(Plugin::starts("pipelines", &manifest))
        .sealed()
        .edit(|config| {
            let listen = config["listen"].as_str().unwrap().to_owned();
            config["public-url"] = format!("http://{listen}").into();
            config["clusters"][0]["links"] = "penstock".into();
        })
        .start()
        .await;
    let branch = "topic-<script>alert(1)</script>";
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, branch, "alice").write("a.txt", "a"));
    scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let link = status["target_url"].as_str().unwrap();
    assert!(link.chars().count() <= 255);

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(link).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
    let page = answer.text().await.unwrap();
    for part in [
        "<h1>build: failed</h1>",
        "unit-tests",
        &change.commit,
        "run-as",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert!(!page.contains("<script>"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");

    let (address, pass) = link.split_once("?pass=").unwrap();
    let status_of = async |url: String| http.get(url).send().await.unwrap().status().as_u16();
    assert_eq!(status_of(address.to_owned()).await, 403);
    assert_eq!(status_of(format!("{address}?pass=x{pass}")).await, 403);
    let other = format!("{}/runs/{}?pass={pass}", scene.url(), "ab".repeat(32));
    assert_eq!(status_of(other).await, 403, "a pass is for one run");
    let unknown = http
        .get(format!("{}/runs/{}", scene.url(), "ab".repeat(32)))
        .bearer_auth(secret(&scene, "the API's token"))
        .send();
    assert_eq!(unknown.await.unwrap().status(), 404);
    let with_token = http
        .get(address)
        .bearer_auth(secret(&scene, "the API's token"))
        .send();
    assert_eq!(with_token.await.unwrap().status(), 200);
    assert!(!scene.penstock.logs().contains(pass), "no pass in the log");
}

fn secret<'s>(scene: &'s Scene, what: &str) -> &'s str {
    let found = scene.secrets.iter().find(|(name, _)| *name == what);
    &found.unwrap().1
}
