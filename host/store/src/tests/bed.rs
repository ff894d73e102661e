//! A fresh store for one test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use penstock_model::id::Timestamp;
use penstock_model::secret::Secret;
use tempfile::TempDir;

use super::server;
use super::world::delivery;
use crate::{Appended, Caps, Claim, NewDelivery, Pending, Queue, Store, Target};

/// How long claims are held in tests.
pub(crate) const TTL: Duration = Duration::from_secs(30);
/// More than any test claims.
pub(crate) const MANY: Caps = Caps { per_tenant: 100 };

/// A store, and how to open it again.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) target: Target,
    now: AtomicU64,
    _folder: Option<TempDir>,
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.db");
        Self::new(Target::Sqlite { path }, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Self {
        let url = tokio::task::spawn_blocking(server::database).await.unwrap();
        Self::new(
            Target::Postgres {
                url: Secret::new(url),
            },
            None,
        )
        .await
    }

    async fn new(target: Target, folder: Option<TempDir>) -> Self {
        Self {
            store: Store::open(target.clone()).await.unwrap(),
            target,
            now: AtomicU64::new(1_800_000_000_000),
            _folder: folder,
        }
    }

    /// The time: it stands still unless [`Bed::pass`] is called.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    pub(crate) fn pass(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Somebody sets the clock back.
    pub(crate) fn back(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.now.fetch_sub(millis, Ordering::SeqCst);
    }

    /// Appends a push to `main` of project 1.
    pub(crate) async fn append(&self, id: &str) -> u64 {
        self.append_this(delivery(id, self.now())).await
    }

    pub(crate) async fn append_this(&self, new: NewDelivery) -> u64 {
        match self.store.append(new).await.unwrap() {
            Appended::New { seq } => seq,
            other => panic!("not new: {other:?}"),
        }
    }

    /// Claims all lanes that are ready.
    pub(crate) async fn claim_all(&self, queue: Queue) -> Vec<Claim> {
        self.store
            .claim(queue, "worker", TTL, MANY, 100, self.now())
            .await
            .unwrap()
    }

    /// Claims the one lane that is ready.
    pub(crate) async fn claim(&self, queue: Queue) -> Claim {
        let mut claims = self.claim_all(queue).await;
        assert_eq!(claims.len(), 1, "{claims:?}");
        claims.pop().unwrap()
    }

    /// Claims the effect lane of that name.
    pub(crate) async fn claim_lane(&self, prefix: &str) -> Claim {
        let mut found = None;
        for claim in self.claim_all(Queue::Act).await {
            if claim.lane.starts_with(prefix) && found.is_none() {
                found = Some(claim);
            } else {
                self.release(claim).await;
            }
        }
        found.unwrap_or_else(|| panic!("no lane {prefix} is ready"))
    }

    pub(crate) async fn release(&self, claim: Claim) {
        self.store.release(claim, None, self.now()).await.unwrap();
    }

    pub(crate) async fn head(&self, claim: &Claim) -> Pending {
        self.store.head(claim, self.now()).await.unwrap().unwrap()
    }

    /// Appends a delivery, claims its lane and routes it.
    pub(crate) async fn routed(&self, new: NewDelivery, routes: &[&str]) -> Claim {
        let key = new.key.clone();
        let lane = format!("|{}", new.lane);
        self.append_this(new).await;
        let mut claims = self.claim_all(Queue::Dispatch).await;
        claims.retain(|claim| claim.lane.ends_with(&lane));
        let claim = claims.pop().unwrap();
        let routes = routes.iter().map(|route| (*route).into()).collect();
        self.store
            .route(&claim, &key, routes, self.now())
            .await
            .unwrap();
        claim
    }
}
