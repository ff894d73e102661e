//! What it takes to reach a cluster, and how a kubeconfig is read without its secrets getting into an error.

use std::{path::PathBuf, time::Duration};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use penstock_model::{id::ClusterName, secret::Secret};

use crate::{links::Links, observe::OnCall};

/// How long a request may take if nothing else is said.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster in the configuration.
#[derive(Clone)]
pub struct ClusterSettings {
    /// Its name in the configuration.
    pub name: ClusterName,
    /// How to reach it.
    pub access: Access,
    /// Where clicks on its runs lead.
    pub links: Links,
    /// Is told of each request.
    pub on_call: Option<OnCall>,
    /// How long a request may take, its answer included. A watch has its own limits.
    pub request_timeout: Duration,
}

impl ClusterSettings {
    /// No links, nobody told of requests, 30 s for a request.
    pub fn new(name: ClusterName, access: Access) -> Self {
        Self {
            name,
            access,
            links: Links::None,
            on_call: None,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub enum Access {
    /// By a kubeconfig.
    Kubeconfig {
        /// Where it is.
        source: KubeconfigSource,
        /// The context to use; none: its current one.
        context: Option<String>,
    },
    /// From a pod of the cluster itself, by the pod's own account.
    InCluster,
}

/// Where a kubeconfig is.
#[derive(Clone, Debug)]
pub enum KubeconfigSource {
    /// In a file; relative names in it are relative to its folder.
    Path(PathBuf),
    /// Here.
    Text(Secret),
}

/// Why a cluster can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig can't be read.
    #[error("the kubeconfig of cluster `{cluster}` can't be used: {why}")]
    Kubeconfig {
        /// The cluster.
        cluster: ClusterName,
        /// Why, without anything that stands in the file.
        why: String,
    },
    /// Not in a pod.
    #[error(
        "cluster `{cluster}` is reached from inside, but this process has no pod's account: {why}; name a kubeconfig, or run in the cluster with `automountServiceAccountToken`"
    )]
    NotInCluster {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        why: String,
    },
    /// A proxy is asked for.
    #[error(
        "the kubeconfig of cluster `{cluster}` names a `proxy-url`, which is not supported; take it out or reach the API server directly"
    )]
    Proxy {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The client can't be made.
    #[error("no client can be made for cluster `{cluster}`: {why}")]
    Client {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        why: String,
    },
}

impl Access {
    /// Reads files and, where the kubeconfig says so, the environment; sends nothing.
    pub(crate) async fn config(self, cluster: &ClusterName) -> Result<Config, ConnectError> {
        let config = match self {
            Self::InCluster => Config::incluster().map_err(|error| ConnectError::NotInCluster {
                cluster: cluster.clone(),
                why: error.to_string(),
            })?,
            Self::Kubeconfig { source, context } => {
                let unusable = |error: KubeconfigError| ConnectError::Kubeconfig {
                    cluster: cluster.clone(),
                    why: without_contents(&error),
                };
                let kubeconfig = match source {
                    KubeconfigSource::Path(path) => Kubeconfig::read_from(path),
                    KubeconfigSource::Text(text) => Kubeconfig::from_yaml(text.reveal()),
                }
                .map_err(unusable)?;
                let options = KubeConfigOptions {
                    context,
                    ..KubeConfigOptions::default()
                };
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(unusable)?
            }
        };
        if config.proxy_url.is_some() {
            return Err(ConnectError::Proxy {
                cluster: cluster.clone(),
            });
        }
        Ok(config)
    }
}

/// The error's text, unless it could quote the file: a kubeconfig holds keys and tokens.
fn without_contents(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(_, _)
        | KubeconfigError::CurrentContextNotSet
        | KubeconfigError::LoadContext(_)
        | KubeconfigError::LoadClusterOfContext(_)
        | KubeconfigError::MissingClusterUrl => error.to_string(),
        KubeconfigError::Parse(_) => "it is not YAML, or not a kubeconfig".to_owned(),
        _ => {
            "an entry of the context that was asked for can't be read (address, certificate or key)"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn why(text: &str, context: Option<&str>) -> String {
        let access = Access::Kubeconfig {
            source: KubeconfigSource::Text(Secret::new(text)),
            context: context.map(str::to_owned),
        };
        access.config(&"prod".into()).await.unwrap_err().to_string()
    }

    const GOOD: &str = r#"{"apiVersion":"v1","kind":"Config","current-context":"a",
        "clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],
        "users":[{"name":"u","user":{"token":"hunter2"}}],
        "contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}]}"#;

    #[tokio::test]
    async fn an_error_never_quotes_the_kubeconfig() {
        for broken in [
            "users: [{name: u, user: {token: hunter2}",
            "token: hunter2\n  - x: [",
            "users: {name: hunter2}",
        ] {
            let why = why(broken, None).await;
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_named() {
        let why = why(GOOD, Some("staging")).await;
        assert!(why.contains("staging"), "{why}");
    }

    #[tokio::test]
    async fn a_proxy_is_refused_rather_than_passed_by() {
        let proxied = GOOD.replace(
            r#"{"server":"#,
            r#"{"proxy-url":"http://127.0.0.1:3128","server":"#,
        );
        assert!(why(&proxied, None).await.contains("proxy-url"));
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_can_be_connected_to() {
        let access = Access::Kubeconfig {
            source: KubeconfigSource::Text(Secret::new(GOOD)),
            context: None,
        };
        let settings = ClusterSettings::new("prod".into(), access);
        crate::Cluster::connect(settings).await.unwrap();
    }
}
