//! The GitLab stand-in keeps GitLab's rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use penstock_doubles::gitlab::{
    Access, Allowed, Break, Fault, GitLab, Hook, ProjectSeed, Proposal, Protected, Push, Token,
    Trigger, World,
};
use serde_json::{Value, json};

const SIGNING: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn world() -> World {
    let mut world = World::new();
    world
        .user("alice")
        .user("maria")
        .user("guest")
        .bot("penstock")
        .bot("second")
        .group("acme")
        .group("acme/team");
    world.project(ProjectSeed::new("acme/api").file("src/main.rs", "fn main() {}\n"));
    world
        .member("acme", "alice", Access::Developer)
        .member("acme", "maria", Access::Owner);
    world.member("acme", "penstock", Access::Maintainer).member(
        "acme",
        "second",
        Access::Developer,
    );
    world.member("acme/api", "guest", Access::Guest);
    for user in ["alice", "maria", "guest", "penstock", "second"] {
        world.token(Token::new(&format!("token-of-{user}"), user));
    }
    world
}

struct Client {
    base: String,
    user: &'static str,
    http: reqwest::Client,
}

impl Client {
    fn new(gitlab: &GitLab, user: &'static str) -> Self {
        Self {
            base: format!("{}/api/v4", gitlab.url()),
            user,
            http: reqwest::Client::new(),
        }
    }

    fn with(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.header("private-token", format!("token-of-{}", self.user))
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.with(self.http.get(format!("{}{path}", self.base)))
            .send()
            .await
            .unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self
            .with(self.http.post(format!("{}{path}", self.base)))
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn main_of(gitlab: &GitLab) -> String {
    gitlab.edit(|world| world.commit_id("acme/api", "main").unwrap())
}

#[tokio::test]
async fn a_status_follows_gitlabs_state_machine() {
    let gitlab = GitLab::start(world()).await;
    let bot = Client::new(&gitlab, "penstock");
    let path = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let set = |state: &'static str| {
        bot.post(
            &path,
            json!({ "state": state, "name": "ci", "ref": "main" }),
        )
    };

    let (status, first) = set("running").await;
    assert_eq!((status, &first["status"]), (201, &json!("running")));
    let (status, body) = set("running").await;
    assert_eq!(status, 400);
    assert_eq!(
        body["message"],
        "Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")"
    );
    assert_eq!(set("pending").await.0, 400);
    assert_eq!(set("skipped").await.0, 400);
    let (status, done) = set("success").await;
    assert_eq!((status, &done["id"]), (201, &first["id"]));
    let (_, again) = set("running").await;
    assert_ne!(
        again["id"], first["id"],
        "a finished status is not reopened, a new row begins"
    );
    assert_eq!(again["pipeline_id"], first["pipeline_id"]);

    let shown: Value = bot
        .get(&format!(
            "/projects/acme%2Fapi/repository/commits/{}/statuses",
            main_of(&gitlab)
        ))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        shown.as_array().unwrap().len(),
        1,
        "only the latest of a name is listed"
    );
    assert_eq!(gitlab.statuses("acme/api", &main_of(&gitlab)).len(), 2);
}

#[tokio::test]
async fn a_new_bot_does_not_find_the_running_status_of_the_old_one() {
    let gitlab = GitLab::start(world()).await;
    gitlab.edit(|world| {
        world.protect(
            "acme/api",
            Protected::new("main").push(&[Allowed::From(Access::Developer)]),
        );
    });
    let path = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let body = json!({ "state": "running", "name": "ci", "ref": "main" });
    let (_, old) = Client::new(&gitlab, "penstock")
        .post(&path, body.clone())
        .await;
    let (status, new) = Client::new(&gitlab, "second").post(&path, body).await;
    assert_eq!(status, 201);
    assert_ne!(old["id"], new["id"]);
    let states: Vec<Value> = gitlab
        .statuses("acme/api", &main_of(&gitlab))
        .iter()
        .map(|row| row["status"].clone())
        .collect();
    assert_eq!(states, ["running", "running"]);
}

