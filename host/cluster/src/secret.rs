//! Makes and deletes the Secrets of runs, with the rights of the place's creator account and no others.
//!
//! The creator may create and delete Secrets and read none: a Secret that is there already is deleted and made anew, which comes to the same, since its name is
//! from the effect's id and its contents are the journal's.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use penstock_model::id::EffectId;
use penstock_model::secret::Secret;
use serde_json::json;
use zeroize::Zeroize as _;

use crate::{
    Cluster,
    names::{
        EFFECT_ANNOTATION, FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, secret_path, secrets_path,
    },
    observe::Call,
    refusal::Trouble,
    token::{Account, TokenError},
    wire::Ask,
};

/// Which Secret.
#[derive(Clone, Copy, Debug)]
pub struct SecretAt<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The account that makes and deletes it.
    pub creator: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The effect that it is made for.
    pub effect: EffectId,
}

/// Why a Secret was not made or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// RBAC does not let the creator, or lets the host not have its token.
    #[error("denied by the cluster: {message}; {remedy}")]
    Denied {
        /// The API server's words.
        message: String,
        /// The rule to add.
        remedy: String,
    },
    /// Validation, a quota or an admission policy does not take it.
    #[error("the cluster refuses the Secret of the run: {message}")]
    Refused {
        /// The API server's words.
        message: String,
    },
    /// No such namespace or account.
    #[error(
        "namespace `{namespace}` with the account `{account}` is not there; create it with its roles (examples/cluster/place.yaml)"
    )]
    NoPlace {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
    },
    /// Not now: the same may succeed later.
    #[error("the Secret of the run could not be made or deleted now: {why}")]
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl SecretError {
    /// The same may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// How long the API server wishes to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    fn of_token(error: TokenError, at: SecretAt<'_>) -> Self {
        let remedy = error.remedy().unwrap_or_default();
        let message = error.to_string();
        match error {
            TokenError::Denied { .. } => Self::Denied { message, remedy },
            TokenError::NoNamespace { .. } | TokenError::NoAccount { .. } => Self::no_place(at),
            TokenError::Unavailable { retry_after, .. } => Self::Unavailable {
                why: message,
                retry_after,
            },
        }
    }

    fn no_place(at: SecretAt<'_>) -> Self {
        Self::NoPlace {
            namespace: at.namespace.to_owned(),
            account: at.creator.to_owned(),
        }
    }

    fn of(trouble: Trouble, at: SecretAt<'_>) -> Self {
        match trouble {
            Trouble::Denied(message) => Self::Denied {
                message,
                remedy: secrets_remedy(at.namespace, at.creator),
            },
            Trouble::Refused(message) => Self::Refused { message },
            Trouble::TooLarge => Self::Refused {
                message: "it is larger than the cluster takes".to_owned(),
            },
            Trouble::Terminating => Self::no_place(at),
            Trouble::NotFound(kind) if kind == "namespaces" => Self::no_place(at),
            Trouble::Unavailable { why, retry_after } => Self::Unavailable { why, retry_after },
            Trouble::Unauthorized(why) | Trouble::Conflict(why) | Trouble::NotFound(why) => {
                Self::Unavailable {
                    why,
                    retry_after: None,
                }
            }
            Trouble::Exists | Trouble::NoResource => Self::Unavailable {
                why: "it was made by somebody else at the same time".to_owned(),
                retry_after: None,
            },
        }
    }
}

/// The rule that a creator needs where runs clone.
pub(crate) fn secrets_remedy(namespace: &str, creator: &str) -> String {
    format!(
        "grant account `{creator}` in namespace `{namespace}` the rule `apiGroups: [\"\"], resources: [secrets], verbs: [create, delete]` with a Role and a RoleBinding (examples/cluster/place.yaml has both)"
    )
}

impl Cluster {
    /// Makes a Secret with these values, in the place of one that is there.
    ///
    /// # Errors
    /// See [`SecretError`]; after a transient one it is not known whether it is there.
    pub async fn make_secret(
        &self,
        at: SecretAt<'_>,
        values: &BTreeMap<&str, Secret>,
    ) -> Result<(), SecretError> {
        let mut posted = self.post_secret(at, values).await?;
        if posted == Err(Trouble::Exists) {
            self.delete_secret(at).await?;
            posted = self.post_secret(at, values).await?;
        }
        posted.map_err(|trouble| SecretError::of(trouble, at))
    }

    async fn post_secret(
        &self,
        at: SecretAt<'_>,
        values: &BTreeMap<&str, Secret>,
    ) -> Result<Result<(), Trouble>, SecretError> {
        let data: BTreeMap<&str, String> = values
            .iter()
            .map(|(key, value)| (*key, STANDARD.encode(value.reveal())))
            .collect();
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "immutable": true,
            "metadata": {
                "name": at.name,
                "namespace": at.namespace,
                "labels": { MANAGED_BY_LABEL: MANAGED_BY },
                "annotations": { EFFECT_ANNOTATION: at.effect.hex() },
            },
            "data": data,
        });
        let body = Bytes::from(object.to_string());
        wipe(&mut object);
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}",
            secrets_path(at.namespace)
        );
        let post = || Ask::post(Call::MakeSecret, path.clone(), body.clone());
        // The answer repeats what was sent, and is dropped unread.
        let answer = self.tokens.ask(&account(at), post).await;
        let answer = answer.map(|answer| answer.map(drop));
        if let Ok(mut bytes) = body.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        answer.map_err(|error| SecretError::of_token(error, at))
    }

    /// Deletes a Secret; one that is gone already is deleted.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn delete_secret(&self, at: SecretAt<'_>) -> Result<(), SecretError> {
        let path = secret_path(at.namespace, at.name);
        let ask = || Ask::delete(Call::DeleteSecret, path.clone(), Bytes::new());
        let answer = self
            .tokens
            .ask(&account(at), ask)
            .await
            .map_err(|error| SecretError::of_token(error, at))?;
        match answer {
            Ok(_) | Err(Trouble::NotFound(_)) => Ok(()),
            Err(trouble) => Err(SecretError::of(trouble, at)),
        }
    }
}

fn account(at: SecretAt<'_>) -> Account {
    Account {
        namespace: at.namespace.to_owned(),
        name: at.creator.to_owned(),
    }
}

fn wipe(object: &mut serde_json::Value) {
    if let Some(data) = object.get_mut("data").and_then(|it| it.as_object_mut()) {
        for value in data.values_mut() {
            if let serde_json::Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}
