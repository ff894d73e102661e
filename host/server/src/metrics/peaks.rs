//! How near each plugin's calls come to its limits: what an operator needs to find the right value of one.
//!
//! For each limit the most that a call used since the start, the limit itself, and how the calls are spread over it. The label is the limit's key in the
//! configuration.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use penstock_model::limits::Limits;
use penstock_model::record::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the share of a limit that a call used.
const SHARES: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];
/// How many limits a call is held against.
const COUNT: usize = 15;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    plugin: String,
    limit: &'static str,
}

type Amount = Gauge<f64, AtomicU64>;
type Shares = Family<OfLimit, Histogram, fn() -> Histogram>;

/// The peaks of all plugins.
#[derive(Debug)]
pub(super) struct Peaks {
    peaks: Family<OfLimit, Amount>,
    limits: Family<OfLimit, Amount>,
    shares: Shares,
    /// Found once for each plugin: looking a label up for each limit of each call would cost more than the call.
    plugins: RwLock<HashMap<String, Arc<[OfPlugin; COUNT]>>>,
}

/// One limit of one plugin.
#[derive(Debug)]
struct OfPlugin {
    peak: Amount,
    limit: Amount,
    share: Histogram,
}

impl Peaks {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let shares: fn() -> Histogram = || Histogram::new(SHARES);
        let new = Self {
            peaks: Family::default(),
            limits: Family::default(),
            shares: Family::new_with_constructor(shares),
            plugins: RwLock::default(),
        };
        registry.register(
            "plugin_peak",
            "The most that a call of a plugin used of what a limit bounds, since the start: seconds, bytes or a count",
            new.peaks.clone(),
        );
        registry.register(
            "plugin_limit",
            "The limit, in the same unit",
            new.limits.clone(),
        );
        registry.register(
            "plugin_limit_share",
            "Calls by the share of the limit that they used",
            new.shares.clone(),
        );
        new
    }

    /// Counts a call.
    pub(super) fn used(&self, plugin: &str, limits: &Limits, usage: &Usage, component: u64) {
        let known = self
            .plugins
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(plugin)
            .cloned();
        let known = known.unwrap_or_else(|| self.of(plugin));
        let amounts = amounts(limits, usage, component);
        for (of, (_, used, limit)) in known.iter().zip(amounts) {
            of.limit.set(limit);
            // The bits of numbers that are not negative are ordered as the numbers: of two calls that end at once the larger stays.
            of.peak.inner().fetch_max(used.to_bits(), Ordering::Relaxed);
            if limit > 0.0 {
                of.share.observe(used / limit);
            }
        }
    }

    fn of(&self, plugin: &str) -> Arc<[OfPlugin; COUNT]> {
        let names = amounts(&Limits::default(), &Usage::default(), 0).map(|(name, ..)| name);
        let found = Arc::new(names.map(|limit| {
            let labels = OfLimit {
                plugin: plugin.to_owned(),
                limit,
            };
            OfPlugin {
                peak: self.peaks.get_or_create(&labels).clone(),
                limit: self.limits.get_or_create(&labels).clone(),
                share: self.shares.get_or_create(&labels).clone(),
            }
        }));
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(plugins.entry(plugin.to_owned()).or_insert(found))
    }
}

/// Each limit by its key in the configuration, what a call used of it, and the limit. A limit that is not here does not compile.
fn amounts(limits: &Limits, usage: &Usage, component: u64) -> [(&'static str, f64, f64); COUNT] {
    let Limits {
        cpu,
        deadline,
        memory,
        host_calls,
        handles,
        host_call_bytes,
        total_bytes,
        output,
        effects,
        log,
        state_keys,
        state_bytes,
        record,
        concurrency,
        component: component_limit,
    } = limits;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people: above 2^53 bytes it is a little off"
    )]
    let bytes = |name, used: u64, limit: u64| (name, used as f64, limit as f64);
    let count = |name, used: u32, limit: u32| (name, f64::from(used), f64::from(limit));
    [
        ("cpu", usage.cpu.as_secs_f64(), cpu.as_secs_f64()),
        ("deadline", usage.wall.as_secs_f64(), deadline.as_secs_f64()),
        bytes("memory", usage.memory, *memory),
        count("host-calls", usage.host_calls, *host_calls),
        count("handles", usage.handles, *handles),
        bytes("host-call-bytes", usage.host_call_bytes, *host_call_bytes),
        bytes("total-bytes", usage.host_bytes, *total_bytes),
        bytes("output", usage.output, *output),
        bytes("effects", usage.effects, u64::from(*effects)),
        // What was dropped was wanted too.
        bytes("log", usage.log.saturating_add(usage.log_dropped), *log),
        count("state-keys", usage.state_keys, *state_keys),
        bytes("state-bytes", usage.state_bytes, *state_bytes),
        bytes("record", usage.record, *record),
        count("concurrency", usage.at_once, *concurrency),
        bytes("component", component, *component_limit),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn the_peak_is_the_most_of_all_calls_and_the_limit_stands_beside_it() {
        let mut registry = Registry::default();
        let peaks = Peaks::new(&mut registry);
        let limits = Limits::default();
        for (cpu, memory) in [(100, 3 << 20), (400, 1 << 20), (200, 2 << 20)] {
            let usage = Usage {
                cpu: Duration::from_millis(cpu),
                memory,
                log: 1_000,
                log_dropped: 500,
                handles: 7,
                ..Usage::default()
            };
            peaks.used("rules", &limits, &usage, 60_000);
        }
        let text = text(&registry);
        for line in [
            r#"plugin_peak{plugin="rules",limit="cpu"} 0.4"#,
            r#"plugin_limit{plugin="rules",limit="cpu"} 0.5"#,
            r#"plugin_peak{plugin="rules",limit="memory"} 3145728.0"#,
            r#"plugin_limit{plugin="rules",limit="memory"} 67108864.0"#,
            r#"plugin_peak{plugin="rules",limit="log"} 1500.0"#,
            r#"plugin_peak{plugin="rules",limit="component"} 60000.0"#,
            r#"plugin_peak{plugin="rules",limit="handles"} 7.0"#,
            r#"plugin_limit{plugin="rules",limit="handles"} 1000.0"#,
            r#"plugin_limit_share_bucket{le="0.25",plugin="rules",limit="cpu"} 1"#,
            r#"plugin_limit_share_bucket{le="0.9",plugin="rules",limit="cpu"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