#[tokio::test]
async fn a_status_on_a_protected_branch_needs_push_or_merge_rights() {
    let gitlab = GitLab::start(world()).await;
    let path = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let body = json!({ "state": "success", "ref": "main" });
    let (status, said) = Client::new(&gitlab, "second")
        .post(&path, body.clone())
        .await;
    assert_eq!((status, said), (403, json!({ "message": "403 Forbidden" })));
    assert_eq!(
        Client::new(&gitlab, "penstock").post(&path, body).await.0,
        201
    );
}

#[tokio::test]
async fn a_description_of_more_than_255_characters_is_refused_and_nothing_is_kept() {
    let gitlab = GitLab::start(world()).await;
    let bot = Client::new(&gitlab, "penstock");
    let path = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let (status, said) = bot
        .post(
            &path,
            json!({ "state": "failed", "description": "é".repeat(256) }),
        )
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        said["message"]["description"][0],
        "is too long (maximum is 255 characters)"
    );
    assert!(gitlab.statuses("acme/api", &main_of(&gitlab)).is_empty());
    assert_eq!(
        bot.post(
            &path,
            json!({ "state": "failed", "description": "é".repeat(255) })
        )
        .await
        .0,
        201
    );
}

#[tokio::test]
async fn a_status_for_a_branch_does_not_land_in_the_merge_requests_pipeline() {
    let gitlab = GitLab::start(world()).await;
    let pushed = gitlab.push(Push::new("acme/api", "feature", "alice").write("a", "1"));
    let opened = gitlab.propose(Proposal::new("acme/api", "feature", "alice"));
    let own = gitlab.pipeline(
        "acme/api",
        "refs/merge-requests/1/head",
        "merge_request_event",
        "running",
        "alice",
    );
    let bot = Client::new(&gitlab, "penstock");
    let path = format!("/projects/acme%2Fapi/statuses/{}", pushed.commit);

    let (_, by_branch) = bot
        .post(
            &path,
            json!({ "state": "success", "name": "a", "ref": "feature" }),
        )
        .await;
    assert_ne!(by_branch["pipeline_id"], json!(own.number));
    let (_, by_id) = bot
        .post(
            &path,
            json!({ "state": "success", "name": "b", "pipeline_id": own.number }),
        )
        .await;
    assert_eq!(by_id["pipeline_id"], json!(own.number));
    let request: Value = bot
        .get(&format!(
            "/projects/acme%2Fapi/merge_requests/{}",
            opened.number
        ))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(request["head_pipeline"]["id"], json!(own.number));
    assert_eq!(request["diff_refs"]["head_sha"], json!(pushed.commit));

    let elsewhere = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let (status, said) = bot
        .post(
            &elsewhere,
            json!({ "state": "success", "pipeline_id": own.number }),
        )
        .await;
    assert_eq!(
        (status, said["message"].as_str().unwrap()),
        (404, "404 Pipeline for pipeline_id, sha and ref Not Found")
    );
}

#[tokio::test]
async fn two_updates_of_one_commit_wait_for_each_other_and_the_second_gives_up_with_409() {
    let mut world = world();
    world.limits.status_takes = Duration::from_secs(3600);
    world.limits.status_lock_wait = Duration::from_millis(50);
    let gitlab = GitLab::start(world).await;
    let path = format!("/projects/acme%2Fapi/statuses/{}", main_of(&gitlab));
    let status = |name: &str| json!({ "state": "success", "name": name, "ref": "main" });
    // The first takes until it is cut off: however slow this machine is, the second finds it at work.
    let first = tokio::spawn({
        let (bot, path, body) = (Client::new(&gitlab, "penstock"), path.clone(), status("a"));
        async move { bot.post(&path, body).await }
    });
    let bot = Client::new(&gitlab, "penstock");
    let second = async {
        while gitlab.calls_to("POST", "/statuses/").is_empty() {
            tokio::task::yield_now().await;
        }
        bot.post(&path, status("b")).await.0
    };
    let second = tokio::time::timeout(Duration::from_secs(60), second).await;
    assert_eq!(second.expect("an answer that does not wait"), 409);
    assert!(!first.is_finished());

    // Whoever waits long enough has a turn when the first is gone.
    gitlab.edit(|world| {
        world.limits.status_takes = Duration::ZERO;
        world.limits.status_lock_wait = Duration::from_secs(60);
    });
    let (third, ()) = tokio::join!(bot.post(&path, status("c")), async { first.abort() });
    assert_eq!(third.0, 201);
}

