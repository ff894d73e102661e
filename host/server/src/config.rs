//! The configuration: what an operator wrote, read whole and checked whole.
//!
//! A [`Config`] is valid: every name in it leads somewhere, every pattern and unit was read, every secret was found. It is never changed; a
//! reload makes a new one.

mod clusters;
mod delegated;
mod files;
mod flow;
mod gitlab;
mod plugins;
mod problem;
mod read;
mod reader;
mod retention;
mod routes;
mod tenants;
mod tree;
pub(crate) mod unit;
pub mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_model::flow::FlowLimits;
use penstock_model::grant::Grants;
use penstock_model::id::{
    ClusterName, Digest, HookName, InstanceName, PluginName, ProjectId, ProjectPath, RouteName,
    TenantName,
};
use penstock_model::limits::Limits;
use penstock_model::scope::Trust;
use penstock_model::secret::Secret;
use penstock_model::tenant::Tenant;

pub use self::delegated::{AllDelegated, Delegated};
pub use self::problem::{Problem, Problems};
pub use self::retention::RetentionConfig;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// The address under which people reach this host, without a slash at the end; none: links are left out.
    pub public_url: Option<String>,
    /// Bearer token of the REST API; none: the API is not served.
    pub api_token: Option<Secret>,
    /// Keys that seal what is kept and sign links to pages: the first seals, each of them opens; none: neither is done.
    pub sealing_keys: Vec<Secret>,
    /// Where the deliveries are kept.
    pub store: StoreConfig,
    /// Folder for what the host keeps beside the store, such as compiled plugins.
    pub data: PathBuf,
    /// Bytes that bodies of requests may take together.
    pub body_budget: u64,
    /// How much may go on at a time.
    pub flow: FlowLimits,
    /// How long things are kept, and how much.
    pub retention: RetentionConfig,
    /// When what GitLab did not tell is made up for.
    pub reconcile: ReconcileConfig,
    /// GitLab instances.
    pub gitlab: Vec<GitlabConfig>,
    /// Clusters.
    pub clusters: Vec<ClusterConfig>,
    /// Tenants, narrowed by their own files.
    pub tenants: Vec<Tenant>,
    /// What their own files came to, beside their places.
    pub delegated: AllDelegated,
    /// Plugins.
    pub plugins: Vec<PluginConfig>,
    /// Routes.
    pub routes: Vec<Route>,
}

impl Config {
    /// Reads a YAML file, or all `*.yaml` of a folder, and everything that it refers to. Relative paths start at the configuration's folder.
    ///
    /// # Errors
    /// All that is wrong, at once. No secret is in it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        read::load(path, &|name| std::env::var(name).ok()).0
    }
}

/// Where the deliveries are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the URL may hold a password.
    Postgres(Secret),
}

/// When what GitLab did not tell is made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconcileConfig {
    /// From one round to the next.
    pub every: Duration,
    /// How long a difference must stand before it is believed: its webhook may be on its way.
    pub settle: Duration,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10 * 60),
            settle: Duration::from_secs(60),
        }
    }
}

/// A GitLab instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitlabConfig {
    /// Its name here.
    pub name: InstanceName,
    /// Base URL, without a slash at the end.
    pub url: String,
    /// Token with the scope `api`.
    pub token: Secret,
    /// PEM bundle of a private certificate authority.
    pub certificate: Option<Vec<u8>>,
    /// Calls a minute that the token may make.
    pub calls_per_minute: u32,
    /// JSON pointers of body fields that are blanked before storage, beside CI variables.
    pub redact: Vec<String>,
    /// Its hooks.
    pub hooks: Vec<HookConfig>,
    /// Who may ask for runs by `/incoming`.
    pub incoming: Vec<IncomingConfig>,
}

/// One who may ask for runs of a project's branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingConfig {
    /// Its name: `repository` of a request.
    pub name: String,
    /// The project's id.
    pub project: ProjectId,
    /// The project's path.
    pub path: ProjectPath,
    /// Any of which is good.
    pub secrets: Vec<Secret>,
    /// Branches, by name; a `*` at the end stands for any rest.
    pub targets: Vec<String>,
    /// Names of parameters that may be given.
    pub parameters: Vec<String>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// Its name: the last part of its address.
    pub name: HookName,
    /// Which projects it speaks for.
    pub scope: HookScope,
    /// Secret tokens, any of which is good.
    pub tokens: Vec<Secret>,
    /// Signing tokens (`whsec_…`), any of which is good.
    pub signing_tokens: Vec<Secret>,
}

/// Which projects a hook speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookScope {
    /// A group and all below it, by its full path.
    Group(String),
    /// One project, by its full path.
    Project(String),
    /// One project, by its id.
    ProjectId(ProjectId),
    /// All of them.
    Instance,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name here.
    pub name: ClusterName,
    /// How it is reached.
    pub access: ClusterAccess,
    /// Where a click on a run's status leads.
    pub links: LinksConfig,
    /// What a run that is cancelled has for its `finally` tasks; then it is stopped at once.
    pub cancel_grace: Duration,
}

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAccess {
    /// By a kubeconfig.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Digest of what is in it: another token in it is another configuration.
        digest: Digest,
        /// A context in it; none: its current one.
        context: Option<String>,
    },
    /// By the service account of the pod that the host runs in.
    InCluster,
}

/// Where a click on a run's status leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinksConfig {
    /// Nowhere.
    None,
    /// Tekton's dashboard at this base URL.
    TektonDashboard(String),
    /// OpenShift's console at this base URL.
    OpenshiftConsole(String),
    /// This host's own page; needs `public-url`.
    Penstock,
    /// Templates with `{namespace}`, `{name}` and so on.
    Custom {
        /// Of a run.
        run: String,
        /// Of a task.
        task: Option<String>,
    },
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// Its name here.
    pub name: PluginName,
    /// The component.
    pub file: PathBuf,
    /// Digest of the component's bytes.
    pub digest: Digest,
    /// Its settings as JSON.
    pub settings: String,
    /// What it may ask for.
    pub grants: Grants,
    /// What its calls may use.
    pub limits: Limits,
}

/// What leads an event to a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name: tenant and plugin.
    pub name: RouteName,
    /// The tenant; none: all of them.
    pub tenant: Option<TenantName>,
    /// Kinds of events, by GitLab's words.
    pub on: BTreeSet<String>,
    /// Only events of this trust; empty: of any.
    pub trust: BTreeSet<Trust>,
    /// The plugin.
    pub plugin: PluginName,
    /// Whether it acts.
    pub mode: Mode,
}

/// Whether a route's decisions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decides and does.
    Act,
    /// Decides and records, and does nothing.
    Observe,
}

#[cfg(test)]
mod tests;
