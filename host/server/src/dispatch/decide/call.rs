//! One call: what a plugin is asked with, and what its answer comes to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use penstock_gitlab::EventContext;
use penstock_model::admit::{self, Admitted, Order, ProjectOf, Task, admit};
use penstock_model::effect::{Action, Plan, PluginError};
use penstock_model::event::{Event, EventKind, RUN_FINISHED};
use penstock_model::host_event::{Failed, HostEvent, LONGEST_CHAIN};
use penstock_model::id::{CommitId, EffectId, EffectKey, PlaceName, RefName, Timestamp};
use penstock_model::lane::Lane;
use penstock_model::lookup::{self, Answer, Lookup};
use penstock_model::record::{DecisionRecord, HostCall, Outcome, StateChange};
use penstock_model::run::{Run, RunState};
use penstock_model::scope::Scope;
use penstock_model::tenant::Place;
use penstock_sandbox::{CallInput, Slot};
use penstock_store::{Decision, PendingRoute, Settlement};

use super::super::turns::Whose;
use super::super::world::CallWorld;
use super::super::{Delivery, Source, Unconfirmed, confirmed, moved};
use super::decision;
use crate::config::{Mode, Route};
use crate::host::Host;
use crate::plugins::{self, Loaded, NotReady, PluginSlot};
use crate::reconcile::decided_head;
use crate::status;
use crate::trace;

/// Why a plugin is not asked now.
pub(super) enum NotNow {
    /// The plugin is yet to be loaded, or has enough to do: its deliveries wait in their order, and none has been tried.
    Busy { why: String, pause: Duration },
    /// Something is away.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// It can't be decided, now or later.
    Never(String),
    /// By id the event is not what its hook may speak for: nothing is told to GitLab.
    Forged(String),
    /// The route does not mean this event.
    NotMeant(String),
}

impl From<Unconfirmed> for NotNow {
    fn from(unconfirmed: Unconfirmed) -> Self {
        match unconfirmed {
            Unconfirmed::Away { why, after } => Self::Later { why, after },
            Unconfirmed::Never(why) => Self::Forged(why),
        }
    }
}

/// A decision is committed on what GitLab said no longer ago than this: with what its client believes, rights are a minute old at most.
const CONFIRMED_FOR: Duration = Duration::from_secs(15);

/// Everything that a call needs.
pub(super) struct Call {
    pub(super) slot: Arc<PluginSlot>,
    pub(super) route: Route,
    loaded: Loaded,
    settings: String,
    event: Arc<Event>,
    places: Vec<Place>,
    head: Option<CommitId>,
    past: bool,
    /// When GitLab was asked.
    asked_at: Instant,
    world: Arc<CallWorld>,
    failure_id: EffectId,
    attempt: u32,
    delivery_url: Option<String>,
    lane: Lane,
}

