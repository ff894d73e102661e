//! What one valid configuration comes to: keys decoded, clients made, plugins loaded.
//!
//! A [`Live`] is never changed but for plugins that become ready. A reload makes a new one and takes over from the old one what was not changed, so that budgets,
//! caches and connections are kept.

mod finder;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use penstock_cluster::{Cluster, ClusterSettings, LinkTo};
use penstock_gitlab::{Client, ClientSettings, HookScope, Keys, Redaction};
use penstock_model::admit::ProjectOf;
use penstock_model::id::{
    ClusterName, HookName, InstanceName, PlaceName, PluginName, RouteName, TenantName, Timestamp,
    UserId,
};
use penstock_model::tenant::{Belonging, NoTenant, Place, Tenant, belonging};
use penstock_store::{Store, StoreError};
use tokio::sync::OnceCell;

use self::finder::Finder;
use crate::config::{self, Config, Delegated, GitlabConfig, LinksConfig, PluginConfig, Route};
use crate::metrics::{Budget, Metrics};
use crate::plugins::PluginSlot;
use crate::seal::SealingKeys;
use crate::trace;

/// Everything that the loops need of the configuration.
pub struct Live {
    /// What the operator wrote.
    pub config: Arc<Config>,
    /// The host's own keys.
    pub keys: SealingKeys,
    instances: BTreeMap<InstanceName, Arc<Instance>>,
    clusters: BTreeMap<ClusterName, Cluster>,
    plugins: BTreeMap<PluginName, Arc<PluginSlot>>,
    finder: Finder,
}

/// A GitLab instance.
pub struct Instance {
    config: GitlabConfig,
    /// The client, with the token's budget and the caches.
    pub client: Client,
    /// What is blanked before storage.
    pub redaction: Redaction,
    hooks: BTreeMap<HookName, Hook>,
    own: OnceCell<Arc<penstock_gitlab::OwnUsers>>,
}

/// A hook.
pub struct Hook {
    /// What verifies a body.
    pub keys: Keys,
    /// Which projects it speaks for.
    pub scope: HookScope,
}

impl Live {
    /// Makes everything that the configuration names. Nothing is called: GitLab or a cluster that is away must not keep the host from receiving.
    ///
    /// # Errors
    /// A signing token, a certificate or a kubeconfig can't be read.
    pub async fn new(
        config: Arc<Config>,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self> {
        let mut instances = BTreeMap::new();
        for gitlab in &config.gitlab {
            let kept = before
                .and_then(|live| live.instances.get(&gitlab.name))
                .filter(|instance| instance.config == *gitlab);
            let instance = match kept {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(Instance::new(gitlab, metrics)?),
            };
            instances.insert(gitlab.name.clone(), instance);
        }
        let mut clusters = BTreeMap::new();
        for cluster in &config.clusters {
            let same = |live: &&Self| {
                live.config.clusters.contains(cluster)
                    && live.config.public_url == config.public_url
            };
            let kept = before
                .filter(same)
                .and_then(|live| live.clusters.get(&cluster.name));
            let made = match kept {
                Some(kept) => kept.clone(),
                None => connect(cluster, config.public_url.as_deref(), metrics).await?,
            };
            clusters.insert(cluster.name.clone(), made);
        }
        let slot = |plugin: &PluginConfig| {
            let kept = before
                .and_then(|live| live.plugins.get(&plugin.name))
                .filter(|slot| slot.config() == plugin);
            kept.map_or_else(|| Arc::new(PluginSlot::new(plugin.clone())), Arc::clone)
        };
        let plugins = config
            .plugins
            .iter()
            .map(|plugin| (plugin.name.clone(), slot(plugin)))
            .collect();
        for (tenant, came) in &config.delegated {
            if let Delegated::Wrong(why) = came {
                tracing::error!(%tenant, why, "a tenant's own file can't be used; its deliveries wait");
            }
        }
        Ok(Self {
            keys: SealingKeys::new(&config.sealing_keys),
            finder: Finder::new(&config.tenants, &config.routes),
            config,
            instances,
            clusters,
            plugins,
        })
    }

    /// A GitLab instance by its name.
    pub fn instance(&self, name: &InstanceName) -> Option<&Arc<Instance>> {
        self.instances.get(name)
    }

    /// Who may ask for runs by `/incoming`, by the name that a request gives.
    pub fn incoming(&self, name: &str) -> Option<(&InstanceName, &config::IncomingConfig)> {
        self.instances.iter().find_map(|(instance, it)| {
            let entry = it.config.incoming.iter().find(|entry| entry.name == name)?;
            Some((instance, entry))
        })
    }

    /// A cluster by its name.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// How the budgets of calls of the GitLab tokens stand.
    pub fn budgets(&self) -> Vec<Budget> {
        self.instances
            .iter()
            .map(|(name, instance)| Budget {
                instance: name.to_string(),
                calls: instance.config.calls_per_minute,
                waiting: instance.client.waiting(),
            })
            .collect()
    }

    /// What a cancelled run of this cluster has for its `finally` tasks.
    pub fn cancel_grace(&self, name: &ClusterName) -> Duration {
        let found = self
            .config
            .clusters
            .iter()
            .find(|cluster| cluster.name == *name);
        found.map_or(Duration::ZERO, |cluster| cluster.cancel_grace)
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// Where a click on a run leads. A link to this host's own page holds the pass that opens it.
    pub fn run_link(&self, cluster: &Cluster, to: &LinkTo<'_>) -> Option<String> {
        let link = cluster.links().run(to)?;
        match cluster.links() {
            penstock_cluster::Links::Penstock(_) => {
                Some(format!("{link}?pass={}", self.keys.pass(&to.effect)?))
            }
            _ => Some(link),
        }
    }

    /// A plugin by its name.
    pub fn plugin(&self, name: &PluginName) -> Option<&Arc<PluginSlot>> {
        self.plugins.get(name)
    }

    /// All plugins.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<PluginSlot>> {
        self.plugins.values()
    }

    /// The tenant of a project or group.
    ///
    /// # Errors
    /// None matches, or two do equally well.
    pub fn belonging(&self, path: &str) -> Result<Belonging<'_>, NoTenant> {
        let tenants = self.finder.tenants(path);
        let tenants = tenants.iter().filter_map(|n| self.config.tenants.get(*n));
        belonging(tenants, path)
    }

