//! A replica stands still past its claim while another finishes its work, and then goes on as if nothing had been: no second effect.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_doubles::gitlab::{Delivery, Proposal, Push};
use penstock_doubles::proxy::{Then, Where};
use penstock_tests::burst::{Ledger, id, moment, pushes, send_within};
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Penstock, Plugin, Postgres, Route, Scene, proxied, until};
use serde_json::json;

/// Calls that GitLab took and that change something.
fn written(scene: &Scene) -> usize {
    let calls = scene.gitlab.calls();
    let well = |status: Option<u16>| status.is_some_and(|status| (200..300).contains(&status));
    calls
        .iter()
        .filter(|call| call.method != "GET" && well(call.status))
        .count()
}

/// The same delivery to another replica.
fn to(delivery: &Delivery, scene: &Scene, url: &str) -> Delivery {
    let mut delivery = delivery.clone();
    delivery.url = delivery.url.replace(scene.url(), url);
    delivery
}

/// How long a claim holds, and a little.
const CLAIM: Duration = Duration::from_secs(33);

/// A replica that stands still, since when.
struct Still<'a> {
    replica: &'a Penstock,
    since: Instant,
}

impl<'a> Still<'a> {
    fn stand(replica: &'a Penstock) -> Self {
        replica.pause();
        Self {
            replica,
            since: Instant::now(),
        }
    }

