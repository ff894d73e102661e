//! What Penstock counts. No project, no person and no branch is a label: a metric must not grow with the number of tenants.

mod peaks;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use penstock_model::limits::Limits;
use penstock_model::record::Usage;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::peaks::Peaks;
use self::window::Window;

/// Upper bounds in seconds, from a millisecond to half a minute.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Received {
    instance: String,
    hook: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginFailure {
    plugin: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectOutcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfInstance {
    instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    instance: String,
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookState {
    instance: String,
    hook: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    target: String,
    operation: &'static str,
    result: String,
}

/// What was last seen in GitLab, by instance.
#[derive(Default)]
struct Seen {
    /// States of hooks, by instance and hook.
    hooks: BTreeMap<(String, String), String>,
    /// What can't be made up for.
    unrecovered: BTreeMap<String, usize>,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of one process.
pub struct Metrics {
    registry: Registry,
    received: Family<Received, Counter>,
    decisions: Family<Outcome, Counter>,
    decision_seconds: Histograms<OfPlugin>,
    plugin_failures: Family<PluginFailure, Counter>,
    peaks: Peaks,
    effects: Family<EffectOutcome, Counter>,
    gitlab_seconds: Histograms<Request>,
    kubernetes_seconds: Histograms<Request>,
    oldest_delivery: Seconds,
    oldest_effect: Seconds,
    runs: Family<State, Gauge>,
    deliveries: Family<State, Gauge>,
    dead_effects: Gauge,
    dead_routes: Gauge,
    lane_age: Family<OfQueue, Seconds>,
    budget_calls: Family<OfInstance, Gauge>,
    budget_left: Family<OfInstance, Gauge>,
    budget_waiting: Family<OfInstance, Gauge>,
    calls: Mutex<BTreeMap<String, Arc<Window>>>,
    reconciled: Family<Reconciled, Counter>,
    unrecovered: Family<OfInstance, Gauge>,
    hook_state: Family<HookState, Gauge>,
    /// What the last round of this process saw.
    seen: Mutex<Seen>,
    rendering: Mutex<()>,
}

/// Figures that are read from the store when somebody asks for the metrics.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Seconds since the oldest delivery without a decision came.
    pub oldest_delivery: f64,
    /// Seconds since the oldest effect that is not done was committed.
    pub oldest_effect: f64,
    /// How many runs are in each state.
    pub runs: Vec<(String, i64)>,
    /// How many deliveries have each outcome.
    pub deliveries: Vec<(String, i64)>,
    /// Effects that were given up.
    pub dead_effects: i64,
    /// Routes of deliveries that were given up.
    pub dead_routes: i64,
    /// For each queue, seconds since the lane is ready that nobody has taken for longest.
    pub lanes: Vec<(&'static str, f64)>,
}

/// How a GitLab token's budget of calls stands in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The GitLab instance.
    pub instance: String,
    /// Calls that it may make in a minute.
    pub calls: u32,
    /// Calls that wait for their turn.
    pub waiting: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut registry = Registry::with_prefix("penstock");
        let mut metrics = Self {
            registry: Registry::default(),
            received: Family::default(),
            decisions: Family::default(),
            decision_seconds: Family::new_with_constructor(histogram),
            plugin_failures: Family::default(),
            peaks: Peaks::new(&mut registry),
            effects: Family::default(),
            gitlab_seconds: Family::new_with_constructor(histogram),
            kubernetes_seconds: Family::new_with_constructor(histogram),
            oldest_delivery: Seconds::default(),
            oldest_effect: Seconds::default(),
            runs: Family::default(),
            deliveries: Family::default(),
            dead_effects: Gauge::default(),
            dead_routes: Gauge::default(),
            lane_age: Family::default(),
            budget_calls: Family::default(),
            budget_left: Family::default(),
            budget_waiting: Family::default(),
            calls: Mutex::default(),
            reconciled: Family::default(),
            unrecovered: Family::default(),
            hook_state: Family::default(),
            seen: Mutex::default(),
            rendering: Mutex::default(),
        };
        registry.register(
            "received",
            "Requests to the hooks by result",
            metrics.received.clone(),
        );
        registry.register(
            "decisions",
            "Decisions by outcome",
            metrics.decisions.clone(),
        );
        registry.register(
            "decision_seconds",
            "Time of a plugin call, host calls included",
            metrics.decision_seconds.clone(),
        );
        registry.register(
            "plugin_failures",
            "Calls that the host ended, by kind",
            metrics.plugin_failures.clone(),
        );
        registry.register(
            "effects",
            "Effects by kind and outcome",
            metrics.effects.clone(),
        );
        registry.register(
            "gitlab_request_seconds",
            "Time of a call to GitLab",
            metrics.gitlab_seconds.clone(),
        );
        registry.register(
            "kubernetes_request_seconds",
            "Time of a call to a cluster",
            metrics.kubernetes_seconds.clone(),
        );
        registry.register(
            "oldest_undecided_delivery_seconds",
            "Age of the oldest delivery without a decision",
            metrics.oldest_delivery.clone(),
        );
        registry.register(
            "oldest_effect_seconds",
            "Age of the oldest effect that is not done",
            metrics.oldest_effect.clone(),
        );
        registry.register("runs", "Runs by state", metrics.runs.clone());
        registry.register(
            "deliveries",
            "Deliveries by outcome",
            metrics.deliveries.clone(),
        );
        registry.register(
            "dead_effects",
            "Effects that were given up",
            metrics.dead_effects.clone(),
        );
        registry.register(
            "dead_routes",
            "Routes of deliveries that were given up, until somebody tries them again",
            metrics.dead_routes.clone(),
        );
        registry.register(
            "lane_age_seconds",
            "How long the lane has been ready that has waited for a worker for longest",
            metrics.lane_age.clone(),
        );
        registry.register(
            "gitlab_budget_calls",
            "Calls that this process may make with the token in a minute",
            metrics.budget_calls.clone(),
        );
        registry.register(
            "gitlab_budget_left",
            "Of these, how many are left after those of the last minute",
            metrics.budget_left.clone(),
        );
        registry.register(
            "gitlab_budget_waiting",
            "Calls that wait for their turn",
            metrics.budget_waiting.clone(),
        );
        registry.register(
            "reconciled",
            "What GitLab did not tell and was made up for, and the rounds that looked for it",
            metrics.reconciled.clone(),
        );
        registry.register(
            "unrecovered",
            "Things that the last round could not make up for",
            metrics.unrecovered.clone(),
        );
        registry.register(
            "hook_state",
            "1 for the state that GitLab has a hook in",
            metrics.hook_state.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// A request to a hook.
    pub fn received(&self, instance: &str, hook: &str, result: &'static str) {
        let labels = Received {
            instance: instance.to_owned(),
            hook: hook.to_owned(),
            result,
        };
        self.received.get_or_create(&labels).inc();
    }

    /// A plugin call that led to a decision.
    pub fn decided(&self, plugin: &str, outcome: &'static str, took: Duration) {
        self.decisions.get_or_create(&Outcome { outcome }).inc();
        let labels = OfPlugin {
            plugin: plugin.to_owned(),
        };
        self.decision_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// What a call used, beside what it might.
    pub fn used(&self, plugin: &str, limits: &Limits, usage: &Usage, component: u64) {
        self.peaks.used(plugin, limits, usage, component);
    }

    /// A call that the host ended.
    pub fn plugin_failed(&self, plugin: &str, kind: &'static str) {
        let labels = PluginFailure {
            plugin: plugin.to_owned(),
            kind,
        };
        self.plugin_failures.get_or_create(&labels).inc();
    }

    /// An effect that was tried.
    pub fn effect(&self, kind: &'static str, outcome: &'static str) {
        self.effects
            .get_or_create(&EffectOutcome { kind, outcome })
            .inc();
    }

    fn calls(&self, instance: &str) -> Arc<Window> {
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = all.get(instance) {
            return Arc::clone(window);
        }
        Arc::clone(all.entry(instance.to_owned()).or_default())
    }

    /// A call to GitLab.
    pub fn gitlab(&self, instance: &str, operation: &'static str, result: &str, took: Duration) {
        self.calls(instance).add();
        let labels = Request {
            target: instance.to_owned(),
            operation,
            result: result.to_owned(),
        };
        self.gitlab_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A call to a cluster.
    pub fn kubernetes(&self, cluster: &str, operation: &'static str, result: &str, took: Duration) {
        let labels = Request {
            target: cluster.to_owned(),
            operation,
            result: result.to_owned(),
        };
        self.kubernetes_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Something was made up for (`delivery`, `resent`, `sweep`, `comment`), or a `round` is over.
    pub fn reconciled(&self, instance: &str, what: &'static str) {
        let labels = Reconciled {
            instance: instance.to_owned(),
            what,
        };
        self.reconciled.get_or_create(&labels).inc();
    }

    /// How much the last round could not make up for.
    pub fn unrecovered(&self, instance: &str, count: usize) {
        self.seen().unrecovered.insert(instance.to_owned(), count);
    }

    /// The state that GitLab has a hook in.
    pub fn hook(&self, instance: &str, hook: &str, state: &str) {
        let of = (instance.to_owned(), hook.to_owned());
        self.seen().hooks.insert(of, state.to_owned());
    }

    /// What was seen of hooks and of instances that are configured no more is forgotten. `hook`: by instance and hook.
    pub fn only_configured(
        &self,
        instance: impl Fn(&str) -> bool,
        hook: impl Fn(&str, &str) -> bool,
    ) {
        let mut seen = self.seen();
        seen.unrecovered.retain(|of, _| instance(of));
        seen.hooks.retain(|(of, name), _| hook(of, name));
    }

    /// This process reconciles no more, or not yet: what the last round of another saw, that one says.
    pub fn reconciles_no_more(&self) {
        *self.seen() = Seen::default();
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The OpenMetrics text.
    pub fn render(&self, standing: &Standing, budgets: &[Budget]) -> String {
        // One at a time: between its clearing and its filling a family is not whole.
        let _alone = self
            .rendering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.oldest_delivery.set(standing.oldest_delivery);
        self.oldest_effect.set(standing.oldest_effect);
        self.dead_effects.set(standing.dead_effects);
        self.dead_routes.set(standing.dead_routes);
        for (queue, age) in &standing.lanes {
            self.lane_age.get_or_create(&OfQueue { queue }).set(*age);
        }
        self.render_budgets(budgets);
        self.render_seen();
        let set = |family: &Family<State, Gauge>, counts: &[(String, i64)]| {
            // A state that nothing is in any more is in no count: what was said of it before must not stand.
            family.clear();
            for (state, count) in counts {
                family
                    .get_or_create(&State {
                        state: state.clone(),
                    })
                    .set(*count);
            }
        };
        set(&self.runs, &standing.runs);
        set(&self.deliveries, &standing.deliveries);
        let mut text = String::new();
        // Writing to a String can't fail; an error would only mean a shorter answer.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn render_seen(&self) {
        let seen = self.seen();
        self.hook_state.clear();
        self.unrecovered.clear();
        for ((instance, hook), now) in &seen.hooks {
            for state in ["enabled", "paused", "disabled", "missing", "unknown"] {
                let labels = HookState {
                    instance: instance.clone(),
                    hook: hook.clone(),
                    state,
                };
                let is = i64::from(state == now);
                self.hook_state.get_or_create(&labels).set(is);
            }
        }
        for (instance, count) in &seen.unrecovered {
            let labels = OfInstance {
                instance: instance.clone(),
            };
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.unrecovered.get_or_create(&labels).set(count);
        }
    }

    fn render_budgets(&self, budgets: &[Budget]) {
        for family in [&self.budget_calls, &self.budget_left, &self.budget_waiting] {
            // An instance that is configured no more has no budget.
            family.clear();
        }
        for budget in budgets {
            let labels = OfInstance {
                instance: budget.instance.clone(),
            };
            let left = budget
                .calls
                .saturating_sub(self.calls(&budget.instance).sum());
            let waiting = i64::try_from(budget.waiting).unwrap_or(i64::MAX);
            for (family, figure) in [
                (&self.budget_calls, i64::from(budget.calls)),
                (&self.budget_left, i64::from(left)),
                (&self.budget_waiting, waiting),
            ] {
                family.get_or_create(&labels).set(figure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.received("main", "acme", "accepted");
        metrics.plugin_failed("pipelines", "cpu-exceeded");
        let standing = Standing {
            oldest_delivery: 2.5,
            ..Standing::default()
        };
        let text = metrics.render(&standing, &[]);
        for line in [
            r#"penstock_received_total{instance="main",hook="acme",result="accepted"} 1"#,
            r#"penstock_plugin_failures_total{plugin="pipelines",kind="cpu-exceeded"} 1"#,
            "penstock_oldest_undecided_delivery_seconds 2.5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_state_that_nothing_is_in_any_more_is_not_told_of() {
        let metrics = Metrics::new();
        let waiting = vec![("waiting".to_owned(), 3)];
        let before = Standing {
            deliveries: waiting,
            ..Standing::default()
        };
        metrics.render(&before, &[]);
        let decided = vec![("decided".to_owned(), 3)];
        let after = Standing {
            deliveries: decided,
            ..Standing::default()
        };
        let text = metrics.render(&after, &[]);
        assert!(
            text.contains(r#"penstock_deliveries{state="decided"} 3"#),
            "{text}"
        );
        assert!(!text.contains("waiting"), "{text}");
    }

    #[test]
    fn who_reconciles_no_more_says_nothing_of_hooks() {
        let metrics = Metrics::new();
        metrics.hook("main", "acme", "disabled");
        metrics.unrecovered("main", 2);
        let text = metrics.render(&Standing::default(), &[]);
        for line in [
            r#"penstock_hook_state{instance="main",hook="acme",state="disabled"} 1"#,
            r#"penstock_unrecovered{instance="main"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.reconciles_no_more();
        let text = metrics.render(&Standing::default(), &[]);
        for family in ["penstock_hook_state{", "penstock_unrecovered{"] {
            assert!(!text.contains(family), "{text}");
        }
    }

    #[test]
    fn what_leaves_the_configuration_leaves_the_metrics() {
        let metrics = Metrics::new();
        for (instance, hook) in [("main", "acme"), ("main", "old"), ("gone", "acme")] {
            metrics.hook(instance, hook, "disabled");
            metrics.unrecovered(instance, 1);
        }
        metrics.only_configured(|it| it == "main", |of, hook| (of, hook) == ("main", "acme"));
        let text = metrics.render(&Standing::default(), &[]);
        let lines = |family: &str| {
            let all = text.lines().filter(|line| line.starts_with(family));
            all.filter(|line| line.ends_with(" 1")).collect::<Vec<_>>()
        };
        assert_eq!(
            lines("penstock_hook_state{"),
            [r#"penstock_hook_state{instance="main",hook="acme",state="disabled"} 1"#]
        );
        assert_eq!(
            lines("penstock_unrecovered{"),
            [r#"penstock_unrecovered{instance="main"} 1"#]
        );
    }

    #[test]
    fn calls_of_the_last_minute_are_taken_off_the_budget_of_their_instance() {
        let metrics = Metrics::new();
        for _ in 0..3 {
            metrics.gitlab("main", "user", "200", Duration::from_millis(5));
        }
        metrics.gitlab("other", "user", "200", Duration::from_millis(5));
        let main = Budget {
            instance: "main".to_owned(),
            calls: 100,
            waiting: 2,
        };
        let text = metrics.render(&Standing::default(), &[main]);
        for line in [
            r#"penstock_gitlab_budget_calls{instance="main"} 100"#,
            r#"penstock_gitlab_budget_left{instance="main"} 97"#,
            r#"penstock_gitlab_budget_waiting{instance="main"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let text = metrics.render(&Standing::default(), &[]);
        assert!(!text.contains("gitlab_budget_left{"), "{text}");
    }
}
