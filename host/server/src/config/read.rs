//! Reads the files, joins their sections, and makes a configuration of them, or a list of all that is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use penstock_model::secret::Secret;

use super::files::{Environment, Files, Seen};
use super::problem::{Collector, Problems, Source};
use super::reader::{Item, nearest};
use super::tree::{self, Node, Spot, Value};
use super::{
    AllDelegated, Config, ReconcileConfig, StoreConfig, clusters, delegated, flow, gitlab, plugins,
    retention, routes, tenants,
};

const LISTS: &[&str] = &["gitlab", "clusters", "tenants", "plugins", "routes"];
const SINGLES: &[&str] = &[
    "listen",
    "public-url",
    "api-token",
    "sealing-key",
    "store",
    "data",
    "bodies",
    "reconcile",
    "flow",
    "retention",
];

const LISTEN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const BODIES: u64 = 48 * 1024 * 1024;

/// Reads a file, or all `*.yaml` and `*.yml` of a folder. Also says which files were read, whatever came of it.
pub(super) fn load(path: &Path, environment: Environment<'_>) -> (Result<Config, Problems>, Seen) {
    let (base, names) = match names(path) {
        Ok(found) => found,
        Err(message) => {
            let mut collector = Collector::default();
            collector.sources.push(Source {
                path: path.to_owned(),
                text: String::new(),
            });
            let help = "name the configuration with `--config`, a YAML file or a folder of them"
                .to_owned();
            collector.open(Spot::default(), message, Some(help));
            return (Err(collector.problems(&[])), Seen::new());
        }
    };
    let files = Files::new(base.clone(), environment);
    let mut collector = Collector::default();
    let mut roots = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let read = files.read(name, tree::MAX_FILE);
        let text = read
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("`{name}` is no text")));
        let (text, whole) = match text {
            Ok(text) => (text, None),
            Err(why) => (String::new(), Some(why)),
        };
        let path = if base.as_os_str().is_empty() {
            PathBuf::from(name)
        } else {
            base.join(name)
        };
        collector.sources.push(Source { path, text });
        let text = collector
            .sources
            .last()
            .map(|source| source.text.as_str())
            .unwrap_or_default();
        let root = tree::read(text, n);
        if let Some(why) = whole {
            collector.open(
                Spot {
                    file: n,
                    ..Spot::default()
                },
                why,
                None,
            );
        }
        roots.push(match root {
            Ok(root) => Some(root),
            Err(error) => {
                collector.hidden(
                    error.spot,
                    format!("this is no YAML: {}", error.message),
                    None,
                );
                None
            }
        });
    }
    let config = assemble(&sections(&collector, &roots), &files);
    let outcome = match config {
        Some(config) if collector.is_empty() => Ok(config),
        _ => Err(collector.problems(&roots)),
    };
    (outcome, files.into_seen())
}

