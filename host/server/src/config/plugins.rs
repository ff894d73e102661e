//! `plugins`: where they come from, what they are granted and what their calls may use.
//!
//! The component itself is not opened here: one that is missing or has another digest makes its deliveries wait and is told by `penstock check` and
//! in the log, but never keeps the host from receiving.

use std::collections::BTreeSet;
use std::path::PathBuf;

use penstock_model::effect::EffectKind;
use penstock_model::grant::{ClusterRead, GitlabRead, Grant, Grants};
use penstock_model::id::Digest;
use penstock_model::limits::{Field, Limits};

use super::PluginConfig;
use super::files::Files;
use super::gitlab::named;
use super::read::{Listed, Names, Sections};
use super::reader::{Item, Reader, cut};
use super::unit;

const EFFECTS: &[(&str, EffectKind)] = &[
    ("start-run", EffectKind::StartRun),
    ("cancel-runs", EffectKind::CancelRuns),
    ("comment", EffectKind::Comment),
    ("commit-status", EffectKind::CommitStatus),
    ("request-approval", EffectKind::RequestApproval),
    ("extension", EffectKind::Extension),
];
const GITLAB: &[(&str, GitlabRead)] = &[
    ("files", GitlabRead::Files),
    ("commits", GitlabRead::Commits),
    ("merge-requests", GitlabRead::MergeRequests),
    ("members", GitlabRead::Members),
];
const CLUSTER: &[(&str, ClusterRead)] =
    &[("places", ClusterRead::Places), ("runs", ClusterRead::Runs)];

pub(super) fn read(sections: &Sections<'_>, files: &Files<'_>) -> Listed<PluginConfig> {
    let mut names = Names::default();
    let read: Vec<Option<PluginConfig>> = sections
        .list("plugins")
        .iter()
        .map(|item| plugin(*item, files, &mut names))
        .collect();
    Listed {
        read: read.into_iter().collect(),
        names,
    }
}

fn plugin(item: Item<'_>, files: &Files<'_>, names: &mut Names) -> Option<PluginConfig> {
    let reader = item.map("a plugin")?;
    let named = named(&reader, names, "plugins");
    let file = reader
        .required("source")
        .and_then(|item| source(item, files));
    let digest = reader.required("digest").and_then(|item| {
        item.parsed(|text| Digest::parse(text).map_err(|error| error.to_string()))
    });
    let settings = reader.or("settings", "{}".to_owned(), |item| {
        Some(item.node.to_json().to_string())
    });
    let grants = reader.or("grants", Grants::default(), grants);
    let limits = reader.or("limits", Limits::default(), limits);
    if let Some(item) = reader.optional("signature") {
        let help = "leave it out: the digest pins the component's bytes".to_owned();
        item.collector.hidden(
            item.spot(),
            "signatures are not checked yet in this release",
            Some(help),
        );
    }
    reader.finish();
    Some(PluginConfig {
        name: named?.into(),
        file: file?,
        digest: digest?,
        settings: settings?,
        grants: grants?,
        limits: limits?,
    })
}

fn source(item: Item<'_>, files: &Files<'_>) -> Option<PathBuf> {
    let text = item.text()?;
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => {
            Some(files.path(path.strip_prefix("//").unwrap_or(path)))
        }
        // Such an address may hold a password.
        Some(("oci" | "https", _)) => {
            let help = "fetch the component and write `file:PATH`; its digest pins it all the same"
                .to_owned();
            item.collector.hidden(
                item.spot(),
                "plugins from a registry or a server are not built yet in this release",
                Some(help),
            );
            None
        }
        _ => {
            item.collector.hidden(
                item.spot(),
                "this is no source of a plugin",
                Some("write `file:PATH`".to_owned()),
            );
            None
        }
    }
}

fn grants(item: Item<'_>) -> Option<Grants> {
    let reader = item.map("`grants`")?;
    let base = grant(&reader);
    let from_fork = reader.maybe("from-fork", |item| {
        let reader = item.map("`from-fork`")?;
        let grant = grant(&reader);
        reader.finish();
        Some((item, grant?))
    });
    reader.finish();
    let (base, from_fork) = (base?, from_fork?);
    if let Some((item, from_fork)) = &from_fork
        && base.meet(from_fork) != *from_fork
    {
        let help = "write it into `grants` too, or leave it out of `from-fork`".to_owned();
        item.collector.open(
            item.spot(),
            "forks are granted what `grants` itself does not grant",
            Some(help),
        );
        return None;
    }
    Some(Grants {
        base,
        from_fork: from_fork.map(|(_, grant)| grant).unwrap_or_default(),
    })
}

fn grant(reader: &Reader<'_>) -> Option<Grant> {
    let effects = words(reader, "effects", EFFECTS);
    let gitlab_read = words(reader, "gitlab-read", GITLAB);
    let cluster_read = words(reader, "cluster-read", CLUSTER);
    let elsewhere = reader.or("elsewhere", Vec::new(), Item::texts);
    let fetch = reader.each("fetch", |item| item.parsed(host));
    let truth = |key: &'static str| reader.or(key, false, Item::truth);
    let (delivery, history, state) = (truth("delivery"), truth("history"), truth("state"));
    Some(Grant {
        effects: effects?,
        gitlab_read: gitlab_read?,
        elsewhere: elsewhere?.into_iter().collect(),
        cluster_read: cluster_read?,
        delivery: delivery?,
        history: history?,
        state: state?,
        fetch: fetch?.into_iter().collect(),
    })
}

fn words<T: Copy + Ord>(
    reader: &Reader<'_>,
    key: &'static str,
    words: &[(&'static str, T)],
) -> Option<BTreeSet<T>> {
    reader
        .each(key, |item| item.one_of(words))
        .map(|list| list.into_iter().collect())
}

/// A host, and a port if it isn't 443: no scheme and no path.
fn host(text: &str) -> Result<String, String> {
    let fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | ':');
    if text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no host such as `hub.example.com`",
            cut(text)
        ))
    }
}

fn limits(item: Item<'_>) -> Option<Limits> {
    let reader = item.map("`limits`")?;
    let mut limits = Limits::default();
    let mut whole = true;
    for setting in Limits::SETTINGS {
        whole &= match setting.field {
            Field::Time(of) => {
                let usual = *of(&mut limits);
                let read = reader.or(setting.name, usual, |it| it.quantity(unit::duration));
                read.map(|it| *of(&mut limits) = it).is_some()
            }
            Field::Size(of) => {
                let usual = *of(&mut limits);
                let read = reader.or(setting.name, usual, |it| it.quantity(unit::bytes));
                read.map(|it| *of(&mut limits) = it).is_some()
            }
            Field::Count(of) => {
                let usual = *of(&mut limits);
                let read = reader.or(setting.name, usual, Item::count);
                read.map(|it| *of(&mut limits) = it).is_some()
            }
        };
    }
    reader.finish();
    whole.then_some(limits)
}
