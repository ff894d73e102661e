//! One route of one delivery: the plugin is asked, its plan is judged, and everything is committed at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_gitlab::EventContext;
use penstock_model::admit::{self, Admitted, Order, ProjectOf, admit};
use penstock_model::effect::PluginError;
use penstock_model::event::Event;
use penstock_model::id::{EffectId, EffectKey, Timestamp};
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_model::tenant::Place;
use penstock_sandbox::CallInput;
use penstock_store::{Claim, CommitError, Decision, LaneError, PendingRoute, Settlement};

use super::world::CallWorld;
use super::{Delivery, Unconfirmed, Wait, confirmed, postpone};
use crate::config::{Mode, Route};
use crate::host::Host;
use crate::plugins::{self, Loaded};
use crate::status;

/// How often a call is made anew when the state changed under it.
const CONFLICTS: u32 = 5;
/// How often a call is made that passes its deadline.
const DEADLINES: u32 = 3;

/// Decides one route.
pub(super) async fn route(
    host: &Arc<Host>,
    claim: &Claim,
    delivery: &Delivery,
    pending: &PendingRoute,
) -> Result<(), LaneError> {
    let call = match prepare(host, delivery, pending).await {
        Ok(call) => call,
        Err(NotNow::Later { why, after }) => {
            postpone(
                host,
                claim,
                delivery,
                Some(pending),
                &why,
                Wait::of(pending, after),
            )
            .await?;
            return Ok(());
        }
        Err(NotNow::Never(why)) => {
            let decision = decision(delivery, pending, Settlement::Failed, Some(why));
            return settle(host, claim, decision).await;
        }
        Err(NotNow::NotMeant(why)) => {
            let decision = decision(delivery, pending, Settlement::Decided, Some(why));
            return settle(host, claim, decision).await;
        }
    };
    for conflict in 1..=CONFLICTS {
        let begun = Instant::now();
        let record = match call.ask(host).await {
            Ok(record) => record,
            Err(fault) => {
                let after = fault.retry_after.map(Duration::from_millis);
                postpone(
                    host,
                    claim,
                    delivery,
                    Some(pending),
                    &fault.what,
                    Wait::of(pending, after),
                )
                .await?;
                return Ok(());
            }
        };
        if let Outcome::Failure(failure @ Failure::DeadlinePassed { .. }) = &record.outcome
            && pending.tries + 1 < DEADLINES
        {
            host.metrics
                .plugin_failed(call.route.plugin.as_str(), failure.word());
            postpone(
                host,
                claim,
                delivery,
                Some(pending),
                &failure.to_string(),
                Wait::of(pending, None),
            )
            .await?;
            return Ok(());
        }
        call.count(host, &record, begun.elapsed());
        let decision = call.judge(delivery, pending, record);
        match host.store.commit(claim, decision, Timestamp::now()).await {
            Ok(committed) => {
                tracing::info!(
                    route = %pending.route,
                    withdrawn = committed.withdrawn.len(),
                    stopping = committed.stopping.len(),
                    "decided"
                );
                return Ok(());
            }
            Err(CommitError::Conflict { what }) => {
                tracing::info!(
                    what,
                    conflict,
                    "the state changed under a call; it is made anew"
                );
            }
            Err(CommitError::AlreadyDecided { .. }) => return Ok(()),
            Err(error) => return Err(lane_error(&claim.lane, error)),
        }
    }
    let failure = Failure::StateConflict { tries: CONFLICTS };
    host.metrics
        .plugin_failed(call.route.plugin.as_str(), failure.word());
    let mut decision = decision(
        delivery,
        pending,
        Settlement::Failed,
        Some(failure.to_string()),
    );
    decision
        .orders
        .extend(call.failed_status(&failure.to_string()));
    settle(host, claim, decision).await
}

async fn settle(host: &Host, claim: &Claim, decision: Decision) -> Result<(), LaneError> {
    if let Some(why) = &decision.why {
        tracing::warn!(route = %decision.route, why, "a route ends without a plugin's answer");
    }
    match host.store.commit(claim, decision, Timestamp::now()).await {
        Ok(_) | Err(CommitError::AlreadyDecided { .. }) => Ok(()),
        Err(error) => Err(lane_error(&claim.lane, error)),
    }
}

fn lane_error(lane: &str, error: CommitError) -> LaneError {
    match error {
        CommitError::Fenced { lane } => LaneError::Fenced { lane },
        CommitError::Store(error) => LaneError::Store(error),
        other @ (CommitError::Conflict { .. }
        | CommitError::AlreadyDecided { .. }
        | CommitError::NotFound { .. }) => LaneError::NotFound {
            lane: lane.to_owned(),
            what: other.to_string(),
        },
    }
}

