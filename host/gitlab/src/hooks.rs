//! A webhook as GitLab keeps it: where it calls, what it sends, whether it is called, and how it is tested.
//!
//! The one place that reads rows of webhooks: what `penstock check` says of one is what reconciling acts on.

use http::Method;
use penstock_model::id::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;
use crate::scope::HookScope;

/// GitLab lets a group have 50 and a project 100.
const MOST_PAGES: usize = 10;

/// Test events that tell of nothing Penstock reads on its own account, as [`test_hook`] takes them, and the kind of event that each makes.
pub const TEST_EVENTS: [(&str, &str); 4] = [
    ("resource_access_token_events", "access_token"),
    ("emoji_events", "emoji"),
    ("wiki_page_events", "wiki_page"),
    ("releases_events", "release"),
];

/// A webhook that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedHook {
    /// What it speaks for.
    pub scope: HookScope,
    /// Our own address; none: it is not known.
    pub base: Option<String>,
    /// Below it, such as `/hooks/gitlab/main/acme`.
    pub path: String,
}

impl WantedHook {
    /// The address that it should call, as far as that is known.
    pub fn url(&self) -> String {
        let base = self.base.as_deref().unwrap_or_default();
        format!("{}{}", base.trim_end_matches('/'), self.path)
    }

    /// It calls just this address.
    fn calls(&self, url: &str) -> bool {
        self.base.is_some() && url.trim_end_matches('/') == self.url().trim_end_matches('/')
    }

    /// The webhook with the address, else one whose address ends in the path: GitLab may know us by another name.
    fn best(&self, rows: Vec<HookRow>) -> Option<HookRow> {
        let alike = |row: &HookRow| row.url.trim_end_matches('/').ends_with(&self.path);
        let mut alike: Vec<HookRow> = rows.into_iter().filter(alike).collect();
        let exact = alike.iter().position(|row| self.calls(&row.url));
        let best = exact.unwrap_or_default();
        (best < alike.len()).then(|| alike.swap_remove(best))
    }
}

/// A webhook of a group, a project or the whole GitLab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// GitLab's id.
    pub id: u64,
    /// Its address.
    pub url: String,
    /// Whether GitLab calls it.
    pub state: HookState,
    /// Kinds of events that it sends, such as `push` and `merge_requests`.
    pub events: Vec<String>,
    /// Only pushes of branches that fit are sent; empty: all.
    pub branch_filter: String,
    /// GitLab checks our certificate.
    pub tls_verified: bool,
    /// It signs; none: this GitLab does not say.
    pub signing_token: Option<bool>,
    /// It sends `X-Gitlab-Token`; none: this GitLab does not say.
    pub token: Option<bool>,
}

/// Whether GitLab calls a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Enabled,
    /// Not before a time, because calls failed.
    Paused {
        /// ISO 8601; none: GitLab does not say.
        until: Option<String>,
    },
    /// No more, until a test succeeds or somebody switches it on.
    Disabled,
}

impl HookState {
    /// The word of metrics and messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused { .. } => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// Until when GitLab does not call it; none: it does.
    pub fn stopped(&self) -> Option<String> {
        match self {
            Self::Enabled => None,
            Self::Paused { until: Some(until) } => Some(format!("until {until}")),
            Self::Paused { until: None } => Some("for a while".to_owned()),
            Self::Disabled => Some("until a test succeeds".to_owned()),
        }
    }

    /// `alert_status` decides, where a GitLab gives it: `disabled_until` stays when its time has passed.
    fn of(alert_status: Option<&str>, until: Option<String>, now: Timestamp) -> Self {
        match alert_status {
            Some("executable") => Self::Enabled,
            Some("disabled") => Self::Disabled,
            Some("temporarily_disabled") => Self::Paused { until },
            _ => match until {
                Some(until) if is_later(&until, now) => Self::Paused { until: Some(until) },
                _ => Self::Enabled,
            },
        }
    }
}

/// A time that can't be read is not over.
fn is_later(text: &str, now: Timestamp) -> bool {
    let read = text.parse::<jiff::Timestamp>().ok();
    read.is_none_or(|at| u64::try_from(at.as_millisecond()).is_ok_and(|at| at > now.0))
}

