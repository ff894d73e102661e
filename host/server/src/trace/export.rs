//! Where traces go: OTLP in protobuf over HTTP, to the collector that the environment names, as all of OpenTelemetry has it.
//!
//! Spans wait in a bounded queue and are dropped where it is full; nothing that is traced ever waits for the collector.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::WithHttpConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider};
use tokio::runtime::Handle;

use super::TRACER;

/// Any of them says that traces are wanted, and where.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
/// The one that is spoken.
const PROTOCOL: &str = "http/protobuf";
const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE: &str = "OTEL_SERVICE_NAME";
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why no traces can be sent although the environment asks for them.
#[derive(Debug, thiserror::Error)]
pub enum NoTraces {
    /// The share of traces is none.
    #[error("`{SHARE}` is `{0}`: write a share between 0 and 1, such as 0.1")]
    Share(String),
    /// Another protocol is asked for.
    #[error(
        "traces are sent by `{PROTOCOL}` alone, and the environment asks for `{0}`: send them to the collector's port for HTTP, 4318 by default"
    )]
    Protocol(String),
    /// The exporter can't be made.
    #[error("traces can't be sent: set `{}` to an address such as http://collector:4318", ENDPOINTS[0])]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// No client can be made.
    #[error("traces can't be sent: there is no HTTP client")]
    Client(#[from] reqwest::Error),
}

/// What sends traces.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins, if the environment says where to. To be called once, on the runtime.
    ///
    /// # Errors
    /// The environment asks for what can't be done.
    pub fn begin() -> Result<Option<Self>, NoTraces> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !ENDPOINTS.iter().any(|name| set(name).is_some()) {
            return Ok(None);
        }
        let other = PROTOCOLS.iter().find_map(|name| set(name));
        if let Some(other) = other.filter(|it| it != PROTOCOL) {
            return Err(NoTraces::Protocol(other));
        }
        let share = set(SHARE).map_or(Ok(1.0), share)?;
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime {
                runtime: Handle::current(),
                client,
                failing: Arc::default(),
            })
            .build()?;
        let mut resource = Resource::builder();
        if set(SERVICE).is_none() {
            resource = resource.with_service_name("penstock");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_id_generator(Ids::default())
            // By the trace's id: all spans of a delivery are sent or none, whichever process makes them.
            .with_sampler(Sampler::TraceIdRatioBased(share))
            .with_resource(resource.build())
            .build();
        // A second one would only mean that two were begun.
        let _ = TRACER.set(provider.tracer("penstock"));
        Ok(Some(Self(provider)))
    }

    /// Sends what is left.
    pub async fn end(self) {
        let ending = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if let Ok(Err(error)) = ending {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

fn share(text: String) -> Result<f64, NoTraces> {
    match text.trim().parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(NoTraces::Share(text)),
    }
}

thread_local! {
    /// The ids of the next trace that is begun on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Begins a span, the first of its trace, under these ids.
pub(super) fn with_ids<T>(ids: (TraceId, SpanId), begin: impl FnOnce() -> T) -> T {
    NEXT.set(Some(ids));
    let begun = begin();
    NEXT.set(None);
    begun
}

/// Random ids, unless others are asked for.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get()
            .map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get()
            .map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Spans are sent from a thread of their own; the client needs the runtime.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: reqwest::Client,
    failing: Arc<AtomicBool>,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for OnRuntime {
    fn send_bytes<'own, 'sending>(&'own self, request: Request<Bytes>) -> Sending<'sending>
    where
        'own: 'sending,
        Self: 'sending,
    {
        let (client, failing) = (self.client.clone(), Arc::clone(&self.failing));
        let sending = self.runtime.spawn(async move {
            let sent = send(client, request).await;
            match &sent {
                Ok(answer) if answer.status().is_success() => {
                    failing.store(false, Ordering::Relaxed);
                }
                // Once, until it works again.
                _ if failing.swap(true, Ordering::Relaxed) => {}
                Ok(answer) => tracing::warn!(
                    status = answer.status().as_u16(),
                    "the collector does not take traces; they are dropped"
                ),
                Err(error) => {
                    tracing::warn!(%error, "the collector does not answer; traces are dropped");
                }
            }
            sent
        });
        Box::pin(async move { sending.await? })
    }
}

async fn send(
    client: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    // An address may hold credentials: it is in no error.
    let answer = client
        .execute(request.try_into()?)
        .await
        .map_err(reqwest::Error::without_url)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut kept = Response::new(answer.bytes().await.map_err(reqwest::Error::without_url)?);
    *kept.status_mut() = status;
    *kept.headers_mut() = headers;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_nothing_and_all() {
        for (text, expect) in [("0", 0.0), ("0.25", 0.25), (" 1 ", 1.0)] {
            assert_eq!(share(text.to_owned()).ok(), Some(expect));
        }
        for text in ["", "-0.1", "1.1", "NaN", "all"] {
            let refused = share(text.to_owned()).unwrap_err().to_string();
            assert!(refused.contains("between 0 and 1"), "{refused}");
        }
    }

    #[test]
    fn ids_are_those_asked_for_and_random_else() {
        let ids = Ids::default();
        let wanted = (TraceId::from(7), SpanId::from(8));
        let made = with_ids(wanted, || (ids.new_trace_id(), ids.new_span_id()));
        assert_eq!(made, wanted);
        assert_ne!(ids.new_trace_id(), ids.new_trace_id());
        assert_ne!(ids.new_span_id(), wanted.1);
    }
}
