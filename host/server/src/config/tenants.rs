//! `tenants`: whose projects they are, and where their runs may live.

use std::collections::BTreeMap;

use penstock_model::flow::{FlowLimits, Limit};
use penstock_model::id::{PlaceName, TenantName};
use penstock_model::pattern::Pattern;
use penstock_model::tenant::{PlacePolicy, PlaceTemplate, Tenant, Visibility, When, is_dns_label};

use super::flow;
use super::read::{Listed, Names, Sections, known, remember};
use super::reader::{Item, Reader, cut, listed, nearest};

/// Names of the tenants' own files.
pub(super) type OwnFiles = BTreeMap<TenantName, String>;

pub(super) fn read(
    sections: &Sections<'_>,
    clusters: &Names,
    limits: &mut FlowLimits,
) -> (Listed<Tenant>, OwnFiles) {
    let mut names = Names::default();
    let mut own = OwnFiles::new();
    let read: Vec<Option<Tenant>> = sections
        .list("tenants")
        .iter()
        .map(|item| tenant(*item, clusters, &mut names, limits, &mut own))
        .collect();
    let listed = Listed {
        read: read.into_iter().collect(),
        names,
    };
    (listed, own)
}

fn tenant(
    item: Item<'_>,
    clusters: &Names,
    names: &mut Names,
    limits: &mut FlowLimits,
    own: &mut OwnFiles,
) -> Option<Tenant> {
    let reader = item.map("a tenant")?;
    let pattern = reader.required("match").and_then(|item| {
        let pattern =
            item.parsed(|text| Pattern::parse(text).map_err(|error| error.to_string()))?;
        remember(names, "tenants", pattern.as_str(), item);
        Some(pattern)
    });
    if pattern.is_none() {
        names.lose();
    }
    let places = reader
        .required("places")
        .and_then(Item::entries)
        .and_then(|entries| {
            let read: Vec<_> = entries
                .into_iter()
                .map(|(key, item)| {
                    if !is_dns_label(&key.text) {
                        let message = format!(
                            "`{}` is no name of a place: lower-case letters, digits and `-`",
                            cut(&key.text)
                        );
                        item.collector.open(key.spot, message, None);
                    }
                    let name: PlaceName = key.text.as_str().into();
                    let (template, own) = place(item, clusters, pattern.as_ref(), limits.place)?;
                    if let (Some(own), Some(pattern)) = (own, &pattern) {
                        let tenant = TenantName::new(pattern.as_str());
                        limits.places.insert((tenant, name.clone()), own);
                    }
                    Some((name, template))
                })
                .collect();
            read.into_iter().collect::<Option<BTreeMap<_, _>>>()
        });
    let limit = flow::own(&reader, limits.tenant);
    let file = reader.maybe("delegated", |item| Some(item.text()?.to_owned()));
    reader.finish();
    let pattern = pattern?;
    let name = TenantName::new(pattern.as_str());
    if let Some(limit) = limit? {
        limits.tenants.insert(name.clone(), limit);
    }
    if let Some(file) = file? {
        own.insert(name, file);
    }
    Some(Tenant {
        pattern,
        places: places?,
    })
}

/// A place, and its limits if it has some of its own.
fn place(
    item: Item<'_>,
    clusters: &Names,
    pattern: Option<&Pattern>,
    general: Limit,
) -> Option<(PlaceTemplate, Option<Limit>)> {
    let reader = item.map("a place")?;
    let cluster = reader
        .required("cluster")
        .and_then(|item| known(item, clusters, "cluster"));
    let template = |key: &'static str| {
        reader
            .required(key)
            .and_then(|item| name_template(item, pattern))
    };
    let namespace = template("namespace");
    let creator = template("creator");
    let run_as = template("run-as");
    let words = [
        ("member", When::Member),
        ("protected", When::Protected),
        ("fork", When::Fork),
    ];
    let when = reader.or("when", When::Member, |item| item.one_of(&words));
    let policy = reader.or("policy", PlacePolicy::default(), policy);
    if let (Some(creator), Some(run_as)) = (&creator, &run_as)
        && creator == run_as
    {
        let help =
            "pods of a run must not be able to create runs: give them an account of their own"
                .to_owned();
        reader.collector.open(
            reader.spot(),
            format!("`creator` and `run-as` are both `{creator}`"),
            Some(help),
        );
    }
    let own = flow::own(&reader, general);
    reader.finish();
    let template = PlaceTemplate {
        cluster: cluster?.into(),
        namespace: namespace?,
        creator: creator?,
        run_as: run_as?,
        when: when?,
        policy: policy?,
    };
    Some((template, own?))
}

