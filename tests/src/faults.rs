//! A bad day of everything around Penstock: its API server and its GitLab fail in all the ways that they can, watches are cut, the clock jumps.
//!
//! What is shown is that it converges: when the bad day is over, each delivery that was acknowledged has its run, once, and its commit has the
//! status that the run ended with; and how long that took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_control_plane::Access;
use penstock_doubles::gitlab::{Break, Delivery, Fault, Push};
use penstock_doubles::proxy::Proxy;

use crate::burst::{Ledger, id};
use crate::manifest::short_lived;
use crate::preload::Shim;
use crate::progress::{Progress, said};
use crate::scene::{Builder, PROJECT};
use crate::{Plugin, Route, Scene, proxied};

/// Between deliveries.
const EVERY: Duration = Duration::from_millis(250);
/// So many watches are cut at least: on a busy machine it takes longer until one stands again.
pub const WATCHES: u64 = 2;

/// So many deliveries are taken in at least.
pub const LEAST: usize = 50;
/// The clock is stepped more often than this.
pub const STEPS: usize = 2;

/// How long a watch lasts.
const WATCH: Duration = Duration::from_secs(3);
/// Between steps of the clock.
const STEP: Duration = Duration::from_secs(7);
/// When everything is well again, all must be done within this: the longest pause between two tries, and a claim that a step of the clock made longer.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// What came of it.
#[derive(Debug)]
pub struct BadDay {
    /// What was sent and answered.
    pub ledger: Ledger,
    /// From the end of the faults until nothing was left to do.
    pub converged_in: Duration,
    /// Deliveries whose run and final status were there before the faults ended.
    pub done_before: usize,
    /// Calls to the API server that were broken, and that passed.
    pub api: (u64, u64),
    /// Calls to GitLab: all of them, and those without a good answer.
    pub gitlab: (usize, usize),
    /// Watches that were cut.
    pub watches: u64,
    /// Steps of the clock.
    pub steps: usize,
    /// Acknowledged deliveries without a run, runs that are too many, commits whose last status is not the run's end.
    pub lost: Vec<String>,
    /// See `lost`.
    pub doubled: Vec<String>,
    /// See `lost`.
    pub wrong_status: Vec<String>,
}

/// A scene whose host reaches everything through what can break it.
pub async fn scene(builder: Builder, access: &Access, shim: &Shim) -> (Builder, Proxy) {
    let builder = shim.clock_of(builder.cluster(access)).plugin_by(
        Plugin::starts("pipelines", &short_lived()),
        Route::to("pipelines").on(&["push"]),
    );
    let builder =
        builder.edit(|config| config["gitlab"][0]["calls-per-minute"] = 10_000_000.into());
    proxied::cluster(builder, access).await
}

/// Three calls in ten fail: with errors, 'too many', resets before and after the call was done, hangs, and bodies that drip.
fn faults(seed: u64) -> Vec<Fault> {
    let kinds = [
        (6, Break::Status(500)),
        (6, Break::Status(503)),
        (6, Break::RateLimited(Some(1))),
        (6, Break::Cut),
        (5, Break::LoseAnswer),
        (4, Break::SlowBody(1_500)),
        (2, Break::Hang),
    ];
    let numbered = kinds.into_iter().zip(seed..);
    numbered
        .map(|((percent, how), seed)| Fault::new(".*", "/api", how).percent(percent, seed))
        .collect()
}

/// Lets everything fail for so long, as the generators of this seed draw it, under load, and waits until all is done. The clock is set off by so many seconds, one after the other: less than
/// the 300 that a signature is good for. What was put off under a clock that ran ahead waits for that time to come, so this adds to the whole.
///
/// # Panics
/// If a good delivery is refused.
pub async fn bad_day(
    scene: &Scene,
    proxy: &Proxy,
    shim: &Shim,
    seed: u64,
    lasts: Duration,
    clock: &[i64],
) -> BadDay {
    for fault in faults(seed) {
        proxy.order(fault);
    }
    for fault in faults(seed.wrapping_add(100)) {
        scene.gitlab.order(fault);
    }
    proxy.cut_watches_after(WATCH);
    let mut ledger = Ledger::default();
    let mut commits = BTreeMap::new();
    let begun = Instant::now();
    let (mut stepped, mut steps) = (Instant::now(), 0);
    let mut tick = tokio::time::interval(EVERY);
    let mut progress = Progress::begin("seconds of faults", lasts.as_secs());
    loop {
        // A busy machine needs longer until the day was bad enough to mean something.
        let enough =
            proxy.watches_cut() > WATCHES && ledger.acknowledged.len() > LEAST && steps > STEPS;
        if begun.elapsed() >= lasts && (enough || begun.elapsed() > lasts * 8) {
            break;
        }
        progress.done(begun.elapsed().as_secs());
        tick.tick().await;
        if stepped.elapsed() > STEP {
            shim.step_clock(clock[steps % clock.len()]);
            (stepped, steps) = (Instant::now(), steps + 1);
        }
        let (delivery, commit) = push(scene, commits.len());
        commits.insert(id(&delivery), commit);
        let answer = scene.poster().post(&delivery).await;
        ledger.note(delivery, answer);
    }
    let done_before = finished(scene, &commits).len();
    let (api, calls) = (proxy.calls(), scene.gitlab.calls());
    proxy.heal();
    scene.gitlab.heal();
    shim.step_clock(0);
    said("everything is well again; waiting until all is done");
    let healed = Instant::now();
    loop {
        let done = finished(scene, &commits);
        let all = ledger.acknowledged.iter().all(|id| done.contains(id));
        if all && scene.is_settled().await || healed.elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let converged_in = healed.elapsed();
    let count = ledger.count(scene).await;
    let done = finished(scene, &commits);
    let broken = calls
        .iter()
        .filter(|call| call.status.is_none_or(|status| status >= 429))
        .count();
    BadDay {
        wrong_status: ledger
            .acknowledged
            .iter()
            .filter(|id| !done.contains(*id))
            .cloned()
            .collect(),
        ledger,
        converged_in,
        done_before,
        api,
        gitlab: (calls.len(), broken),
        watches: proxy.watches_cut(),
        steps,
        lost: count.lost.into_iter().collect(),
        doubled: count.doubled.into_iter().collect(),
    }
}

fn push(scene: &Scene, number: usize) -> (Delivery, String) {
    let branch = format!("topic-{}", number % 7);
    let push = Push::new(PROJECT, &branch, "alice")
        .write("a.txt", format!("{number} {}", rand::random::<u64>()));
    let change = scene.gitlab.push(push);
    (change.delivery(scene.hook), change.commit.clone())
}

/// Deliveries whose commit has the status that the run ends with: what it names is not there, so it fails.
fn finished(scene: &Scene, commits: &BTreeMap<String, String>) -> Vec<String> {
    let ended = commits.iter().filter(|(_, commit)| {
        let rows = scene.gitlab.statuses(PROJECT, commit);
        let last = rows.iter().rev().find(|row| row["name"] == "build");
        last.is_some_and(|row| row["status"] == "failed")
    });
    ended.map(|(id, _)| id.clone()).collect()
}
