//! Something that speaks TLS and HTTP like an API server, and writes down what it was told.
//!
//! It issues tokens and says that runs were created. It keeps no objects, checks no rights and takes any certificate
//! that its own authority signed; the real thing is in the tests beside this one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The client showed a certificate.
    pub(crate) certificate: bool,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn is_token(&self) -> bool {
        self.path.ends_with("/token")
    }
}

/// What is answered.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) retry_after: Option<u64>,
    /// None: never.
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn status(code: u16, body: &Value) -> Self {
        Self {
            code,
            retry_after: None,
            body: Some(body.clone()),
        }
    }

    pub(crate) fn never() -> Self {
        Self {
            code: 0,
            retry_after: None,
            body: None,
        }
    }

    /// A token that was issued in 2001 by a clock that is wrong, and lives for so many seconds.
    pub(crate) fn token(token: &str, audiences: &[&str], seconds: u64) -> Self {
        Self::status(
            201,
            &json!({
                "metadata": { "creationTimestamp": "2001-01-01T00:00:00Z" },
                "spec": { "audiences": audiences },
                "status": {
                    "token": token,
                    "expirationTimestamp": format!("2001-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60),
                },
            }),
        )
    }
}

type Answer = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

pub(crate) struct StandIn {
    port: u16,
    credentials: Credentials,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

struct Credentials {
    authority: String,
    certificate: String,
    key: String,
}

impl StandIn {
    /// Answers as `answer` says, and by itself where it says nothing.
    pub(crate) async fn start(
        answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let (config, credentials) = keys();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&seen),
            Arc::new(answer),
        ));
        Self {
            port,
            credentials,
            seen,
            _tasks: tasks,
        }
    }

    /// A kubeconfig with a client certificate.
    pub(crate) fn kubeconfig(&self) -> String {
        let encode = |pem: &str| STANDARD.encode(pem);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": encode(&self.credentials.authority),
            }}],
            "users": [{ "name": "u", "user": {
                "client-certificate-data": encode(&self.credentials.certificate),
                "client-key-data": encode(&self.credentials.key),
            }}],
            "contexts": [{ "name": "a", "context": { "cluster": "c", "user": "u" } }],
        })
        .to_string()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// How many tokens were asked for.
    pub(crate) fn tokens(&self) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.is_token())
            .count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Seen>,
    answer: Arc<Answer>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen, answer) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&answer));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            seen.connections.fetch_add(1, Ordering::Relaxed);
            let certificate = stream.get_ref().1.peer_certificates().is_some();
            let mut stream = BufReader::new(stream);
            while let Some(request) = read(&mut stream, certificate).await {
                seen.requests.lock().unwrap().push(request.clone());
                let tokens = seen.requests.lock().unwrap().iter().filter(|request| request.is_token()).count();
                let reply = answer(&request).unwrap_or_else(|| usual(&request, tokens));
                let Some(body) = reply.body else { std::future::pending().await };
                let body = body.to_string();
                let retry = reply.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
                let text = format!(
                    "HTTP/1.1 {} X\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
                    reply.code,
                    retry.unwrap_or_default(),
                    body.len(),
                );
                if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        });
    }
}

/// What an API server answers.
fn usual(request: &Request, tokens: usize) -> Reply {
    if request.is_token() {
        return Reply::token(&format!("token-{tokens}"), &["https://one"], 600);
    }
    let mut object = request.body.clone();
    object["metadata"]["uid"] = json!("u-1");
    Reply::status(201, &object)
}

/// One request of a connection that is kept.
async fn read(stream: &mut (impl AsyncBufRead + Unpin), certificate: bool) -> Option<Request> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        path,
        certificate,
        authorization: headers.remove("authorization"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

/// An authority, a certificate of the server and one of the client.
fn keys() -> (ServerConfig, Credentials) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let signed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (server, server_key) = signed(&["127.0.0.1"]);
    let (certificate, key) = signed(&["host"]);

    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server_key.as_bytes()).unwrap(),
        )
        .unwrap();
    (
        config,
        Credentials {
            authority,
            certificate,
            key,
        },
    )
}