fn decision(
    delivery: &Delivery,
    pending: &PendingRoute,
    settlement: Settlement,
    why: Option<String>,
) -> Decision {
    Decision {
        delivery: delivery.stored.key.clone(),
        route: pending.route.clone(),
        attempt: pending.attempt,
        settlement,
        why,
        mode: penstock_store::Mode::Act,
        record: None,
        admitted: Admitted::default(),
        state: penstock_model::record::StateChange::default(),
        orders: Vec::new(),
    }
}

/// Why a plugin is not asked now.
enum NotNow {
    Later {
        why: String,
        after: Option<Duration>,
    },
    Never(String),
    /// The route does not mean this event.
    NotMeant(String),
}

/// Everything that a call needs.
struct Call {
    loaded: Loaded,
    route: Route,
    settings: String,
    event: Arc<Event>,
    places: Vec<Place>,
    head: Option<penstock_model::id::CommitId>,
    world: Arc<CallWorld>,
    failure_id: EffectId,
    attempt: u32,
    delivery_url: Option<String>,
    lane: penstock_model::lane::Lane,
}

async fn prepare(
    host: &Arc<Host>,
    delivery: &Delivery,
    pending: &PendingRoute,
) -> Result<Call, NotNow> {
    let Delivery {
        live,
        instance,
        stored,
        accepted,
        ..
    } = delivery;
    let later = |why: String| NotNow::Later { why, after: None };
    let route = live
        .config
        .routes
        .iter()
        .find(|route| route.name == pending.route)
        .ok_or_else(|| {
            NotNow::Never(format!(
                "the configuration has no route `{}` any more",
                pending.route
            ))
        })?;
    let slot = live.plugin(&route.plugin).ok_or_else(|| {
        NotNow::Never(format!(
            "the configuration has no plugin `{}` any more",
            route.plugin
        ))
    })?;
    let loaded = slot
        .ready()
        .map_err(|not_ready| later(not_ready.to_string()))?;
    let confirmed = confirmed(delivery)
        .await
        .map_err(|unconfirmed| match unconfirmed {
            Unconfirmed::Away { why, after } => NotNow::Later { why, after },
            Unconfirmed::Never(why) => NotNow::Never(why),
        })?;
    let trust = confirmed.provenance.trust;
    if !route.trust.is_empty() && !route.trust.contains(&trust) {
        return Err(NotNow::NotMeant(format!(
            "the route takes no events that are {}",
            trust.as_str()
        )));
    }
    let path = match &confirmed.scope {
        penstock_model::scope::Scope::Project(project) => project.path.as_str(),
        penstock_model::scope::Scope::Group(group) => group.path.as_str(),
        penstock_model::scope::Scope::Instance => "",
    };
    let belonging = live
        .belonging(path)
        .map_err(|none| NotNow::Never(none.to_string()))?;
    let places = belonging
        .tenant
        .places(&belonging.captures)
        .map_err(|error| NotNow::Never(error.to_string()))?;
    let own = instance.own_users().await.map_err(|error| NotNow::Later {
        after: error.retry_after(),
        why: error.to_string(),
    })?;
    let event = Arc::new(Event {
        delivery: stored.key.id.clone(),
        received_at: stored.received_at,
        instance: stored.key.instance.clone(),
        instance_url: instance.client.base_url().to_owned(),
        tenant: belonging.tenant.name(),
        scope: confirmed.scope,
        actor: confirmed.actor,
        provenance: confirmed.provenance,
        ref_name: confirmed.ref_name,
        commit: confirmed.commit,
        kind: confirmed.kind,
    });
    let largest = loaded.plugin.limits().host_call_bytes;
    let world = CallWorld {
        store: host.store.clone(),
        client: instance.client.clone(),
        context: EventContext::new(Arc::clone(&event), own, largest),
        event: Arc::clone(&event),
        plugin: route.plugin.clone(),
        body: accepted.body().clone(),
        headers: accepted.headers().to_vec(),
        json: tokio::sync::OnceCell::new(),
        places: places.clone(),
        largest,
    };
    let key = &stored.key;
    let failure_key = EffectKey::new("host/failure");
    Ok(Call {
        failure_id: EffectId::new(
            &key.instance,
            &key.id,
            &pending.route,
            pending.attempt,
            &failure_key,
        ),
        attempt: pending.attempt,
        delivery_url: live
            .config
            .public_url
            .as_ref()
            .map(|url| format!("{url}/api/v1/deliveries/{}/{}", key.instance, key.id)),
        lane: stored.lane.clone(),
        settings: slot.config().settings.clone(),
        route: route.clone(),
        world: Arc::new(world),
        head: confirmed.head,
        loaded,
        event,
        places,
    })
}