/// The configuration's folder, and the names of its files in it.
fn names(path: &Path) -> Result<(PathBuf, Vec<String>), String> {
    let why = |error: std::io::Error| format!("`{}` can't be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(why)?.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| format!("`{}` is no file name that can be read", path.display()))?;
        // The folder of `penstock.yaml` is `.`, whatever else the path leaves out.
        let folder = path
            .parent()
            .filter(|it| !it.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        return Ok((folder.to_owned(), vec![name.to_owned()]));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(why)? {
        let name = entry.map_err(why)?.file_name();
        if let Some(name) = name.to_str()
            && !name.starts_with('.')
            && (name.ends_with(".yaml") || name.ends_with(".yml"))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(format!("`{}` holds no `*.yaml`", path.display()));
    }
    Ok((path.to_owned(), names))
}

/// The sections of all files together.
pub(super) struct Sections<'t> {
    singles: BTreeMap<&'static str, Item<'t>>,
    lists: BTreeMap<&'static str, Vec<Item<'t>>>,
}

impl<'t> Sections<'t> {
    /// All items of a list, of all files.
    pub(super) fn list(&self, name: &str) -> &[Item<'t>] {
        self.lists.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn single<T>(
        &self,
        name: &str,
        read: impl FnOnce(Item<'t>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.singles.get(name) {
            Some(item) => read(*item).map(Some),
            None => Some(None),
        }
    }
}

fn sections<'t>(collector: &'t Collector, roots: &'t [Option<Node>]) -> Sections<'t> {
    let mut sections = Sections {
        singles: BTreeMap::new(),
        lists: BTreeMap::new(),
    };
    LISTS
        .iter()
        .chain(SINGLES)
        .for_each(|name| collector.knows(name));
    for root in roots.iter().flatten() {
        let root = Item {
            collector,
            node: root,
        };
        let Some(entries) = root.entries() else {
            continue;
        };
        for (key, item) in entries {
            let named =
                |names: &'static [&'static str]| names.iter().find(|name| **name == key.text);
            if let Some(name) = named(LISTS) {
                if !matches!(item.node.value, Value::Null) {
                    sections
                        .lists
                        .entry(name)
                        .or_default()
                        .extend(item.list().unwrap_or_default());
                }
            } else if let Some(name) = named(SINGLES) {
                match sections.singles.get(name) {
                    // Twice in one file was told already.
                    Some(first) if first.spot().file == key.spot.file => {}
                    Some(first) => {
                        let place = collector.place(first.spot());
                        collector.open(
                            key.spot,
                            format!("`{name}` is set twice"),
                            Some(format!("it is set at {place} already")),
                        );
                    }
                    None if matches!(item.node.value, Value::Null) => {}
                    None => {
                        sections.singles.insert(name, item);
                    }
                }
            } else {
                let all: Vec<&str> = LISTS.iter().chain(SINGLES).copied().collect();
                let help = nearest(&key.text, &all)
                    .unwrap_or_else(|| format!("it has {}", super::reader::listed(&all)));
                let message = format!(
                    "the configuration has no key `{}`",
                    super::reader::cut(&key.text)
                );
                collector.open(key.spot, message, Some(help));
            }
        }
    }
    sections
}

/// Everything is read before anything that failed ends it.
fn assemble(sections: &Sections<'_>, files: &Files<'_>) -> Option<Config> {
    let listen = sections.single("listen", |item| {
        item.of_type("an address and a port such as `127.0.0.1:8080`")
    });
    let public_url = sections.single("public-url", base_url);
    let api_token = sections.single("api-token", |item| files.secret(item));
    let sealing_keys = sections.single("sealing-key", |item| sealing_keys(item, files));
    let data = sections.single("data", |item| Some(files.path(item.text()?)));
    let data = data.flatten().unwrap_or_else(|| files.path("data"));
    let store = sections.single("store", |item| store(item, files));
    let bodies = sections.single("bodies", |item| item.quantity(super::unit::bytes));
    let retention = sections.single("retention", retention::read);
    let reconcile = sections.single("reconcile", reconcile);
    let gitlab = gitlab::read(sections, files);
    let flow = flow::read(sections);
    let mut limits = flow.clone().unwrap_or_default();
    let has = |name: &str| sections.singles.contains_key(name);
    let pages = clusters::Pages {
        address: has("public-url"),
        key: has("sealing-key"),
    };
    let clusters = clusters::read(sections, files, pages, &mut limits);
    let (mut tenants, own_files) = tenants::read(sections, &clusters.names, &mut limits);
    let plugins = plugins::read(sections, files);
    let routes = routes::read(sections, &tenants.names, &plugins.names);
    let mut delegated = AllDelegated::new();
    for tenant in tenants.read.iter_mut().flatten() {
        let name = tenant.name();
        if let Some(file) = own_files.get(&name) {
            let came = delegated::narrow(file, files, &plugins.names.all(), tenant);
            delegated.insert(name, came);
        }
    }
    Some(Config {
        listen: listen?.unwrap_or(LISTEN),
        public_url: public_url?,
        api_token: api_token?,
        sealing_keys: sealing_keys?.unwrap_or_default(),
        store: store?.unwrap_or_else(|| StoreConfig::Sqlite(data.join("penstock.db"))),
        data,
        body_budget: bodies?.unwrap_or(BODIES),
        flow: flow.map(|_| limits)?,
        retention: retention?.unwrap_or_default(),
        reconcile: reconcile?.unwrap_or_default(),
        gitlab: gitlab?,
        clusters: clusters.read?,
        tenants: tenants.read?,
        delegated,
        plugins: plugins.read?,
        routes: routes?,
    })
}

/// One key, or a list of them while one is rotated: the first seals, each of them opens.
fn sealing_keys(item: Item<'_>, files: &Files<'_>) -> Option<Vec<Secret>> {
    let keys = files.secrets(item)?;
    if keys
        .iter()
        .any(|key| key.reveal().len() < crate::seal::SHORTEST)
    {
        item.collector.hidden(
            item.spot(),
            format!(
                "a sealing key has at least {} characters",
                crate::seal::SHORTEST
            ),
            Some("make one with `openssl rand -hex 32`".to_owned()),
        );
        return None;
    }
    Some(keys)
}

fn reconcile(item: Item<'_>) -> Option<ReconcileConfig> {
    let reader = item.map("the times of reconciling")?;
    let usual = ReconcileConfig::default();
    let time = |item: Item<'_>| item.quantity(super::unit::duration);
    let every = reader.or("every", usual.every, time);
    let settle = reader.or("settle", usual.settle, time);
    reader.finish();
    Some(ReconcileConfig {
        every: every?,
        settle: settle?,
    })
}

fn store(item: Item<'_>, files: &Files<'_>) -> Option<StoreConfig> {
    let reader = item.map("a store")?;
    let sqlite = reader.maybe("sqlite", |item| Some(files.path(item.text()?)));
    let postgres = reader.maybe("postgres", |item| files.secret(item));
    let spot = reader.spot();
    reader.finish();
    match (sqlite?, postgres?) {
        (Some(path), None) => Some(StoreConfig::Sqlite(path)),
        (None, Some(url)) => Some(StoreConfig::Postgres(url)),
        _ => {
            let help = "write `{ sqlite: PATH }` or `{ postgres: { file: PATH } }`, whose file holds a URL".to_owned();
            item.collector
                .open(spot, "a store is either `sqlite` or `postgres`", Some(help));
            None
        }
    }
}

/// An address that begins with `http://` or `https://`, without a slash at the end.
pub(super) fn base_url(item: Item<'_>) -> Option<String> {
    let text = item.text()?;
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        // The part before an `@` may be a password.
        Some(host) if host.contains('@') => {
            item.collector.hidden(
                item.spot(),
                "an address holds no user name and no password",
                None,
            );
            None
        }
        Some(host) if !host.is_empty() && !text.contains(['?', '#', ' ']) => {
            Some(text.trim_end_matches('/').to_owned())
        }
        _ => {
            item.collector.hidden(
                item.spot(),
                "this is no address",
                Some("write it like `https://gitlab.example.com`".to_owned()),
            );
            None
        }
    }
}

