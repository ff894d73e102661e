//! Looks where a person would look.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::ListParams;
use kube::core::DynamicObject;
use penstock_control_plane::TestPlace;
use serde_json::Value;

use super::Scene;
use super::build::PROJECT;
use crate::audit;
use crate::wait::LIMIT;

/// Annotation of a run: the delivery.
const DELIVERY: &str = "penstock.dev/delivery";

impl Scene {
    /// The administrator's view of the namespace's runs.
    ///
    /// # Panics
    /// If no client can be made.
    pub async fn runs_api(&self) -> Api<DynamicObject> {
        self.place
            .pipeline_runs(self.access.client().await.expect("a client"))
    }

    /// All runs of the namespace.
    pub async fn runs(&self) -> Vec<DynamicObject> {
        self.runs_in(&self.place).await
    }

    /// All runs of a place.
    ///
    /// # Panics
    /// If the API server does not say.
    pub async fn runs_in(&self, place: &TestPlace) -> Vec<DynamicObject> {
        let runs = place.pipeline_runs(self.access.client().await.expect("a client"));
        runs.list(&ListParams::default())
            .await
            .expect("the runs")
            .items
    }

    /// How many runs each delivery has.
    pub async fn runs_by_delivery(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for run in self.runs().await {
            *found.entry(annotation(&run, DELIVERY)).or_default() += 1;
        }
        found
    }

    /// Waits for the run of a delivery.
    ///
    /// # Panics
    /// If it does not come, or if there are several.
    pub async fn run_of(&self, delivery: &str) -> DynamicObject {
        let found =
            penstock_control_plane::wait::until("a run of the delivery", LIMIT, async || {
                let mut found = self.runs().await;
                found.retain(|run| annotation(run, DELIVERY) == delivery);
                assert!(
                    found.len() < 2,
                    "delivery {delivery} has {} runs",
                    found.len()
                );
                Ok(found.pop())
            });
        match found.await {
            Ok(run) => run,
            Err(error) => panic!("{error:#}\n{}", self.all_about(delivery).await),
        }
    }

    /// Waits until the newest status of this name on a commit of [`PROJECT`] has this state.
    ///
    /// # Panics
    /// If it does not come about; what there is instead is shown.
    pub async fn status(&self, commit: &str, name: &str, state: &str) -> Value {
        let found = penstock_control_plane::wait::until("the status", LIMIT, async || {
            let rows = self.gitlab.statuses(PROJECT, commit);
            let newest = rows.into_iter().rev().find(|row| row["name"] == name);
            Ok(newest.filter(|row| row["status"] == state))
        });
        found.await.unwrap_or_else(|error| {
            panic!(
                "{error:#}: `{name}` is not {state}; there is {:#?}\nthe log ends with:\n{}",
                self.gitlab.statuses(PROJECT, commit),
                self.penstock.log_tail()
            )
        })
    }

    /// States that were posted for a status' name, in order.
    #[must_use]
    pub fn posted(&self, commit: &str, name: &str) -> Vec<String> {
        let calls = self.gitlab.calls_to("POST", &format!("/statuses/{commit}"));
        let well = calls.into_iter().filter(|call| call.status == Some(201));
        let fields = well
            .map(|call| call.json())
            .filter(|body| body["name"] == name);
        fields
            .map(|body| body["state"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What the API says about a delivery; null if it has none.
    pub async fn explain(&self, delivery: &str) -> Value {
        let url = format!("{}/api/v1/deliveries/main/{delivery}", self.url);
        let token = &self
            .secrets
            .iter()
            .find(|(what, _)| *what == "the API's token")
            .expect("a token")
            .1;
        let Ok(answer) = self.poster.http.get(url).bearer_auth(token).send().await else {
            return Value::Null;
        };
        answer.json().await.unwrap_or_default()
    }

    /// Waits until a delivery has this outcome; what the API says then.
    ///
    /// # Panics
    /// If it does not come about.
    pub async fn outcome(&self, delivery: &str, outcome: &str) -> Value {
        let found = penstock_control_plane::wait::until("the outcome", LIMIT, async || {
            let told = self.explain(delivery).await;
            Ok((told["delivery"]["outcome"] == outcome).then_some(told))
        });
        match found.await {
            Ok(told) => told,
            Err(error) => panic!(
                "{error:#}: it is not {outcome}\n{}",
                self.all_about(delivery).await
            ),
        }
    }

    /// Waits until nothing is left to decide or to do, of all that was there when this was called; the deliveries by outcome.
    ///
    /// # Panics
    /// If nothing moves on for as long as [`LIMIT`].
    pub async fn settled(&self) -> BTreeMap<String, u64> {
        self.penstock.forget_figures().await;
        let (mut before, mut since) = (Vec::new(), Instant::now());
        loop {
            let text = self
                .penstock
                .get("/metrics")
                .await
                .map(|(_, text)| text)
                .unwrap_or_default();
            if let Some(outcomes) = idle(&text) {
                return outcomes;
            }
            let counts = ["penstock_deliveries", "penstock_effects_total"];
            let now: Vec<String> = text
                .lines()
                .filter(|line| counts.iter().any(|name| line.starts_with(name)))
                .map(str::to_owned)
                .collect();
            if now != before {
                (before, since) = (now, Instant::now());
            }
            assert!(
                since.elapsed() < LIMIT,
                "nothing moves on, and something is left to do:\n{}\nthe log ends with:\n{}",
                before.join("\n"),
                self.penstock.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// Says whether nothing is left to decide or to do.
    pub async fn is_settled(&self) -> bool {
        let told = self.penstock.get("/metrics").await;
        told.is_some_and(|(_, text)| idle(&text).is_some())
    }

    /// Accounts that created runs in the namespace, by the run's name, from the API server's audit log.
    ///
    /// # Panics
    /// If the control plane keeps none.
    #[must_use]
    pub fn creations(&self) -> BTreeMap<String, Vec<String>> {
        audit::creations(
            &self.access.audit_log().expect("an audit log"),
            self.place.namespace(),
        )
    }

    /// For a test that failed.
    async fn all_about(&self, delivery: &str) -> String {
        let explained = self.explain(delivery).await;
        format!(
            "{explained:#}\nthe log ends with:\n{}",
            self.penstock.log_tail()
        )
    }
}

/// The deliveries by outcome, if the metrics say that nothing is left to decide or to do.
fn idle(metrics: &str) -> Option<BTreeMap<String, u64>> {
    let age = |name: &str| -> Option<f64> {
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let outcomes: BTreeMap<String, u64> = metrics
        .lines()
        .filter_map(|line| {
            let (state, count) = line
                .strip_prefix("penstock_deliveries{state=\"")?
                .split_once("\"}")?;
            Some((state.to_owned(), count.trim().parse().ok()?))
        })
        .collect();
    let idle = age("penstock_oldest_effect_seconds")? == 0.0
        && age("penstock_oldest_undecided_delivery_seconds")? == 0.0
        && outcomes.get("waiting").is_none_or(|count| *count == 0);
    idle.then_some(outcomes)
}

/// An annotation of a run; empty if it has none of this name.
#[must_use]
pub fn annotation(run: &DynamicObject, name: &str) -> String {
    let found = run
        .metadata
        .annotations
        .as_ref()
        .and_then(|it| it.get(name));
    found.cloned().unwrap_or_default()
}
