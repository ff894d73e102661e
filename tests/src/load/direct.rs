//! The other half of the ratio: the same PipelineRuns, sent straight at the API server with the same token and as many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use penstock_control_plane::place::CREATOR;
use reqwest::Certificate;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::Scene;

/// Lanes that one tenant may have in hand, and so the most runs that Penstock creates at the same time here.
const CONNECTIONS: usize = 48;

/// Runs a second, sustained for this long.
pub(super) async fn rate(scene: &Scene, template: &Value, took: Duration) -> f64 {
    let access = scene.access();
    let token = scene.place.token_of(CREATOR).await.expect("a token");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(access.ca_pem().as_bytes()).expect("a certificate")])
        .build()
        .expect("a client");
    let url = format!(
        "{}/apis/tekton.dev/v1/namespaces/{}/pipelineruns?fieldManager=penstock&fieldValidation=Strict",
        access.server_url(),
        scene.place.namespace()
    );
    let created = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, url, token, created) = (
            client.clone(),
            url.clone(),
            token.clone(),
            Arc::clone(&created),
        );
        let mut body = template.clone();
        senders.spawn(async move {
            while begun.elapsed() < took {
                body["metadata"]["name"] =
                    format!("direct-{}", uuid::Uuid::new_v4().simple()).into();
                let answer = client
                    .post(&url)
                    .bearer_auth(&token)
                    .json(&body)
                    .send()
                    .await
                    .expect("an answer");
                let status = answer.status();
                // Read whole, as Penstock does: it takes the digest of what was stored.
                let said = answer.text().await.expect("an answer");
                assert_eq!(status.as_u16(), 201, "{said}");
                created.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("a sender that ends");
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
    let created = created.load(Ordering::Relaxed) as f64;
    created / begun.elapsed().as_secs_f64()
}

/// What Penstock sent for a run: the stored object without what the API server and Tekton added.
pub(super) fn template(stored: &kube::core::DynamicObject) -> Value {
    let mut template = serde_json::to_value(stored).expect("a run is JSON");
    let metadata = template["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|name, _| matches!(name.as_str(), "labels" | "annotations" | "namespace"));
    // A run that Penstock's watch does not select: the other half must not report on it.
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.insert("app.kubernetes.io/managed-by".to_owned(), "measured".into());
        labels.remove("tekton.dev/pipeline");
    }
    let root = template.as_object_mut().expect("an object");
    root.remove("status");
    if let Some(spec) = root.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("timeouts");
    }
    template
}
