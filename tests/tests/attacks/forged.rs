//! Some hundreds of forged, broken and hostile requests: each has its answer, none has an effect, and memory keeps its bound.

mod bodies;
mod credentials;
mod wire;

use std::time::Instant;

use futures_util::StreamExt as _;
use penstock_doubles::gitlab::{Change, Push};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene};
use serde_json::json;

use super::request::{Request, exchange};

/// Memory that the host may take whatever comes: the goal of a burst.
const MEMORY: f64 = 128.0;

/// One attack.
pub(super) struct Case {
    name: String,
    bytes: Vec<u8>,
    /// Statuses that are right; 0: the connection ends without an answer.
    right: Vec<u16>,
}

/// What attacks are made of: good deliveries, and keys that an attacker has or guesses at.
pub(super) struct Forge {
    /// To the hook `acme`, which signs.
    signed: Request,
    /// Its key.
    key: String,
    /// To the hook `other`, which carries a token.
    tokened: Request,
    /// Its token.
    token: String,
    /// To the hook `both`, which takes either.
    both: Request,
    /// GitLab's ids of `acme/api` and of `other/api`.
    ids: (u64, u64),
    cases: Vec<Case>,
}

impl Forge {
    fn of(scene: &Scene) -> Self {
        let push = |project: &str, by: &str| {
            let write = Push::new(project, "topic", by).write("a.txt", "a");
            scene.gitlab.push(write)
        };
        let secret = |wanted: &str| {
            let found = scene.secrets.iter().find(|(what, _)| *what == wanted);
            found.unwrap().1.clone()
        };
        let signed = Request::of(&push(PROJECT, "alice").delivery(scene.hook));
        let tokened = Request::of(&push("other/api", "oscar").delivery(scene.other_hook));
        let both = signed.clone().to("/hooks/gitlab/main/both");
        Self {
            both,
            signed,
            key: format!("whsec_{}", secret("the signing token")),
            tokened,
            token: secret("the hook's secret token"),
            ids: scene
                .gitlab
                .edit(|world| (world.project_id(PROJECT), world.project_id("other/api"))),
            cases: Vec::new(),
        }
    }

    /// Adds an attack with the statuses that are right for it.
    fn case(&mut self, name: impl Into<String>, request: &Request, right: &[u16]) {
        self.raw(name, request.bytes(), right);
    }

    fn raw(&mut self, name: impl Into<String>, bytes: Vec<u8>, right: &[u16]) {
        self.cases.push(Case {
            name: name.into(),
            bytes,
            right: right.to_vec(),
        });
    }

    /// A good request with another body, rightly signed: what whoever holds a hook's key can send.
    fn insider(&self, body: impl AsRef<[u8]>) -> Request {
        let id = format!("insider-{}", self.cases.len());
        self.signed
            .clone()
            .set("webhook-id", &id)
            .set("idempotency-key", &id)
            .body(body)
            .signed(&self.key)
    }
}

async fn scene(name: &str) -> Scene {
    Scene::builder(name)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push", "merge_request", "note", "tag_push", "pipeline"]),
        )
        .edit(|config| {
            let hooks = config["gitlab"][0]["hooks"].as_array_mut().unwrap();
            let (signing, token) = (hooks[0]["signing-token"].clone(), hooks[1]["token"].clone());
            hooks.push(json!({ "name": "both", "scope": { "group": "acme" }, "signing-token": signing, "token": token }));
        })
        .start()
        .await
}