#[derive(Deserialize)]
struct HookRow {
    id: u64,
    url: String,
    #[serde(default)]
    enable_ssl_verification: Option<bool>,
    #[serde(default)]
    alert_status: Option<String>,
    #[serde(default)]
    disabled_until: Option<String>,
    #[serde(default)]
    signing_token_present: Option<bool>,
    #[serde(default)]
    token_present: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    push_events_branch_filter: String,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

impl HookRow {
    fn read(self, now: Timestamp) -> Webhook {
        let on = self.more.iter().filter(|(_, value)| **value == true);
        let events = on
            .filter_map(|(name, _)| name.strip_suffix("_events").map(str::to_owned))
            .collect();
        Webhook {
            id: self.id,
            url: self.url,
            state: HookState::of(self.alert_status.as_deref(), self.disabled_until, now),
            events,
            branch_filter: self.push_events_branch_filter,
            tls_verified: self.enable_ssl_verification.unwrap_or(true),
            signing_token: self.signing_token_present,
            token: self.token_present,
        }
    }
}

/// Path of a scope's webhooks in the REST API.
pub(crate) struct Owner {
    kind: Option<&'static str>,
    name: String,
}

impl Owner {
    pub(crate) fn of(scope: &HookScope) -> Self {
        let (kind, name) = match scope {
            HookScope::Group(path) => (Some("groups"), path.clone()),
            HookScope::Project(path) => (Some("projects"), path.clone()),
            HookScope::ProjectId(id) => (Some("projects"), id.to_string()),
            HookScope::Instance => (None, String::new()),
        };
        Self { kind, name }
    }

    pub(crate) fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = match self.kind {
            Some(kind) => vec![kind, self.name.as_str(), "hooks"],
            None => vec!["hooks"],
        };
        path.extend(rest);
        path
    }
}

/// The webhook that is wanted, or one whose address ends alike: whoever minds compares it with [`WantedHook::url`].
///
/// # Errors
/// GitLab has no answer, or does not show hooks to our user.
pub async fn webhook_at(client: &Client, wanted: &WantedHook) -> Result<Option<Webhook>, ApiError> {
    let owner = Owner::of(&wanted.scope);
    let segments = owner.path(&[]);
    let rows = client
        .pages::<HookRow>(&Call::get("hooks", &segments), MOST_PAGES)
        .await?
        .rows;
    let row = wanted.best(rows);
    Ok(row.map(|row| row.read(Timestamp::now())))
}

/// Has a test event sent; a success switches a webhook on that was paused or disabled. `trigger` is GitLab's word, such as `push_events`.
///
/// # Errors
/// GitLab has no answer, or refuses: for some triggers the project must have something to tell of.
pub async fn test_hook(
    client: &Client,
    scope: &HookScope,
    hook: u64,
    trigger: &str,
) -> Result<(), ApiError> {
    let hook = hook.to_string();
    post(client, "hook.test", scope, &[&hook, "test", trigger]).await
}

pub(crate) async fn post(
    client: &Client,
    class: &'static str,
    scope: &HookScope,
    rest: &[&str],
) -> Result<(), ApiError> {
    let owner = Owner::of(scope);
    let segments = owner.path(rest);
    client
        .send(&Call::new(Method::POST, class, &segments))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_pause_that_is_over_is_none() {
        let (past, future) = ("2026-01-01T00:00:00.000Z", "2028-01-01T00:00:00.000Z");
        let paused = |until: &str| HookState::Paused {
            until: Some(until.to_owned()),
        };
        for (status, until, expect) in [
            (Some("executable"), None, HookState::Enabled),
            (Some("executable"), Some(past), HookState::Enabled),
            (Some("temporarily_disabled"), Some(future), paused(future)),
            (
                Some("temporarily_disabled"),
                None,
                HookState::Paused { until: None },
            ),
            (Some("disabled"), Some(past), HookState::Disabled),
            (None, None, HookState::Enabled),
            (None, Some(past), HookState::Enabled),
            (None, Some(future), paused(future)),
            (None, Some("soon"), paused("soon")),
        ] {
            let found = HookState::of(status, until.map(str::to_owned), NOW);
            assert_eq!(found, expect, "{status:?} {until:?}");
        }
    }

    #[test]
    fn the_webhook_with_the_whole_address_goes_before_one_that_only_ends_alike() {
        let path = "/hooks/gitlab/main/acme";
        let best = |base: Option<&str>, urls: &[&str]| {
            let wanted = WantedHook {
                scope: HookScope::Group("acme".into()),
                base: base.map(str::to_owned),
                path: path.to_owned(),
            };
            let rows = urls.iter().map(|url| {
                let row = serde_json::json!({ "id": 1, "url": url });
                serde_json::from_value(row).unwrap()
            });
            wanted.best(rows.collect()).map(|row| row.url)
        };
        let ours = format!("https://ci.example{path}/");
        let staging = format!("https://staging.example{path}");
        let other = "https://ci.example/hooks/gitlab/main/other";
        let base = Some("https://ci.example/");
        let all = [other, &staging, &ours];
        assert_eq!(best(base, &all), Some(ours.clone()));
        assert_eq!(best(None, &all), Some(staging.clone()));
        assert_eq!(best(base, &[other, &staging]), Some(staging.clone()));
        assert_eq!(best(base, &[other]), None);
    }
}
