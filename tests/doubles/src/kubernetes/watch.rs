//! Watches: what is there, what changes, and 410 for those who come too late.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use serde_json::{Value, json};

use super::{
    Shared,
    api::{Asked, selector},
    kinds::KINDS,
    selector::Selector,
    store::{Key, Refused},
};

/// Where a watch stands.
struct Watching {
    shared: Arc<Shared>,
    changed: tokio::sync::watch::Receiver<u64>,
    cuts: tokio::sync::watch::Receiver<u64>,
    kind: usize,
    namespace: String,
    selector: Selector,
    from: u64,
    until: tokio::time::Instant,
    first: Vec<Value>,
    over: bool,
}

pub(crate) fn watch(shared: &Arc<Shared>, asked: Asked) -> Result<Response<Body>, Refused> {
    let selector = selector(&asked.query)?;
    let number = |name: &str| {
        asked
            .query
            .get(name)
            .and_then(|value| value.parse::<u64>().ok())
    };
    let wanted = number("resourceVersion").unwrap_or(0);
    let initial = asked
        .query
        .get("sendInitialEvents")
        .is_some_and(|value| value == "true");
    let store = shared.store.lock().expect("the store");
    let (mut first, mut from, mut over) = (Vec::new(), wanted, false);
    if wanted == 0 || initial {
        let fits = |(key, object): &(&Key, &Value)| {
            key.0 == asked.kind
                && (asked.namespace.is_empty() || key.1 == asked.namespace)
                && selector.fits(object)
        };
        first.extend(
            store
                .objects
                .iter()
                .filter(fits)
                .map(|(_, object)| json!({ "type": "ADDED", "object": object })),
        );
        from = store.version;
        if initial {
            let mut mark = bookmark(asked.kind, from);
            mark["object"]["metadata"]["annotations"] =
                json!({ "k8s.io/initial-events-end": "true" });
            first.push(mark);
        }
    } else if wanted < store.compacted {
        let said = format!("too old resource version: {wanted} ({})", store.compacted);
        first.push(json!({ "type": "ERROR", "object": Refused::new(410, "Expired", said).show() }));
        over = true;
    }
    drop(store);
    let seconds = number("timeoutSeconds").unwrap_or(1800);
    let watching = Watching {
        shared: Arc::clone(shared),
        changed: shared.changed.subscribe(),
        cuts: shared.cuts.subscribe(),
        kind: asked.kind,
        namespace: asked.namespace,
        selector,
        from,
        until: tokio::time::Instant::now() + Duration::from_secs(seconds),
        first,
        over,
    };
    let lines = stream::unfold(watching, |mut watching| async move {
        let events = watching.next().await?;
        let text: String = events.iter().map(|event| format!("{event}\n")).collect();
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(text)),
            watching,
        ))
    });
    let builder = Response::builder().header("content-type", "application/json");
    Ok(builder.body(Body::from_stream(lines)).expect("a response"))
}

fn bookmark(kind: usize, version: u64) -> Value {
    let of = &KINDS[kind];
    json!({
        "type": "BOOKMARK",
        "object": {
            "kind": of.kind,
            "apiVersion": of.api_version(),
            "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null },
            "spec": {},
        },
    })
}

impl Watching {
    /// The next events; `None` ends the watch.
    async fn next(&mut self) -> Option<Vec<Value>> {
        loop {
            if !self.first.is_empty() {
                return Some(std::mem::take(&mut self.first));
            }
            if self.over {
                return None;
            }
            self.changed.mark_unchanged();
            let events = self.news();
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                _ = self.cuts.changed() => return None,
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }

    fn news(&mut self) -> Vec<Value> {
        let store = self.shared.store.lock().expect("the store");
        let mut events = Vec::new();
        if self.from < store.compacted {
            self.over = true;
            let said = format!(
                "too old resource version: {} ({})",
                self.from, store.compacted
            );
            return vec![
                json!({ "type": "ERROR", "object": Refused::new(410, "Expired", said).show() }),
            ];
        }
        let start = store
            .log
            .partition_point(|entry| entry.version <= self.from);
        for entry in &store.log[start..] {
            self.from = entry.version;
            if entry.kind != self.kind
                || !(self.namespace.is_empty() || entry.namespace == self.namespace)
            {
                continue;
            }
            let fits = |object: &Option<Value>| {
                object
                    .as_ref()
                    .is_some_and(|object| self.selector.fits(object))
            };
            let event = match (fits(&entry.old), fits(&entry.new)) {
                (false, true) => ("ADDED", &entry.new),
                (true, true) => ("MODIFIED", &entry.new),
                (true, false) => (
                    "DELETED",
                    if entry.new.is_some() {
                        &entry.new
                    } else {
                        &entry.old
                    },
                ),
                (false, false) => continue,
            };
            events.push(json!({ "type": event.0, "object": event.1 }));
        }
        events
    }
}
