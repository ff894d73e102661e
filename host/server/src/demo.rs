//! `penstock demo`: the main job on one machine, step by step.
//!
//! GitLab is a stand-in. Kubernetes is one too, unless a kubeconfig is given. The host itself is the real one: its configuration is a file that can be read and
//! changed while the demo stays up.

mod scene;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_doubles::gitlab::{Proposal, Push};
use penstock_model::id::DeliveryId;
use penstock_store::Explained;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, watch};
use crate::host::Host;
use crate::serve::{self, Loop};
use crate::{explain, log};
use scene::{BOT_NAME, PROJECT, Scene, TOKEN};

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the demo is shown with.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the plugins `trigger-map.wasm` and `greeter.wasm`, as `cargo xtask guests` builds them.
    #[arg(long)]
    plugins: PathBuf,
    /// A real cluster with Tekton, prepared with `examples/cluster`; none: a stand-in.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The namespace with the accounts of `examples/cluster/place.yaml`.
    #[arg(long, default_value = scene::NAMESPACE)]
    namespace: String,
    /// Ends after the last step, and does not stay up.
    #[arg(long)]
    once: bool,
}

/// Shows the main job.
///
/// # Errors
/// A step does not come to its end within a minute.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("can't listen on loopback")?;
    let address = format!("http://{}", listener.local_addr()?);
    let scene = Scene::set(
        &address,
        &arguments.plugins,
        arguments.kubeconfig.as_deref(),
        &arguments.namespace,
    )
    .await?;
    log::to_file(&scene.folder().join("penstock.log"))?;
    say("1", "the parts");
    note(&format!("GitLab      {} (a stand-in)", scene.gitlab.url()));
    note(&format!(
        "Kubernetes  {} ({})",
        scene.cluster_address(),
        scene.cluster_kind()
    ));
    note(&format!("Penstock    {address}"));
    note(&format!(
        "  its configuration  {}",
        scene.config().display()
    ));
    note(&format!(
        "  its log            {}",
        scene.folder().join("penstock.log").display()
    ));

    let changes = watch::watch(scene.config().to_owned())?;
    let config = Config::load(scene.config()).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let host = Host::open(config).await?;
    let stop = CancellationToken::new();
    let threads = tokio::runtime::Handle::current();
    let mut tasks = serve::start(&host, changes, listener, &Loop::all(), &threads, &stop);
    plugins_ready(&host).await?;

    let shown = steps(&scene, &host).await;
    if shown.is_ok() && !arguments.once {
        stay(&scene, &address)?;
        tokio::signal::ctrl_c()
            .await
            .context("can't listen for the interrupt")?;
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    shown
}

async fn steps(scene: &Scene, host: &Arc<Host>) -> Result<()> {
    say(
        "2",
        "somebody opens a merge request, and GitLab sends its signed webhook",
    );
    let push =
        Push::new(PROJECT, "feature", "dev").write("src/lib.rs", "pub fn answer() -> u32 { 42 }\n");
    let pushed = scene.gitlab.push(push);
    let opened = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "feature", "dev").title("Answer everything"));
    let commit = pushed.commit.clone();
    let iid = opened.number;
    let sent = opened.send().await;
    let sent = sent
        .first()
        .context("the stand-in has no hook to send to")?;
    ensure!(
        sent.status == Some(202),
        "Penstock answered {:?}: {}",
        sent.status,
        sent.body
    );
    note(&format!(
        "answered {}: {}",
        sent.status.unwrap_or_default(),
        sent.body.trim()
    ));
    let receipt: Value = serde_json::from_str(&sent.body).context("the receipt is no JSON")?;
    let id = DeliveryId::new(text(&receipt, "/delivery"));

    say(
        "3",
        "plugins decided, and the decision was committed with what follows from it",
    );
    let explained = wait("the run to end", || async {
        let explained = host.store.explain(None, &id).await?;
        Ok(explained
            .filter(|it| !it.runs.is_empty() && it.runs.iter().all(|run| run.run.state.is_final())))
    })
    .await?;
    let explanation = explain::Explanation::of(&host.store, explained.clone()).await?;
    for line in explain::tell(&explanation).lines() {
        note(line);
    }

    say("4", "the PipelineRun in the cluster");
    of_cluster(scene, &explained);

    say("5", "what came back to GitLab");
    let statuses = wait("the status to come back", || async {
        let found = scene.gitlab.statuses(PROJECT, &commit);
        let ended = found.iter().any(|status| {
            text(status, "/status") == "success" || text(status, "/status") == "failed"
        });
        Ok(ended.then_some(found))
    })
    .await?;
    for status in &statuses {
        note(&format!(
            "status  {:<12} {:<8} {}",
            text(status, "/name"),
            text(status, "/status"),
            text(status, "/description")
        ));
    }
    let comment = wait("the comment", || async {
        let notes = scene.gitlab.notes(PROJECT, iid);
        Ok(notes
            .into_iter()
            .find(|note| text(note, "/author/username") == BOT_NAME))
    })
    .await?;
    note(&format!(
        "comment {}",
        text(&comment, "/body")
            .lines()
            .find(|line| !line.is_empty() && !line.starts_with("<!--"))
            .unwrap_or_default()
    ));
    Ok(())
}