impl Call {
    async fn ask(&self, host: &Host) -> Result<DecisionRecord, penstock_model::lookup::HostFault> {
        let grants = self.loaded.plugin.grants();
        let input = CallInput {
            event: Event::clone(&self.event),
            settings: self.settings.clone(),
            seed: rand::random(),
            time: Timestamp::now(),
            grant: Arc::new(grants.at(self.event.provenance.trust)),
        };
        let world = Arc::clone(&self.world);
        let _ = host;
        self.loaded.plugin.decide(input, world).await
    }

    fn count(&self, host: &Host, record: &DecisionRecord, took: Duration) {
        let plugin = self.route.plugin.as_str();
        let outcome = match &record.outcome {
            Outcome::Plan(_) => "plan",
            Outcome::Error(_) => "plugin-error",
            Outcome::Failure(failure) => {
                host.metrics.plugin_failed(plugin, failure.word());
                "failure"
            }
        };
        host.metrics.decided(plugin, outcome, took);
    }

    /// Judges the answer and makes the decision of it.
    fn judge(
        &self,
        delivery: &Delivery,
        pending: &PendingRoute,
        record: DecisionRecord,
    ) -> Decision {
        let (settlement, why, admitted) = match &record.outcome {
            Outcome::Plan(plan) => (Settlement::Decided, None, admit(plan, self.context())),
            Outcome::Error(PluginError::Source(problems)) => (
                Settlement::Decided,
                Some(plugins::list(problems)),
                Admitted::default(),
            ),
            Outcome::Error(PluginError::Settings(problems)) => {
                let why = format!("its settings can't be used: {}", plugins::list(problems));
                (Settlement::Failed, Some(why), Admitted::default())
            }
            Outcome::Error(PluginError::Other(why)) => {
                (Settlement::Failed, Some(why.clone()), Admitted::default())
            }
            Outcome::Failure(failure) => (
                Settlement::Failed,
                Some(failure.to_string()),
                Admitted::default(),
            ),
        };
        let mut orders = Vec::new();
        if self.route.mode == Mode::Act {
            orders.extend(why.as_deref().and_then(|why| self.failed_status(why)));
            orders.extend(self.refusals(&admitted));
        }
        let state = record.state.clone();
        Decision {
            mode: match self.route.mode {
                Mode::Act => penstock_store::Mode::Act,
                Mode::Observe => penstock_store::Mode::Observe,
            },
            record: Some(record),
            admitted,
            state,
            orders,
            ..decision(delivery, pending, settlement, why)
        }
    }

    fn context(&self) -> admit::Context<'_> {
        admit::Context {
            event: &self.event,
            lane: &self.lane,
            route: &self.route.name,
            attempt: self.attempt,
            plugin: &self.route.plugin,
            digest: self.loaded.plugin.digest(),
            grants: self.loaded.plugin.grants(),
            places: &self.places,
            head: self.head.as_ref(),
            delivery_url: self.delivery_url.as_deref(),
        }
    }

    fn project(&self) -> Option<ProjectOf> {
        let project = self.event.scope.project()?;
        Some(ProjectOf {
            instance: self.event.instance.clone(),
            project: project.id,
            path: project.path.clone(),
            tenant: self.event.tenant.clone(),
        })
    }

    /// A failed status that says why nothing starts.
    fn failed_status(&self, why: &str) -> Option<Order> {
        let name = format!("penstock/{}", self.route.plugin);
        status::of_failure(self.failure_id, &self.event, &self.project()?, &name, why)
    }

    /// A failed status for each effect that is refused; the first refusal of each speaks.
    fn refusals(&self, admitted: &Admitted) -> Vec<Order> {
        let Some(project) = self.project() else {
            return Vec::new();
        };
        let mut told = BTreeSet::new();
        admitted
            .refused
            .iter()
            .filter(|refusal| told.insert(refusal.key.clone()))
            .filter_map(|refusal| {
                let about = self.failure_id.follow_up(refusal.key.as_str());
                status::of_refusal(about, &self.event, &project, refusal)
            })
            .collect()
    }
}