/// Confirms the event and gathers what the plugin is asked with.
pub(super) async fn prepare(
    host: &Arc<Host>,
    delivery: &Delivery,
    pending: &PendingRoute,
) -> Result<Call, NotNow> {
    let Delivery {
        live,
        instance,
        stored,
        source,
        parsed,
    } = delivery;
    let later = |why: String| NotNow::Later { why, after: None };
    let route = live.route(&pending.route).ok_or_else(|| {
        NotNow::Never(format!(
            "the configuration has no route `{}` any more",
            pending.route
        ))
    })?;
    if matches!(parsed.kind, EventKind::RunFinished(_)) && !route.on.contains(parsed.kind.word()) {
        return Err(NotNow::NotMeant(
            "the route takes no ends of runs any more".to_owned(),
        ));
    }
    let slot = live.plugin(&route.plugin).ok_or_else(|| {
        NotNow::Never(format!(
            "the configuration has no plugin `{}` any more",
            route.plugin
        ))
    })?;
    let loaded = slot.may_decide().map_err(|not_ready| {
        let why = not_ready.to_string();
        match not_ready {
            NotReady::Loading(_) => NotNow::Busy {
                why,
                pause: slot.pause(),
            },
            NotReady::Broken(..) => NotNow::Later { why, after: None },
        }
    })?;
    let asked_at = Instant::now();
    let confirmed = confirmed(&host.store, delivery, &instance.client)
        .await
        .map_err(NotNow::from)?;
    if !confirmed.is_known() {
        return Err(NotNow::Forged(
            "GitLab shows no such project or group to Penstock's user: give it access, then retry"
                .to_owned(),
        ));
    }
    let trust = confirmed.provenance.trust;
    if !route.trust.is_empty() && !route.trust.contains(&trust) {
        return Err(NotNow::NotMeant(format!(
            "the route takes no events that are {}",
            trust.as_str()
        )));
    }
    let path = match &confirmed.scope {
        Scope::Project(project) => project.path.as_str(),
        Scope::Group(group) => group.path.as_str(),
        Scope::Instance => "",
    };
    let belonging = live
        .belonging(path)
        .map_err(|none| NotNow::Never(none.to_string()))?;
    let tenant = belonging.tenant.name();
    if let Some(why) = live.rests(&tenant) {
        return Err(later(why));
    }
    let route = &Route {
        mode: live.mode(&tenant, route),
        ..route.clone()
    };
    // The route was chosen by the path that the body named; what counts is the path that GitLab gave for the id.
    if route.tenant.as_ref().is_some_and(|of| *of != tenant) {
        return Err(NotNow::Forged(format!(
            "by GitLab the project is `{path}` of the tenant `{tenant}`, and the route is another tenant's"
        )));
    }
    if let Scope::Project(project) = &confirmed.scope {
        let pinned = host
            .store
            .pin_project(
                &stored.key.instance,
                project.id,
                &project.path,
                &tenant,
                Timestamp::now(),
            )
            .await
            .map_err(|error| later(error.to_string()))?;
        if pinned.tenant != tenant {
            return Err(NotNow::Never(moved(
                project,
                &pinned,
                &tenant,
                &stored.key.id,
            )));
        }
    }
    let places = belonging
        .tenant
        .places(&belonging.captures)
        .map_err(|error| NotNow::Never(error.to_string()))?;
    let own = instance
        .own_users(&host.store)
        .await
        .map_err(|error| NotNow::Later {
            after: error.retry_after(),
            why: error.to_string(),
        })?;
    let event = Arc::new(Event {
        delivery: stored.key.id.clone(),
        received_at: stored.received_at,
        instance: stored.key.instance.clone(),
        instance_url: instance.client.base_url().to_owned(),
        tenant,
        scope: confirmed.scope,
        actor: confirmed.actor,
        provenance: confirmed.provenance,
        ref_name: confirmed.ref_name,
        commit: confirmed.commit,
        kind: confirmed.kind,
    });
    let largest = loaded.plugin.limits().host_call_bytes;
    let (body, headers) = match source {
        Source::Hook(accepted) => (accepted.body().clone(), accepted.headers().to_vec()),
        // There was no delivery.
        Source::Host(_) => (Bytes::from_static(b"null"), Vec::new()),
    };
    let world = CallWorld {
        store: host.store.clone(),
        client: instance.client.clone(),
        context: EventContext::new(Arc::clone(&event), own, largest),
        event: Arc::clone(&event),
        plugin: route.plugin.clone(),
        body,
        headers,
        json: tokio::sync::OnceCell::new(),
        places: places.clone(),
        largest,
        place: trace::here(),
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
        slot: Arc::clone(slot),
        route: route.clone(),
        world: Arc::new(world),
        past: confirmed.past,
        head: confirmed.head,
        asked_at,
        loaded,
        event,
        places,
    })
}

impl Call {
    /// The right to ask the plugin; none: it has enough to do.
    pub(super) async fn turn(&self) -> Option<Slot> {
        self.slot.turn(&self.loaded).await
    }

