//! A small Kubernetes API on loopback, with a controller that plays through Tekton's PipelineRuns.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use penstock_doubles::kubernetes::Kubernetes;
//!
//! let kubernetes = Kubernetes::start().await;
//! kubernetes.namespace("ci").account("ci", "penstock").account("ci", "run");
//! kubernetes.grant("ci", "penstock", &["create", "get", "patch"], "pipelineruns");
//! let kubeconfig = kubernetes.kubeconfig(); // for kube-rs, or to be written to a file
//! assert!(kubeconfig.contains(&kubernetes.url()));
//! # });
//! ```
//!
//! A run succeeds after a moment ([`Kubernetes::pace`]). The annotation [`FAIL`] or a parameter `fail` makes a task fail,
//! the annotation [`HOLD`] keeps the run running until it is taken away or the run is cancelled. Service accounts may do
//! what they were granted, and nothing else; whoever comes without a token is the administrator.
//!
//! **What it does not do.** No admission (a broken PipelineRun is stored as it is, no defaults are set), no schema, no
//! pages of lists, no server-side apply beyond create or merge, strategic merge is plain merge, no namespaces that take
//! their time to go, no RBAC objects, no TLS, no TokenReview. Tasks all begin and end at once and give no results. Use
//! `penstock-control-plane` where any of that matters.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch as signal, task::JoinHandle};

use crate::wire::{self, Server};

mod api;
mod controller;
mod kinds;
mod selector;
mod store;
mod watch;

use api::Minted;
use kinds::Kind;
use store::Store;

/// The annotation of a PipelineRun that names the task to fail.
pub const FAIL: &str = "doubles.penstock.dev/fail";
/// The annotation of a PipelineRun that, if `true`, keeps it running.
pub const HOLD: &str = "doubles.penstock.dev/hold";
/// The annotation of a pod that holds its log.
const LOG: &str = "doubles.penstock.dev/log";

/// A call that the stand-in received.
#[derive(Clone, Debug)]
pub struct Called {
    /// GET, POST, …
    pub method: String,
    /// As sent.
    pub path: String,
    /// As sent.
    pub query: String,
    /// `admin`, `system:serviceaccount:NAMESPACE:NAME`, or nothing for a token that is unknown.
    pub account: String,
    /// The body, `Null` if it is not JSON.
    pub body: Value,
    /// The answer's status.
    pub status: u16,
}

pub(crate) struct Shared {
    store: Mutex<Store>,
    tokens: Mutex<HashMap<String, Minted>>,
    /// (account, verb, resource).
    grants: Mutex<BTreeSet<(String, String, String)>>,
    denied: Mutex<BTreeSet<(String, String)>>,
    journal: Mutex<Vec<Called>>,
    pace: Mutex<Duration>,
    changed: signal::Sender<u64>,
    cuts: signal::Sender<u64>,
}

impl Shared {
    /// The table behind every call and every SelfSubjectAccessReview: the administrator may do what was not denied, a
    /// service account what it was granted in its own namespace.
    fn allows(&self, who: &str, namespace: &str, verb: &str, resource: &str) -> bool {
        if who == "admin" {
            let denied = self.denied.lock().expect("the denials");
            return !denied.contains(&(verb.to_owned(), resource.to_owned()));
        }
        let at_home = who
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'));
        let at_home = at_home.is_some_and(|(home, _)| home == namespace);
        let grants = self.grants.lock().expect("the grants");
        at_home && grants.contains(&(who.to_owned(), verb.to_owned(), resource.to_owned()))
    }
}

/// A running stand-in; it stops when it is dropped.
pub struct Kubernetes {
    shared: Arc<Shared>,
    server: Server,
    controller: JoinHandle<()>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.controller.abort();
    }
}

