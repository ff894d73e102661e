//! Kubernetes and Tekton, as Penstock needs them: PipelineRuns are created, stopped and watched.
//!
//! The only crate that knows kube. It never decides whether a run may exist: `penstock_model::admit` says what may be
//! in it, Kubernetes RBAC says who may create it. Whatever is written to the cluster is written with a short-lived
//! token of the place's own `creator` account; the host's account only reads, and asks for those tokens.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | what it takes to reach a cluster |
//! | [`create`], [`stop`] | the two things that are done to a run |
//! | [`secret`] | Secrets of runs |
//! | [`stored`] | a run as the API server has it, and its digest |
//! | [`token`] | tokens of the accounts that create runs |
//! | [`watch`], [`status`], [`failed_task`] | what becomes of it |
//! | [`log`] | the end of a failed step's log |
//! | [`check`] | whether the rights are as they should be, and what to do if not |
//! | [`links`] | where a click on a run leads |
//! | [`observe`] | how long the API server takes |
//! | [`names`] | labels and annotations of runs |
//!
//! ```no_run
//! # async fn example(order: penstock_model::admit::RunOrder, effect: penstock_model::id::EffectId)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use penstock_cluster::{Access, Cluster, ClusterSettings, KubeconfigSource};
//!
//! let source = KubeconfigSource::Path("/etc/penstock/prod.kubeconfig".into());
//! let access = Access::Kubeconfig { source, context: None };
//! let cluster = Cluster::connect(ClusterSettings::new("prod".into(), access)).await?;
//! let created = cluster.create_run(&order, effect).await?;
//! println!("{} {}", created.uid, created.existed);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

use std::sync::Arc;

use penstock_model::id::ClusterName;

pub mod check;
pub mod create;
pub mod delete;
pub mod failed_task;
pub mod links;
pub mod log;
pub mod names;
pub mod observe;
pub mod read;
pub mod secret;
pub mod settings;
pub mod status;
pub mod stop;
pub mod stored;
pub mod token;
pub mod watch;

mod left_over;
mod object;
mod refusal;
mod review;
mod wire;

pub use check::{Check, Verdict};
pub use create::{CreateError, Created};
pub use delete::Deleted;
pub use failed_task::FailedTask;
pub use links::{BaseUrl, LinkError, LinkTo, Links, UrlTemplate};
pub use log::{LogAt, LogEnd, LogError};
pub use names::{DIGEST_ANNOTATION, EFFECT_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL};
pub use observe::{Call, CallSeen, OnCall};
pub use read::ReadError;
pub use secret::{SecretAt, SecretError};
pub use settings::{Access, ClusterSettings, ConnectError, KubeconfigSource};
pub use status::{Child, RunStatus, status_of};
pub use stop::{StopError, Stopped};
pub use stored::{StoredRun, spec_digest};
pub use token::TokenError;
pub use watch::RunSeen;

/// A cluster. Cloning is cheap; all clones share connections and tokens.
#[derive(Clone)]
pub struct Cluster {
    name: ClusterName,
    links: Links,
    wire: Arc<wire::Wire>,
    tokens: Arc<token::Tokens>,
}

impl Cluster {
    /// Reads the access and prepares clients, on the calling tokio runtime. Nothing is sent: a cluster that is away
    /// stops nobody from starting.
    ///
    /// # Errors
    /// The kubeconfig can't be read or used.
    pub async fn connect(settings: ClusterSettings) -> Result<Self, ConnectError> {
        let ClusterSettings {
            name,
            access,
            links,
            on_call,
            request_timeout,
        } = settings;
        let config = access.config(&name).await?;
        let wire = wire::Wire::new(name.clone(), config, request_timeout, on_call)?;
        let wire = Arc::new(wire);
        let tokens = Arc::new(token::Tokens::new(Arc::clone(&wire)));
        Ok(Self {
            name,
            links,
            wire,
            tokens,
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Where clicks on its runs lead.
    pub fn links(&self) -> &Links {
        &self.links
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
