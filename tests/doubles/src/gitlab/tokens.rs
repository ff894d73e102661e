//! Access tokens: who a call comes from, and what its token may do.

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{answer::ApiError, world::World};

/// An access token to seed.
#[derive(Clone)]
pub struct Token {
    pub(crate) id: u64,
    pub(crate) secret: String,
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked: bool,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("secret", &"[redacted]")
            .finish_non_exhaustive()
    }
}

impl Token {
    /// A token of `user` with the scope `api` and no expiry.
    #[must_use]
    pub fn new(secret: &str, user: &str) -> Self {
        Self {
            id: 0,
            secret: secret.to_owned(),
            user: user.to_owned(),
            name: format!("{user}'s token"),
            scopes: vec!["api".to_owned()],
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked: false,
            last_used_at: None,
        }
    }

    /// Replaces the scopes.
    #[must_use]
    pub fn scopes(mut self, scopes: &[&str]) -> Self {
        self.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self
    }

    /// Ends the token's life at this moment of the stand-in's clock.
    #[must_use]
    pub fn expires(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The row of `/personal_access_tokens/self`.
    pub(crate) fn show(&self, world: &World) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "revoked": self.revoked,
            "created_at": self.created_at.to_string(),
            "description": null,
            "scopes": self.scopes,
            "user_id": world.user_named(&self.user).map(|user| user.id),
            "last_used_at": self.last_used_at.map(|at| at.to_string()),
            "active": !self.revoked && self.expires_at.is_none_or(|at| at > world.now()),
            "expires_at": self.expires_at.map(|at| at.strftime("%Y-%m-%d").to_string()),
        })
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) user: u64,
    pub(crate) token: u64,
}

/// What a call needs its token to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// `/user` and `/users`.
    ReadUser,
    /// Files, trees, commits.
    ReadRepository,
    /// Any other GET.
    ReadApi,
    /// A token may always look at itself.
    Anything,
    /// Everything that writes.
    Api,
}

impl Need {
    /// What this call needs.
    pub(crate) fn of(method: &str, path: &str) -> Self {
        if path.ends_with("/personal_access_tokens/self") {
            return Self::Anything;
        }
        if method != "GET" && method != "HEAD" {
            return Self::Api;
        }
        if path.ends_with("/api/v4/user") || path.contains("/api/v4/users") {
            return Self::ReadUser;
        }
        if path.contains("/repository/files/") || path.contains("/repository/blobs/") {
            return Self::ReadRepository;
        }
        Self::ReadApi
    }

    fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::ReadUser => &["api", "read_api", "read_user"],
            Self::ReadRepository => &["api", "read_api", "read_repository"],
            Self::ReadApi => &["api", "read_api"],
            Self::Api => &["api"],
            Self::Anything => &[],
        }
    }
}

/// The user behind a call, if the token lives and may do this.
pub(crate) fn identify(
    world: &mut World,
    headers: &HeaderMap,
    query: &str,
    need: Need,
) -> Result<Identity, ApiError> {
    let secret = header(headers, "private-token")
        .or_else(|| {
            header(headers, "authorization")
                .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned))
        })
        .or_else(|| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == "private_token" || name == "access_token")
                .map(|(_, value)| value.into_owned())
        });
    let unauthorized = || ApiError::message(401, "401 Unauthorized");
    let secret = secret.ok_or_else(unauthorized)?;
    let now = world.now();
    let token = world
        .tokens
        .iter_mut()
        .find(|token| token.secret == secret)
        .ok_or_else(unauthorized)?;
    if token.revoked {
        let said = "Token was revoked. You have to re-authorize from the user.";
        return Err(ApiError::oauth(401, "invalid_token", said));
    }
    if token.expires_at.is_some_and(|at| at <= now) {
        let said = "Token is expired. You can either do re-authorization or token refresh.";
        return Err(ApiError::oauth(401, "invalid_token", said));
    }
    let wanted = need.scopes();
    if !wanted.is_empty()
        && !token
            .scopes
            .iter()
            .any(|scope| wanted.contains(&scope.as_str()))
    {
        return Err(ApiError::scope(&wanted.join(" ")));
    }
    token.last_used_at = Some(now);
    let (name, id) = (token.user.clone(), token.id);
    let user = world.user_named(&name).ok_or_else(unauthorized)?;
    if user.state != "active" {
        return Err(ApiError::message(
            403,
            "403 Forbidden - Your account has been blocked.",
        ));
    }
    Ok(Identity {
        user: user.id,
        token: id,
    })
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