fn of_cluster(scene: &Scene, explained: &Explained) {
    for run in &explained.runs {
        note(&format!(
            "{}/{} is {}",
            run.namespace,
            run.name,
            run.run.state.as_str()
        ));
        note(&format!(
            "  created by the account `{}`, its pods run as `{}`",
            run.creator, run.run_as
        ));
        if let Some(object) = scene.run(&run.namespace, &run.name) {
            let labels = object
                .pointer("/metadata/labels")
                .and_then(Value::as_object);
            for (label, value) in labels.into_iter().flatten() {
                note(&format!(
                    "  {label}: {}",
                    value.as_str().unwrap_or_default()
                ));
            }
        }
    }
}

/// Says how to send more, and stays.
fn stay(scene: &Scene, address: &str) -> Result<()> {
    let pushed = scene
        .gitlab
        .push(Push::new(PROJECT, "feature", "dev").write("README.md", "More to come.\n"));
    let body = pushed
        .bodies()
        .into_iter()
        .next()
        .context("a push has a body")?;
    let file = scene.folder().join("push.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&body)?)
        .context("can't write the body of a push")?;
    say("6", "send more; end with Ctrl-C");
    note(&format!(
        "curl -i {address}/hooks/gitlab/main/acme -H 'Content-Type: application/json' -H 'X-Gitlab-Event: Push Hook' \\"
    ));
    note(&format!(
        "     -H 'X-Gitlab-Token: {TOKEN}' -H \"Idempotency-Key: $(date +%s%N)\" --data @{}",
        file.display()
    ));
    note(&format!(
        "penstock deliveries list --config {}",
        scene.config().display()
    ));
    note(&format!("curl {address}/metrics"));
    Ok(())
}

async fn plugins_ready(host: &Host) -> Result<()> {
    wait("the plugins to load", || async {
        for slot in host.live().plugins() {
            if let Err(crate::plugins::NotReady::Broken(name, why)) = slot.ready() {
                anyhow::bail!("plugin `{name}` does not load: {why}");
            }
        }
        Ok(host
            .live()
            .plugins()
            .all(|slot| slot.ready().is_ok())
            .then_some(()))
    })
    .await
}

/// Looks until something is there.
async fn wait<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    look: impl Fn() -> F,
) -> Result<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(
            tokio::time::Instant::now() < until,
            "waited {PATIENCE:?} for {what}; the log says more"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[expect(clippy::print_stdout, reason = "the demo speaks to whoever started it")]
fn say(number: &str, what: &str) {
    println!("\n{number}. {what}");
}

#[expect(clippy::print_stdout, reason = "the demo speaks to whoever started it")]
fn note(line: &str) {
    println!("   {line}");
}

/// A text in JSON, or nothing.
fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Where a plugin lies.
fn plugin(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}
