//! Takes away what is past its age, or over its size, at the start and then every hour.
//!
//! By the configuration in force at that time. Before anything goes, the plugins that are loaded are said to be in use: a decision that they make later
//! can be run again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use penstock_model::id::Timestamp;
use penstock_store::{Ages, Store};
use tokio_util::sync::CancellationToken;

use crate::config::RetentionConfig;
use crate::host::Host;

/// How often.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Does it until `stop`.
pub async fn run(host: Arc<Host>, stop: CancellationToken) {
    hourly(stop, || once(&host)).await;
}

async fn hourly<F: Future<Output = ()>>(stop: CancellationToken, mut once: impl FnMut() -> F) {
    loop {
        once().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn once(host: &Host) {
    let now = Timestamp::now();
    if let Err(error) = keep_plugins(host, now).await {
        // Nothing goes while it is not known what is in use.
        tracing::warn!(
            error = format!("{error:#}"),
            "what is past its age is not taken away: the plugins in use could not be marked"
        );
        return;
    }
    let retention = host.live().config.retention;
    if let Err(error) = enforce(&host.store, &retention, now).await {
        tracing::warn!(
            error = format!("{error:#}"),
            "what is past its age could not be taken away"
        );
    }
}

async fn keep_plugins(host: &Host, now: Timestamp) -> Result<()> {
    let live = host.live();
    let loaded: Vec<_> = live
        .plugins()
        .filter_map(|slot| slot.ready().ok())
        .collect();
    let digests = loaded.iter().map(|it| it.plugin.digest()).collect();
    for missing in host.store.plugins_in_use(digests, now).await? {
        for loaded in loaded.iter().filter(|it| it.plugin.digest() == missing) {
            host.store.keep_plugin(loaded.bytes.to_vec(), now).await?;
        }
    }
    Ok(())
}

/// Takes away what is past its age, then the oldest contents until the rest fits.
async fn enforce(store: &Store, retention: &RetentionConfig, now: Timestamp) -> Result<()> {
    let ages = Ages {
        contents: retention.contents,
        decisions: retention.decisions,
    };
    let purged = store.purge(now, ages).await?;
    tracing::info!(purged = ?purged, "took away what is past its age");
    let shrunk = store.shrink(retention.size, now).await?;
    if shrunk.blobs > 0 {
        tracing::warn!(
            blobs = shrunk.blobs,
            freed = shrunk.freed,
            used = shrunk.used,
            limit = retention.size,
            "the store was over `retention.size`: took the oldest bodies and records away before their age"
        );
    }
    if shrunk.over > 0 {
        tracing::error!(
            over = shrunk.over,
            limit = retention.size,
            "the store is over `retention.size` and the rest is needed: raise it, or shorten `retention.decisions`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use penstock_store::{NewDelivery, Target};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_done_at_the_start_and_then_every_hour_until_the_end() {
        let (stop, times) = (CancellationToken::new(), Cell::new(0));
        let done = hourly(stop.clone(), || {
            times.set(times.get() + 1);
            std::future::ready(())
        });
        let watched = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(times.get(), 1);
            tokio::time::sleep(3 * EVERY).await;
            assert_eq!(times.get(), 4);
            stop.cancel();
        };
        tokio::join!(done, watched);
        assert_eq!(times.get(), 4);
    }

    fn delivery(id: &str, received_at: Timestamp) -> NewDelivery {
        let body = format!("{{\"id\":\"{id}\"}}").into_bytes();
        NewDelivery {
            key: penstock_store::DeliveryKey {
                instance: "main".into(),
                id: id.into(),
            },
            hook: "acme".into(),
            event_header: "Push Hook".to_owned(),
            kind: "push".to_owned(),
            headers: Vec::new(),
            body_digest: penstock_model::id::Digest::of(&body),
            body: body.into(),
            tenant: Some("acme".into()),
            project: None,
            lane: penstock_model::lane::Lane {
                instance: "main".into(),
                project: None,
                subject: penstock_model::lane::Subject::Whole,
            },
            received_at,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_configuration_says_is_enforced_by_age_and_by_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        let store = Store::open(Target::Sqlite { path }).await.unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let begin = Timestamp(1_800_000_000_000);
        let has_body = async |id: &str| {
            let found = store.delivery(None, &id.into()).await.unwrap().unwrap();
            found.body.is_some()
        };
        for (id, at) in [("old", begin), ("new", begin.plus(day * 5))] {
            store.append(delivery(id, at)).await.unwrap();
        }
        let caps = penstock_store::Caps { per_tenant: 4 };
        let drawn = store.draw_deliveries("w", day * 365, caps, 4, begin.plus(day * 5));
        let claim = drawn.await.unwrap().pop().unwrap().claim;
        for id in ["old", "new"] {
            let key = delivery(id, begin).key;
            store
                .unrouted(&claim, &key, "no tenant", begin.plus(day * 5))
                .await
                .unwrap();
        }
        let mut retention = RetentionConfig {
            contents: day * 7,
            ..RetentionConfig::default()
        };
        let now = begin.plus(day * 6);
        enforce(&store, &retention, now).await.unwrap();
        assert!(has_body("old").await && has_body("new").await);
        let now = begin.plus(day * 8);
        enforce(&store, &retention, now).await.unwrap();
        assert!(!has_body("old").await && has_body("new").await, "by age");
        retention.size = 1;
        enforce(&store, &retention, now).await.unwrap();
        assert!(!has_body("new").await, "by size");
    }
}