    /// The survivor does everything; then, past its claims, the other wakes up and does what it does.
    async fn wakes(self, scene: &Scene) {
        scene.settled().await;
        // What is tested is what happens after this time.
        tokio::time::sleep_until((self.since + CLAIM).into()).await;
        scene.settled().await;
        self.replica.go_on();
        until("a replica that is awake", async || {
            (self.replica.get("/readyz").await?.0 == 200).then_some(())
        })
        .await;
        scene.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_in_a_burst_does_nothing_twice() {
    let server = Postgres::start().await;
    let mut scene = Scene::builder("still")
        .postgres(&server)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into())
        .start()
        .await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let mut ledger = Ledger::default();
    // The moment is drawn; one in which it holds no claim shows nothing, and another burst is sent.
    let mut bursts = 0;
    let still = loop {
        bursts += 1;
        let at = moment(Duration::from_millis(100), Duration::from_millis(400));
        let mut load = pushes(&scene, 40);
        for delivery in load.iter_mut().step_by(2) {
            *delivery = to(delivery, &scene, &second_url);
        }
        let sending = tokio::spawn(send_within(scene.poster(), load, at.mul_f64(0.9)));
        tokio::time::sleep(at).await;
        let still = Still::stand(&second);
        // What it had sent to Postgres, such as the end of a claim, is done by Postgres all the same. A claim that is ended just now, and not yet on a
        // disk that is slow, is locked.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let held = server.number(&format!(
            "SELECT count(*) FROM (SELECT 1 FROM lanes WHERE owner LIKE '{}-%' FOR UPDATE SKIP LOCKED) AS held",
            second.pid()
        ));
        if held == 0 {
            second.go_on();
        }
        scene.penstock.ready().await;
        for (mut delivery, answer) in sending.await.unwrap() {
            delivery.url = delivery.url.replace(&second_url, scene.url());
            ledger.note(delivery, answer);
        }
        if held > 0 {
            break still;
        }
        assert!(bursts < 40, "it never held a claim when it was stopped");
    };
    still.wakes(&scene).await;
    second.logged("lost the claim").await;
    // Those that reached the other while it stood still were taken in when it woke up, and nobody was told: each has one run at most.
    ledger.check(&scene).await;
    let mut told = BTreeMap::new();
    for call in scene.gitlab.calls_to("POST", "/statuses/") {
        if call.status == Some(201) {
            let state = call.json()["state"].as_str().unwrap().to_owned();
            *told.entry((call.path, state)).or_insert(0) += 1;
        }
    }
    let twice: Vec<_> = told.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "told twice: {twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_while_a_run_is_created_leaves_one_run() {
    let server = Postgres::start().await;
    let access = penstock_control_plane::shared().await.unwrap();
    let builder = Scene::builder("create").postgres(&server).plugin_by(
        Plugin::starts("pipelines", &short_lived()),
        Route::to("pipelines").on(&["push"]),
    );
    let (builder, proxy) = proxied::cluster(builder, access).await;
    let mut scene = builder.prepare().await;
    let (mut first, first_url) = scene.replica();
    first.restart().await;
    let mut held = proxy.hold("POST", "/pipelineruns", Where::Answer);
    let push = Push::new(PROJECT, "topic", "alice").write("a.txt", "a");
    let change = scene.gitlab.push(push);
    let delivery = change.delivery(scene.hook);
    let answer = scene.post(&to(&delivery, &scene, &first_url)).await;
    assert_eq!(answer.status, 202);
    held.reached().await;
    // The run exists, and the answer that says so reaches nobody who could note it down.
    let still = Still::stand(&first);
    held.then(Then::GoOn);
    scene.penstock.restart().await;
    scene.run_of(&id(&delivery)).await;
    // The run's end is told of too, some time after it was created.
    scene.status(&change.commit, "build", "failed").await;
    scene.settled().await;
    let calls = written(&scene);
    still.wakes(&scene).await;
    first.logged("lost the claim").await;
    assert_eq!(
        written(&scene),
        calls,
        "GitLab was written to by a replica that had lost its claim"
    );
    assert!(scene.creations().values().all(|by| by.len() == 1));
    assert_eq!(scene.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_before_it_writes_a_comment_writes_none() {
    let server = Postgres::start().await;
    let rules = json!([{ "name": "greet", "on": ["merge_request"], "comment": "The head is $(event.commit)." }]);
    let builder = Scene::builder("comment")
        .postgres(&server)
        .plugin(Plugin::trigger_map("greeter", rules));
    let (builder, proxy) = proxied::gitlab(builder).await;
    let mut scene = builder.prepare().await;
    let (mut first, first_url) = scene.replica();
    first.restart().await;
    drop(
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a")),
    );
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    let mut held = proxy.hold("GET", "/notes", Where::Answer);
    let delivery = to(&proposed.delivery(scene.hook), &scene, &first_url);
    assert_eq!(scene.post(&delivery).await.status, 202);
    held.reached().await;
    // It is about to learn that there is no comment yet, and would write one.
    let still = Still::stand(&first);
    held.then(Then::GoOn);
    scene.penstock.restart().await;
    let ours = |scene: &Scene| {
        let notes = scene.gitlab.notes(PROJECT, proposed.number);
        let by_us = notes
            .iter()
            .filter(|note| note["author"]["username"] == "penstock");
        by_us.count()
    };
    until("the comment", async || (ours(&scene) > 0).then_some(())).await;
    scene.settled().await;
    let calls = written(&scene);
    still.wakes(&scene).await;
    first.logged("lost the claim").await;
    assert_eq!(
        written(&scene),
        calls,
        "GitLab was written to by a replica that had lost its claim"
    );
    assert!(scene.creations().values().all(|by| by.len() == 1));
    assert_eq!(ours(&scene), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_stops_and_starts_in_a_burst_loses_and_doubles_nothing() {
    let mut server = Postgres::start().await;
    let scene = Scene::builder("restarts")
        .postgres(&server)
        .plugin_by(
            Plugin::starts("pipelines", &short_lived()),
            Route::to("pipelines").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into())
        .start()
        .await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let mut ledger = Ledger::default();
    for _ in 0..3 {
        let at = moment(Duration::from_millis(50), Duration::from_millis(900));
        // One is surely there when it stops.
        let first = pushes(&scene, 1).remove(0);
        let answer = scene.post(&first).await;
        ledger.note(first, Some(answer));
        let mut load = pushes(&scene, 40);
        load.extend(ledger.again(10));
        for delivery in load.iter_mut().step_by(2) {
            *delivery = to(delivery, &scene, &second_url);
        }
        let sending = tokio::spawn(send_within(scene.poster(), load, 2 * at));
        tokio::time::sleep(at).await;
        server.stop();
        // One surely meets it while it is away.
        let during = pushes(&scene, 1).remove(0);
        let refused = scene.post(&during).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        ledger.note(during, Some(refused));
        server.resume().await;
        for (mut delivery, answer) in sending.await.unwrap() {
            delivery.url = delivery.url.replace(&second_url, scene.url());
            ledger.note(delivery, answer);
        }
        until("a host that is ready", async || {
            (scene.penstock.get("/readyz").await?.0 == 200).then_some(())
        })
        .await;
    }
    let runs = ledger.check(&scene).await.runs;
    println!("{} acknowledged, {runs} runs", ledger.acknowledged.len());
    assert!(
        !ledger.acknowledged.is_empty() && !ledger.unanswered.is_empty(),
        "it stopped in the middle"
    );
}

#[tokio::test]
async fn a_role_that_commits_without_waiting_for_the_disk_is_refused_at_the_start() {
    let server = Postgres::start().await;
    let mut scene = Scene::builder("careless")
        .postgres(&server)
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .prepare()
        .await;
    server.sql("ALTER ROLE penstock SET synchronous_commit = off");
    scene.penstock.spawn();
    assert!(!scene.penstock.ended().await.success());
    let said = scene.penstock.log_tail();
    assert!(said.contains("synchronous_commit"), "{said}");
    server.sql("ALTER ROLE penstock RESET synchronous_commit");
    scene.penstock.restart().await;
}
