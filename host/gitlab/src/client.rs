//! A client of one GitLab with one token.
//!
//! Clones share connections, budget and caches. Two kinds of caches: what decides over rights is kept for less than a minute,
//! what can't change (files at a commit, blobs) as long as there is room.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use penstock_model::id::{CommitId, ProjectId};
use penstock_model::secret::Secret;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{TreeRow, UserRow};
use crate::budget::{Budget, Gates, Priority};
use crate::call::Call;
use crate::error::ApiError;

/// How long an answer that decides over rights is believed.
const BELIEVED: Duration = Duration::from_secs(45);

/// Shortest timeout: GitLab waits up to 10 s on a lock before it answers a commit status.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How a GitLab is reached. Plain data; [`Client::new`] checks it.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Such as `https://gitlab.example.com`, with a path if GitLab lives below one.
    pub base_url: String,
    /// An access token with the scope `api`.
    pub token: Secret,
    /// Certificates of a private authority that are trusted beside the system's, PEM.
    pub certificate: Option<Vec<u8>>,
    /// Of one call, at least 15 s.
    pub timeout: Duration,
    /// Calls that may be made in a minute. GitLab.com takes 2,000 of a user.
    pub calls_per_minute: u32,
    /// Bytes of files and trees that are kept.
    pub cache_bytes: u64,
}

impl ClientSettings {
    /// With 20 s, 1,600 calls a minute and 64 MiB.
    pub fn new(base_url: impl Into<String>, token: Secret) -> Self {
        Self {
            base_url: base_url.into(),
            token,
            certificate: None,
            timeout: Duration::from_secs(20),
            calls_per_minute: 1600,
            cache_bytes: 64 << 20,
        }
    }
}

/// Why a client can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error(
        "`{url}` is no address of a GitLab: write it like `https://gitlab.example.com`, without user, query or fragment"
    )]
    BaseUrl {
        /// What was given, freed of a user and password.
        url: String,
    },
    /// The token can't stand in a header.
    #[error("the token is empty or holds characters that no token has, such as a line break")]
    Token,
    /// The certificates can't be read.
    #[error("the certificates of the private authority can't be read as PEM")]
    Certificate,
    /// The HTTP library refuses.
    #[error("no HTTP client can be made: {problem}")]
    Http {
        /// What it says.
        problem: String,
    },
}

/// One call, for metrics.
#[derive(Clone, Debug)]
pub struct CallReport {
    /// What kind of call, such as `project` or `status.set`: few values, no ids.
    pub class: &'static str,
    /// None: there was no answer.
    pub status: Option<u16>,
    /// From sending to the whole answer.
    pub latency: Duration,
    /// For a turn in the token's budget.
    pub waited: Duration,
}

/// Is told of every call. The server counts.
pub trait Observer: Send + Sync {
    /// A call ended.
    fn called(&self, report: &CallReport);
}

impl Observer for () {
    fn called(&self, _: &CallReport) {}
}

/// A client of one GitLab with one token.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) priority: Priority,
    /// So old may an answer be that decides over rights.
    believed: Duration,
}

pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: HeaderValue,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) budget: Budget,
    /// One status at a time for each project and commit.
    pub(crate) status_gates: Gates<(ProjectId, CommitId)>,
    /// One comment at a time for each project and target.
    pub(crate) comment_gates: Gates<(ProjectId, String)>,
    /// Ids of our living comments by project and marker, so that they need not be searched for.
    pub(crate) comments: Cache<(ProjectId, String), (u64, Option<String>)>,
    recent: Cache<String, (Instant, Bytes), ByBytes>,
    pub(crate) lasting: Cache<LastingKey, Lasting, ByBytes>,
    /// GitLab does not serve GraphQL, or not to this token.
    pub(crate) no_graphql: AtomicBool,
}

/// Names what can't change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LastingKey {
    File(ProjectId, CommitId, String),
    Blob(ProjectId, String),
    Tree(ProjectId, CommitId, String),
}

/// What can't change.
#[derive(Clone, Debug)]
pub(crate) enum Lasting {
    File { blob: String, content: Bytes },
    Blob(Bytes),
    Tree(Arc<Vec<TreeRow>>),
}

#[derive(Clone)]
pub(crate) struct ByBytes;

/// What an entry costs beside its bytes.
const ENTRY: u64 = 256;

impl Weighter<LastingKey, Lasting> for ByBytes {
    fn weight(&self, _: &LastingKey, value: &Lasting) -> u64 {
        ENTRY
            + match value {
                Lasting::File { content, .. } | Lasting::Blob(content) => content.len() as u64,
                Lasting::Tree(rows) => rows.len() as u64 * ENTRY,
            }
    }
}

