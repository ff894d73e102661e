//! What `penstock check` asks a GitLab: its version, whose token it is and what that may do, and whether the hooks are there.
//!
//! Gives facts; what is a finding and what to do about it is the server's.

use penstock_model::id::UserId;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{UserRow, or_default, to_actor};
use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::ApiError;
use crate::scope::HookScope;

const MOST_HOOK_PAGES: usize = 10;

/// A hook that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedHook {
    /// What it speaks for.
    pub scope: HookScope,
    /// The address that it should call.
    pub url: String,
}

/// What a GitLab said of itself, the token and the hooks. A part that could not be asked does not hide the others.
#[derive(Clone, Debug)]
pub struct Health {
    /// Such as `19.1.0-ee`.
    pub version: Result<String, ApiError>,
    /// Whose token it is.
    pub user: Result<TokenUser, ApiError>,
    /// What the token may do, and how long.
    pub token: Result<TokenFacts, ApiError>,
    /// For each hook that was asked for, in order.
    pub hooks: Vec<Result<HookFacts, ApiError>>,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUser {
    /// GitLab's id.
    pub id: UserId,
    /// GitLab's name.
    pub username: String,
    /// A bot, of a project's or group's token or of a service account.
    pub bot: bool,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TokenFacts {
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Such as `api`.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes: Vec<String>,
    /// ISO 8601 date; none: never.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// It can be used.
    #[serde(default, deserialize_with = "or_default")]
    pub active: bool,
}

/// A hook that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFacts {
    /// None: no hook of the group or project calls the address.
    pub found: Option<HookFound>,
}

/// A hook that calls the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFound {
    /// GitLab's id.
    pub id: u64,
    /// Kinds of events that it sends, such as `push` and `merge_requests`.
    pub events: Vec<String>,
    /// Why and till when GitLab does not call it; none: it calls.
    pub disabled: Option<String>,
    /// Pushes of branches that fit it are sent alone; empty: of all.
    pub branch_filter: String,
    /// GitLab checks our certificate.
    pub tls_verified: bool,
    /// It signs; none: this GitLab does not say.
    pub signing_token: Option<bool>,
    /// It sends `X-Gitlab-Token`; none: this GitLab does not say.
    pub token: Option<bool>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
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

/// Asks a GitLab about itself, the token and these hooks.
pub async fn check(client: &Client, hooks: &[WantedHook]) -> Health {
    let version = client
        .now::<Version>(&Call::get("version", &["version"]))
        .await;
    let user = client
        .now::<UserRow>(&Call::get("user.self", &["user"]))
        .await;
    let token = client
        .now(&Call::get(
            "token.self",
            &["personal_access_tokens", "self"],
        ))
        .await;
    let mut found = Vec::new();
    for hook in hooks {
        found.push(find_hook(client, hook).await);
    }
    Health {
        version: version.map(|found| found.version),
        user: user.map(|row| {
            let actor = to_actor(&row, None, &OwnUsers::new());
            TokenUser {
                id: actor.id,
                username: actor.username,
                bot: actor.bot,
            }
        }),
        token,
        hooks: found,
    }
}

async fn find_hook(client: &Client, wanted: &WantedHook) -> Result<HookFacts, ApiError> {
    let id;
    let path = match &wanted.scope {
        HookScope::Group(group) => ["groups", group.as_str(), "hooks"].to_vec(),
        HookScope::Project(project) => ["projects", project.as_str(), "hooks"].to_vec(),
        HookScope::ProjectId(project) => {
            id = project.to_string();
            ["projects", id.as_str(), "hooks"].to_vec()
        }
        HookScope::Instance => vec!["hooks"],
    };
    let rows = client
        .pages::<HookRow>(&Call::get("hooks", &path), MOST_HOOK_PAGES)
        .await?
        .rows;
    let url = |text: &str| text.trim_end_matches('/').to_owned();
    let found = rows
        .into_iter()
        .find(|row| url(&row.url) == url(&wanted.url));
    Ok(HookFacts {
        found: found.map(HookFound::from),
    })
}

impl From<HookRow> for HookFound {
    fn from(row: HookRow) -> Self {
        let on = row
            .more
            .iter()
            .filter(|(_, value)| **value == Value::Bool(true));
        let events = on
            .filter_map(|(name, _)| name.strip_suffix("_events").map(str::to_owned))
            .collect();
        let disabled = match (row.alert_status.as_deref(), row.disabled_until) {
            (None | Some("executable"), None) => None,
            (_, Some(until)) => Some(format!("until {until}")),
            (Some(status), None) => Some(status.to_owned()),
        };
        Self {
            id: row.id,
            events,
            disabled,
            branch_filter: row.push_events_branch_filter,
            tls_verified: row.enable_ssl_verification.unwrap_or(true),
            signing_token: row.signing_token_present,
            token: row.token_present,
        }
    }
}
