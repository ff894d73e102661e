//! One trace from a webhook to its status, received as a collector receives it: OTLP in protobuf over HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};
use prost::Message as _;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// What stood before the host, in the example of W3C's Trace Context.
const UPSTREAM: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type Spans = Arc<Mutex<Vec<Span>>>;

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
    for of_resource in request.resource_spans {
        let resource = format!("{:?}", of_resource.resource);
        assert!(resource.contains("penstock"), "{resource}");
        let found = of_resource.scope_spans.into_iter();
        spans
            .lock()
            .unwrap()
            .extend(found.flat_map(|of_scope| of_scope.spans));
    }
}

/// A collector; its address.
async fn collector(spans: &Spans) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(Arc::clone(spans));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn text<'s>(span: &'s Span, name: &str) -> &'s str {
    let found = span.attributes.iter().find(|it| it.key == name);
    match found.and_then(|it| it.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

#[tokio::test]
async fn a_webhook_its_decision_its_run_and_its_status_are_one_trace_over_processes() {
    let spans = Spans::default();
    let endpoint = collector(&spans).await;
    let mut scene = Scene::builder("traces")
        .plugin(Plugin::starts("starter", &short_lived()))
        .environment(ENDPOINT, &endpoint)
        .loops(&["receive"])
        .start()
        .await;
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "a-branch", "alice").write("a.txt", "one"));
    let mut made = change.delivery(scene.hook);
    made.headers
        .insert("traceparent", HeaderValue::from_static(UPSTREAM));
    let answer = scene.post(&made).await;
    assert_eq!(answer.status, 202);
    let delivery = answer.delivery();
    // What is left is sent before the process ends; another goes on, with the store alone between them.
    scene.penstock.terminate().await;
    let root = {
        let all = spans.lock().unwrap();
        let found = all.iter().find(|span| span.name == "receive");
        found.cloned().expect("the receipt's span")
    };
    assert_eq!(text(&root, "delivery.id"), delivery);
    assert_eq!(root.kind, SpanKind::Server as i32);
    assert!(root.parent_span_id.is_empty(), "it is the first");
    assert_eq!(hex::encode(&root.links[0].trace_id), &UPSTREAM[3..35]);
    let (other, _) = scene.replica();
    let mut other = other
        .environment(ENDPOINT, &endpoint)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "100");
    other.restart().await;
    scene.status(&change.commit, "build", "failed").await;

    let trace = until("the spans of the delivery", async || {
        let all = spans.lock().unwrap().clone();
        let of_delivery = all
            .into_iter()
            .filter(|span| span.trace_id == root.trace_id);
        let trace: Vec<Span> = of_delivery.collect();
        let has = |name: &str, fact: &str, value: &str| {
            trace
                .iter()
                .any(|span| span.name == name && text(span, fact) == value)
        };
        let whole = has("dispatch", "plugin.outcome", "plan")
            && has("plugin", "plugin.name", "starter")
            && has("act", "effect.kind", "start-run")
            && has("act", "effect.kind", "commit-status")
            && has("act", "effect.outcome", "done")
            && has("report", "run.state", "failed");
        // A span is sent when it ends, and so before what it is part of.
        let parent_is_there = |span: &Span| {
            let parent = &span.parent_span_id;
            parent.is_empty() || trace.iter().any(|other| other.span_id == *parent)
        };
        let whole = whole && trace.iter().all(parent_is_there);
        whole.then_some(trace)
    })
    .await;
    for span in &trace {
        let parent = trace
            .iter()
            .find(|other| other.span_id == span.parent_span_id)
            .map_or("", |parent| parent.name.as_str());
        let expect: &[&str] = match span.name.as_str() {
            "receive" => &[""],
            "dispatch" | "act" | "report" => &["receive"],
            "plugin" => &["dispatch"],
            "gitlab" => &["dispatch", "act"],
            "kubernetes" => &["act", "report"],
            name => panic!("what is {name}?"),
        };
        assert!(
            expect.contains(&parent),
            "{} is under {parent:?}",
            span.name
        );
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    for call in ["gitlab", "kubernetes"] {
        assert!(trace.iter().any(|span| span.name == call), "no {call}");
    }
    let explained = other.command(&["explain", &delivery]).await.json();
    assert_eq!(explained["trace"], hex::encode(&root.trace_id));

    let told = format!("{:?}", spans.lock().unwrap());
    for (what, secret) in &scene.secrets {
        assert!(!told.contains(secret.as_str()), "{what} is in a trace");
    }
    for private in [PROJECT, "a-branch", "alice", "a.txt"] {
        assert!(!told.contains(private), "{private} is in a trace");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up_and_no_share_sends_nothing() {
    let spans = Spans::default();
    let endpoint = collector(&spans).await;
    let none = Scene::builder("traces-none")
        .plugin(Plugin::starts("starter", &short_lived()))
        .environment(ENDPOINT, &endpoint)
        .environment("OTEL_TRACES_SAMPLER_ARG", "0");
    let away = Scene::builder("traces-away")
        .plugin(Plugin::starts("starter", &short_lived()))
        .environment(ENDPOINT, "http://127.0.0.1:9")
        .environment("OTEL_BSP_SCHEDULE_DELAY", "100");
    for (builder, warned) in [(none, 0), (away, 1)] {
        let mut scene = builder.start().await;
        for text in ["one", "two"] {
            let push = Push::new(PROJECT, "topic", "alice").write("a.txt", text);
            let delivery = scene.send_one(&scene.gitlab.push(push)).await;
            scene.run_of(&delivery).await;
        }
        scene.settled().await;
        let (status, _) = scene.penstock.terminate().await;
        assert!(status.success());
        let said = scene
            .penstock
            .logs()
            .matches("the collector does not answer")
            .count();
        assert_eq!(said, warned, "it is said once");
    }
    assert_eq!(spans.lock().unwrap().len(), 0);
}
