//! A reverse proxy that breaks what passes through it: what stands between Penstock and a real API server on a bad day.
//!
//! It listens on loopback in plain HTTP and forwards to an upstream, whose own certificate it checks. Calls fail by the same [`Fault`]s as in the
//! stand-in of GitLab; watches are cut after a while, with an event 'too old' or without a word; and one call can be held, before it is
//! forwarded or before its answer is given back, for as long as a test likes.
//!
//! **What it does not do.** No upgrades (so no `exec`), no HTTP/2, and a request is read whole before it goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, Response, header};
use regex::Regex;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use crate::gitlab::{Break, Fault};
use crate::wire::{self, Cut, Received, Server};

/// Headers that are between two neighbours, and the length, which is counted anew.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::CONTENT_LENGTH,
    header::UPGRADE,
];

/// How long a call that is to be held is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A proxy. When the last handle is dropped, it closes its port and its connections.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    server: Arc<Server>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<String>,
    http: reqwest::Client,
    faults: Mutex<Vec<Fault>>,
    holds: Mutex<Vec<Hold>>,
    /// After which a watch is cut; none: never.
    watch_lasts: watch::Sender<Option<Duration>>,
    cuts: AtomicU64,
    failed: AtomicU64,
    passed: AtomicU64,
}

/// Where a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Before it is forwarded.
    Request,
    /// After the upstream answered, before the answer is given back.
    Answer,
}

#[derive(Debug)]
struct Hold {
    method: Regex,
    path: Regex,
    at: Where,
    reached: oneshot::Sender<Bytes>,
    go_on: oneshot::Receiver<Then>,
}

/// What becomes of a held call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on as if nothing had been.
    GoOn,
    /// Its connection is closed.
    Cut,
}

/// A call that is to be held, or is.
#[derive(Debug)]
pub struct Held {
    reached: Option<oneshot::Receiver<Bytes>>,
    go_on: oneshot::Sender<Then>,
}

impl Held {
    /// Waits until a call came; its body.
    ///
    /// # Panics
    /// If it is asked twice, no such call comes within two minutes, or the proxy is gone.
    pub async fn reached(&mut self) -> Bytes {
        let reached = self.reached.take().expect("asked once");
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("a call that matches comes")
            .expect("the proxy lives")
    }

    /// Lets it go.
    pub fn then(self, then: Then) {
        // Whoever made the call may have given up.
        let _ = self.go_on.send(then);
    }
}

impl Proxy {
    /// Starts one that leads nowhere yet. The upstream's authority is `ca_pem`, if it speaks TLS.
    ///
    /// # Panics
    /// If the authority can't be read or no port is free.
    pub async fn start(ca_pem: Option<&str>) -> Self {
        let mut http = reqwest::Client::builder().no_proxy();
        if let Some(pem) = ca_pem {
            let ca = reqwest::Certificate::from_pem(pem.as_bytes()).expect("an authority");
            http = http.tls_certs_only([ca]);
        }
        let shared = Arc::new(Shared {
            upstream: Mutex::default(),
            http: http.build().expect("a client"),
            faults: Mutex::default(),
            holds: Mutex::default(),
            watch_lasts: watch::Sender::new(None),
            cuts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        });
        let answering = Arc::clone(&shared);
        let server = wire::serve(0, move |received| pass(Arc::clone(&answering), received))
            .await
            .expect("a free port");
        Self {
            shared,
            server: Arc::new(server),
        }
    }

    /// Leads to this upstream from now on.
    pub fn lead_to(&self, upstream: &str) {
        upstream
            .trim_end_matches('/')
            .clone_into(&mut lock(&self.shared.upstream));
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Breaks calls from now on.
    pub fn order(&self, fault: Fault) {
        lock(&self.shared.faults).push(fault);
    }

    /// Breaks none any more, and cuts no watch.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
        self.shared.watch_lasts.send_replace(None);
    }

    /// Cuts each watch after this time, those that are there too: one after the other without a word, with an event 'too old' (410), and in the middle of a line.
    pub fn cut_watches_after(&self, lasts: Duration) {
        self.shared.watch_lasts.send_replace(Some(lasts));
    }

    /// Holds the next call whose method and path match these.
    ///
    /// # Panics
    /// If one of the two is not a regular expression.
    #[must_use]
    pub fn hold(&self, method: &str, path: &str, at: Where) -> Held {
        let (reached, reaches) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        lock(&self.shared.holds).push(Hold {
            method: Regex::new(&format!("^(?:{method})$")).expect("a regular expression"),
            path: Regex::new(path).expect("a regular expression"),
            at,
            reached,
            go_on: goes_on,
        });
        Held {
            reached: Some(reaches),
            go_on,
        }
    }

