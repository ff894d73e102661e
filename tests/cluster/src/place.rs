//! A namespace of its own for each test, with the accounts that a place has in production.
//!
//! The accounts and their rights are those of `examples/cluster/`, applied as they are but for the
//! namespace's name: what the tests show holds for what a user applies.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{access::Access, apply, kubelet::HOLD, tekton::pipeline_run_resource, wait};

/// Penstock's own account, as a user applies it.
pub const PENSTOCK_YAML: &str = include_str!("../../../examples/cluster/penstock.yaml");
/// A place, as a user applies it; its namespace is [`EXAMPLE_NAMESPACE`].
pub const PLACE_YAML: &str = include_str!("../../../examples/cluster/place.yaml");
/// The namespace's name in [`PLACE_YAML`].
pub const EXAMPLE_NAMESPACE: &str = "ci-acme";

/// The account whose tokens create runs.
pub const CREATOR: &str = "creator";
/// The account of the pods.
pub const RUN_AS: &str = "run-as";
/// Penstock's account, in the namespace of the same name.
pub const HOST: &str = "penstock";

/// How long the tokens live, in seconds. The API server gives none for less than 600.
const TOKEN_SECONDS: i64 = 3600;

/// How long the API server may take to know of rights that were given.
const RIGHTS_LIMIT: Duration = Duration::from_secs(90);

/// A place for one test.
#[derive(Clone, Debug)]
pub struct TestPlace {
    access: Access,
    namespace: String,
    host_token: Token,
}

/// A token that is never shown.
#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TestPlace {
    /// Creates the namespace `PREFIX-RANDOM` with its accounts, and a token for Penstock's account.
    ///
    /// # Errors
    /// If the control plane refuses an object.
    pub async fn create(access: &Access, prefix: &str) -> Result<Self> {
        let client = access.client().await?;
        apply_host(access, &client).await?;
        let random = uuid::Uuid::new_v4().simple().to_string();
        let namespace = format!("{prefix}-{}", random.split_at(8).0);
        apply::apply_in_order(
            &client,
            &apply::parse(&PLACE_YAML.replace(EXAMPLE_NAMESPACE, &namespace))?,
        )
        .await?;
        in_force(&client, &namespace).await?;
        let host_token = Token(request_token(&client, HOST, HOST).await?);
        Ok(Self {
            access: access.clone(),
            namespace,
            host_token,
        })
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kubeconfig that Penstock is given: its own account's, a secret.
    #[must_use]
    pub fn host_kubeconfig(&self) -> String {
        self.access.kubeconfig_for(&self.host_token.0)
    }

    /// A client with the rights of Penstock's own account.
    ///
    /// # Errors
    /// If the client can't be built.
    pub async fn host_client(&self) -> Result<Client> {
        self.access.client_with_token(&self.host_token.0).await
    }

    /// A client with the rights of an account of this namespace: [`CREATOR`] or [`RUN_AS`].
    ///
    /// # Errors
    /// If the account gets no token.
    pub async fn client_as(&self, account: &str) -> Result<Client> {
        let token = self.token_of(account).await?;
        self.access.client_with_token(&token).await
    }

    /// A token of an account of this namespace, asked for by the administrator.
    ///
    /// # Errors
    /// If the account gets no token.
    pub async fn token_of(&self, account: &str) -> Result<String> {
        request_token(&self.access.client().await?, &self.namespace, account).await
    }

    /// The namespace's PipelineRuns, reached with `client`'s rights.
    #[must_use]
    pub fn pipeline_runs(&self, client: Client) -> Api<DynamicObject> {
        Api::namespaced_with(client, &self.namespace, &pipeline_run_resource())
    }

    /// Keeps pods that are made from now on running, until [`Self::let_pods_finish`].
    ///
    /// # Errors
    /// If the namespace can't be changed.
    pub async fn hold_pods(&self) -> Result<()> {
        self.annotate(json!("true")).await
    }

    /// Lets held pods run to their end.
    ///
    /// # Errors
    /// If the namespace can't be changed.
    pub async fn let_pods_finish(&self) -> Result<()> {
        self.annotate(json!(null)).await
    }

    /// Deletes the namespace with all that is in it; the control plane goes on with that by itself.
    ///
    /// # Errors
    /// If the namespace can't be deleted.
    pub async fn delete(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.access.client().await?);
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .context("can't delete the namespace")?;
        Ok(())
    }

    async fn annotate(&self, hold: serde_json::Value) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.access.client().await?);
        let patch = json!({ "metadata": { "annotations": { HOLD: hold } } });
        namespaces
            .patch(
                &self.namespace,
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
            .context("can't annotate the namespace")?;
        Ok(())
    }
}

/// Applies Penstock's own account, once in this process for each control plane.
async fn apply_host(access: &Access, client: &Client) -> Result<()> {
    static APPLIED: OnceCell<String> = OnceCell::const_new();
    let objects = apply::parse(PENSTOCK_YAML)?;
    let first = APPLIED
        .get_or_try_init(async || {
            apply::apply_in_order(client, &objects).await?;
            anyhow::Ok(access.server_url().to_owned())
        })
        .await?;
    if first != access.server_url() {
        apply::apply_in_order(client, &objects).await?;
    }
    Ok(())
}

/// The API server's authorizer is a moment behind what was written: waits until each account may do what it is for.
async fn in_force(client: &Client, namespace: &str) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let account = |of: &str, name: &str| format!("system:serviceaccount:{of}:{name}");
    let may = |user: String, attributes: ResourceAttributes| SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let runs = |verb: &str| ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some("tekton.dev".to_owned()),
        resource: Some("pipelineruns".to_owned()),
        ..ResourceAttributes::default()
    };
    let tokens = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("create".to_owned()),
        resource: Some("serviceaccounts".to_owned()),
        subresource: Some("token".to_owned()),
        name: Some(CREATOR.to_owned()),
        ..ResourceAttributes::default()
    };
    let create = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        ..runs("create")
    };
    for asked in [
        may(account(HOST, HOST), runs("watch")),
        may(account(HOST, HOST), tokens),
        may(account(namespace, CREATOR), create),
    ] {
        wait::until("the rights of a place", RIGHTS_LIMIT, async || {
            let answer = reviews.create(&PostParams::default(), &asked).await?;
            Ok(answer.status.filter(|status| status.allowed).map(drop))
        })
        .await?;
    }
    Ok(())
}

async fn request_token(client: &Client, namespace: &str, account: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("no token for {namespace}/{account}"))?;
    answer
        .status
        .and_then(|status| status.token)
        .context("a TokenRequest without a token")
}
