//! What can't be made up for: what stands in the way at this look, and what was lost for good lately.
//!
//! What stands in the way is seen again by every round. What was lost for good (a comment that was edited, a call whose body is gone) is seen once,
//! by the look that then moves on: it is on the disk before that, and is told of for a day.

use std::time::Duration;

use penstock_model::id::{InstanceName, Timestamp};
use penstock_store::{Store, StoreError};

use super::round::{Cut, Round};

/// How long it is told of what was lost for good.
const TOLD_OF: Duration = Duration::from_secs(24 * 60 * 60);
/// Losses that are kept; of more the newest.
const MOST_KEPT: usize = 200;

/// What was lost for good, and when that was seen; oldest first.
type Kept = Vec<(Timestamp, String)>;

/// What an instance's last round could not make up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecovered {
    /// Each in a sentence.
    pub all: Vec<String>,
    /// When the round was over.
    pub at: Timestamp,
}

/// What an instance's last round could not make up for; none: there was no round yet.
///
/// # Errors
/// The store's.
pub async fn unrecovered(
    store: &Store,
    instance: &InstanceName,
) -> Result<Option<Unrecovered>, StoreError> {
    let noted = store.mark(&mark(instance)).await?;
    Ok(noted.map(|(text, at)| Unrecovered {
        all: serde_json::from_str(&text).unwrap_or_default(),
        at,
    }))
}

fn mark(instance: &InstanceName) -> String {
    format!("unrecovered/{instance}")
}

fn kept_mark(instance: &InstanceName) -> String {
    format!("lost/{instance}")
}

impl Round<'_> {
    /// Notes what was lost for good. It is on the disk when this returns.
    pub(super) async fn lose(&self, what: String) -> Result<(), Cut> {
        let now = Timestamp::now();
        let mut kept = lately(self.kept().await?, now);
        if kept.iter().any(|(_, known)| *known == what) {
            return Ok(());
        }
        tracing::warn!(instance = %self.name, what, "this is lost for good");
        kept.push((now, what));
        let text = serde_json::to_string(&kept).unwrap_or_default();
        let store = &self.host.store;
        Ok(store.set_mark(&kept_mark(self.name), &text, now).await?)
    }

    async fn kept(&self) -> Result<Kept, StoreError> {
        let noted = self.host.store.mark(&kept_mark(self.name)).await?;
        Ok(noted
            .and_then(|(text, _)| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    }

    /// Says what can't be made up for: in the log when it is news.
    pub(super) async fn report(self) {
        let store = &self.host.store;
        let (name, now) = (mark(self.name), Timestamp::now());
        let before = unrecovered(store, self.name).await.ok().flatten();
        let news = |what: &&String| before.as_ref().is_none_or(|it| !it.all.contains(*what));
        for what in self.lost.iter().filter(news) {
            tracing::warn!(instance = %self.name, what, "this can't be made up for");
        }
        let kept = self.kept().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what was lost for good could not be read");
            Kept::default()
        });
        let kept = lately(kept, now).into_iter().map(|(_, what)| what);
        let all: Vec<String> = self.lost.iter().cloned().chain(kept).collect();
        let text = serde_json::to_string(&all).unwrap_or_default();
        if let Err(error) = store.set_mark(&name, &text, now).await {
            tracing::warn!(%error, "what can't be made up for could not be noted");
        }
        let metrics = &self.host.metrics;
        metrics.unrecovered(self.name.as_str(), all.len());
        metrics.reconciled(self.name.as_str(), "round");
    }
}

/// Those that are still told of, with room for one more.
fn lately(kept: Kept, now: Timestamp) -> Kept {
    let too_many = (kept.len() + 1).saturating_sub(MOST_KEPT);
    let newest = kept.into_iter().skip(too_many);
    newest.filter(|(at, _)| at.plus(TOLD_OF) > now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_of_for_a_day_and_the_newest_crowd_the_oldest_out() {
        let begun = Timestamp(1_800_000_000_000);
        let one = vec![(begun, "a".to_owned())];
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(lately(one.clone(), begun), one);
        let almost = begun.plus(day - Duration::from_millis(1));
        assert_eq!(lately(one.clone(), almost), one);
        assert_eq!(lately(one, begun.plus(day)), []);
        let many: Kept = (0..MOST_KEPT)
            .map(|count| (begun, count.to_string()))
            .collect();
        let left = lately(many, begun);
        assert_eq!(left.len(), MOST_KEPT - 1);
        assert_eq!(left.first().unwrap().1, "1");
    }
}