/// A DNS label in which variables of the tenant's pattern may stand.
fn name_template(item: Item<'_>, pattern: Option<&Pattern>) -> Option<String> {
    let text = item.text()?;
    // What a variable stands for is judged when it is known; here a letter stands for it.
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((variable, tail)) = after.split_once('}') else {
            return item.wrong(
                "a `{` without its `}`",
                "write a variable like `{team}`".to_owned(),
            );
        };
        let all: Vec<&str> = pattern
            .map(|it| it.variables().collect())
            .unwrap_or_default();
        if pattern.is_some() && !all.contains(&variable) {
            let help =
                nearest(variable, &all).unwrap_or_else(|| format!("it has {}", listed(&all)));
            return item.wrong(
                format!(
                    "the tenant's pattern has no variable `{{{}}}`",
                    cut(variable)
                ),
                help,
            );
        }
        filled.push_str(before);
        filled.push('x');
        rest = tail;
    }
    filled.push_str(rest);
    if is_dns_label(&filled) {
        return Some(text.to_owned());
    }
    item.wrong(
        format!("`{}` is no name that Kubernetes accepts", cut(text)),
        "write at most 63 of lower-case letters, digits and `-`, with a letter or digit at both ends".to_owned(),
    )
}

fn policy(item: Item<'_>) -> Option<PlacePolicy> {
    let reader = item.map("`policy`")?;
    let truth = |key: &'static str| reader.or(key, false, Item::truth);
    let texts = |key: &'static str| reader.or(key, Vec::new(), Item::texts);
    let some_texts = |key: &'static str| reader.maybe(key, Item::texts);
    let pod_template = truth("pod-template");
    let secrets = texts("secrets");
    let config_maps = some_texts("config-maps");
    let volume_claims = some_texts("volume-claims");
    let host_paths = reader.each("host-paths", |item| item.parsed(host_path));
    let csi_drivers = texts("csi-drivers");
    let token_audiences = texts("token-audiences");
    let resolvers = texts("resolvers");
    let images = some_texts("images");
    let security_context = truth("security-context");
    let timeout = reader.maybe("timeout", timeout);
    let keep_runs = reader.maybe("keep-runs", Item::count);
    let service_accounts = texts("service-accounts");
    let labels = texts("labels");
    let annotations = texts("annotations");
    let clone = truth("clone");
    let log_excerpts = reader.maybe("log-excerpts", log_excerpts);
    Reader::finish(reader);
    Some(PlacePolicy {
        pod_template: pod_template?,
        secrets: secrets?,
        config_maps: config_maps?,
        volume_claims: volume_claims?,
        host_paths: host_paths?,
        csi_drivers: csi_drivers?,
        token_audiences: token_audiences?,
        resolvers: resolvers?,
        images: images?,
        security_context: security_context?,
        timeout: timeout?,
        keep_runs: keep_runs?,
        service_accounts: service_accounts?,
        labels: labels?,
        annotations: annotations?,
        clone: clone?,
        log_excerpts: log_excerpts?,
    })
}

/// Whose logs may be shown: those of projects that are seen by no more people than this.
pub(super) fn log_excerpts(item: Item<'_>) -> Option<Visibility> {
    item.one_of(&[
        ("private", Visibility::Private),
        ("internal", Visibility::Internal),
        ("public", Visibility::Public),
    ])
}

fn host_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.split('/').any(|part| part == "..") {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no path of a node: it begins with `/` and has no `..`",
            cut(text)
        ))
    }
}

fn timeout(item: Item<'_>) -> Option<u64> {
    let seconds = item.quantity(super::unit::duration)?.as_secs();
    if seconds == 0 {
        return item.wrong("a run takes a second at least", None);
    }
    Some(seconds)
}
