//! `penstock check`: what is missing outside the configuration's own text: plugins, GitLab and clusters.
//!
//! Changes nothing. Uses the same code as the server wherever the server would refuse.

use std::collections::BTreeSet;
use std::sync::Arc;

use penstock_gitlab::{Health, HookScope, WantedHook, Webhook};
use penstock_model::id::{PlaceName, TenantName};
use penstock_model::pattern::Captures;
use penstock_model::tenant::Place;
use serde::Serialize;

use crate::config::{Config, Delegated, GitlabConfig, HookConfig};
use crate::host::engine;
use crate::live::{Live, scope};
use crate::metrics::Metrics;
use crate::plugins;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do, where it is not good.
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and could be safer.
    Weak,
    /// Not as it should be.
    Bad,
    /// It could not be found out.
    Unknown,
}

impl Finding {
    /// Something that was looked at.
    pub fn new(verdict: Verdict, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Looks at everything that the configuration names. `projects` are paths whose places are looked at beside those without variables.
pub async fn run(config: &Config, projects: &[String], offline: bool) -> Vec<Finding> {
    let mut findings = vec![Finding::new(
        Verdict::Good,
        "configuration",
        "every name in it leads somewhere",
    )];
    findings.extend(own_files(config));
    findings.extend(cloning(config));
    findings.extend(plugins_load(config).await);
    findings.extend(projects_belong(config, projects));
    if offline {
        return findings;
    }
    let metrics = Arc::new(Metrics::new());
    let live = match Live::new(Arc::new(config.clone()), None, &metrics).await {
        Ok(live) => live,
        Err(error) => {
            findings.push(Finding::new(Verdict::Bad, "clients", format!("{error:#}")));
            return findings;
        }
    };
    findings.extend(gitlab(&live).await);
    findings.extend(clusters(&live, projects).await);
    findings
}

/// Places whose runs may clone, and no key to seal what they clone with.
fn cloning(config: &Config) -> Option<Finding> {
    let places = config.tenants.iter().flat_map(|it| it.places.values());
    let some = places.filter(|place| place.policy.clone).count();
    (some > 0 && config.sealing_keys.is_empty()).then(|| {
        let detail = format!("{some} places say `clone: true`, and there is no `sealing-key`");
        Finding::new(Verdict::Bad, "credentials to clone", detail).remedy(
            "write `sealing-key: { file: PATH }`, a file made with `openssl rand -hex 32`; until then runs that ask for credentials are refused",
        )
    })
}

fn own_files(config: &Config) -> Vec<Finding> {
    let one = |(tenant, came): (&TenantName, &Delegated)| {
        let what = format!("own file of the tenant `{tenant}`");
        match came {
            Delegated::Narrowed(_) => Finding::new(Verdict::Good, what, "narrows the tenant"),
            Delegated::Wrong(why) => Finding::new(Verdict::Bad, what, why.clone())
                .remedy("let the team mend it; the tenant's deliveries wait until then"),
        }
    };
    config.delegated.iter().map(one).collect()
}

async fn plugins_load(config: &Config) -> Vec<Finding> {
    let engine = match engine(config) {
        Ok(engine) => engine,
        Err(error) => return vec![Finding::new(Verdict::Bad, "engine", format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    for plugin in &config.plugins {
        let what = format!("plugin `{}`", plugin.name);
        findings.push(match plugins::load(plugin, &engine).await {
            Ok(loaded) => {
                let imports: Vec<&str> = loaded
                    .plugin
                    .imports()
                    .iter()
                    .map(|import| import.trim_start_matches("penstock:plugin/"))
                    .collect();
                Finding::new(
                    Verdict::Good,
                    what,
                    format!("loads; imports {}", words(&imports)),
                )
            }
            Err(error) => Finding::new(Verdict::Bad, what, format!("{error:#}"))
                .remedy("its deliveries wait until it loads"),
        });
    }
    findings
}

fn projects_belong(config: &Config, projects: &[String]) -> Vec<Finding> {
    let one = |path: &String| {
        let what = format!("project `{path}`");
        match penstock_model::tenant::belonging(&config.tenants, path) {
            Ok(found) => Finding::new(
                Verdict::Good,
                what,
                format!("belongs to `{}`", found.tenant.name()),
            ),
            Err(none) => Finding::new(Verdict::Bad, what, none.to_string()),
        }
    };
    projects.iter().map(one).collect()
}

async fn gitlab(live: &Live) -> Vec<Finding> {
    let mut findings = Vec::new();
    for config in &live.config.gitlab {
        let Some(instance) = live.instance(&config.name) else {
            continue;
        };
        let base = live.config.public_url.clone();
        let hooks: Vec<WantedHook> = config
            .hooks
            .iter()
            .map(|hook| wanted_hook(base.as_deref(), config, hook))
            .collect();
        let health = penstock_gitlab::check(&instance.client, &hooks).await;
        for entry in &config.incoming {
            let what = format!("entry `{}` of `incoming` of `{}`", entry.name, config.name);
            let at = penstock_gitlab::is_at(&instance.client, entry.project, &entry.path).await;
            findings.push(match at {
                Ok(true) => Finding::new(Verdict::Good, what, "its id and its path are one project"),
                Ok(false) => {
                    let detail = format!("project {} is not `{}`, or is not shown", entry.project, entry.path);
                    Finding::new(Verdict::Bad, what, detail)
                        .remedy("look the id up on the project's page, and give Penstock's user access to it")
                }
                Err(error) => Finding::new(Verdict::Unknown, what, error.to_string()),
            });
        }
        findings.extend(of_instance(config.name.as_str(), &health));
        for ((hook, wanted), found) in config.hooks.iter().zip(&hooks).zip(&health.hooks) {
            let what = format!("hook `{}` of `{}`", hook.name, config.name);
            findings.push(match (&base, found) {
                (None, _) => Finding::new(Verdict::Unknown, what, "its address is not known")
                    .remedy("set `public-url`, so that hooks can be looked for by their address"),
                (_, Err(error)) => Finding::new(Verdict::Unknown, what, error.to_string())
                    .remedy(who_reads_hooks(&wanted.scope)),
                (_, Ok(found)) => of_hook(
                    what,
                    wanted,
                    found.as_ref(),
                    !hook.signing_tokens.is_empty(),
                ),
            });
        }
    }
    findings
}

/// The hook that GitLab should have for one of the configuration.
pub(crate) fn wanted_hook(
    public_url: Option<&str>,
    instance: &GitlabConfig,
    hook: &HookConfig,
) -> WantedHook {
    WantedHook {
        scope: scope(&hook.scope),
        base: public_url.map(str::to_owned),
        path: format!("/hooks/gitlab/{}/{}", instance.name, hook.name),
    }
}

pub(crate) fn who_reads_hooks(scope: &HookScope) -> &'static str {
    match scope {
        HookScope::Group(_) => {
            "a token with the role Owner of the group may read its hooks; without it look at them in GitLab"
        }
        HookScope::Project(_) | HookScope::ProjectId(_) => {
            "a token with the role Maintainer of the project may read its hooks; without it look at them in GitLab"
        }
        HookScope::Instance => {
            "a token of an administrator may read system hooks; without it look at them in GitLab"
        }
    }
}

fn of_instance(name: &str, health: &Health) -> Vec<Finding> {
    let mut findings = vec![match &health.version {
        Ok(version) => Finding::new(
            Verdict::Good,
            format!("GitLab `{name}`"),
            format!("answers; version {version}"),
        ),
        Err(error) => Finding::new(Verdict::Bad, format!("GitLab `{name}`"), error.to_string())
            .remedy("look at `url`, `ca` and the network between here and there"),
    }];
    let what = format!("token of `{name}`");
    findings.push(match (&health.user, &health.token) {
        (Err(error), _) => Finding::new(Verdict::Bad, what, error.to_string())
            .remedy("make a new token with the scope `api` and put it where `token` points"),
        (Ok(user), Err(error)) => Finding::new(
            Verdict::Unknown,
            what,
            format!("it is `{}`'s; {error}", user.username),
        )
        .remedy("its scopes can't be read: they must hold `api`"),
        (Ok(user), Ok(token)) => {
            let expiry = token.expires_at.as_deref().unwrap_or("never");
            let detail = format!(
                "`{}`'s; scopes {}; expires {expiry}",
                user.username,
                token.scopes.join(", ")
            );
            if !token.active {
                Finding::new(Verdict::Bad, what, detail).remedy("it is not active: make a new one")
            } else if !token.scopes.iter().any(|scope| scope == "api") {
                Finding::new(Verdict::Bad, what, detail)
                    .remedy("it needs the scope `api` to set statuses and write comments")
            } else {
                Finding::new(Verdict::Good, what, detail)
            }
        }
    });
    findings
}

/// Events that a hook must send for the routes to mean anything.
const EVENTS: [&str; 4] = ["push", "tag_push", "merge_requests", "note"];

/// What is there in the place of a webhook with the address.
pub(crate) fn not_there(wanted: &WantedHook, found: Option<&Webhook>) -> Option<String> {
    let url = wanted.url();
    let none = format!("GitLab has no webhook with the address {url}");
    match found {
        None => Some(none),
        Some(found) if found.url.trim_end_matches('/') == url.trim_end_matches('/') => None,
        Some(found) => Some(format!("{none}; one calls {}", found.url)),
    }
}

fn of_hook(what: String, wanted: &WantedHook, found: Option<&Webhook>, signs: bool) -> Finding {
    let none = not_there(wanted, found);
    let Some(found) = found.filter(|_| none.is_none()) else {
        let place = match &wanted.scope {
            HookScope::Group(path) | HookScope::Project(path) => format!(" in `{path}`"),
            HookScope::ProjectId(id) => format!(" in project {id}"),
            HookScope::Instance => String::new(),
        };
        return Finding::new(Verdict::Bad, what, none.unwrap_or_default()).remedy(format!(
            "add it{place}, with its token and push, tag push, merge request and comment events"
        ));
    };
    if let Some(until) = found.state.stopped() {
        return Finding::new(
            Verdict::Bad,
            what,
            format!("GitLab has disabled it {until}"),
        )
        .remedy("send a test event from its page in GitLab; a success enables it again");
    }
    let missing: Vec<&str> = EVENTS
        .into_iter()
        .filter(|event| !found.events.iter().any(|it| it == event))
        .collect();
    if !missing.is_empty() {
        return Finding::new(
            Verdict::Unknown,
            what,
            format!("it does not send {}", words(&missing)),
        )
        .remedy("switch these events on if a route takes them");
    }
    if !found.tls_verified && found.url.starts_with("https:") {
        return Finding::new(Verdict::Bad, what, "it does not verify our certificate")
            .remedy("switch `Enable SSL verification` on");
    }
    if signs && found.signing_token == Some(false) {
        return Finding::new(
            Verdict::Bad,
            what,
            "it has no signing token, and the configuration wants signatures",
        )
        .remedy("set the signing token in GitLab");
    }
    Finding::new(Verdict::Good, what, "is there and enabled")
}

async fn clusters(live: &Live, projects: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cluster in live.clusters() {
        let prefix = format!("cluster `{}`", cluster.name());
        findings.extend(
            cluster
                .check_cluster()
                .await
                .into_iter()
                .map(|check| of_check(&prefix, check)),
        );
    }
    let mut looked_at = BTreeSet::new();
    for tenant in &live.config.tenants {
        let mut captures: Vec<Captures> = projects
            .iter()
            .filter_map(|path| tenant.pattern.matches(path))
            .collect();
        captures.push(Captures::new());
        for captures in captures {
            for (name, template) in &tenant.places {
                let one = penstock_model::tenant::Tenant {
                    pattern: tenant.pattern.clone(),
                    places: [(name.clone(), template.clone())].into(),
                };
                match one.places(&captures) {
                    Ok(places) => {
                        for place in places {
                            if looked_at.insert((
                                place.cluster.clone(),
                                place.namespace.clone(),
                                place.creator.clone(),
                                place.run_as.clone(),
                            )) {
                                findings.extend(of_place(live, &place).await);
                            }
                        }
                    }
                    Err(_) if captures.is_empty() => {
                        findings.push(of_template(tenant.pattern.as_str(), name))
                    }
                    Err(error) => {
                        findings.push(Finding::new(
                            Verdict::Bad,
                            format!("place `{name}` of `{}`", tenant.pattern),
                            error.to_string(),
                        ));
                    }
                }
            }
        }
    }
    findings
}

fn of_template(tenant: &str, place: &PlaceName) -> Finding {
    Finding::new(
        Verdict::Unknown,
        format!("place `{place}` of `{tenant}`"),
        "its names hold variables, so it depends on the project",
    )
    .remedy("name a project with `--project GROUP/PROJECT` to look at its places")
}

async fn of_place(live: &Live, place: &Place) -> Vec<Finding> {
    let Some(cluster) = live.cluster(&place.cluster) else {
        return Vec::new();
    };
    let prefix = format!(
        "place `{}` ({}/{})",
        place.name, place.cluster, place.namespace
    );
    let mut findings: Vec<Finding> = cluster
        .check_place(place)
        .await
        .into_iter()
        .map(|check| of_check(&prefix, check))
        .collect();
    if place.creator == place.run_as {
        let what = format!("{prefix}: accounts");
        let detail = format!("`creator` and `run-as` are both `{}`", place.creator);
        findings.push(
            Finding::new(Verdict::Bad, what, detail)
                .remedy("use two accounts: pods of a run must not be able to create runs"),
        );
    }
    findings
}

fn of_check(prefix: &str, check: penstock_cluster::Check) -> Finding {
    let verdict = match check.verdict {
        penstock_cluster::Verdict::Good => Verdict::Good,
        penstock_cluster::Verdict::Weak => Verdict::Weak,
        penstock_cluster::Verdict::Bad => Verdict::Bad,
        penstock_cluster::Verdict::Unknown => Verdict::Unknown,
    };
    Finding {
        what: format!("{prefix}: {}", check.what),
        verdict,
        detail: check.detail,
        remedy: check.remedy,
    }
}

fn words(list: &[&str]) -> String {
    if list.is_empty() {
        "nothing".to_owned()
    } else {
        list.join(", ")
    }
}
