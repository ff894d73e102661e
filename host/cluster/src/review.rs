//! Asks the API server's authorizer what somebody may do.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Cluster,
    observe::Call,
    read::ReadError,
    refusal::Trouble,
    token::{Account, TokenError},
    wire::Ask,
};

/// What somebody might do.
#[derive(Clone, Copy)]
pub(crate) struct Act<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    name: &'a str,
}

impl<'a> Act<'a> {
    pub(crate) const fn tekton(verb: &'a str, resource: &'a str) -> Self {
        Self {
            verb,
            group: "tekton.dev",
            resource,
            subresource: "",
            name: "",
        }
    }

    pub(crate) const fn core(verb: &'a str, resource: &'a str) -> Self {
        Self {
            group: "",
            ..Self::tekton(verb, resource)
        }
    }

    pub(crate) const fn core_sub(verb: &'a str, resource: &'a str, subresource: &'a str) -> Self {
        Self {
            subresource,
            ..Self::core(verb, resource)
        }
    }

    /// In one namespace, or in all of them.
    fn attributes(&self, namespace: &str) -> Value {
        json!({
            "namespace": namespace,
            "verb": self.verb,
            "group": self.group,
            "resource": self.resource,
            "subresource": self.subresource,
            "name": self.name,
        })
    }

    pub(crate) fn shown(&self) -> String {
        match self.subresource {
            "" => format!("{} {}", self.verb, self.resource),
            subresource => format!("{} {}/{subresource}", self.verb, self.resource),
        }
    }
}

impl Cluster {
    /// What the host may do.
    pub(crate) async fn host_may(&self, act: &Act<'_>, namespace: &str) -> Result<bool, NoReview> {
        let review = json!({ "spec": { "resourceAttributes": act.attributes(namespace) } });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let review = self
            .read(Ask::post(Call::Review, path, review.to_string()))
            .await?;
        allowed(review)
    }

    /// What an account may do, asked with its own token.
    pub(crate) async fn account_may(
        &self,
        account: &Account,
        act: &Act<'_>,
    ) -> Result<bool, NoReview> {
        let review =
            json!({ "spec": { "resourceAttributes": act.attributes(&account.namespace) } })
                .to_string();
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let ask = || Ask::post(Call::Review, path.to_owned(), review.clone());
        match self.tokens.ask(account, ask).await? {
            Ok(answer) => allowed(serde_json::from_slice(&answer.body).ok()),
            Err(Trouble::Unavailable { why, .. }) => Err(NoReview::Unclear(why)),
            Err(Trouble::Denied(said) | Trouble::Refused(said)) => Err(NoReview::Unclear(said)),
            Err(_) => Err(NoReview::Unclear("it has no access reviews".to_owned())),
        }
    }

    /// What an account may do, asked by the host.
    pub(crate) async fn other_may(
        &self,
        namespace: &str,
        account: &str,
        act: &Act<'_>,
    ) -> Result<bool, NoReview> {
        let review = json!({ "spec": {
            "user": format!("system:serviceaccount:{namespace}:{account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": act.attributes(namespace),
        }});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
        allowed(
            self.read(Ask::post(Call::Review, path, review.to_string()))
                .await?,
        )
    }
}

/// Why it is not known what somebody may do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReview {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the API server gave no answer that can be used: {0}")]
    Unclear(String),
}

fn allowed(review: Option<Value>) -> Result<bool, NoReview> {
    #[derive(Deserialize)]
    struct Review {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        allowed: bool,
    }
    let review: Review = serde_json::from_value(review.unwrap_or_default())
        .map_err(|_| NoReview::Unclear("no access review came back".to_owned()))?;
    Ok(review.status.allowed)
}
