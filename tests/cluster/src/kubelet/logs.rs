//! Serves `GET /containerLogs/NAMESPACE/POD/CONTAINER` over TLS, so `pods/log` of the API server works.
//!
//! What a container has printed is worked out anew from its pod. Listens on loopback and asks
//! nobody for credentials, unlike a kubelet.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::pods;
use crate::pki;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
const FOLLOW_LIMIT: Duration = Duration::from_secs(600);
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// A TLS listener on a free port of loopback.
pub(super) struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener {
    pub(super) async fn bind() -> Result<Self> {
        let pair = pki::loopback_certificate()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config
                    .with_no_client_auth()
                    .with_single_cert(vec![pair.cert.der().clone()], key)
            })
            .context("can't set up TLS for the kubelet")?;
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no port is free for the kubelet")?;
        Ok(Self {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    pub(super) fn port(&self) -> Result<u16> {
        Ok(self
            .listener
            .local_addr()
            .context("the kubelet's port is unknown")?
            .port())
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            if let Ok(Ok(stream)) =
                tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(stream)).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

pub(super) async fn serve(listener: Listener, client: Client) {
    let router = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .with_state(client);
    // Serving ends only with the task.
    let _ = axum::serve(listener, router).await;
}

/// What the API server passes on of a request for logs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wish {
    #[serde(default)]
    follow: bool,
    tail_lines: Option<usize>,
    limit_bytes: Option<usize>,
}

async fn log(
    State(client): State<Client>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(wish): Query<Wish>,
) -> Result<String, (StatusCode, String)> {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let failed =
        |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let pod = match wish.follow {
        true => ended(&pods, &name).await.map_err(|error| failed(&error))?,
        false => pods.get(&name).await.map_err(|error| failed(&error))?,
    };
    let outcome = pods::play(&pod)
        .into_iter()
        .find(|(found, _)| found.name == container);
    let (_, outcome) =
        outcome.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no container `{container}`")))?;
    Ok(cut(&outcome.log, &wish))
}

/// The pod once it has ended, or as it is when the limit is reached.
async fn ended(pods: &Api<Pod>, name: &str) -> Result<Pod, kube::Error> {
    let start = Instant::now();
    loop {
        let pod = pods.get(name).await?;
        if has_ended(&pod) || start.elapsed() > FOLLOW_LIMIT {
            return Ok(pod);
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The last lines, and of those the first bytes, as a kubelet does.
fn cut(log: &str, wish: &Wish) -> String {
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let first = wish
        .tail_lines
        .map_or(0, |tail| lines.len().saturating_sub(tail));
    let text: String = lines.into_iter().skip(first).collect();
    match wish.limit_bytes {
        Some(limit) => {
            String::from_utf8_lossy(text.as_bytes().get(..limit).unwrap_or(text.as_bytes()))
                .into_owned()
        }
        None => text,
    }
}
