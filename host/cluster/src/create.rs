//! Creates PipelineRuns, each with the rights of its place's creator account and no others.
//!
//! Safe to repeat: the name comes from the effect's id, and 'already exists' is a success only for an object that
//! carries this very effect and the digest of this very manifest.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;
use penstock_model::{admit::RunOrder, id::EffectId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    Cluster,
    names::{
        DIGEST_ANNOTATION, EFFECT_ANNOTATION, FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL,
        run_path, runs_path,
    },
    observe::Call,
    refusal::Trouble,
    stored::StoredRun,
    token::{Account, TokenError},
    wire::{Answer, Ask},
};

/// A run that exists.
#[derive(Clone, Debug)]
pub struct Created {
    /// UID of the PipelineRun.
    pub uid: String,
    /// It was there before: an earlier try created it, and its answer was lost.
    pub existed: bool,
    /// What the API server stored.
    pub stored: StoredRun,
}

/// Why a run was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// RBAC does not let the creator, or lets the host not have its token.
    #[error("denied by the cluster: {message}; {remedy}")]
    Denied {
        /// The API server's words.
        message: String,
        /// The rule to add.
        remedy: String,
    },
    /// Validation or an admission webhook does not take it.
    #[error("refused by the cluster: {message}")]
    Refused {
        /// The API server's words.
        message: String,
    },
    /// No such namespace, or it is being deleted.
    #[error(
        "the cluster has no namespace `{namespace}`, or is deleting it; create it with its accounts and roles"
    )]
    NoNamespace {
        /// The namespace.
        namespace: String,
    },
    /// No such creator.
    #[error(
        "namespace `{namespace}` has no account `{account}` to create runs; create it with its role"
    )]
    NoAccount {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
    },
    /// Tekton isn't there.
    #[error("the cluster does not know `tekton.dev/v1` PipelineRuns; install Tekton Pipelines")]
    NoTekton,
    /// Something else bears the name.
    #[error(
        "namespace `{namespace}` has a PipelineRun `{name}` already, which this effect did not make; delete or rename it"
    )]
    NameTaken {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// More than the API server or etcd take.
    #[error(
        "the PipelineRun of {bytes} bytes is larger than the cluster takes; move embedded tasks out of it"
    )]
    TooLarge {
        /// What was sent.
        bytes: usize,
    },
    /// Not now: the same order may succeed later.
    #[error("the cluster could not create the run now: {why}")]
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl CreateError {
    /// The same order may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The rule to add, where one is missing.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Denied { remedy, .. } => Some(remedy),
            _ => None,
        }
    }

    /// How long the API server wishes to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A word for metrics and records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::Refused { .. } => "refused",
            Self::NoNamespace { .. } => "no-namespace",
            Self::NoAccount { .. } => "no-account",
            Self::NoTekton => "no-tekton",
            Self::NameTaken { .. } => "name-taken",
            Self::TooLarge { .. } => "too-large",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

impl From<TokenError> for CreateError {
    fn from(error: TokenError) -> Self {
        let remedy = error.remedy().unwrap_or_default();
        let message = error.to_string();
        match error {
            TokenError::Denied { .. } => Self::Denied { message, remedy },
            TokenError::NoNamespace { namespace } => Self::NoNamespace { namespace },
            TokenError::NoAccount { namespace, account } => Self::NoAccount { namespace, account },
            TokenError::Unavailable { retry_after, .. } => Self::Unavailable {
                why: message,
                retry_after,
            },
        }
    }
}

impl Cluster {
    /// Creates the run, or finds it if this effect created it before.
    ///
    /// # Errors
    /// See [`CreateError`]; after a transient one it is not known whether the run exists, and the same order may be
    /// tried again.
    pub async fn create_run(
        &self,
        order: &RunOrder,
        effect: EffectId,
    ) -> Result<Created, CreateError> {
        let body = Bytes::from(outgoing(order, effect)?);
        let creator = Account {
            namespace: order.namespace.clone(),
            name: order.creator.clone(),
        };
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict",
            runs_path(&order.namespace)
        );
        let post = || Ask::post(Call::CreateRun, path.clone(), body.clone());
        match self.tokens.ask(&creator, post).await? {
            Ok(answer) => {
                let head = head(&answer)?;
                Ok(Created {
                    uid: head.metadata.uid.into_owned(),
                    existed: false,
                    stored: StoredRun::new(answer.body.clone()),
                })
            }
            Err(Trouble::Exists) => self.existing(order, effect, &creator).await,
            Err(trouble) => Err(error(trouble, order, body.len())),
        }
    }

    /// Looks whose object bears the name.
    async fn existing(
        &self,
        order: &RunOrder,
        effect: EffectId,
        creator: &Account,
    ) -> Result<Created, CreateError> {
        let get = || Ask::get(Call::ReadRun, run_path(&order.namespace, &order.name));
        let answer = match self.tokens.ask(creator, get).await? {
            Ok(answer) => answer,
            Err(Trouble::NotFound(_)) => {
                return Err(CreateError::Unavailable {
                    why: format!(
                        "PipelineRun `{}` was deleted while it was looked at",
                        order.name
                    ),
                    retry_after: None,
                });
            }
            Err(trouble) => return Err(error(trouble, order, 0)),
        };
        let head = head(&answer)?;
        let says = |name: &str| head.metadata.annotations.get(name).map(Cow::as_ref);
        let ours = says(EFFECT_ANNOTATION) == Some(effect.hex().as_str())
            && says(DIGEST_ANNOTATION) == Some(order.manifest_digest.to_string().as_str());
        if !ours {
            return Err(CreateError::NameTaken {
                namespace: order.namespace.clone(),
                name: order.name.clone(),
            });
        }
        Ok(Created {
            uid: head.metadata.uid.into_owned(),
            existed: true,
            stored: StoredRun::new(answer.body.clone()),
        })
    }
}

