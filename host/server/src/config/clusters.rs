//! `clusters`: how they are reached, and where links lead.

use std::time::Duration;

use penstock_cluster::{BaseUrl, UrlTemplate};
use penstock_model::flow::FlowLimits;
use penstock_model::id::{ClusterName, Digest};

use super::files::Files;
use super::gitlab::named;
use super::read::{Listed, Names, Sections, base_url};
use super::reader::{Item, Reader};
use super::tree::Value;
use super::{ClusterAccess, ClusterConfig, LinksConfig, flow};

/// What `finally` tasks of a cancelled run have, if nothing is written.
const CANCEL_GRACE: Duration = Duration::from_secs(5 * 60);

/// Bytes of a kubeconfig.
const MAX_KUBECONFIG: u64 = 1024 * 1024;

/// What this host's own pages need.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    /// It has an address.
    pub(super) address: bool,
    /// It has a key that signs their links.
    pub(super) key: bool,
}

pub(super) fn read(
    sections: &Sections<'_>,
    files: &Files<'_>,
    pages: Pages,
    limits: &mut FlowLimits,
) -> Listed<ClusterConfig> {
    let mut names = Names::default();
    let read: Vec<Option<ClusterConfig>> = sections
        .list("clusters")
        .iter()
        .map(|item| cluster(*item, files, pages, &mut names, limits))
        .collect();
    Listed {
        read: read.into_iter().collect(),
        names,
    }
}

fn cluster(
    item: Item<'_>,
    files: &Files<'_>,
    pages: Pages,
    names: &mut Names,
    limits: &mut FlowLimits,
) -> Option<ClusterConfig> {
    let reader = item.map("a cluster")?;
    let named = named(&reader, names, "clusters");
    let access = access(&reader, files);
    let links = links(&reader, pages);
    let cancel_grace = reader.or("cancel-grace", CANCEL_GRACE, |item| {
        item.quantity(super::unit::duration)
    });
    let own = flow::own(&reader, limits.cluster);
    reader.finish();
    let name: ClusterName = named?.into();
    if let Some(own) = own? {
        limits.clusters.insert(name.clone(), own);
    }
    Some(ClusterConfig {
        name,
        access: access?,
        links: links?,
        cancel_grace: cancel_grace?,
    })
}

fn access(reader: &Reader<'_>, files: &Files<'_>) -> Option<ClusterAccess> {
    let path = reader.maybe("kubeconfig", |item| {
        let named = item.text()?;
        match files.read(named, MAX_KUBECONFIG) {
            Ok(content) => Some((files.path(named), Digest::of(content.as_ref()))),
            Err(why) => item.wrong(why, None),
        }
    });
    let context = reader.maybe("context", |item| Some((item, item.text()?.to_owned())));
    let inside = reader.or("in-cluster", false, Item::truth);
    let (path, context, inside) = (path?, context?, inside?);
    if let (Some((item, _)), None) = (&context, &path) {
        return item.wrong(
            "`context` chooses within a `kubeconfig`, and there is none",
            None,
        );
    }
    match (path, inside) {
        (Some((path, digest)), false) => Some(ClusterAccess::Kubeconfig {
            path,
            digest,
            context: context.map(|(_, text)| text),
        }),
        (None, true) => Some(ClusterAccess::InCluster),
        _ => {
            let help = "write `kubeconfig: PATH`, or `in-cluster: true` for the cluster that the host runs in".to_owned();
            reader
                .collector
                .open(reader.spot(), "a cluster is reached in one way", Some(help));
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Tekton,
    Openshift,
    Penstock,
}

fn links(reader: &Reader<'_>, pages: Pages) -> Option<LinksConfig> {
    let url = reader.maybe("dashboard-url", |item| {
        let url = base_url(item)?;
        BaseUrl::parse(&url).map_or_else(
            |error| item.wrong(error.to_string(), None),
            |_| Some((item, url)),
        )
    });
    let links = reader.optional("links");
    let url = url?;
    let Some(item) = links else {
        return match url {
            Some((item, _)) => item.wrong(
                "`dashboard-url` is used by no `links`",
                "write `links: tekton-dashboard` or `links: openshift-console`".to_owned(),
            ),
            None => Some(LinksConfig::None),
        };
    };
    if matches!(item.node.value, Value::Map(_)) {
        let custom = item.map("a pair of links")?;
        let run = custom.required("run").and_then(template);
        let task = custom.maybe("task", template);
        custom.finish();
        return Some(LinksConfig::Custom {
            run: run?,
            task: task?,
        });
    }
    let kind = item.one_of(&[
        ("tekton-dashboard", Kind::Tekton),
        ("openshift-console", Kind::Openshift),
        ("penstock", Kind::Penstock),
    ])?;
    let needed = |url: Option<(Item<'_>, String)>| match url {
        Some((_, url)) => Some(url),
        None => item.wrong(
            "these links need `dashboard-url`",
            "write `dashboard-url: https://…` beside it".to_owned(),
        ),
    };
    match kind {
        Kind::Tekton => needed(url).map(LinksConfig::TektonDashboard),
        Kind::Openshift => needed(url).map(LinksConfig::OpenshiftConsole),
        Kind::Penstock if !pages.address => item.wrong(
            "these links need `public-url`",
            "set `public-url` to this host's address".to_owned(),
        ),
        Kind::Penstock if !pages.key => item.wrong(
            "these links need `sealing-key`, which signs them",
            "write `sealing-key: { file: PATH }`, a file made with `openssl rand -hex 32`"
                .to_owned(),
        ),
        Kind::Penstock => Some(LinksConfig::Penstock),
    }
}

fn template(item: Item<'_>) -> Option<String> {
    item.parsed(|text| {
        UrlTemplate::parse(text)
            .map(|_| text.to_owned())
            .map_err(|error| error.to_string())
    })
}
