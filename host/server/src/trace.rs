//! Traces from a webhook to its status, sent by OTLP where the environment says so; else nothing of it costs anything.
//!
//! The loops are joined by the store alone, and so are their spans: the ids of a delivery's trace and of the span of its receipt follow from the
//! delivery's own id. Whoever works on something that follows from it, in whichever process and however much later, knows where its span belongs.
//! A span holds what a line of the log holds: ids, names, outcomes. Never a body, a header or an address.

mod export;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use futures_util::future::{BoxFuture, Either};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    FutureExt as _, Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status,
    TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use penstock_model::id::Digest;
use penstock_store::DeliveryKey;

pub use export::{NoTraces, Traces};

/// Set once, where traces are sent.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Where a span belongs; none: no traces are sent.
pub(crate) type Place = Option<Context>;

/// What is said of a span.
pub(crate) type Facts<const N: usize> = [(&'static str, Value); N];

/// The ids of a delivery's trace and of its first span.
fn ids(key: &DeliveryKey) -> (TraceId, SpanId) {
    let name = format!("penstock/trace/{}/{}", key.instance, key.id);
    let digest = Digest::of(name.as_bytes()).hex();
    let part = |range| digest.get(range).unwrap_or_default();
    (
        TraceId::from_hex(part(0..32)).unwrap_or(TraceId::INVALID),
        SpanId::from_hex(part(32..48)).unwrap_or(SpanId::INVALID),
    )
}

/// The id of a delivery's trace, as collectors show it.
pub fn id_of(key: &DeliveryKey) -> String {
    ids(key).0.to_string()
}

/// Under the receipt of a delivery.
pub(crate) fn of(key: &DeliveryKey) -> Place {
    TRACER.get()?;
    let (trace, span) = ids(key);
    let receipt = SpanContext::new(
        trace,
        span,
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    Some(Context::new().with_remote_span_context(receipt))
}

/// Under the span that is open here.
pub(crate) fn here() -> Place {
    TRACER.get()?;
    Some(Context::current()).filter(|here| here.has_active_span())
}

/// How a delivery came.
pub(crate) struct Receipt<'r> {
    pub(crate) key: &'r DeliveryKey,
    pub(crate) hook: &'r str,
    pub(crate) status: &'static str,
    pub(crate) begun: SystemTime,
    pub(crate) headers: &'r HeaderMap,
}

/// A delivery was taken in: the first span of its trace. One that was known before is a further span of it.
pub(crate) fn received(receipt: &Receipt<'_>) {
    let Some(tracer) = TRACER.get() else { return };
    let facts = [
        ("delivery.id", receipt.key.id.to_string().into()),
        ("gitlab.instance", receipt.key.instance.to_string().into()),
        ("hook.name", receipt.hook.to_owned().into()),
        ("receipt.status", receipt.status.into()),
    ];
    // What stands before us may trace too; our trace goes on for days and has its own id, so it is only pointed at.
    let before = TraceContextPropagator::new().extract(&HeaderExtractor(receipt.headers));
    let builder = SpanBuilder::from_name("receive")
        .with_kind(SpanKind::Server)
        .with_start_time(receipt.begun)
        .with_attributes(attributes(facts))
        .with_links(vec![Link::with_context(
            before.span().span_context().clone(),
        )]);
    let mut span = match of(receipt.key) {
        Some(known) if receipt.status == "duplicate" => builder.start_with_context(tracer, &known),
        _ => export::with_ids(ids(receipt.key), || {
            builder.start_with_context(tracer, &Context::new())
        }),
    };
    span.end();
}

/// A span that has begun.
pub(crate) struct Open(Place);

/// Begins a span.
pub(crate) fn begin<const N: usize>(
    place: Place,
    name: &'static str,
    facts: impl FnOnce() -> Facts<N>,
) -> Open {
    let Some((tracer, place)) = TRACER.get().zip(place) else {
        return Open(None);
    };
    let span = SpanBuilder::from_name(name)
        .with_attributes(attributes(facts()))
        .start_with_context(tracer, &place);
    Open(Some(place.with_span(span)))
}

impl Open {
    /// Ends with this work; what the work does belongs under it. What is large is better boxed.
    pub(crate) fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        match self.0 {
            None => Either::Left(work),
            Some(open) => Either::Right(async move {
                let done = work.with_context(open.clone()).await;
                open.span().end();
                done
            }),
        }
    }
}

/// Does something under a span that is open elsewhere.
pub(crate) fn under<'w, T: 'w>(place: Place, work: BoxFuture<'w, T>) -> BoxFuture<'w, T> {
    match place {
        None => work,
        Some(place) => Box::pin(work.with_context(place)),
    }
}

/// Something that took so long has just ended: a call of another server.
pub(crate) fn called<const N: usize>(
    name: &'static str,
    took: Duration,
    facts: impl FnOnce() -> Facts<N>,
) {
    let Some((tracer, place)) = TRACER.get().zip(here()) else {
        return;
    };
    let now = SystemTime::now();
    SpanBuilder::from_name(name)
        .with_kind(SpanKind::Client)
        .with_start_time(now.checked_sub(took).unwrap_or(now))
        .with_attributes(attributes(facts()))
        .start_with_context(tracer, &place)
        .end();
}

/// Says something more of the span that is open here.
pub(crate) fn note(name: &'static str, value: &'static str, failed: bool) {
    let Some(place) = here() else { return };
    place.span().set_attribute(KeyValue::new(name, value));
    if failed {
        place.span().set_status(Status::error(value));
    }
}

fn attributes<const N: usize>(facts: Facts<N>) -> impl Iterator<Item = KeyValue> {
    facts
        .into_iter()
        .map(|(name, value)| KeyValue::new(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_s_id_follows_from_the_delivery_alone() {
        let key = |instance: &str, id: &str| DeliveryKey {
            instance: instance.into(),
            id: id.into(),
        };
        let one = id_of(&key("main", "acme:1"));
        assert_eq!(one.len(), 32);
        assert_eq!(one, id_of(&key("main", "acme:1")));
        assert_ne!(one, id_of(&key("main", "acme:2")));
        assert_ne!(one, id_of(&key("other", "acme:1")));
    }

    #[tokio::test]
    async fn where_no_traces_are_sent_work_is_done_all_the_same() {
        assert!(
            of(&DeliveryKey {
                instance: "main".into(),
                id: "1".into()
            })
            .is_none()
        );
        let facts = || -> Facts<0> { panic!("nobody asks for facts") };
        assert_eq!(begin(here(), "work", facts).around(async { 7 }).await, 7);
        called("call", Duration::ZERO, facts);
        note("outcome", "done", false);
    }
}