fn error(trouble: Trouble, order: &RunOrder, bytes: usize) -> CreateError {
    let namespace = order.namespace.clone();
    match trouble {
        Trouble::Denied(message) => CreateError::Denied {
            message,
            remedy: creator_remedy(&order.namespace, &order.creator),
        },
        Trouble::Refused(message) => CreateError::Refused { message },
        Trouble::Terminating => CreateError::NoNamespace { namespace },
        Trouble::NotFound(kind) if kind == "namespaces" => CreateError::NoNamespace { namespace },
        Trouble::NoResource => CreateError::NoTekton,
        Trouble::TooLarge => CreateError::TooLarge { bytes },
        Trouble::Unavailable { why, retry_after } => CreateError::Unavailable { why, retry_after },
        Trouble::Unauthorized(why) | Trouble::Conflict(why) => CreateError::Unavailable {
            why,
            retry_after: None,
        },
        Trouble::NotFound(what) => CreateError::Unavailable {
            why: format!("the API server finds no {what}"),
            retry_after: None,
        },
        Trouble::Exists => CreateError::NameTaken {
            namespace,
            name: order.name.clone(),
        },
    }
}

/// The rule that a creator needs.
pub(crate) fn creator_remedy(namespace: &str, creator: &str) -> String {
    rule_remedy(namespace, creator, CREATOR_VERBS)
}

/// What a creator needs in every place.
pub(crate) const CREATOR_VERBS: &str = "[create, get, patch]";

/// The rule with these verbs.
pub(crate) fn rule_remedy(namespace: &str, creator: &str, verbs: &str) -> String {
    format!(
        "grant account `{creator}` in namespace `{namespace}` the rule `apiGroups: [tekton.dev], resources: [pipelineruns], verbs: {verbs}` with a Role and a RoleBinding (examples/cluster/place.yaml has both)"
    )
}

/// What an answer is read for at once: who it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: HeadMetadata<'a>,
    /// Only that it is there.
    #[serde(borrow, rename = "spec")]
    _spec: &'a RawValue,
}

#[derive(Deserialize)]
struct HeadMetadata<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

fn head(answer: &Answer) -> Result<Head<'_>, CreateError> {
    serde_json::from_slice(&answer.body).map_err(|_| CreateError::Unavailable {
        why: "the API server answered with something that is no PipelineRun".to_owned(),
        retry_after: None,
    })
}

/// The manifest's bytes, with all that runs are found again by: it is there already in a manifest that `admit` built.
fn outgoing(order: &RunOrder, effect: EffectId) -> Result<Vec<u8>, CreateError> {
    let refused = |message: &str| CreateError::Refused {
        message: message.to_owned(),
    };
    let fields = [
        ("", "name", order.name.clone()),
        ("", "namespace", order.namespace.clone()),
        ("labels", MANAGED_BY_LABEL, MANAGED_BY.to_owned()),
        ("annotations", EFFECT_ANNOTATION, effect.hex()),
        (
            "annotations",
            DIGEST_ANNOTATION,
            order.manifest_digest.to_string(),
        ),
    ];
    let metadata = order.manifest.get("metadata");
    let complete = fields.iter().all(|(map, key, value)| {
        let holder = if map.is_empty() {
            metadata
        } else {
            metadata.and_then(|it| it.get(map))
        };
        holder.and_then(|it| it.get(key)).and_then(Value::as_str) == Some(value)
    });
    let mut manifest = Cow::Borrowed(&order.manifest);
    if !complete {
        let object = manifest.to_mut().as_object_mut();
        let object = object.ok_or_else(|| refused("the manifest is no object"))?;
        let metadata = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(Default::default()));
        for (map, key, value) in fields {
            let holder = metadata.as_object_mut();
            let mut holder = holder.ok_or_else(|| refused("`metadata` is no object"))?;
            if !map.is_empty() {
                let inner = holder
                    .entry(map)
                    .or_insert_with(|| Value::Object(Default::default()));
                let inner = inner.as_object_mut();
                holder = inner.ok_or_else(|| refused("labels or annotations are no object"))?;
            }
            holder.insert(key.to_owned(), Value::String(value));
        }
    }
    serde_json::to_vec(&manifest).map_err(|error| refused(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_not_now_is_worth_another_try() {
        let denied = TokenError::Denied {
            namespace: "n".into(),
            account: "a".into(),
            message: "m".into(),
        };
        let denied = CreateError::from(denied);
        assert!(
            !denied.is_transient() && denied.remedy().unwrap().contains("serviceaccounts/token")
        );
        let away = TokenError::Unavailable {
            namespace: "n".into(),
            account: "a".into(),
            why: "w".into(),
            retry_after: Some(Duration::from_secs(3)),
        };
        let away = CreateError::from(away);
        assert!(away.is_transient());
        assert_eq!(away.retry_after(), Some(Duration::from_secs(3)));
    }
}
