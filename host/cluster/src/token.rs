//! Short-lived tokens of the accounts that create runs.
//!
//! Asked for by TokenRequest with the host's rights, for the API server's own audience and no other, kept in memory
//! alone, and replaced before they end. One request at a time for each account, however many wait for it. A token
//! never leaves this crate.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use penstock_model::secret::Secret;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroize as _;

use crate::{
    names::segment,
    observe::Call,
    refusal::{Trouble, accepted},
    wire::{Answer, Ask, Wire},
};

/// How long a token is asked for, in seconds: the least that the API server gives.
const LIFETIME: u64 = 600;
/// A token is replaced after this share of its life.
const USED_UP: f64 = 0.8;

/// An account of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    /// The namespace.
    pub(crate) namespace: String,
    /// The service account.
    pub(crate) name: String,
}

/// Why there is no token of an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The host may not ask for it.
    #[error(
        "the host may not ask for tokens of account `{account}` in namespace `{namespace}`: {message}"
    )]
    Denied {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
        /// The API server's words.
        message: String,
    },
    /// There is no such namespace, or it is being deleted.
    #[error("there is no namespace `{namespace}`, or it is being deleted")]
    NoNamespace {
        /// The namespace.
        namespace: String,
    },
    /// There is no such account.
    #[error("namespace `{namespace}` has no account `{account}`")]
    NoAccount {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
    },
    /// Not now.
    #[error("no token of account `{account}` in namespace `{namespace}` could be had: {why}")]
    Unavailable {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl TokenError {
    /// What to do about it; none: wait.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Denied {
                namespace, account, ..
            } => Some(format!(
                "make sure that namespace `{namespace}` exists, and grant the host's account in it the rule `apiGroups: [\"\"], resources: [serviceaccounts/token], resourceNames: [{account}], verbs: [create]` with a Role and a RoleBinding (examples/cluster/place.yaml has both)"
            )),
            Self::NoNamespace { namespace } => Some(format!(
                "create namespace `{namespace}` with its accounts and roles (examples/cluster/place.yaml)"
            )),
            Self::NoAccount { namespace, account } => Some(format!(
                "create the ServiceAccount `{account}` in namespace `{namespace}` (examples/cluster/place.yaml)"
            )),
            Self::Unavailable { .. } => None,
        }
    }
}

/// A token in use.
pub(crate) struct Token {
    secret: Secret,
    replace_at: Instant,
    ends_at: Instant,
}

type Asking = Shared<BoxFuture<'static, Result<Arc<Token>, TokenError>>>;

#[derive(Default)]
struct Slot {
    held: Option<Arc<Token>>,
    asking: Option<Asking>,
}

/// All tokens in use at one cluster.
pub(crate) struct Tokens {
    wire: Arc<Wire>,
    slots: Mutex<HashMap<Account, Slot>>,
    audience: Arc<OnceLock<String>>,
}

impl Tokens {
    /// None yet.
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            wire,
            slots: Mutex::default(),
            audience: Arc::default(),
        }
    }

    /// Asks with the account's rights. A token that the API server no longer takes is replaced once.
    pub(crate) async fn ask(
        &self,
        account: &Account,
        ask: impl Fn() -> Ask,
    ) -> Result<Result<Answer, Trouble>, TokenError> {
        let token = self.get(account).await?;
        let answer = self.send(ask(), &token).await;
        let Err(Trouble::Unauthorized(_)) = answer else {
            return Ok(answer);
        };
        self.forget(account, &token);
        let token = self.get(account).await?;
        Ok(self
            .send(ask(), &token)
            .await
            .map_err(|trouble| match trouble {
                Trouble::Unauthorized(said) => {
                    self.forget(account, &token);
                    Trouble::Unavailable {
                        why: format!(
                            "the API server does not take a token that it has just issued: {said}"
                        ),
                        retry_after: None,
                    }
                }
                other => other,
            }))
    }

    async fn send(&self, ask: Ask, token: &Token) -> Result<Answer, Trouble> {
        accepted(self.wire.with_token(ask, &token.secret).await?)
    }

    /// A token that is good for a while.
    async fn get(&self, account: &Account) -> Result<Arc<Token>, TokenError> {
        let asking = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = slots.entry(account.clone()).or_default();
            let now = Instant::now();
            if let Some(token) = slot.held.as_ref().filter(|token| now < token.replace_at) {
                return Ok(Arc::clone(token));
            }
            slot.asking
                .get_or_insert_with(|| {
                    let (wire, audience) = (Arc::clone(&self.wire), Arc::clone(&self.audience));
                    let account = account.clone();
                    async move { request(&wire, &audience, &account).await.map(Arc::new) }
                        .boxed()
                        .shared()
                })
                .clone()
        };
        let answer = asking.clone().await;

        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let slot = slots.entry(account.clone()).or_default();
        if slot
            .asking
            .as_ref()
            .is_some_and(|mine| mine.ptr_eq(&asking))
        {
            slot.asking = None;
            match &answer {
                Ok(token) => slot.held = Some(Arc::clone(token)),
                // What is not known stays; what is known to be gone goes.
                Err(TokenError::Unavailable { .. }) => {}
                Err(_) => slot.held = None,
            }
        }
        let old = slot.held.clone().filter(|token| now < token.ends_at);
        slots.retain(|_, slot| {
            slot.asking.is_some() || slot.held.as_ref().is_some_and(|token| now < token.ends_at)
        });
        match (answer, old) {
            (Err(TokenError::Unavailable { .. }), Some(old)) => Ok(old),
            (answer, _) => answer,
        }
    }

    /// Forgets this token, if it is still the one in use.
    fn forget(&self, account: &Account, token: &Arc<Token>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(account)
            && slot
                .held
                .as_ref()
                .is_some_and(|held| Arc::ptr_eq(held, token))
        {
            slot.held = None;
        }
    }
}