impl Kubernetes {
    /// Starts on a free port, with the namespace `default`.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start() -> Self {
        Self::start_on(0).await.expect("a free port on loopback")
    }

    /// Starts on this port.
    ///
    /// # Errors
    /// If the port can't be listened on.
    pub async fn start_on(port: u16) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            tokens: Mutex::default(),
            grants: Mutex::default(),
            denied: Mutex::default(),
            journal: Mutex::default(),
            pace: Mutex::new(Duration::from_millis(50)),
            changed: signal::Sender::new(0),
            cuts: signal::Sender::new(0),
        });
        let answering = Arc::clone(&shared);
        let server = wire::serve(port, move |received| {
            api::answer(Arc::clone(&answering), received)
        })
        .await?;
        let controller = tokio::spawn(controller::drive(Arc::clone(&shared)));
        let kubernetes = Self {
            shared,
            server,
            controller,
        };
        kubernetes.namespace("default");
        Ok(kubernetes)
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// A kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        // JSON is YAML, and needs no library to write.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [{ "name": "double", "cluster": { "server": self.url() } }],
            "users": [{ "name": "admin", "user": {} }],
            "contexts": [{ "name": "double", "context": { "cluster": "double", "user": "admin", "namespace": "default" } }],
        });
        format!("{config:#}\n")
    }

    /// Makes a namespace with its account `default`; one that is there stays.
    pub fn namespace(&self, name: &str) -> &Self {
        self.seed(
            "namespaces",
            "",
            json!({ "metadata": { "name": name }, "status": { "phase": "Active" } }),
        );
        self.account(name, "default")
    }

    /// Makes a service account; one that is there stays.
    pub fn account(&self, namespace: &str, name: &str) -> &Self {
        self.seed(
            "serviceaccounts",
            namespace,
            json!({ "metadata": { "name": name } }),
        );
        self
    }

    /// Grants a service account verbs on a resource (`pipelineruns`, `serviceaccounts/token`) of its namespace.
    pub fn grant(&self, namespace: &str, account: &str, verbs: &[&str], resource: &str) -> &Self {
        let mut grants = self.shared.grants.lock().expect("the grants");
        for verb in verbs {
            let account = format!("system:serviceaccount:{namespace}:{account}");
            grants.insert((account, (*verb).to_owned(), resource.to_owned()));
        }
        drop(grants);
        self
    }

    /// Takes all grants from a service account.
    pub fn revoke(&self, namespace: &str, account: &str) -> &Self {
        let account = format!("system:serviceaccount:{namespace}:{account}");
        self.shared
            .grants
            .lock()
            .expect("the grants")
            .retain(|(granted, _, _)| *granted != account);
        self
    }

    /// Denies the administrator a verb on a resource.
    pub fn deny(&self, verb: &str, resource: &str) -> &Self {
        self.shared
            .denied
            .lock()
            .expect("the denials")
            .insert((verb.to_owned(), resource.to_owned()));
        self
    }

    /// How long a run runs.
    pub fn pace(&self, pace: Duration) -> &Self {
        *self.shared.pace.lock().expect("the pace") = pace;
        self
    }

    /// Forgets the log of changes: a watch from an older version is answered 410.
    pub fn compact(&self) {
        let mut store = self.shared.store.lock().expect("the store");
        store.compacted = store.version;
        store.log.clear();
    }

    /// Ends every watch that is open now.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Every call so far, in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Called> {
        self.shared.journal.lock().expect("the journal").clone()
    }

    /// The account that a token of a TokenRequest belongs to.
    #[must_use]
    pub fn account_of(&self, token: &str) -> Option<String> {
        self.shared
            .tokens
            .lock()
            .expect("the tokens")
            .get(token)
            .map(|minted| minted.account.clone())
    }

    /// An object as it is stored, by plural, namespace and name.
    #[must_use]
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let store = self.shared.store.lock().expect("the store");
        store
            .objects
            .get(&(Kind::named(plural), namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects of a kind in a namespace.
    #[must_use]
    pub fn objects(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let store = self.shared.store.lock().expect("the store");
        let kind = Kind::named(plural);
        let here = store
            .objects
            .iter()
            .filter(|(key, _)| key.0 == kind && key.1 == namespace);
        here.map(|(_, object)| object.clone()).collect()
    }

    fn seed(&self, plural: &str, namespace: &str, object: Value) {
        let mut store = self.shared.store.lock().expect("the store");
        // What is there stays.
        let _ = store.create(Kind::named(plural), namespace, object, false);
        let version = store.version;
        drop(store);
        self.shared.changed.send_replace(version);
    }
}
