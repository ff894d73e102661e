//! `penstock explain`: a delivery, a run, a commit or a merge request.
//!
//! Reads the store beside a server that may be using it. Where nothing came or nothing started, it asks GitLab why.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use penstock_gitlab::{Sought, tells_of};
use penstock_model::id::{DeliveryId, EffectId, InstanceName};
use penstock_model::lane::Subject;
use penstock_store::{DeliveryFilter, Explained, Store, StoredDelivery};
use serde_json::{Value, json};

use super::replay::Again;
use super::{Shared, load, output};
use crate::check::Finding;
use crate::config::Config;
use crate::explain::{self, Considered, Question, absent, considered, of_unrecovered};
use crate::host::target;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::reconcile::unrecovered;

/// Deliveries of a project that are looked through, from the newest.
const LOOKED_THROUGH: u32 = 1_000;
/// Deliveries that are told of whole; what is older is only counted.
const TOLD: usize = 20;

/// Answers.
pub(super) async fn run(what: &str, rerun: bool, shared: &Shared) -> Result<ExitCode> {
    let config = load(&shared.config)?;
    let store = Store::open_beside(target(&config)).await?;
    let instances = config
        .gitlab
        .iter()
        .map(|gitlab| (&gitlab.name, gitlab.url.as_str()));
    let about = match Question::read(what, instances) {
        Question::Named(name) => {
            let code = named(&store, &config, &name, rerun, shared).await?;
            store.close().await;
            return Ok(code);
        }
        Question::Commit { project, sha } => About {
            what: format!("{project}@{sha}"),
            instance: None,
            project,
            sought: Sought::Commit(sha),
        },
        Question::MergeRequest {
            instance,
            project,
            iid,
        } => About {
            what: format!("{project}!{iid}"),
            instance: Some(instance),
            project,
            sought: Sought::MergeRequest(iid),
        },
    };
    if rerun {
        bail!(
            "`--rerun` takes the id of a delivery or of a run: `penstock explain {what}` names those of it"
        );
    }
    let told = about.look(&store, config).await?;
    store.close().await;
    output::answer(shared.output, &about.json(&told), || about.text(&told));
    Ok(ExitCode::SUCCESS)
}

/// A delivery, whole.
struct Told {
    json: Value,
    text: String,
    runs: usize,
}

impl Told {
    async fn of(store: &Store, config: &Config, found: Explained) -> Result<Self> {
        let routes = considered(config, &found);
        let runs = found.runs.len();
        let explanation = explain::Explanation::of(store, found).await?;
        let mut json = explain::explanation(&explanation);
        if let Some(fields) = json.as_object_mut() {
            fields.insert("considered".to_owned(), json!(routes));
        }
        let text = explain::tell(&explanation) + &passed_over(&routes);
        Ok(Self { json, text, runs })
    }
}

/// Routes that a delivery did not come to.
fn passed_over(routes: &[Considered]) -> String {
    routes
        .iter()
        .filter(|route| !route.taken)
        .map(|route| format!("route {} was not taken: {}\n", route.route, route.why))
        .collect()
}

async fn named(
    store: &Store,
    config: &Config,
    what: &str,
    rerun: bool,
    shared: &Shared,
) -> Result<ExitCode> {
    let direct = store.explain(None, &DeliveryId::new(what)).await?;
    let found = match direct {
        Some(found) => Some(found),
        None => of_run(store, what).await?,
    };
    let Some(found) = found else {
        bail!(
            "there is no delivery and no run `{what}`: `penstock deliveries list` shows the newest; \
             PROJECT@SHA or the address of a merge request says why nothing came"
        )
    };
    let again = if rerun {
        Some(Again::of(config, store, &found.delivery.key).await?)
    } else {
        None
    };
    let mut told = Told::of(store, config, found).await?;
    if let (Some(again), Some(fields)) = (&again, told.json.as_object_mut()) {
        fields.insert("rerun".to_owned(), again.json());
    }
    output::answer(shared.output, &told.json, || match &again {
        Some(again) => told.text + &again.text(),
        None => told.text,
    });
    Ok(again.map_or(ExitCode::SUCCESS, |again| again.code()))
}

async fn of_run(store: &Store, what: &str) -> Result<Option<Explained>> {
    let run = match EffectId::parse(what) {
        Ok(id) => store.run(&id).await?,
        Err(_) => store.run_named(what).await?,
    };
    match run {
        Some(run) => Ok(store
            .explain(Some(&run.delivery.instance), &run.delivery.id)
            .await?),
        None => Ok(None),
    }
}

/// A commit or a merge request.
struct About {
    what: String,
    instance: Option<InstanceName>,
    project: String,
    sought: Sought,
}

/// What was found about it.
struct Answer {
    told: Vec<Told>,
    /// Deliveries that are not told of, being older.
    more: usize,
    findings: Vec<Finding>,
}

impl About {
    async fn look(&self, store: &Store, config: Config) -> Result<Answer> {
        let deliveries = self.deliveries(store).await?;
        let mut told = Vec::new();
        for delivery in deliveries.iter().take(TOLD) {
            let key = &delivery.key;
            if let Some(found) = store.explain(Some(&key.instance), &key.id).await? {
                told.push(Told::of(store, &config, found).await?);
            }
        }
        // What stands in the way is worth telling where nothing came, or all that came started nothing.
        let findings = if told.iter().all(|it| it.runs == 0) {
            let live = Live::new(Arc::new(config), None, &Arc::new(Metrics::new())).await?;
            let instance = self.instance.as_ref();
            let mut all = absent(&live, instance, &self.project, &self.sought).await;
            let asked = |name: &&InstanceName| instance.is_none_or(|it| it == *name);
            let names = live.config.gitlab.iter().map(|config| &config.name);
            for name in names.filter(asked) {
                if let Some(found) = unrecovered(store, name).await? {
                    all.extend(of_unrecovered(name, &self.project, &found));
                }
            }
            all
        } else {
            Vec::new()
        };
        Ok(Answer {
            told,
            more: deliveries.len().saturating_sub(TOLD),
            findings,
        })
    }

    /// Those that are about it, newest first.
    async fn deliveries(&self, store: &Store) -> Result<Vec<StoredDelivery>> {
        let filter = DeliveryFilter {
            instance: self.instance.clone(),
            project: Some(self.project.clone()),
            limit: LOOKED_THROUGH,
            ..DeliveryFilter::default()
        };
        let mut found = Vec::new();
        for delivery in store.deliveries(filter).await? {
            let about = match &self.sought {
                Sought::MergeRequest(iid) => delivery.lane.subject == Subject::MergeRequest(*iid),
                Sought::Commit(sha) => {
                    let body = store.body(&delivery.key).await?;
                    body.is_some_and(|body| tells_of(&body, sha))
                }
            };
            if about {
                found.push(delivery);
            }
        }
        Ok(found)
    }

    fn json(&self, answer: &Answer) -> Value {
        let deliveries: Vec<&Value> = answer.told.iter().map(|it| &it.json).collect();
        json!({
            "about": self.what,
            "deliveries": deliveries,
            "more_deliveries": answer.more,
            "findings": answer.findings,
        })
    }

    fn text(&self, answer: &Answer) -> String {
        let mut text = match answer.told.len() + answer.more {
            0 => format!("no delivery told of {}\n\n", self.what),
            1 => format!("one delivery told of {}\n\n", self.what),
            count => format!(
                "{count} deliveries told of {}, the newest first\n\n",
                self.what
            ),
        };
        for told in &answer.told {
            text.push_str(&told.text);
            text.push('\n');
        }
        text + &output::told(&answer.findings)
    }
}
