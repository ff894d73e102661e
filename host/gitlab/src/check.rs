//! What `penstock check` asks a GitLab: its version, whose token it is and what that may do, and whether the hooks are there.
//!
//! Gives facts; what is a finding and what to do about it is the server's.

use penstock_model::id::UserId;
use serde::Deserialize;

use crate::api::{UserRow, or_default, to_actor};
use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::ApiError;
use crate::hooks::{WantedHook, Webhook, webhook_at};

/// What a GitLab said of itself, the token and the hooks. A part that could not be asked does not hide the others.
#[derive(Clone, Debug)]
pub struct Health {
    /// Such as `19.1.0-ee`.
    pub version: Result<String, ApiError>,
    /// Whose token it is.
    pub user: Result<TokenUser, ApiError>,
    /// What the token may do, and how long.
    pub token: Result<TokenFacts, ApiError>,
    /// For each hook that was asked for, in order; none: no webhook of the group or project calls the address, or one that ends alike.
    pub hooks: Vec<Result<Option<Webhook>, ApiError>>,
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

#[derive(Deserialize)]
struct Version {
    version: String,
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
        found.push(webhook_at(client, hook).await);
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
