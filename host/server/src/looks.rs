//! What orchestrators and scrapers are told of the store: looked up once a second at most, however many ask.
//!
//! Whoever asks while a look is under way waits for it; nobody from outside can make the store work more than that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_model::id::Timestamp;
use penstock_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::metrics::Standing;

/// How long a look is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How long the store is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last looks.
#[derive(Debug, Default)]
pub struct Looks {
    ready: Recent<()>,
    standing: Recent<Standing>,
}

/// Why there is nothing to tell.
type Why = Arc<str>;

/// An answer and when it was had.
type Had<T> = Option<(Instant, Result<T, Why>)>;

#[derive(Debug)]
struct Recent<T>(Arc<Mutex<Had<T>>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl<T: Clone + Send + 'static> Recent<T> {
    async fn or<L>(&self, look: L) -> Result<T, Why>
    where
        L: Future<Output = Result<T, Why>> + Send + 'static,
    {
        let had = Arc::clone(&self.0);
        // A task of its own: whoever asks and goes away at once can't make it begin again and again.
        let looking = async move {
            // Held while it is looked: who comes meanwhile gets the same answer.
            let mut had = had.lock().await;
            if let Some((at, answer)) = had.as_ref()
                && at.elapsed() < GOOD_FOR
            {
                return answer.clone();
            }
            let answer = tokio::time::timeout(PATIENCE, look)
                .await
                .unwrap_or_else(|_| Err("the store does not answer".into()));
            *had = Some((Instant::now(), answer.clone()));
            answer
        };
        tokio::spawn(looking.in_current_span())
            .await
            .unwrap_or_else(|_| Err("the look at the store was cut short".into()))
    }
}

impl Looks {
    /// The store takes writes.
    ///
    /// # Errors
    /// Says why it does not.
    pub async fn ready(&self, store: &Store) -> Result<(), Why> {
        let store = store.clone();
        let look = async move {
            store
                .writable()
                .await
                .map_err(|error| format!("the store is not writable: {error}").into())
        };
        self.ready.or(look).await
    }

    /// The figures of the store.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn standing(&self, store: &Store) -> Result<Standing, Why> {
        self.standing.or(standing(store.clone())).await
    }
}

async fn standing(store: Store) -> Result<Standing, Why> {
    let figures = store.figures().await.map_err(|error| {
        tracing::warn!(%error, "the store's figures are missing from the metrics");
        Why::from("the store does not answer")
    })?;
    let now = Timestamp::now();
    // 0 says that there is none: what came in this millisecond, or by a clock that was ahead, is a millisecond old.
    let age = |at: Option<Timestamp>| at.map_or(0.0, |at| now.since(at).as_secs_f64().max(0.001));
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let counts = |counts: &BTreeMap<String, u64>| {
        counts
            .iter()
            .map(|(state, count)| (state.clone(), signed(*count)))
            .collect()
    };
    Ok(Standing {
        oldest_delivery: age(figures.oldest_undecided),
        oldest_effect: age(figures.oldest_effect),
        runs: counts(&figures.runs),
        deliveries: counts(&figures.deliveries),
        dead_effects: signed(figures.dead_effects),
        dead_routes: signed(figures.dead_routes),
        lanes: figures
            .ready_since
            .iter()
            .map(|(queue, since)| (*queue, age(*since)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_it_is_looked_once_a_second() {
        let (recent, looks) = (Recent::default(), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let looks = Arc::clone(&looks);
            recent.or(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(looks.fetch_add(1, Ordering::Relaxed))
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((first, second), (Ok(0), Ok(0)));
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(ask().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_told_to_all_who_wait_and_looked_at_again() {
        let recent = Recent::<u32>::default();
        let answer = recent.or(std::future::pending()).await;
        assert_eq!(answer.unwrap_err().as_ref(), "the store does not answer");
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(recent.or(async { Ok(7) }).await, Ok(7));
    }
}