    /// A place of a project's tenant as it is now; none: there is none of that name any more, or the tenant rests.
    pub fn place(&self, of: &ProjectOf, name: &PlaceName) -> Option<Place> {
        if let Some(Delegated::Wrong(_)) = self.config.delegated.get(&of.tenant) {
            return None;
        }
        let mut tenants = self.config.tenants.iter();
        let tenant = tenants.find(|tenant| tenant.name() == of.tenant)?;
        let captures = tenant.pattern.matches(of.path.as_str())?;
        let places = tenant.places(&captures).ok()?;
        places.into_iter().find(|place| place.name == *name)
    }

    /// The routes that an event of this kind takes in this tenant, before its trust is known.
    pub fn routes(&self, tenant: &Tenant, kind: &str) -> Vec<&Route> {
        let name = tenant.name();
        self.finder
            .routes(&name)
            .into_iter()
            .filter_map(|n| self.config.routes.get(n))
            .filter(|route| route.on.contains(kind))
            .filter(|route| self.narrowed(&name, &route.plugin) != Some(None))
            .collect()
    }

    /// A route by its name.
    pub fn route(&self, name: &RouteName) -> Option<&Route> {
        self.config.routes.get(self.finder.named(name)?)
    }

    /// What the tenant's own file says of a plugin: not to be asked, or in which mode; none: nothing.
    fn narrowed(&self, tenant: &TenantName, plugin: &PluginName) -> Option<Option<config::Mode>> {
        match self.config.delegated.get(tenant)? {
            Delegated::Narrowed(plugins) => plugins.get(plugin).copied(),
            Delegated::Wrong(_) => None,
        }
    }

    /// Whether a route's decisions are carried out in a tenant.
    pub fn mode(&self, tenant: &TenantName, route: &Route) -> config::Mode {
        let narrowed = self.narrowed(tenant, &route.plugin);
        narrowed.flatten().unwrap_or(route.mode)
    }

    /// Why nothing can be done for a tenant now: its own file is wrong.
    pub fn rests(&self, tenant: &TenantName) -> Option<String> {
        match self.config.delegated.get(tenant)? {
            Delegated::Wrong(why) => Some(format!(
                "the own file of the tenant `{tenant}` can't be used: {why}"
            )),
            Delegated::Narrowed(_) => None,
        }
    }
}

impl Instance {
    fn new(config: &GitlabConfig, metrics: &Arc<Metrics>) -> Result<Self> {
        let name = &config.name;
        let mut settings = ClientSettings::new(config.url.clone(), config.token.clone());
        settings.certificate.clone_from(&config.certificate);
        settings.calls_per_minute = config.calls_per_minute;
        let observer = Arc::new(Observed {
            instance: name.to_string(),
            metrics: Arc::clone(metrics),
        });
        let client = Client::new(settings, observer)
            .with_context(|| format!("no client for the GitLab instance `{name}`"))?;
        let redaction = Redaction::new(&config.redact)
            .with_context(|| format!("`redact` of the GitLab instance `{name}`"))?;
        let mut hooks = BTreeMap::new();
        for hook in &config.hooks {
            let keys = Keys::new(hook.tokens.clone(), hook.signing_tokens.clone())
                .with_context(|| format!("keys of the hook `{}` of `{name}`", hook.name))?;
            hooks.insert(
                hook.name.clone(),
                Hook {
                    keys,
                    scope: scope(&hook.scope),
                },
            );
        }
        Ok(Self {
            config: config.clone(),
            client,
            redaction,
            hooks,
            own: OnceCell::new(),
        })
    }