impl Weighter<String, (Instant, Bytes)> for ByBytes {
    fn weight(&self, key: &String, value: &(Instant, Bytes)) -> u64 {
        ENTRY + key.len() as u64 + value.1.len() as u64
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.shared.base)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// The user that the token belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OwnUser {
    /// GitLab's id.
    pub id: u64,
    /// GitLab's name.
    pub username: String,
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// A setting can't be used.
    pub fn new(settings: ClientSettings, observer: Arc<dyn Observer>) -> Result<Self, ClientError> {
        let ClientSettings {
            base_url,
            token,
            certificate,
            timeout,
            calls_per_minute,
            cache_bytes,
        } = settings;
        let base = base_address(&base_url)?;
        let mut token = HeaderValue::from_str(token.reveal())
            .ok()
            .filter(|token| !token.is_empty())
            .ok_or(ClientError::Token)?;
        token.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("penstock/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .timeout(timeout.max(SHORTEST_TIMEOUT))
            // The token would go along to wherever a redirect leads.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = certificate {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem);
            let certificates = certificates.map_err(|_| ClientError::Certificate)?;
            if certificates.is_empty() {
                return Err(ClientError::Certificate);
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| ClientError::Http {
            problem: error.to_string(),
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                base,
                token,
                observer,
                budget: Budget::new(calls_per_minute),
                status_gates: Gates::default(),
                comment_gates: Gates::default(),
                comments: Cache::new(10_000),
                recent: Cache::with_weighter(10_000, 16 << 20, ByBytes),
                lasting: Cache::with_weighter(10_000, cache_bytes, ByBytes),
                no_graphql: AtomicBool::new(false),
            }),
            priority: Priority::Foreground,
            believed: BELIEVED,
        })
    }

    /// The same client for work that gives way to everything else.
    #[must_use]
    pub fn background(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            priority: Priority::Background,
            believed: self.believed,
        }
    }

    /// The same client, but rights are asked for anew and not believed from before. What it hears others believe.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self {
            believed: Duration::ZERO,
            ..self.clone()
        }
    }

    /// Base address, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.shared.base
    }

    /// The user that the token belongs to.
    ///
    /// # Errors
    /// GitLab has no answer.
    pub async fn own_user(&self) -> Result<OwnUser, ApiError> {
        let user: UserRow = self.recent(&Call::get("user.self", &["user"])).await?;
        Ok(OwnUser {
            id: user.id,
            username: user.username,
        })
    }

    /// An answer that may be up to a minute old. Refusals are always asked for again.
    pub(crate) async fn recent<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        let key = call.key();
        let held = self.shared.recent.get(&key);
        if let Some((_, body)) = held.filter(|(at, _)| at.elapsed() < self.believed) {
            return read(call.class, &body);
        }
        let reply = match self.send(call).await {
            Ok(reply) => reply,
            Err(error) => {
                // A right that was there a moment ago is believed no longer, whoever asks.
                if error.is_denial() {
                    self.shared.recent.remove(&key);
                }
                return Err(error);
            }
        };
        let value = read(call.class, &reply.body)?;
        self.shared.recent.insert(key, (Instant::now(), reply.body));
        Ok(value)
    }

    /// An answer as it is now.
    pub(crate) async fn now<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ApiError> {
        let reply = self.send(call).await?;
        read(call.class, &reply.body)
    }

    /// How many calls wait for their turn, those of background work aside.
    pub fn waiting(&self) -> usize {
        self.shared.budget.waiting()
    }

    /// Forgets everything that decides over rights.
    pub fn forget_rights(&self) {
        self.shared.recent.clear();
    }
}

fn base_address(text: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::BaseUrl {
        url: text.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    let url = reqwest::Url::parse(text.trim()).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err(wrong())
    }
}

/// Reads an answer's JSON.
pub(crate) fn read<T: DeserializeOwned>(class: &'static str, body: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| ApiError::Unreadable {
        class,
        problem: format!("at `{}`: {}", error.path(), error.inner()),
    })
}

/// A header as text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_or_query_is_refused_and_not_repeated() {
        for text in [
            "gitlab.example.com",
            "ftp://gitlab.example.com",
            "https://root:hunter2@gitlab.example.com",
            "https://gitlab.example.com?private_token=x",
            "https://gitlab.example.com#x",
            "",
        ] {
            let error = base_address(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(
            base_address("https://x.example/gitlab/").unwrap(),
            "https://x.example/gitlab"
        );
    }

    #[test]
    fn a_client_and_its_settings_do_not_print_the_token() {
        let settings = ClientSettings::new("https://x.example", Secret::new("glpat-hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let client = Client::new(settings, Arc::new(())).unwrap();
        assert!(!format!("{client:?} {:?}", client.shared.token).contains("hunter2"));
    }

    #[test]
    fn settings_that_can_not_work_are_refused() {
        let new = |token: &str, certificate: Option<&[u8]>| {
            let mut settings = ClientSettings::new("https://x.example", Secret::new(token));
            settings.certificate = certificate.map(<[u8]>::to_vec);
            Client::new(settings, Arc::new(())).map(|_| ()).unwrap_err()
        };
        assert_eq!(new("", None), ClientError::Token);
        assert_eq!(new("a\nb", None), ClientError::Token);
        assert_eq!(new("x", Some(b"no certificate")), ClientError::Certificate);
    }
}