/// A name of something in the configuration: it stands in addresses, labels and metrics.
pub(super) fn name(item: Item<'_>) -> Option<String> {
    item.parsed(|text| {
        if penstock_model::tenant::is_dns_label(text) {
            Ok(text.to_owned())
        } else {
            Err(format!(
                "`{}` is no name: at most 63 of lower-case letters, digits and `-`, with a letter or digit at both ends",
                super::reader::cut(text)
            ))
        }
    })
}

/// Names and where they were given.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: BTreeMap<String, Spot>,
    /// One could not be read: what is not among them may be it.
    partial: bool,
}

impl Names {
    /// The name was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<&str> {
        self.given.keys().map(String::as_str).collect()
    }

    /// One could not be read: what is not found may be it, and is not told of.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Notes that one could not be read.
    pub(super) fn lose(&mut self) {
        self.partial = true;
    }
}

/// A list that was read, and the names in it: even if something else is wrong with one, its name is known.
pub(super) struct Listed<T> {
    pub(super) read: Option<Vec<T>>,
    pub(super) names: Names,
}

/// Remembers a name; the second of the same name is told with both places.
pub(super) fn remember(names: &mut Names, what: &str, name: &str, item: Item<'_>) {
    match names.given.get(name) {
        Some(first) => {
            let place = item.collector.place(*first);
            item.wrong::<()>(
                format!("there are two {what} `{}`", super::reader::cut(name)),
                format!("the other is at {place}"),
            );
        }
        None => {
            names.given.insert(name.to_owned(), item.spot());
        }
    }
}

/// Something that was named and must be there.
pub(super) fn known(item: Item<'_>, names: &Names, what: &str) -> Option<String> {
    let text = item.text()?;
    if names.has(text) || names.is_partial() {
        return Some(text.to_owned());
    }
    let all = names.all();
    let help =
        nearest(text, &all).unwrap_or_else(|| format!("there is {}", super::reader::listed(&all)));
    item.wrong(
        format!("there is no {what} `{}`", super::reader::cut(text)),
        help,
    )
}