    /// Asks the plugin.
    pub(super) async fn ask(
        &self,
        slot: Slot,
    ) -> Result<DecisionRecord, penstock_model::lookup::HostFault> {
        let grants = self.loaded.plugin.grants();
        let input = CallInput {
            event: Event::clone(&self.event),
            settings: self.settings.clone(),
            seed: rand::random(),
            time: Timestamp::now(),
            grant: Arc::new(grants.at(self.event.provenance.trust)),
        };
        let world = Arc::clone(&self.world);
        self.loaded.plugin.decide_in(slot, input, world).await
    }

    /// What a trace says of it.
    pub(super) fn facts(&self) -> trace::Facts<3> {
        [
            ("plugin.name", self.route.plugin.to_string().into()),
            ("route", self.route.name.to_string().into()),
            ("event.trust", self.event.provenance.trust.as_str().into()),
        ]
    }

    /// Asks GitLab again if the call took long: heads are brought up to date. Says whether the event is still what the plugin was asked with; if
    /// it is not, what the plugin answered was an answer to another question.
    pub(super) async fn still_holds(&mut self, delivery: &Delivery) -> Result<bool, NotNow> {
        if self.asked_at.elapsed() < CONFIRMED_FOR {
            return Ok(true);
        }
        let asked_at = Instant::now();
        let now = confirmed(
            &self.world.store,
            delivery,
            &delivery.instance.client.anew(),
        )
        .await?;
        let event = &self.event;
        let same = now.scope == event.scope
            && now.actor == event.actor
            && now.provenance == event.provenance
            && now.ref_name == event.ref_name
            && now.commit == event.commit;
        if same {
            (self.head, self.past, self.asked_at) = (now.head, now.past, asked_at);
        }
        Ok(same)
    }

    /// Counts what came of it.
    pub(super) fn count(&self, host: &Host, record: &DecisionRecord, took: Duration) {
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
        trace::note("plugin.outcome", outcome, outcome == "failure");
        let limits = self.loaded.plugin.limits();
        let component = self.loaded.bytes.len() as u64;
        host.metrics.used(plugin, limits, &record.usage, component);
    }

