//! `routes`: which events of which tenants lead to which plugin.
//!
//! `tenant` is a tenant's `match`, or `*` for all, or a pattern over the tenants' own patterns: `acme/**` takes in the tenant `acme/{team}/**`.
//! A pattern becomes a route for each tenant that it takes in.

use std::collections::BTreeSet;

use penstock_model::id::{RouteName, TenantName};
use penstock_model::pattern::Pattern;
use penstock_model::scope::Trust;

use super::read::{Names, Sections, known, name};
use super::reader::{Item, cut, listed, nearest};
use super::tree::Spot;
use super::{Mode, Route};

/// Kinds of events, by GitLab's words and, for what the host itself tells of, its own.
const KINDS: &[&str] = &[
    "push",
    "tag_push",
    "merge_request",
    "note",
    "pipeline",
    "build",
    "deployment",
    "release",
    "issue",
    "work_item",
    "wiki_page",
    "feature_flag",
    "emoji",
    "milestone",
    "vulnerability",
    "access_token",
    "deploy_token",
    "user_add_to_group",
    "user_update_for_group",
    "user_remove_from_group",
    "user_access_request_to_group",
    "user_access_request_denied_for_group",
    "project_create",
    "project_destroy",
    "subgroup_create",
    "subgroup_destroy",
    "sweep",
    "request",
    "run_finished",
];

pub(super) fn read(
    sections: &Sections<'_>,
    tenants: &Names,
    plugins: &Names,
) -> Option<Vec<Route>> {
    let items = sections.list("routes");
    let read: Vec<Option<Vec<Route>>> = items
        .iter()
        .map(|item| route(*item, tenants, plugins))
        .collect();
    let mut spots: Vec<(Spot, Route)> = Vec::new();
    let mut whole = true;
    for (item, routes) in items.iter().zip(read) {
        whole &= routes.is_some();
        for route in routes.into_iter().flatten() {
            if let Some((first, other)) = spots.iter().find(|(_, other)| overlap(other, &route)) {
                tell_overlap(*item, *first, other, &route);
            }
            spots.push((item.spot(), route));
        }
    }
    whole.then(|| spots.into_iter().map(|(_, route)| route).collect())
}

fn route(item: Item<'_>, tenants: &Names, plugins: &Names) -> Option<Vec<Route>> {
    let reader = item.map("a route")?;
    let label = reader.maybe("name", name);
    let tenants = reader
        .required("tenant")
        .and_then(|item| taken_in(item, tenants));
    let on = reader.required("on").and_then(|item| {
        let kinds: Vec<Option<String>> = item
            .list()?
            .into_iter()
            .map(|item| item.parsed(kind))
            .collect();
        let kinds: BTreeSet<String> = kinds.into_iter().collect::<Option<_>>()?;
        if kinds.is_empty() {
            item.wrong("a route is for one kind of events at least", None)
        } else {
            Some(kinds)
        }
    });
    let plugin = reader
        .required("plugin")
        .and_then(|item| known(item, plugins, "plugin"));
    let mode = reader.or("mode", Mode::Act, |item| {
        item.one_of(&[("act", Mode::Act), ("observe", Mode::Observe)])
    });
    let trusts = [
        ("protected", Trust::Protected),
        ("member", Trust::Member),
        ("untrusted", Trust::Untrusted),
    ];
    let trust = reader.each("provenance", |item| item.one_of(&trusts));
    reader.finish();
    let (label, tenants, on, plugin, mode, trust) = (label?, tenants?, on?, plugin?, mode?, trust?);
    let trust: BTreeSet<Trust> = trust.into_iter().collect();
    let one = |tenant: Option<TenantName>| {
        let of = tenant.as_ref().map_or("*", TenantName::as_str);
        let name = match &label {
            Some(label) => format!("{of} {plugin} {label}"),
            None => format!("{of} {plugin}"),
        };
        Route {
            name: RouteName::new(name),
            tenant,
            on: on.clone(),
            trust: trust.clone(),
            plugin: plugin.as_str().into(),
            mode,
        }
    };
    Some(tenants.into_iter().map(one).collect())
}

/// The tenants that a route is for; none in the list: all.
fn taken_in(item: Item<'_>, tenants: &Names) -> Option<Vec<Option<TenantName>>> {
    let text = item.text()?;
    if text == "*" {
        return Some(vec![None]);
    }
    if tenants.has(text) || tenants.is_partial() {
        return Some(vec![Some(text.into())]);
    }
    let pattern = item.parsed(|text| Pattern::parse(text).map_err(|error| error.to_string()))?;
    let all = tenants.all();
    let found: Vec<Option<TenantName>> = all
        .iter()
        .filter(|tenant| pattern.matches(tenant).is_some())
        .map(|tenant| Some((*tenant).into()))
        .collect();
    if !found.is_empty() {
        return Some(found);
    }
    let help = nearest(text, &all)
        .unwrap_or_else(|| format!("write a tenant's `match` or `*`; there is {}", listed(&all)));
    item.wrong(
        format!(
            "no tenant has the pattern `{}` or is taken in by it",
            cut(text)
        ),
        help,
    )
}

fn kind(text: &str) -> Result<String, String> {
    if KINDS.contains(&text) {
        return Ok(text.to_owned());
    }
    let lower = text.replace('-', "_");
    let near = KINDS
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, word), word))
        .min();
    let help = match near {
        Some((distance, word)) if distance <= 3 => format!("; did you mean `{word}`?"),
        _ => format!("; there is {}", listed(KINDS)),
    };
    Err(format!("`{}` is no kind of event{help}", cut(text)))
}

/// One event could take both, and the plugin would be asked twice.
fn overlap(one: &Route, other: &Route) -> bool {
    let tenants = one.tenant.is_none() || other.tenant.is_none() || one.tenant == other.tenant;
    let trusts =
        one.trust.is_empty() || other.trust.is_empty() || !one.trust.is_disjoint(&other.trust);
    one.name == other.name
        || (one.plugin == other.plugin && tenants && trusts && !one.on.is_disjoint(&other.on))
}

fn tell_overlap(item: Item<'_>, first: Spot, other: &Route, route: &Route) {
    let place = item.collector.place(first);
    let (message, help) = if other.on.is_disjoint(&route.on)
        || !other.trust.is_disjoint(&route.trust)
    {
        (
            format!("there are two routes `{}`", route.name),
            format!("the other is at {place}: join them, or give this one a `name`"),
        )
    } else {
        (
            format!(
                "an event could take this route and another to `{}`, which would be asked twice",
                route.plugin
            ),
            format!("the other is at {place}: let them differ in `tenant`, `on` or `provenance`"),
        )
    };
    item.collector.open(item.spot(), message, Some(help));
}
