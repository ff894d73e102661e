//! Hooks: what GitLab could not deliver is read back or had sent again, and a hook that GitLab calls no more is named and tested.
//!
//! A hook of the configuration is one webhook of the group, or one of each project: groups have webhooks with GitLab Premium alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_gitlab::{
    ApiError, BETWEEN_RESENDS, FailedCall, HookScope, HookState, KnownHook, NotReadBack,
    failed_calls, known_hook, resend, test_hook,
};
use penstock_model::id::{HookName, InstanceName, ProjectId, ProjectPath, Timestamp};
use penstock_store::Appended;
use serde::{Deserialize, Serialize};

use super::Memory;
use super::round::{Cut, Round};
use crate::config::HookConfig;
use crate::live::scope;
use crate::receive::new_delivery;

/// How far back the first look at a hook goes: what failed long before Penstock was there is nobody's loss.
const FIRST_LOOK: Duration = Duration::from_secs(60 * 60);
/// Looks overlap: a call is listed when it ended, under the time at which it began.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// How often a disabled hook is tested.
const TEST_EVERY: Duration = Duration::from_secs(5 * 60);
/// Calls of a webhook that are sent again in one round: each takes its time.
const MOST_RESENDS: usize = 10;
/// What the host answers to a body that is too large: sent again, it would be no smaller.
const TOO_LARGE: &str = "413";

/// Test events, and the route's word for each: one that no route takes starts nothing.
const TESTS: [(&str, &str); 4] = [
    ("resource_access_token_events", "access_token"),
    ("emoji_events", "emoji"),
    ("wiki_page_events", "wiki_page"),
    ("releases_events", "release"),
];

/// What is known of a hook, for whoever asks why nothing comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// `enabled`, `paused`, `disabled`, `missing` or `unknown`; of several webhooks the worst.
    pub state: String,
    /// What a person needs to know beside the word.
    pub detail: Option<String>,
    /// Kinds of events that it sends, such as `push` and `merge_requests`.
    pub events: Vec<String>,
    /// Only pushes of branches that fit are sent; empty: all.
    pub branch_filter: String,
}

/// The name under which [`HookReport`] is kept.
pub fn hook_mark(instance: &InstanceName, hook: &HookName) -> String {
    format!("hook/{instance}/{hook}")
}