    /// Watches that were cut so far.
    #[must_use]
    pub fn watches_cut(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Calls that were broken so far, and calls that passed.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.failed), of(&self.shared.passed))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn pass(shared: Arc<Shared>, received: Received) -> Result<Response<Body>, Cut> {
    let target = match received.query.as_str() {
        "" => received.path.clone(),
        query => format!("{}?{query}", received.path),
    };
    let method = received.method.as_str().to_owned();
    let held = {
        let mut holds = lock(&shared.holds);
        let found = holds
            .iter()
            .position(|hold| hold.method.is_match(&method) && hold.path.is_match(&target));
        found.map(|at| holds.remove(at))
    };
    if let Some(hold) = held {
        let body = received.body.clone();
        let answer = match hold.at {
            Where::Request => {
                wait(hold.reached, hold.go_on, body).await?;
                forward(&shared, &target, received).await
            }
            Where::Answer => {
                let answer = forward(&shared, &target, received).await?;
                let answer = whole(answer).await?;
                wait(hold.reached, hold.go_on, body).await?;
                Ok(answer)
            }
        };
        return answer;
    }
    let fault = {
        let mut faults = lock(&shared.faults);
        let struck = faults
            .iter_mut()
            .position(|fault| fault.strikes(&method, &target));
        struck.map(|at| faults[at].how().clone())
    };
    let count = if fault.is_some() {
        &shared.failed
    } else {
        &shared.passed
    };
    count.fetch_add(1, Ordering::Relaxed);
    match fault {
        None => {
            let answer = forward(&shared, &target, received).await?;
            if target.contains("watch=") {
                return Ok(cut_in_time(shared, answer));
            }
            Ok(answer)
        }
        Some(Break::Status(status)) => Ok(status_object(status, None)),
        Some(Break::RateLimited(after)) => Ok(status_object(429, after)),
        Some(Break::Hang) => std::future::pending().await,
        Some(Break::Cut) => Err(Cut),
        Some(Break::LoseAnswer) => {
            let answer = forward(&shared, &target, received).await?;
            whole(answer).await?;
            Err(Cut)
        }
        Some(Break::SlowBody(millis)) => {
            let answer = whole(forward(&shared, &target, received).await?).await?;
            Ok(slowly(answer, Duration::from_millis(millis)).await)
        }
        Some(Break::Late(millis)) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            forward(&shared, &target, received).await
        }
    }
}

async fn wait(
    reached: oneshot::Sender<Bytes>,
    go_on: oneshot::Receiver<Then>,
    body: Bytes,
) -> Result<(), Cut> {
    let _ = reached.send(body);
    match go_on.await {
        Ok(Then::GoOn) => Ok(()),
        Ok(Then::Cut) | Err(_) => Err(Cut),
    }
}

async fn forward(shared: &Shared, target: &str, received: Received) -> Result<Response<Body>, Cut> {
    let mut headers = received.headers;
    for name in HOP {
        headers.remove(name);
    }
    let address = format!("{}{target}", *lock(&shared.upstream));
    let sent = shared
        .http
        .request(received.method, address)
        .headers(headers)
        .body(received.body)
        .send()
        .await
        .map_err(|_| Cut)?;
    let mut answer = Response::builder().status(sent.status());
    for (name, value) in sent.headers() {
        if !HOP.contains(name) {
            answer = answer.header(name, value);
        }
    }
    Ok(answer
        .body(Body::from_stream(sent.bytes_stream()))
        .expect("the upstream's answer"))
}

/// Reads an answer to its end.
async fn whole(answer: Response<Body>) -> Result<Response<Body>, Cut> {
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|_| Cut)?;
    Ok(Response::from_parts(head, Body::from(bytes)))
}

/// The head at once, half of the body, and the other half after a while.
async fn slowly(answer: Response<Body>, pause: Duration) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let mut first = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let second = first.split_off(first.len() / 2);
    let parts = stream::once(async move { first }).chain(stream::once(async move {
        tokio::time::sleep(pause).await;
        second
    }));
    Response::from_parts(
        head,
        Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>)),
    )
}

/// A watch that ends when watches are cut; also one that was there before it was said that they are.
fn cut_in_time(shared: Arc<Shared>, answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let mut lasts = shared.watch_lasts.subscribe();
    let (cut, was_cut) = oneshot::channel();
    let until = Box::pin(async move {
        loop {
            let begun = *lasts.borrow_and_update();
            let Some(begun) = begun else {
                if lasts.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep(begun) => break,
                changed = lasts.changed() => if changed.is_err() { return },
            }
        }
        let _ = cut.send(());
    });
    let events = body
        .into_data_stream()
        .map(|part| part.map_err(|_| Cut))
        .take_until(until);
    let end = async move {
        // Ended by the API server itself: it was not cut.
        if was_cut.await.is_err() {
            return stream::empty().boxed();
        }
        let last_words: &'static [u8] = match shared.cuts.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => b"",
            1 => b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
                   \"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n",
            _ => b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Pipeli",
        };
        // An error closes the connection where the next chunk would begin.
        stream::iter([Ok(Bytes::from_static(last_words)), Err(Cut)]).boxed()
    };
    let events = events.chain(stream::once(end).flatten());
    Response::from_parts(head, Body::from_stream(events))
}

/// What an API server says when it can't.
fn status_object(code: u16, retry_after: Option<u64>) -> Response<Body> {
    let reason = match code {
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "broken on purpose", "reason": reason, "code": code,
    });
    let mut answer = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    answer
        .body(Body::from(body.to_string()))
        .expect("an answer")
}