    /// What the operator wrote.
    pub fn config(&self) -> &GitlabConfig {
        &self.config
    }

    /// A hook by its name.
    pub fn hook(&self, name: &HookName) -> Option<&Hook> {
        self.hooks.get(name)
    }

    /// Which projects the hook of a delivery may speak for: one of GitLab's, or one of `incoming`.
    pub fn scope_of(&self, name: &HookName) -> Option<HookScope> {
        let of_hook = self.hooks.get(name).map(|hook| hook.scope.clone());
        of_hook.or_else(|| {
            let of = |it: &&config::IncomingConfig| {
                penstock_gitlab::incoming::hook_name(&it.name) == *name
            };
            let entry = self.config.incoming.iter().find(of)?;
            Some(HookScope::ProjectId(entry.project))
        })
    }

    /// The GitLab users that Penstock itself acts as, and those that it acted as before, asked for once. A token that is replaced by another user's
    /// does not make strangers of what the earlier one wrote.
    ///
    /// # Errors
    /// GitLab or the store does not say.
    pub async fn own_users(
        &self,
        store: &Store,
    ) -> Result<Arc<penstock_gitlab::OwnUsers>, OwnUsersError> {
        let ask = || async {
            let user = UserId(self.client.own_user().await?.id);
            let all = store.own_user(&self.config.name, user, Timestamp::now());
            Ok(Arc::new(all.await?))
        };
        self.own.get_or_try_init(ask).await.map(Arc::clone)
    }
}

/// Why it is not known whom Penstock acts as.
#[derive(Debug, thiserror::Error)]
pub enum OwnUsersError {
    /// GitLab does not say.
    #[error(transparent)]
    Gitlab(#[from] penstock_gitlab::ApiError),
    /// The store does not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OwnUsersError {
    /// How long GitLab wishes to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Gitlab(error) => error.retry_after(),
            Self::Store(_) => None,
        }
    }
}

/// The crate's word for the configuration's scope of a hook.
pub fn scope(scope: &config::HookScope) -> HookScope {
    match scope {
        config::HookScope::Group(path) => HookScope::Group(path.clone()),
        config::HookScope::Project(path) => HookScope::Project(path.clone()),
        config::HookScope::ProjectId(id) => HookScope::ProjectId(*id),
        config::HookScope::Instance => HookScope::Instance,
    }
}

async fn connect(
    config: &config::ClusterConfig,
    public_url: Option<&str>,
    metrics: &Arc<Metrics>,
) -> Result<Cluster> {
    use penstock_cluster::{Access, BaseUrl, KubeconfigSource, Links, UrlTemplate};
    let name = &config.name;
    let access = match &config.access {
        config::ClusterAccess::Kubeconfig { path, context, .. } => Access::Kubeconfig {
            source: KubeconfigSource::Path(path.clone()),
            context: context.clone(),
        },
        config::ClusterAccess::InCluster => Access::InCluster,
    };
    let links = || {
        anyhow::Ok(match &config.links {
            LinksConfig::None => Links::None,
            LinksConfig::TektonDashboard(url) => Links::TektonDashboard(BaseUrl::parse(url)?),
            LinksConfig::OpenshiftConsole(url) => Links::OpenshiftConsole(BaseUrl::parse(url)?),
            LinksConfig::Penstock => match public_url {
                Some(url) => Links::Penstock(BaseUrl::parse(url)?),
                None => Links::None,
            },
            LinksConfig::Custom { run, task } => Links::Custom {
                run: UrlTemplate::parse(run)?,
                task: task.as_deref().map(UrlTemplate::parse).transpose()?,
            },
        })
    };
    let mut settings = ClusterSettings::new(name.clone(), access);
    settings.links = links().with_context(|| format!("`links` of the cluster `{name}`"))?;
    let metrics = Arc::clone(metrics);
    settings.on_call = Some(Arc::new(move |call| {
        let result = call
            .status
            .map_or_else(|| "no-answer".to_owned(), |status| status.to_string());
        trace::called("kubernetes", call.took, || {
            [
                ("kubernetes.operation", call.call.as_str().into()),
                ("http.response.status", result.clone().into()),
            ]
        });
        metrics.kubernetes(
            call.cluster.as_str(),
            call.call.as_str(),
            &result,
            call.took,
        );
    }));
    Cluster::connect(settings)
        .await
        .with_context(|| format!("the cluster `{name}`"))
}

struct Observed {
    instance: String,
    metrics: Arc<Metrics>,
}

impl penstock_gitlab::Observer for Observed {
    fn called(&self, call: &penstock_gitlab::CallReport) {
        let result = call
            .status
            .map_or_else(|| "no-answer".to_owned(), |status| status.to_string());
        trace::called("gitlab", call.latency, || {
            [
                ("gitlab.operation", call.class.into()),
                ("http.response.status", result.clone().into()),
            ]
        });
        self.metrics
            .gitlab(&self.instance, call.class, &result, call.latency);
    }
}
