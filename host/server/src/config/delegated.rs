//! A tenant's own file: what a team may say about its tenant, which can only narrow what the operator said.
//!
//! A mistake in it is the team's alone: the tenant rests until it is mended, and the configuration of everybody else stays in force and can be changed.

use std::collections::BTreeMap;

use penstock_model::id::{PlaceName, PluginName, TenantName};
use penstock_model::tenant::{PlacePolicy, PlaceTemplate, Tenant, Visibility};

use super::Mode;
use super::files::Files;
use super::problem::{Collector, Source};
use super::reader::{Item, Reader, cut, listed, nearest};
use super::tree::{self, Spot, Value};

/// What a tenant's own file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegated {
    /// For some plugins: only to be observed, or (none) not asked at all.
    Narrowed(BTreeMap<PluginName, Option<Mode>>),
    /// It can't be used, and why: nothing is done for the tenant until it is mended.
    Wrong(String),
}

/// What the tenants' own files came to.
pub type AllDelegated = BTreeMap<TenantName, Delegated>;

/// Narrows a tenant by its own file.
pub(super) fn narrow(
    named: &str,
    files: &Files<'_>,
    plugins: &[&str],
    tenant: &mut Tenant,
) -> Delegated {
    let mut collector = Collector::default();
    let read = files
        .read(named, tree::MAX_FILE)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("`{named}` is no text")));
    let text = match read {
        Ok(text) => text,
        Err(why) => return Delegated::Wrong(why),
    };
    collector.sources.push(Source {
        path: files.path(named),
        text,
    });
    let text = collector
        .sources
        .last()
        .map(|source| source.text.as_str())
        .unwrap_or_default();
    let root = match tree::read(text, 0) {
        Ok(root) => Some(root),
        Err(error) => {
            let message = format!("this is no YAML: {}", error.message);
            collector.hidden(error.spot, message, None);
            None
        }
    };
    let mut places = tenant.places.clone();
    let narrowed = root
        .as_ref()
        .and_then(|node| read_file(&collector, node, plugins, &mut places));
    match narrowed {
        Some(narrowed) if collector.is_empty() => {
            tenant.places = places;
            Delegated::Narrowed(narrowed)
        }
        _ => Delegated::Wrong(collector.problems(&[root]).to_string()),
    }
}

fn read_file(
    collector: &Collector,
    node: &tree::Node,
    plugins: &[&str],
    places: &mut BTreeMap<PlaceName, PlaceTemplate>,
) -> Option<BTreeMap<PluginName, Option<Mode>>> {
    let root = Item { collector, node };
    // An empty file narrows nothing.
    if matches!(node.value, Value::Null) {
        return Some(BTreeMap::new());
    }
    let reader = root.map("a tenant's own file")?;
    if let Some(entries) = reader.optional("places").and_then(Item::entries) {
        for (key, item) in entries {
            place(key.spot, &key.text, item, places);
        }
    }
    let mut narrowed = BTreeMap::new();
    if let Some(entries) = reader.optional("plugins").and_then(Item::entries) {
        for (key, item) in entries {
            if !plugins.contains(&key.text.as_str()) {
                unknown(collector, key.spot, "plugin", &key.text, plugins);
                continue;
            }
            if let Some(mode) = plugin(item) {
                narrowed.insert(PluginName::new(key.text.as_str()), mode);
            }
        }
    }
    reader.finish();
    Some(narrowed)
}

fn unknown(collector: &Collector, spot: Spot, what: &str, name: &str, all: &[&str]) {
    let help = nearest(name, all).unwrap_or_else(|| format!("there is {}", listed(all)));
    let message = format!("the operator gave the tenant no {what} `{}`", cut(name));
    collector.open(spot, message, Some(help));
}

/// `false`: not asked; `{ mode: observe }`.
fn plugin(item: Item<'_>) -> Option<Option<Mode>> {
    if matches!(item.node.value, Value::Bool(false)) {
        return Some(None);
    }
    let reader = item.map("a plugin, `false` or a mapping")?;
    let mode = reader
        .required("mode")
        .and_then(|item| item.one_of(&[("observe", Mode::Observe)]));
    reader.finish();
    Some(Some(mode?))
}