    /// Judges the answer and makes the decision of it.
    pub(super) fn judge(
        &self,
        delivery: &Delivery,
        pending: &PendingRoute,
        record: Arc<DecisionRecord>,
    ) -> Decision {
        let mut refused_ends = Vec::new();
        let (settlement, why, mut admitted) = match &record.outcome {
            Outcome::Plan(plan) => {
                let heads = heads(&record);
                let admitted = admit(plan, self.context(&heads));
                refused_ends = self.refused_ends(plan, &admitted);
                (Settlement::Decided, None, admitted)
            }
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
        self.want_ends(&mut admitted);
        let mut orders = Vec::new();
        if self.route.mode == Mode::Act {
            orders.extend(match &why {
                Some(why) => self.failed_status(why),
                None if self.attempt > 1 => self.mended_status(),
                None => None,
            });
            orders.extend(self.refusals(&admitted));
        }
        let state = match record.withheld {
            // It is not to be written: that is why the answer is withheld.
            Some(_) => StateChange::default(),
            None => record.state.clone(),
        };
        Decision {
            mode: match self.route.mode {
                Mode::Act => penstock_store::Mode::Act,
                Mode::Observe => penstock_store::Mode::Observe,
            },
            record: Some(record),
            admitted,
            state,
            orders,
            refused_ends,
            head: decided_head(&self.event, self.head.as_ref()),
            ..decision(delivery, pending, settlement, why)
        }
    }

    /// The ends of runs come back to the plugin where its route takes them.
    fn want_ends(&self, admitted: &mut Admitted) {
        if !self.route.on.contains(RUN_FINISHED) {
            return;
        }
        let depth = self.event.kind.next_depth();
        for order in &mut admitted.orders {
            if let Task::StartRun(run) = &mut order.task {
                run.end_at_depth = Some(depth);
            }
        }
    }

    /// The ends of runs that were not admitted: no run will ever tell of them. A chain of them ends where one of runs does.
    fn refused_ends(&self, plan: &Plan, admitted: &Admitted) -> Vec<HostEvent> {
        let depth = self.event.kind.next_depth();
        let (Some(project), Some(commit)) = (self.project(), &self.event.commit) else {
            return Vec::new();
        };
        if !self.route.on.contains(RUN_FINISHED) || depth > LONGEST_CHAIN {
            return Vec::new();
        }
        let mut told = BTreeSet::new();
        let refusals = admitted
            .refused
            .iter()
            .filter(|refusal| told.insert(&refusal.key));
        let ends = refusals.filter_map(|refusal| {
            let effect = plan.effects.iter().find(|it| it.key == refusal.key)?;
            let Action::StartRun(start) = &effect.action else {
                return None;
            };
            let run = Run {
                id: self.effect_id(&effect.key).hex(),
                plugin: self.route.plugin.clone(),
                key: effect.key.clone(),
                pipeline: start.pipeline.clone(),
                place: start.place.clone().unwrap_or_else(|| PlaceName::new("")),
                ref_name: self.event.ref_name.clone(),
                merge_request: self.event.kind.merge_request_iid(),
                commit: commit.clone(),
                state: RunState::Refused,
                reason: format!("not admitted: {}", refusal.rule),
                web_url: None,
                created_at: Timestamp::now(),
                started_at: None,
                finished_at: Some(Timestamp::now()),
                results: Vec::new(),
            };
            let provenance = &self.event.provenance;
            let source = provenance.source_project.as_ref().map(|it| it.id);
            Some(HostEvent::run_finished(
                project.clone(),
                run,
                Failed::default(),
                depth,
                source,
                provenance.trust,
            ))
        });
        ends.collect()
    }

    fn effect_id(&self, key: &EffectKey) -> EffectId {
        let Event {
            instance, delivery, ..
        } = &*self.event;
        EffectId::new(instance, delivery, &self.route.name, self.attempt, key)
    }

    fn context<'a>(&'a self, heads: &'a [(RefName, CommitId)]) -> admit::Context<'a> {
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
            past: self.past,
            delivery_url: self.delivery_url.as_deref(),
            heads,
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

    /// Whose state it may read and write; none where it has no right to any.
    pub(super) fn state(&self) -> Option<Whose> {
        let grant = self.loaded.plugin.grants().at(self.event.provenance.trust);
        let project = self.event.scope.project().filter(|_| grant.state)?;
        let plugin = self.route.plugin.clone();
        Some((plugin, self.event.instance.clone(), project.id))
    }

    /// A failed status that says why nothing starts.
    pub(super) fn failed_status(&self, why: &str) -> Option<Order> {
        let name = self.status_name();
        status::of_failure(self.failure_id, &self.event, &self.project()?, &name, why)
    }

    /// Takes an earlier attempt's failed status back: it would block the merge request for ever.
    fn mended_status(&self) -> Option<Order> {
        let name = self.status_name();
        let why = format!("decided at attempt {}", self.attempt);
        status::of_mended(self.failure_id, &self.event, &self.project()?, &name, &why)
    }

    fn status_name(&self) -> String {
        format!("penstock/{}", self.route.plugin)
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

/// Heads of refs that the plugin asked for, as GitLab answered.
fn heads(record: &DecisionRecord) -> Vec<(RefName, CommitId)> {
    let head = |call: &HostCall| match (&call.lookup, &call.answer) {
        (Lookup::Resolve(lookup::Source::Ref(name)), Ok(Answer::CommitId(commit))) => {
            Some((name.clone(), commit.clone()))
        }
        _ => None,
    };
    record.calls.iter().filter_map(head).collect()
}