/// A webhook in GitLab that speaks for a hook of the configuration.
struct Webhook {
    /// Whose it is: the hook's scope, or one project of it. What it tells must be within this.
    of: HookScope,
    /// Names it in the store.
    name: String,
    known: KnownHook,
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
        let (webhooks, not_shown) = self.webhooks(hook, &scope, projects).await?;
        let state = |it: &Webhook| it.known.state.clone();
        let stopped = webhooks
            .iter()
            .find(|it| state(it) == HookState::Disabled)
            .or_else(|| webhooks.iter().find(|it| state(it) != HookState::Enabled))
            .or(webhooks.first());
        match (stopped, not_shown) {
            (Some(webhook), _) => {
                let known = &webhook.known;
                let detail = match &known.state {
                    HookState::Enabled => None,
                    HookState::Paused { until } => {
                        Some(format!("until {until}, because calls failed"))
                    }
                    HookState::Disabled => {
                        Some("because calls failed, until a test succeeds".to_owned())
                    }
                };
                let detail = detail.map(|detail| format!("of {}, {detail}", webhook.of));
                self.note(&hook.name, known.state.as_str(), detail, Some(known))
                    .await?;
            }
            (None, Some(error)) => {
                let why = format!(
                    "GitLab does not show the webhooks of {scope} to Penstock's user: {error}"
                );
                self.lost
                    .push(format!("calls of the hook `{}`: {why}", hook.name));
                self.note(&hook.name, "unknown", Some(why), None).await?;
            }
            (None, None) => {
                let why = format!(
                    "{scope} has no webhook whose address ends in `{}`",
                    self.address(hook)
                );
                self.lost.push(format!("the hook `{}`: {why}", hook.name));
                self.note(&hook.name, "missing", Some(why), None).await?;
            }
        }
        for webhook in &webhooks {
            if webhook.known.state != HookState::Enabled {
                self.test(hook, webhook, memory).await?;
            }
            self.failed(hook, webhook, memory).await?;
        }
        Ok(())
    }

    fn address(&self, hook: &HookConfig) -> String {
        format!("/hooks/gitlab/{}/{}", self.name, hook.name)
    }

    /// Webhooks with the hook's address, and why some may be missing.
    async fn webhooks(
        &self,
        hook: &HookConfig,
        scope: &HookScope,
        projects: &BTreeMap<ProjectId, ProjectPath>,
    ) -> Result<(Vec<Webhook>, Option<ApiError>), Cut> {
        let address = self.address(hook);
        let mut not_shown = None;
        match known_hook(&self.client, scope, &address).await {
            Ok(Some(known)) => {
                let name = format!("calls/{}/{}", self.name, hook.name);
                let of = scope.clone();
                return Ok((vec![Webhook { of, name, known }], None));
            }
            Ok(None) => {}
            Err(error) if error.is_denial() => not_shown = Some(error),
            Err(error) => return Err(error.into()),
        }
        let mut all = Vec::new();
        if !matches!(scope, HookScope::Group(_)) {
            return Ok((all, not_shown));
        }
        for (id, path) in projects {
            if !scope.contains(path.as_str()) {
                continue;
            }
            let of = HookScope::ProjectId(*id);
            match known_hook(&self.client, &of, &address).await {
                Ok(Some(known)) => all.push(Webhook {
                    name: format!("calls/{}/{}/{id}", self.name, hook.name),
                    of,
                    known,
                }),
                Ok(None) => {}
                Err(error) if error.is_denial() => not_shown = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((all, not_shown))
    }

    async fn note(
        &self,
        hook: &HookName,
        state: &str,
        detail: Option<String>,
        found: Option<&KnownHook>,
    ) -> Result<(), Cut> {
        let metrics = &self.host.metrics;
        metrics.hook(self.name.as_str(), hook.as_str(), state);
        let report = HookReport {
            state: state.to_owned(),
            detail,
            events: found.map(|found| found.events.clone()).unwrap_or_default(),
            branch_filter: found
                .map(|found| found.branch_filter.clone())
                .unwrap_or_default(),
        };
        let text = serde_json::to_string(&report).unwrap_or_default();
        let name = hook_mark(self.name, hook);
        let store = &self.host.store;
        Ok(store.set_mark(&name, &text, Timestamp::now()).await?)
    }

    /// A success of a test event switches the webhook on again.
    async fn test(
        &self,
        hook: &HookConfig,
        webhook: &Webhook,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let Webhook { of, name, known } = webhook;
        let state = known.state.as_str();
        tracing::warn!(hook = %hook.name, instance = %self.name, of = %of, state, "GitLab does not call a hook");
        let tested = memory.tested.get(name);
        if tested.is_some_and(|at| at.elapsed() < TEST_EVERY) {
            return Ok(());
        }
        memory.tested.insert(name.clone(), Instant::now());
        let routes = &self.live.config.routes;
        let taken = |kind: &str| routes.iter().any(|route| route.on.contains(kind));
        for (trigger, _) in TESTS.iter().filter(|(_, kind)| !taken(kind)) {
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

    /// What failed since the last look is taken in from the log, else sent again.
    async fn failed(
        &mut self,
        hook: &HookConfig,
        webhook: &Webhook,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let Webhook { of, name, known } = webhook;
        let began = Timestamp::now();
        let (since, sent_again) = match self.host.store.mark(name).await? {
            Some((value, _)) => read_mark(&value),
            None => (back(began, FIRST_LOOK), Vec::new()),
        };
        let listed = match failed_calls(&self.client, of, known.id, since).await {
            Ok(listed) => listed,
            Err(error) if error.is_denial() => {
                self.lost.push(format!(
                    "the log of the hook `{}` of {of} is not shown to Penstock's user: {error}",
                    hook.name
                ));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !listed.complete {
            self.lost.push(format!(
                "the log of the hook `{}` of {of} is too long to be read back to {}",
                hook.name,
                crate::text::time(since)
            ));
        }
        let (mut kept, mut left, mut resends) = (Vec::new(), None, 0);
        for call in listed.calls {
            let (id, at) = (call.id, call.at);
            if sent_again.contains(&id) {
                kept.push(id);
                continue;
            }
            if self.take_in(hook, of, call).await? {
                continue;
            }
            if resends == MOST_RESENDS {
                left.get_or_insert(at);
                continue;
            }
            resends += 1;
            if let Some(at) = memory.resent.get(name) {
                tokio::time::sleep(BETWEEN_RESENDS.saturating_sub(at.elapsed())).await;
            }
            memory.resent.insert(name.clone(), Instant::now());
            match resend(&self.client, of, known.id, id).await {
                Ok(()) => {
                    self.host.metrics.reconciled(self.name.as_str(), "resent");
                    tracing::info!(hook = %hook.name, event = id, "had GitLab send a failed call again");
                    kept.push(id);
                }
                Err(error) if error.is_denial() || matches!(error, ApiError::Refused { .. }) => {
                    self.lost
                        .push(format!("call {id} of the hook `{}`: {error}", hook.name));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What is left for the next round must be in its list.
        let next = left.unwrap_or(back(began, OVERLAP)).max(since);
        let value = write_mark(next, &kept);
        Ok(self.host.store.set_mark(name, &value, began).await?)
    }

    /// Takes a call in from the log; false: the log does not hold all of it.
    async fn take_in(
        &mut self,
        hook: &HookConfig,
        of: &HookScope,
        call: FailedCall,
    ) -> Result<bool, Cut> {
        let (id, at, too_large) = (call.id, call.at, call.status == TOO_LARGE);
        let accepted = match call.read_back(of, self.name, &hook.name, &self.instance.redaction) {
            Ok(accepted) => accepted,
            Err(NotReadBack::Incomplete) if too_large => {
                self.lost.push(format!(
                    "call {id} of the hook `{}`: its body is too large",
                    hook.name
                ));
                return Ok(true);
            }
            Err(NotReadBack::Incomplete) => return Ok(false),
            Err(NotReadBack::Scope(error)) => {
                self.lost
                    .push(format!("call {id} of the hook `{}`: {error}", hook.name));
                return Ok(true);
            }
        };
        let delivery = new_delivery(self.live, &accepted);
        let key = delivery.key.id.clone();
        if let Appended::New { .. } = self.host.store.append(delivery).await? {
            self.host.metrics.reconciled(self.name.as_str(), "delivery");
            tracing::info!(
                delivery.id = %key, hook = %hook.name, made = crate::text::time(at), "took a call in that GitLab could not deliver"
            );
        }
        Ok(true)
    }
}

fn back(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp(at.0.saturating_sub(by))
}

/// How far the log was read, and which calls were sent again.
fn read_mark(text: &str) -> (Timestamp, Vec<u64>) {
    serde_json::from_str::<(u64, Vec<u64>)>(text)
        .map(|(since, ids)| (Timestamp(since), ids))
        .unwrap_or_default()
}

fn write_mark(since: Timestamp, ids: &[u64]) -> String {
    serde_json::to_string(&(since.0, ids)).unwrap_or_default()
}
