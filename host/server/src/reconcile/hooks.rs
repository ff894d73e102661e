//! Hooks: a hook that GitLab calls no more is named and tested.
//!
//! A hook of the configuration is one webhook of the group, or one of each project: groups have webhooks with GitLab Premium alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_gitlab::{
    ApiError, HookScope, HookState, TEST_EVENTS, Webhook, test_hook, webhook_at,
};
use penstock_model::id::{ProjectId, ProjectPath};

use super::Memory;
use super::round::{Cut, Round};
use crate::check::wanted_hook;
use crate::config::HookConfig;
use crate::live::scope;

/// How often a disabled hook is tested.
const TEST_EVERY: Duration = Duration::from_secs(5 * 60);
/// Projects that are named where many are meant.
const NAMED: usize = 3;

/// A webhook in GitLab that speaks for a hook of the configuration.
pub(super) struct Speaking {
    /// Whose it is: the hook's scope, or one project of it. What it tells must be within this.
    pub(super) of: HookScope,
    /// Names it in the store.
    pub(super) name: String,
    pub(super) known: Webhook,
}

/// Webhooks that speak for a hook, and what GitLab does not show of them.
#[derive(Default)]
struct Found {
    speaking: Vec<Speaking>,
    /// Why the webhooks of the hook's own scope are not shown.
    denied: Option<ApiError>,
    /// Projects whose webhooks are not shown, and why those of the last are not.
    hidden: Option<(Vec<ProjectPath>, ApiError)>,
}

impl Round<'_> {
    /// One hook: where it stands, and what of it failed.
    pub(super) async fn hook(
        &mut self,
        hook: &HookConfig,
        projects: &BTreeMap<ProjectId, ProjectPath>,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let scope = scope(&hook.scope);
        if scope == HookScope::Instance {
            self.lost.push(format!(
                "the hook `{}` is a system hook, and GitLab keeps no log of its calls",
                hook.name
            ));
            return Ok(());
        }
        let found = self.webhooks(hook, &scope, projects).await?;
        let state = |it: &Speaking| it.known.state.clone();
        let webhooks = &found.speaking;
        let stopped = webhooks
            .iter()
            .find(|it| state(it) == HookState::Disabled)
            .or_else(|| webhooks.iter().find(|it| state(it) != HookState::Enabled))
            .or(webhooks.first());
        // Where projects have webhooks of their own, a group that shows none is as it should be.
        let hidden = match (found.hidden, found.denied, stopped) {
            (Some((paths, error)), ..) => Some((of_projects(&paths), error)),
            (None, Some(error), None) => Some((scope.to_string(), error)),
            (None, ..) => None,
        };
        let state = match (stopped, hidden.is_some()) {
            (Some(webhook), _) => webhook.known.state.as_str(),
            (None, true) => "unknown",
            (None, false) => "missing",
        };
        self.host
            .metrics
            .hook(self.name.as_str(), hook.name.as_str(), state);
        if let Some((whose, error)) = hidden {
            self.lost.push(format!(
                "calls of the hook `{}`: GitLab does not show the webhooks of {whose} to Penstock's user: {error}",
                hook.name
            ));
        } else if stopped.is_none() {
            self.lost.push(format!(
                "the hook `{}`: {scope} has no webhook whose address ends in `{}`",
                hook.name,
                wanted_hook(None, self.config, hook).path
            ));
        }
        for webhook in webhooks {
            if webhook.known.state != HookState::Enabled {
                self.test(hook, webhook, memory).await?;
            }
            self.failed(hook, webhook, memory).await?;
        }
        Ok(())
    }

    /// Webhooks with the hook's address.
    async fn webhooks(
        &self,
        hook: &HookConfig,
        scope: &HookScope,
        projects: &BTreeMap<ProjectId, ProjectPath>,
    ) -> Result<Found, Cut> {
        let base = self.live.config.public_url.as_deref();
        let mut wanted = wanted_hook(base, self.config, hook);
        let mut found = Found::default();
        match webhook_at(&self.client, &wanted).await {
            Ok(Some(known)) => {
                found.speaking.push(Speaking {
                    name: format!("calls/{}/{}", self.name, hook.name),
                    of: scope.clone(),
                    known,
                });
                return Ok(found);
            }
            Ok(None) => {}
            Err(error) if error.is_denial() => found.denied = Some(error),
            Err(error) => return Err(error.into()),
        }
        if !matches!(scope, HookScope::Group(_)) {
            return Ok(found);
        }
        for (id, path) in projects {
            if !scope.contains(path.as_str()) {
                continue;
            }
            let of = HookScope::ProjectId(*id);
            wanted.scope = of.clone();
            match webhook_at(&self.client, &wanted).await {
                Ok(Some(known)) => found.speaking.push(Speaking {
                    name: format!("calls/{}/{}/{id}", self.name, hook.name),
                    of,
                    known,
                }),
                Ok(None) => {}
                Err(error) if error.is_denial() => {
                    let mut paths = found.hidden.take().map(|(paths, _)| paths);
                    paths.get_or_insert_default().push(path.clone());
                    found.hidden = paths.map(|paths| (paths, error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// A success of a test event switches the webhook on again.
    async fn test(
        &self,
        hook: &HookConfig,
        webhook: &Speaking,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let Speaking { of, name, known } = webhook;
        let until = known.state.stopped();
        let until = until.unwrap_or_default();
        tracing::warn!(hook = %hook.name, instance = %self.name, of = %of, until, "GitLab does not call a hook, because calls failed");
        let tested = memory.tested.get(name);
        if tested.is_some_and(|at| at.elapsed() < TEST_EVERY) {
            return Ok(());
        }
        memory.tested.insert(name.clone(), Instant::now());
        let routes = &self.live.config.routes;
        let taken = |kind: &str| routes.iter().any(|route| route.on.contains(kind));
        for (trigger, _) in TEST_EVENTS.iter().filter(|(_, kind)| !taken(kind)) {
            match test_hook(&self.client, of, known.id, trigger).await {
                Ok(()) => {
                    tracing::info!(hook = %hook.name, instance = %self.name, trigger, "had a test event sent, which switches the hook on if it comes");
                    return Ok(());
                }
                // The project has nothing of this kind to tell of, or this GitLab does not know it.
                Err(ApiError::Refused { .. } | ApiError::NotFound(_)) => {}
                Err(error) if error.is_denial() => break,
                Err(error) => return Err(error.into()),
            }
        }
        tracing::warn!(
            hook = %hook.name, instance = %self.name, of = %of,
            "the hook could not be tested: send a test event from its page in GitLab"
        );
        Ok(())
    }
}

fn of_projects(paths: &[ProjectPath]) -> String {
    let named = paths.iter().take(NAMED).map(|path| format!("`{path}`"));
    let named = named.collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} other projects"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_projects_some_are_named_and_all_are_counted() {
        let paths = |all: &[&str]| all.iter().map(|it| (*it).into()).collect::<Vec<_>>();
        assert_eq!(of_projects(&paths(&["a/b"])), "`a/b`");
        assert_eq!(
            of_projects(&paths(&["a/b", "a/c", "a/d", "a/e", "a/f"])),
            "`a/b`, `a/c`, `a/d` and 2 other projects"
        );
    }
}
