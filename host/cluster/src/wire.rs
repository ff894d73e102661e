//! Requests to the API server and their answers as bytes.
//!
//! Two clients for each cluster. The host's own carries the kubeconfig's credentials. The bare one carries none, not
//! even the kubeconfig's client certificate (an API server believes a certificate before a token): each of its
//! requests brings the token of the account it is made for, so all accounts share one pool of connections.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{AuthError, Body, ConfigExt as _},
    config::AuthInfo,
};
use penstock_model::{id::ClusterName, secret::Secret};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::{
    observe::{Call, CallSeen, OnCall},
    settings::ConnectError,
};

/// Connecting, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that said nothing for so long is dead: a watch ends before, and no call is given as much time.
const READ_TIMEOUT: Duration = Duration::from_secs(45);
/// Unused connections are kept so long; API servers close them after 90 s at the earliest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Greatest answer that is read.
const ANSWER_LIMIT: usize = 32 << 20;

/// One request.
pub(crate) struct Ask {
    /// What is counted.
    pub(crate) call: Call,
    /// The verb.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// Media type of the body.
    pub(crate) content_type: &'static str,
    /// May be empty.
    pub(crate) body: Bytes,
}

impl Ask {
    /// Reads.
    pub(crate) fn get(call: Call, path: String) -> Self {
        Self {
            call,
            method: Method::GET,
            path,
            content_type: "application/json",
            body: Bytes::new(),
        }
    }

    /// Creates.
    pub(crate) fn post(call: Call, path: String, body: impl Into<Bytes>) -> Self {
        Self {
            call,
            method: Method::POST,
            path,
            content_type: "application/json",
            body: body.into(),
        }
    }

    /// Deletes.
    pub(crate) fn delete(call: Call, path: String, options: impl Into<Bytes>) -> Self {
        Self {
            call,
            method: Method::DELETE,
            path,
            content_type: "application/json",
            body: options.into(),
        }
    }

    /// Changes.
    pub(crate) fn merge_patch(call: Call, path: String, body: impl Into<Bytes>) -> Self {
        Self {
            call,
            method: Method::PATCH,
            path,
            content_type: "application/merge-patch+json",
            body: body.into(),
        }
    }
}

/// An answer, whole.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// The API server's wish.
    pub(crate) retry_after: Option<Duration>,
    /// As it came.
    pub(crate) body: Bytes,
}

/// There was no answer: whether the request was carried out is not known.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Why.
    pub(crate) why: String,
}

/// The connections to one cluster.
pub(crate) struct Wire {
    cluster: ClusterName,
    host: Client,
    bare: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a `/` at its end.
    base: String,
    limit: Duration,
    on_call: Option<OnCall>,
}

impl Wire {
    /// Prepares both clients.
    pub(crate) fn new(
        cluster: ClusterName,
        mut config: Config,
        limit: Duration,
        on_call: Option<OnCall>,
    ) -> Result<Self, ConnectError> {
        // Whoever calls us tries again, with a memory longer than a client's.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        let unmakable = |error: kube::Error| ConnectError::Client {
            cluster: cluster.clone(),
            why: chain(&error),
        };

        let mut anonymous = config.clone();
        anonymous.auth_info = AuthInfo::default();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(IDLE_TIMEOUT));
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let base = config.cluster_url.to_string();
        // The host's client first: making it installs the process's TLS provider, if there is none yet.
        let host = Client::try_from(config).map_err(unmakable)?;
        let connector = anonymous
            .rustls_https_connector_with_connector(connector)
            .map_err(unmakable)?;
        let bare = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self {
            cluster,
            host,
            bare,
            base: base.trim_end_matches('/').to_owned(),
            limit,
            on_call,
        })
    }

    /// A client with the host's rights, for a watch.
    pub(crate) fn host(&self) -> Client {
        self.host.clone()
    }

    /// Asks with the host's rights.
    pub(crate) async fn as_host(&self, ask: Ask) -> Result<Answer, Lost> {
        let call = ask.call;
        self.measured(call, async {
            let request = request(&ask, &ask.path)?
                .body(Body::from(ask.body))
                .map_err(|error| lost(&error))?;
            let answer = self
                .host
                .send(request)
                .await
                .map_err(|error| lost(&error))?;
            whole(answer).await
        })
        .await
    }

    /// Asks with the rights of whoever holds this token.
    pub(crate) async fn with_token(&self, ask: Ask, token: &Secret) -> Result<Answer, Lost> {
        let call = ask.call;
        self.measured(call, async {
            let bearer = Zeroizing::new(format!("Bearer {}", token.reveal()));
            let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| Lost {
                why: "the API server issued a token that no header can carry".to_owned(),
            })?;
            bearer.set_sensitive(true);
            let request = request(&ask, &format!("{}{}", self.base, ask.path))?
                .header(AUTHORIZATION, bearer)
                .body(Full::new(ask.body))
                .map_err(|error| lost(&error))?;
            let answer = self
                .bare
                .request(request)
                .await
                .map_err(|error| lost(&error))?;
            whole(answer).await
        })
        .await
    }

    /// Keeps the limit, and tells whoever counts.
    async fn measured(
        &self,
        call: Call,
        work: impl Future<Output = Result<Answer, Lost>>,
    ) -> Result<Answer, Lost> {
        let start = Instant::now();
        let answer = timeout(self.limit, work).await.unwrap_or_else(|_| {
            Err(Lost {
                why: format!("the API server did not answer within {:?}", self.limit),
            })
        });
        if let Some(on_call) = &self.on_call {
            on_call(&CallSeen {
                cluster: &self.cluster,
                call,
                status: answer.as_ref().ok().map(|answer| answer.status.as_u16()),
                took: start.elapsed(),
            });
        }
        answer
    }
}

fn request(ask: &Ask, uri: &str) -> Result<http::request::Builder, Lost> {
    let uri: http::Uri = uri.parse().map_err(|error| lost(&error))?;
    Ok(Request::builder()
        .method(ask.method.clone())
        .uri(uri)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, ask.content_type))
}

/// Reads an answer to its end.
async fn whole<B>(answer: http::Response<B>) -> Result<Answer, Lost>
where
    B: http_body_util::BodyExt,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = answer.into_parts();
    let retry_after = head
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = Limited::new(body, ANSWER_LIMIT)
        .collect()
        .await
        .map_err(|error| lost(error.as_ref()))?;
    Ok(Answer {
        status: head.status,
        retry_after,
        body: body.to_bytes(),
    })
}

fn lost(error: &(dyn Error + 'static)) -> Lost {
    Lost { why: chain(error) }
}

/// The error and what caused it, in one line. What a credentials command printed is left out: it may be a token.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<AuthError>() {
            Some(AuthError::ReadTokenFile(why, path)) => {
                parts.push(format!(
                    "can't read the token file {}: {why}",
                    path.display()
                ));
                break;
            }
            Some(AuthError::AuthExecRun { cmd, .. }) => {
                parts.push(format!("the kubeconfig's command `{cmd}` failed"));
                break;
            }
            Some(_) => {
                parts.push("the kubeconfig's credentials can't be had".to_owned());
                break;
            }
            None => {}
        }
        // Libraries wrap an error whose text they repeat, and kube wraps the credentials' errors like that.
        match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Auth(_) | kube::Error::Service(_) | kube::Error::HyperError(_)) => {}
            _ => {
                let text = error.to_string();
                if !parts.iter().any(|part| part.contains(&text)) {
                    parts.push(text);
                }
            }
        }
        next = error.source();
    }
    parts.join(": ")
}