/// Sends them, many at a time; what is to be said of those that had another answer than is right.
async fn wrongly_answered(scene: &Scene, cases: &[Case]) -> Vec<String> {
    let address = scene.url().trim_start_matches("http://");
    futures_util::stream::iter(cases)
        .map(async |case| {
            let told = exchange(address, &case.bytes).await;
            let (status, answers) = (told.status, told.answers);
            let right = case.right.contains(&status) && answers < 2 && told.has_id();
            (!right).then(|| {
                let id = if told.has_id() { "" } else { " without an id" };
                format!(
                    "{}: {status}{id} in {answers} answers, and {:?} is right",
                    case.name, case.right
                )
            })
        })
        .buffer_unordered(24)
        .filter_map(async |wrong| wrong)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_forged_requests_have_their_answers_and_no_effect() {
    let scene = scene("forged").await;
    scene.penstock.forget_peak();
    let begun = Instant::now();
    let (mut count, mut wrong) = (0, Vec::new());
    // Each kind is signed when its turn has come: a signature is good for five minutes, and a busy machine may need those.
    for add in [credentials::add, bodies::add, wire::add] {
        let mut forge = Forge::of(&scene);
        add(&mut forge);
        count += forge.cases.len();
        wrong.extend(wrongly_answered(&scene, &forge.cases).await);
    }
    assert!(count >= 200, "only {count} cases");
    let peak = scene.penstock.peak_memory();
    println!(
        "{count} cases in {:?}, {peak:.0} MiB at most",
        begun.elapsed()
    );
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(peak <= MEMORY, "{peak} MiB");

    no_effects(&scene).await;
    // All that stood between those requests and a run was right: the good ones have theirs.
    let change = push(&scene);
    let delivery = scene.send_one(&change).await;
    scene.run_of(&delivery).await;
}

fn push(scene: &Scene) -> Change {
    let push = Push::new(PROJECT, "good", "alice");
    scene.gitlab.push(push.write("a.txt", "good"))
}

/// Nothing was started, and GitLab was only asked.
async fn no_effects(scene: &Scene) {
    scene.settled().await;
    assert!(scene.runs().await.is_empty(), "a run was started");
    let calls = scene.gitlab.calls();
    let written: Vec<_> = calls.iter().filter(|call| call.method != "GET").collect();
    assert!(written.is_empty(), "GitLab was written to: {written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_delivery_that_is_replayed_has_its_effects_once() {
    let scene = scene("replayed").await;
    let made = push(&scene).delivery(scene.hook);
    let delivery = scene.post(&made).await.delivery();
    scene.run_of(&delivery).await;
    let good = Request::of(&made);
    let address = scene.url().trim_start_matches("http://").to_owned();
    let secret = |wanted: &str| {
        let found = scene.secrets.iter().find(|(what, _)| *what == wanted);
        found.unwrap().1.clone()
    };
    let key = format!("whsec_{}", secret("the signing token"));
    for (what, request, right) in [
        ("as it was", good.clone(), 200),
        (
            "through the hook that takes it too",
            good.clone().to("/hooks/gitlab/main/both"),
            200,
        ),
        (
            "under a token, with its id",
            good.clone()
                .without("webhook-signature")
                .to("/hooks/gitlab/main/both")
                .add("x-gitlab-token", secret("the hook's secret token")),
            200,
        ),
        (
            "under another id",
            good.clone()
                .set("webhook-id", "another")
                .set("idempotency-key", "another"),
            401,
        ),
        (
            "at another time",
            good.clone().set("webhook-timestamp", "1"),
            401,
        ),
        (
            "to a hook of another key",
            good.clone().to("/hooks/gitlab/main/other"),
            401,
        ),
        // Whoever holds the key may, but the same body is the same event.
        (
            "signed anew under its own id",
            good.clone().signed(&key),
            200,
        ),
    ] {
        let status = exchange(&address, &request.bytes()).await.status;
        assert_eq!(status, right, "{what}");
    }
    scene.settled().await;
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_was_transferred_is_no_longer_its_old_group_s() {
    let scene = scene("transferred").await;
    let change = push(&scene);
    let made = change.delivery(scene.hook);
    scene.gitlab.edit(|world| {
        world
            .move_project(PROJECT, "other/api-that-was-acme-s")
            .now()
    });
    let answer = scene.post(&made).await;
    assert_eq!(answer.status, 202, "the body says `acme/api`: {answer:?}");
    let told = scene.outcome(&answer.delivery(), "failed").await;
    let why = told["routes"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("other/api-that-was-acme-s"),
        "GitLab was asked by id: {why}"
    );
    no_effects(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_was_renamed_within_its_group_goes_on() {
    let scene = scene("renamed").await;
    let before = scene.send_one(&push(&scene)).await;
    scene.run_of(&before).await;
    scene
        .gitlab
        .edit(|world| world.move_project(PROJECT, "acme/renamed").now());
    let renamed = scene
        .gitlab
        .push(Push::new("acme/renamed", "good", "alice").write("a.txt", "renamed"));
    let after = scene.send_one(&renamed).await;
    scene.run_of(&after).await;
}

/// Connections that are held open.
const HELD: usize = 900;

/// Nothing came on it, neither an answer nor its end.
fn is_open(stream: &tokio::net::TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// So many connections that say nothing, and as many that never end what they say: others are served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_held_open_starve_nobody() {
    use tokio::io::AsyncWriteExt as _;
    let scene = scene("held").await;
    let address = scene.url().trim_start_matches("http://").to_owned();
    let forge = Forge::of(&scene);
    let made = push(&scene).delivery(scene.hook);
    scene.penstock.forget_peak();
    let mut whole = forge.signed.clone().add("content-length", "20000000");
    whole.body.truncate(100);
    let heads = [
        Vec::new(),
        b"POST /hooks/gitlab/main/acme HTTP/1.1\r\nhost: penstock\r\nx-slow: ".to_vec(),
        whole.bytes(),
    ];
    // The host gives each up after some seconds: on a busy machine the first may be gone before the good one is sent, which shows nothing.
    let mut delivery = None;
    for _ in 0..5 {
        let mut held = Vec::new();
        for number in 0..HELD {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            // It may be among those that were closed already.
            let _ = stream.write_all(&heads[number % heads.len()]).await;
            held.push(stream);
        }
        delivery = Some(scene.post(&made).await.delivery());
        let open = held.iter().filter(|stream| is_open(stream)).count();
        println!("answered while {open} of {HELD} connections were open");
        // One that waited for a place had it from another that was given up.
        if open == HELD {
            break;
        }
        delivery = None;
    }
    let delivery = delivery.expect("an answer while all others are held open");
    let peak = scene.penstock.peak_memory();
    println!("{HELD} connections: {peak:.0} MiB");
    assert!(peak <= MEMORY, "{peak} MiB");
    scene.run_of(&delivery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_refused_before_the_body_is_read() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let scene = scene("early").await;
    let forge = Forge::of(&scene);
    let mut guess = forge
        .tokened
        .set("x-gitlab-token", "a guess")
        .add("content-length", "25000000");
    guess.body.clear();
    let address = scene.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(&guess.bytes()).await.unwrap();
    // Nothing of the body was sent, and here is the answer.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let metrics = scene.penstock.metrics().await;
    assert!(
        metrics.contains(r#"hook="other",result="unverified""#),
        "{metrics}"
    );
}