#[derive(Deserialize)]
struct TokenRequest {
    metadata: Issued,
    #[serde(default)]
    spec: Asked,
    status: Given,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(rename = "creationTimestamp")]
    at: Option<jiff::Timestamp>,
}

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Given {
    token: String,
    #[serde(rename = "expirationTimestamp")]
    until: jiff::Timestamp,
}

/// Asks for a token of one audience. The first answer of a cluster says which audiences its API server takes; if
/// those are several, the first of them alone is asked for from then on.
async fn request(
    wire: &Wire,
    audience: &OnceLock<String>,
    account: &Account,
) -> Result<Token, TokenError> {
    let (token, audiences) = issue(wire, audience.get(), account).await?;
    match audiences.as_slice() {
        [first, _, ..] if audience.get().is_none() => {
            let first = audience.get_or_init(|| first.clone());
            Ok(issue(wire, Some(first), account).await?.0)
        }
        _ => Ok(token),
    }
}

/// One TokenRequest: the token, and the audiences it is for.
async fn issue(
    wire: &Wire,
    audience: Option<&String>,
    account: &Account,
) -> Result<(Token, Vec<String>), TokenError> {
    let Account { namespace, name } = account;
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{}/token",
        segment(namespace),
        segment(name)
    );
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "audiences": audience.into_iter().collect::<Vec<_>>(), "expirationSeconds": LIFETIME },
    });
    // The token's life is counted from before it was asked for, and by the API server's clock alone: ours may be wrong.
    let start = Instant::now();
    let unavailable = |why: String, retry_after| TokenError::Unavailable {
        namespace: namespace.clone(),
        account: name.clone(),
        why,
        retry_after,
    };
    let answer = wire
        .as_host(Ask::post(Call::Token, path, body.to_string()))
        .await
        .map_err(Trouble::from)
        .and_then(accepted)
        .map_err(|trouble| match trouble {
            Trouble::Denied(message) => TokenError::Denied {
                namespace: namespace.clone(),
                account: name.clone(),
                message,
            },
            Trouble::NotFound(kind) if kind == "namespaces" => TokenError::NoNamespace {
                namespace: namespace.clone(),
            },
            Trouble::Terminating => TokenError::NoNamespace {
                namespace: namespace.clone(),
            },
            Trouble::NotFound(_) => TokenError::NoAccount {
                namespace: namespace.clone(),
                account: name.clone(),
            },
            Trouble::Unavailable { why, retry_after } => unavailable(why, retry_after),
            Trouble::Unauthorized(said) => unavailable(
                format!("the API server does not take the host's own credentials: {said}"),
                None,
            ),
            Trouble::Refused(said) | Trouble::Conflict(said) => unavailable(said, None),
            Trouble::NoResource | Trouble::Exists | Trouble::TooLarge => {
                unavailable("the API server has no TokenRequest".to_owned(), None)
            }
        })?;
    let read: Result<TokenRequest, _> = serde_json::from_slice(&answer.body);
    if let Ok(mut bytes) = answer.body.try_into_mut() {
        bytes.as_mut().zeroize();
    }
    // The parser's error would quote the answer.
    let read = read.map_err(|_| {
        unavailable(
            "the answer to a TokenRequest holds no token".to_owned(),
            None,
        )
    })?;
    let life = life(read.metadata.at, read.status.until);
    let token = Token {
        secret: Secret::new(read.status.token),
        replace_at: start + life.mul_f64(USED_UP),
        ends_at: start + life,
    };
    Ok((token, read.spec.audiences))
}

/// How long a token lives. The API server says both ends; where it leaves out the first, our clock stands in.
fn life(issued: Option<jiff::Timestamp>, until: jiff::Timestamp) -> Duration {
    let issued = issued.unwrap_or_else(jiff::Timestamp::now);
    Duration::try_from(until.duration_since(issued)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_what_the_api_server_gave_and_not_what_was_asked() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let start = at("2001-01-01T00:00:00Z");
        assert_eq!(
            life(Some(start), at("2001-01-01T01:00:07Z")),
            Duration::from_secs(3607)
        );
        assert_eq!(
            life(Some(start), at("2000-12-31T00:00:00Z")),
            Duration::ZERO
        );
    }

    #[test]
    fn a_denial_says_which_rule_is_missing() {
        let error = TokenError::Denied {
            namespace: "ci-pay".into(),
            account: "creator".into(),
            message: String::new(),
        };
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains(
            "resources: [serviceaccounts/token], resourceNames: [creator], verbs: [create]"
        ));
        assert!(remedy.contains("ci-pay"));
    }
}