#[tokio::test]
async fn pages_are_linked_and_past_ten_thousand_rows_have_no_totals() {
    let mut world = world();
    for number in 0..10_000 {
        world.user(&format!("user-{number:05}"));
    }
    let gitlab = GitLab::start(world).await;
    let bot = Client::new(&gitlab, "penstock");
    let response = bot.get("/users?per_page=100&page=2").await;
    assert!(response.headers().get("x-total").is_none());
    assert_eq!(response.headers()["x-next-page"], "3");
    let link = response.headers()["link"].to_str().unwrap().to_owned();
    assert!(
        link.contains("page=3&per_page=100>; rel=\"next\""),
        "{link}"
    );
    assert!(!link.contains("rel=\"last\""), "{link}");
    assert_eq!(response.json::<Vec<Value>>().await.unwrap().len(), 100);

    let response = bot.get("/projects?per_page=1").await;
    assert_eq!(response.headers()["x-total"], "1");
    assert!(
        !response.headers()["link"]
            .to_str()
            .unwrap()
            .contains("rel=\"next\"")
    );
}

#[tokio::test]
async fn a_tree_is_paged_by_key_to_its_end() {
    let gitlab = GitLab::start(world()).await;
    let mut push = Push::new("acme/api", "wide", "alice");
    for number in 0..45 {
        push = push.write(&format!("dir/{number:02}.txt"), format!("{number}"));
    }
    let pushed = gitlab.push(push);
    let bot = Client::new(&gitlab, "penstock");
    let start = format!(
        "/projects/acme%2Fapi/repository/tree?recursive=true&pagination=keyset&per_page=20&ref={}",
        pushed.commit
    );
    let mut next = Some(format!("{}{start}", bot.base));
    let mut paths = Vec::new();
    while let Some(url) = next {
        let response = bot.with(bot.http.get(url)).send().await.unwrap();
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| {
            link.trim_start_matches('<')
                .split_once('>')
                .unwrap()
                .0
                .to_owned()
        });
        for row in response.json::<Vec<Value>>().await.unwrap() {
            paths.push(row["path"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(
        paths.len(),
        49,
        "45 files, the two seeded ones, two folders: {paths:?}"
    );
    assert!(paths.contains(&"src/main.rs".to_owned()) && paths.contains(&"dir/44.txt".to_owned()));
}

#[tokio::test]
async fn a_full_commit_id_is_never_shadowed_by_a_branch_of_that_name() {
    let gitlab = GitLab::start(world()).await;
    let good = main_of(&gitlab);
    let _ = gitlab.push(Push::new("acme/api", &good, "alice").write("src/main.rs", "evil"));
    let bot = Client::new(&gitlab, "penstock");
    let path = format!("/projects/acme%2Fapi/repository/files/src%2Fmain.rs/raw?ref={good}");
    assert_eq!(bot.get(&path).await.text().await.unwrap(), "fn main() {}\n");
}

#[tokio::test]
async fn tokens_and_rights_are_refused_in_gitlabs_shapes() {
    let mut seeded = world();
    seeded.token(Token::new("reads", "maria").scopes(&["read_api"]));
    seeded.token(Token::new("gone", "maria"));
    seeded.revoke("gone");
    seeded
        .user("stranger")
        .token(Token::new("token-of-stranger", "stranger"));
    let gitlab = GitLab::start(seeded).await;
    let http = reqwest::Client::new();
    let url = format!("{}/api/v4/projects/acme%2Fapi", gitlab.url());
    let with = async |secret: &str, request: reqwest::RequestBuilder| {
        let response = request.bearer_auth(secret).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(
        with("none", http.get(&url)).await,
        (401, json!({ "message": "401 Unauthorized" }))
    );
    let (status, said) = with("gone", http.get(&url)).await;
    assert_eq!(
        (status, said["error"].as_str().unwrap()),
        (401, "invalid_token")
    );
    let (status, said) = with(
        "reads",
        http.post(format!("{url}/hooks"))
            .json(&json!({ "url": "http://x" })),
    )
    .await;
    assert_eq!(
        (status, said["error"].as_str().unwrap()),
        (403, "insufficient_scope")
    );
    assert_eq!(
        with("token-of-stranger", http.get(&url)).await.1["message"],
        "404 Project Not Found"
    );
    let tree = format!("{url}/repository/tree");
    assert_eq!(
        with("token-of-guest", http.get(&tree)).await.0,
        403,
        "guests see no code of a private project"
    );
    assert_eq!(
        with("token-of-alice", http.get(format!("{url}/hooks")))
            .await
            .0,
        403
    );
    assert_eq!(with("token-of-alice", http.get(&tree)).await.0, 200);
}

#[tokio::test]
async fn ordered_faults_strike_as_often_as_ordered_and_the_journal_shows_them() {
    let gitlab = GitLab::start(world()).await;
    let bot = Client::new(&gitlab, "penstock");
    gitlab.order(Fault::new("GET", "/user$", Break::Status(502)).times(1));
    gitlab.order(Fault::new("GET", "/user$", Break::RateLimited(Some(7))).times(1));
    gitlab.order(Fault::new("GET", "/version", Break::Cut).times(1));
    assert_eq!(bot.get("/user").await.status(), 502);
    let limited = bot.get("/user").await;
    assert_eq!(
        (
            limited.status().as_u16(),
            limited.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "7")
    );
    assert_eq!(limited.text().await.unwrap().trim(), "Retry later");
    assert_eq!(bot.get("/user").await.status(), 200);
    let cut = bot
        .with(bot.http.get(format!("{}/version", bot.base)))
        .send()
        .await;
    assert!(cut.is_err());
    let statuses: Vec<Option<u16>> = gitlab.calls().iter().map(|heard| heard.status).collect();
    assert_eq!(statuses, [Some(502), Some(429), Some(200), None]);
    assert_eq!(gitlab.calls()[0].user.as_deref(), Some("penstock"));
}

#[tokio::test]
async fn a_lost_answer_has_its_effect_all_the_same() {
    let gitlab = GitLab::start(world()).await;
    let bot = Client::new(&gitlab, "penstock");
    gitlab.order(Fault::new("POST", "/statuses/", Break::LoseAnswer).times(1));
    let path = format!(
        "{}/projects/acme%2Fapi/statuses/{}",
        bot.base,
        main_of(&gitlab)
    );
    let sent = bot
        .with(bot.http.post(&path))
        .json(&json!({ "state": "success", "ref": "main" }))
        .send()
        .await;
    assert!(sent.is_err());
    assert_eq!(
        gitlab.statuses("acme/api", &main_of(&gitlab))[0]["status"],
        "success"
    );
}

/// A receiver on loopback that answers what it is told to and keeps what it got.
struct Receiver {
    url: String,
    answer: Arc<Mutex<u16>>,
    got: Arc<Mutex<Vec<(axum::http::HeaderMap, bytes::Bytes)>>>,
}

impl Receiver {
    async fn start() -> Self {
        let answer = Arc::new(Mutex::new(200));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (answering, getting) = (Arc::clone(&answer), Arc::clone(&got));
        let app = Router::new().route(
            "/hook",
            post(
                async move |headers: axum::http::HeaderMap, body: bytes::Bytes| {
                    getting.lock().unwrap().push((headers, body));
                    StatusCode::from_u16(*answering.lock().unwrap()).unwrap()
                },
            ),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, answer, got }
    }

    fn got(&self) -> Vec<(axum::http::HeaderMap, Value)> {
        let got = self.got.lock().unwrap();
        got.iter()
            .map(|(headers, body)| (headers.clone(), serde_json::from_slice(body).unwrap()))
            .collect()
    }
}

#[tokio::test]
async fn what_is_sent_verifies_by_the_standard_and_a_resend_keeps_its_id() {
    let receiver = Receiver::start().await;
    let mut seeded = world();
    let hook = seeded.hook(
        Hook::project("acme/api", &receiver.url)
            .signing_token(SIGNING)
            .token("secret"),
    );
    let gitlab = GitLab::start(seeded).await;
    let sent = gitlab
        .push(Push::new("acme/api", "feature", "alice").write("a", "1"))
        .send()
        .await;
    assert_eq!(sent.len(), 1);
    let bot = Client::new(&gitlab, "penstock");
    let event = sent[0].event.unwrap();
    let (status, said) = bot
        .post(
            &format!("/projects/acme%2Fapi/hooks/{hook}/events/{event}/resend"),
            json!({}),
        )
        .await;
    assert_eq!((status, said), (201, json!({ "response_status": 200 })));

    let standard = standardwebhooks::Webhook::new(SIGNING).unwrap();
    let got = receiver.got.lock().unwrap();
    assert_eq!(got.len(), 2);
    for (headers, body) in got.iter() {
        standard.verify(body, headers).unwrap();
        assert_eq!(headers["webhook-id"], headers["idempotency-key"]);
        assert_eq!(headers["webhook-id"], sent[0].key.as_str());
        assert_eq!(headers["x-gitlab-token"], "secret");
    }
    assert_eq!(got[0].1, got[1].1);
    assert_ne!(
        got[0].0["x-gitlab-event-uuid"],
        got[1].0["x-gitlab-event-uuid"]
    );
}

#[tokio::test]
async fn headers_are_those_of_the_version() {
    let mut seeded = world();
    let hook = seeded.hook(
        Hook::project("acme/api", "http://127.0.0.1:9")
            .signing_token(SIGNING)
            .token("secret"),
    );
    let gitlab = GitLab::start(seeded).await;
    let change = gitlab.push(Push::new("acme/api", "feature", "alice").write("a", "1"));
    let has = |version: &str| {
        gitlab.edit(|world| _ = world.version(version));
        let headers = change.delivery(hook).headers;
        [
            "idempotency-key",
            "webhook-id",
            "webhook-signature",
            "x-gitlab-token",
        ]
        .map(|name| headers.contains_key(name))
    };
    assert_eq!(has("17.2.0"), [false, false, false, true]);
    assert_eq!(has("17.4.1-ee"), [true, false, false, true]);
    assert_eq!(has("19.0.0"), [true, true, true, true]);
}

#[tokio::test]
async fn a_failing_hook_is_disabled_for_longer_and_longer_and_then_for_good() {
    let receiver = Receiver::start().await;
    let mut seeded = world();
    let hook = seeded.hook(Hook::project("acme/api", &receiver.url));
    let gitlab = GitLab::start(seeded).await;
    let bot = Client::new(&gitlab, "penstock");
    let status = async || {
        let shown: Value = bot
            .get(&format!("/projects/acme%2Fapi/hooks/{hook}"))
            .await
            .json()
            .await
            .unwrap();
        shown["alert_status"].as_str().unwrap().to_owned()
    };
    let change = gitlab.push(Push::new("acme/api", "feature", "alice").write("a", "1"));
    *receiver.answer.lock().unwrap() = 500;
    for _ in 0..3 {
        assert!(!change.send().await[0].disabled);
    }
    assert_eq!(status().await, "executable");
    change.send().await;
    assert_eq!(status().await, "temporarily_disabled");
    assert!(change.send().await[0].disabled);
    let events: Vec<Value> = bot
        .get(&format!(
            "/projects/acme%2Fapi/hooks/{hook}/events?status=server_failure"
        ))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(events.len(), 4, "a disabled hook logs nothing");
    assert_eq!(events[0]["request_data"]["object_kind"], "push");

    gitlab.advance(Duration::from_secs(61));
    assert_eq!(status().await, "executable");
    change.send().await;
    gitlab.advance(Duration::from_secs(61));
    assert_eq!(
        status().await,
        "temporarily_disabled",
        "the second pause is twice as long"
    );
    gitlab.advance(Duration::from_secs(60));
    assert_eq!(status().await, "executable");

    *receiver.answer.lock().unwrap() = 200;
    change.send().await;
    *receiver.answer.lock().unwrap() = 500;
    for _ in 0..40 {
        assert!(!change.send().await[0].disabled);
        gitlab.advance(Duration::from_secs(24 * 60 * 60 + 1));
    }
    assert_eq!(status().await, "disabled");
    assert!(change.send().await[0].disabled);
    *receiver.answer.lock().unwrap() = 200;
    assert_eq!(
        bot.post(
            &format!("/projects/acme%2Fapi/hooks/{hook}/test/push_events"),
            json!({})
        )
        .await
        .0,
        201
    );
    assert_eq!(
        status().await,
        "executable",
        "a test that goes well enables the hook"
    );
}

#[tokio::test]
async fn group_hooks_and_project_hooks_both_hear_an_event_and_members_are_told_to_groups_alone() {
    let receiver = Receiver::start().await;
    let mut seeded = world();
    let of_group = seeded.hook(Hook::group("acme", &receiver.url));
    let of_project = seeded.hook(Hook::project("acme/api", &receiver.url));
    seeded.hook(Hook::group("acme/team", &receiver.url));
    seeded.hook(Hook::project("acme/api", &receiver.url).only(&[Trigger::Note]));
    let gitlab = GitLab::start(seeded).await;
    let sent = gitlab
        .push(Push::new("acme/api", "feature", "alice").write("a", "1"))
        .send()
        .await;
    assert_eq!(
        sent.iter().map(|sent| sent.hook).collect::<Vec<_>>(),
        [of_group, of_project]
    );
    assert_ne!(sent[0].key, sent[1].key);
    let joined = gitlab.join("acme", "guest", Access::Developer).send().await;
    assert_eq!(joined.len(), 1);
    let (headers, body) = receiver.got().pop().unwrap();
    assert_eq!(headers["x-gitlab-event"], "Member Hook");
    assert_eq!(body["event_name"], "user_add_to_group");
}

#[tokio::test]
async fn a_push_tells_what_changed_and_moves_the_merge_request_of_a_fork() {
    let mut seeded = world();
    seeded.fork("acme/api", "guest/api", "guest");
    let gitlab = GitLab::start(seeded).await;
    let first = gitlab.push(
        Push::new("guest/api", "patch", "guest")
            .write("b", "1")
            .then()
            .delete("src/main.rs"),
    );
    let body = &first.bodies()[0];
    assert_eq!(body["total_commits_count"], 2);
    assert_eq!(body["commits"][0]["added"], json!(["b"]));
    assert_eq!(body["commits"][1]["removed"], json!(["src/main.rs"]));
    assert_eq!(body["before"], penstock_doubles::gitlab::ZERO);
    assert_eq!(body["ref_protected"], false);

    let opened = gitlab.propose(Proposal::new("acme/api", "patch", "guest").from_fork("guest/api"));
    let attributes = &opened.bodies()[0]["object_attributes"];
    assert_eq!(attributes["action"], "open");
    assert_ne!(
        attributes["source_project_id"],
        attributes["target_project_id"]
    );
    assert_eq!(attributes["last_commit"]["id"], json!(first.commit));
    assert!(attributes.get("oldrev").is_none());

    let second = gitlab.push(Push::new("guest/api", "patch", "guest").write("b", "2"));
    let update = &second.bodies()[1]["object_attributes"];
    assert_eq!(
        (&update["action"], &update["oldrev"]),
        (&json!("update"), &json!(first.commit))
    );
    assert_eq!(update["last_commit"]["id"], json!(second.commit));
    let readable = gitlab.edit(|world| world.commit_id("acme/api", &second.commit));
    assert_eq!(
        readable,
        Some(second.commit.clone()),
        "the head can be read in the target project"
    );

    let merged = gitlab.merge("acme/api", opened.number, "maria");
    assert_eq!(merged.bodies()[0]["ref"], "refs/heads/main");
    assert_eq!(merged.bodies()[1]["object_attributes"]["action"], "merge");
    let bot = Client::new(&gitlab, "penstock");
    let path = "/projects/acme%2Fapi/repository/files/src%2Fmain.rs?ref=main";
    assert_eq!(
        bot.get(path).await.status(),
        404,
        "the merge took the deletion over"
    );
}

#[tokio::test]
async fn a_push_of_more_than_three_branches_sends_no_event() {
    let gitlab = GitLab::start(world()).await;
    let names = ["a", "b", "c", "d"];
    assert_eq!(
        gitlab
            .create_branches("acme/api", &names[..3], "main", "alice")
            .bodies()
            .len(),
        3
    );
    let many = gitlab.create_branches("acme/api", &names, "main", "alice");
    assert!(many.bodies().is_empty());
    let body = &gitlab
        .create_branches("acme/api", &["empty"], "main", "alice")
        .bodies()[0];
    assert_eq!(
        body["commits"],
        json!([]),
        "a new branch without commits of its own"
    );
}

#[tokio::test]
async fn a_push_takes_approvals_back_and_says_that_the_system_did() {
    let gitlab = GitLab::start(world()).await;
    let _ = gitlab.push(Push::new("acme/api", "feature", "alice").write("a", "1"));
    let iid = gitlab
        .propose(Proposal::new("acme/api", "feature", "alice").approvals(1))
        .number;
    let approved = gitlab.approve("acme/api", iid, "maria");
    assert_eq!(
        approved.bodies()[0]["object_attributes"]["action"],
        "approved"
    );
    let bodies = gitlab
        .push(Push::new("acme/api", "feature", "alice").write("a", "2"))
        .bodies();
    let last = &bodies[2]["object_attributes"];
    assert_eq!(
        (&last["action"], &last["system"]),
        (&json!("unapproved"), &json!(true))
    );
    assert_eq!(last["system_action"], "approvals_reset_on_push");
    let bot = Client::new(&gitlab, "penstock");
    let path = format!("/projects/acme%2Fapi/merge_requests/{iid}/approvals");
    let shown: Value = bot.get(&path).await.json().await.unwrap();
    assert_eq!(shown["approvals_left"], 1);
}

#[tokio::test]
async fn notes_deployments_releases_and_expiring_tokens_have_their_bodies() {
    let gitlab = GitLab::start(world()).await;
    let sha = main_of(&gitlab);
    let _ = gitlab.push(Push::new("acme/api", "feature", "alice").write("a", "1"));
    let iid = gitlab
        .propose(Proposal::new("acme/api", "feature", "alice"))
        .number;
    let note = gitlab.comment("acme/api", iid, "alice", "/test");
    let body = &note.bodies()[0];
    assert_eq!(body["object_attributes"]["action"], "create");
    assert_eq!(body["merge_request"]["iid"], iid);
    let edited = gitlab.edit_comment("acme/api", iid, note.number, "/retest");
    assert_eq!(edited.bodies()[0]["object_attributes"]["note"], "/retest");
    assert_eq!(edited.bodies()[0]["object_attributes"]["action"], "update");
    let on_commit = gitlab.comment_on_commit("acme/api", &sha, "alice", "/test branch:main");
    assert_eq!(
        on_commit.bodies()[0]["object_attributes"]["commit_id"],
        json!(sha)
    );
    assert_eq!(on_commit.bodies()[0]["commit"]["id"], json!(sha));
    let deployed = gitlab.deploy("acme/api", "production", "main", "blocked", "alice");
    assert_eq!(deployed.bodies()[0]["status"], "blocked");
    let tag = gitlab.tag("acme/api", "v1", "main", Some("first"), "alice");
    assert_eq!(tag.bodies()[0]["ref"], "refs/tags/v1");
    assert_eq!(
        gitlab.release("acme/api", "v1", "first").bodies()[0]["commit"]["id"],
        json!(sha)
    );
    let expiring = gitlab.token_expires("acme", "token-of-penstock");
    assert_eq!(expiring.bodies()[0]["event_name"], "expiring_access_token");
    assert!(
        !expiring.bodies()[0]
            .to_string()
            .contains("token-of-penstock")
    );
    let closed = gitlab.delete_branch("acme/api", "feature", "alice");
    assert_eq!(closed.bodies()[0]["after"], penstock_doubles::gitlab::ZERO);
    assert_eq!(closed.bodies()[0]["checkout_sha"], Value::Null);
}