/// `false`: taken away; `{ policy: … }`.
fn place(spot: Spot, name: &str, item: Item<'_>, places: &mut BTreeMap<PlaceName, PlaceTemplate>) {
    let found = places.get_mut(&PlaceName::new(name));
    let Some(template) = found else {
        let all: Vec<&str> = places.keys().map(PlaceName::as_str).collect();
        return unknown(item.collector, spot, "place", name, &all);
    };
    if matches!(item.node.value, Value::Bool(false)) {
        places.remove(&PlaceName::new(name));
        return;
    }
    let Some(reader) = item.map("a place, `false` or a mapping") else {
        return;
    };
    if let Some(item) = reader.optional("policy") {
        policy(item, &mut template.policy);
    }
    reader.finish();
}

fn policy(item: Item<'_>, policy: &mut PlacePolicy) {
    let Some(reader) = item.map("`policy`") else {
        return;
    };
    let flags: [(&'static str, &mut bool); 3] = [
        ("pod-template", &mut policy.pod_template),
        ("security-context", &mut policy.security_context),
        ("clone", &mut policy.clone),
    ];
    for (key, held) in flags {
        flag(&reader, key, held);
    }
    let lists: [(&'static str, &mut Vec<String>); 8] = [
        ("secrets", &mut policy.secrets),
        ("host-paths", &mut policy.host_paths),
        ("csi-drivers", &mut policy.csi_drivers),
        ("token-audiences", &mut policy.token_audiences),
        ("resolvers", &mut policy.resolvers),
        ("service-accounts", &mut policy.service_accounts),
        ("labels", &mut policy.labels),
        ("annotations", &mut policy.annotations),
    ];
    for (key, held) in lists {
        if let Some(only) = texts(&reader, key, Some(held)) {
            *held = only;
        }
    }
    let open: [(&'static str, &mut Option<Vec<String>>); 3] = [
        ("config-maps", &mut policy.config_maps),
        ("volume-claims", &mut policy.volume_claims),
        ("images", &mut policy.images),
    ];
    for (key, held) in open {
        if let Some(only) = texts(&reader, key, held.as_ref()) {
            *held = Some(only);
        }
    }
    if let Some(item) = reader.optional("timeout") {
        let seconds = item
            .quantity(super::unit::duration)
            .map(|time| time.as_secs());
        match (seconds, policy.timeout) {
            (Some(seconds), Some(most)) if seconds > most => wider(item, "timeout"),
            (Some(0), _) => wider(item, "timeout"),
            (Some(seconds), _) => policy.timeout = Some(seconds),
            (None, _) => {}
        }
    }
    if let Some(item) = reader.optional("keep-runs") {
        match (item.count::<u32>(), policy.keep_runs) {
            (Some(runs), Some(most)) if runs > most => wider(item, "keep-runs"),
            (Some(runs), _) => policy.keep_runs = Some(runs),
            (None, _) => {}
        }
    }
    if let Some(item) = reader.optional("log-excerpts") {
        match (none_or_visibility(item), policy.log_excerpts) {
            (Some(None), _) => policy.log_excerpts = None,
            (Some(Some(asked)), Some(most)) if asked <= most => policy.log_excerpts = Some(asked),
            (Some(Some(_)), _) => wider(item, "log-excerpts"),
            (None, _) => {}
        }
    }
    reader.finish();
}

/// `false`, or whose logs may be shown.
fn none_or_visibility(item: Item<'_>) -> Option<Option<Visibility>> {
    if matches!(item.node.value, Value::Bool(false)) {
        return Some(None);
    }
    super::tenants::log_excerpts(item).map(Some)
}

fn flag(reader: &Reader<'_>, key: &'static str, held: &mut bool) {
    let Some(item) = reader.optional(key) else {
        return;
    };
    match item.truth() {
        Some(true) if !*held => wider(item, key),
        Some(on) => *held = on,
        None => {}
    }
}

/// A list that is part of what is held; what is held by none holds everything.
fn texts(
    reader: &Reader<'_>,
    key: &'static str,
    held: Option<&Vec<String>>,
) -> Option<Vec<String>> {
    let item = reader.optional(key)?;
    let only = item.texts()?;
    let fits = |text: &String| held.is_none_or(|held| held.contains(text));
    if only.iter().all(fits) {
        return Some(only);
    }
    wider(item, key);
    None
}

fn wider(item: Item<'_>, key: &str) {
    let help = "it can hold what the operator's `policy` of the place holds, word for word, or less; ask the operator for more".to_owned();
    item.collector.open(
        item.spot(),
        format!("`{key}` would be more than the operator allows"),
        Some(help),
    );
}
