//! Calls of a webhook that failed: taken in from GitLab's log, else sent again, no faster than GitLab takes it.
//!
//! What was sent again is written down at once, and how far the log was read also when GitLab ends the reading: a round that is cut short, or killed, has
//! nothing sent twice.

use std::time::{Duration, Instant};

use penstock_gitlab::{
    ApiError, BETWEEN_RESENDS, FailedCall, HookScope, NotReadBack, failed_calls, resend,
};
use penstock_model::id::Timestamp;
use penstock_store::Appended;

use super::Memory;
use super::hooks::Speaking;
use super::round::{Cut, Round};
use crate::config::HookConfig;
use crate::receive::new_delivery;
use crate::text;

/// How far back the first look at a hook goes: what failed long before Penstock was there is nobody's loss.
const FIRST_LOOK: Duration = Duration::from_secs(60 * 60);
/// Looks overlap: a call is listed when it ended, under the time at which it began.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// Calls of a webhook that are sent again in one round: each takes its time.
const MOST_RESENDS: usize = 10;
/// What the host answers to a body that is too large: sent again, it would be no smaller.
const TOO_LARGE: &str = "413";

/// What came of a call that must be sent again.
enum Sent {
    Again,
    /// GitLab does not do it.
    Never(ApiError),
}

impl Round<'_> {
    /// What failed since the last look is taken in from the log, else sent again.
    pub(super) async fn failed(
        &mut self,
        hook: &HookConfig,
        webhook: &Speaking,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let Speaking { of, name, known } = webhook;
        let began = Timestamp::now();
        let (since, sent_again) = match self.host.store.mark(name).await? {
            Some((value, _)) => read_mark(&value),
            None => (began.minus(FIRST_LOOK), Vec::new()),
        };
        let listed = match failed_calls(&self.client, of, known.id, since).await {
            Ok(listed) => listed,
            Err(error) if error.is_denial() => {
                self.lost.push(format!(
                    "the log of the hook `{}` of {of} is not shown to Penstock's user: {error}",
                    hook.name
                ));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !listed.complete {
            self.lose(format!(
                "the log of the hook `{}` of {of} is too long to be read back to {}",
                hook.name,
                text::time(since)
            ))
            .await?;
        }
        // What is left for the next round must be in its list.
        let (mut kept, mut left, mut resends) = (Vec::new(), listed.rest_from, 0);
        let mut cut = None;
        for call in listed.calls {
            let (id, at) = (call.id, call.at);
            if sent_again.contains(&id) {
                kept.push(id);
                continue;
            }
            if self.take_in(hook, of, call).await? {
                continue;
            }
            if resends == MOST_RESENDS || cut.is_some() {
                left = left.into_iter().chain([at]).min();
                continue;
            }
            resends += 1;
            match self.send_again(webhook, id, memory).await {
                Ok(Sent::Again) => {
                    self.host.metrics.reconciled(self.name.as_str(), "resent");
                    tracing::info!(hook = %hook.name, event = id, "had GitLab send a failed call again");
                    kept.push(id);
                    let sent: Vec<u64> = sent_again.iter().chain(&kept).copied().collect();
                    let value = write_mark(since, &sent);
                    self.host.store.set_mark(name, &value, began).await?;
                }
                Ok(Sent::Never(error)) => {
                    self.lose(format!("call {id} of the hook `{}`: {error}", hook.name))
                        .await?;
                }
                Err(error) => {
                    left = left.into_iter().chain([at]).min();
                    cut = Some(error);
                }
            }
        }
        let next = left.unwrap_or(began.minus(OVERLAP)).max(since);
        let value = write_mark(next, &kept);
        self.host.store.set_mark(name, &value, began).await?;
        cut.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn send_again(
        &self,
        webhook: &Speaking,
        call: u64,
        memory: &mut Memory,
    ) -> Result<Sent, ApiError> {
        let Speaking { of, name, known } = webhook;
        if let Some(at) = memory.resent.get(name) {
            tokio::time::sleep(pause(*at, Instant::now())).await;
        }
        memory.resent.insert(name.clone(), Instant::now());
        let sent = resend(&self.client, of, known.id, call).await;
        // GitLab counts from when the call reached it, which may have been a while after it was begun.
        memory.resent.insert(name.clone(), Instant::now());
        match sent {
            Ok(()) => Ok(Sent::Again),
            Err(error) if error.is_denial() || matches!(error, ApiError::Refused { .. }) => {
                Ok(Sent::Never(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a call in from the log; false: the log does not hold all of it.
    async fn take_in(
        &self,
        hook: &HookConfig,
        of: &HookScope,
        call: FailedCall,
    ) -> Result<bool, Cut> {
        let (id, at, too_large) = (call.id, call.at, call.status == TOO_LARGE);
        let accepted = match call.read_back(of, self.name, &hook.name, &self.instance.redaction) {
            Ok(accepted) => accepted,
            Err(NotReadBack::Incomplete) if too_large => {
                self.lose(format!(
                    "call {id} of the hook `{}`: its body is too large",
                    hook.name
                ))
                .await?;
                return Ok(true);
            }
            Err(NotReadBack::Incomplete) => return Ok(false),
            Err(NotReadBack::Scope(error)) => {
                self.lose(format!("call {id} of the hook `{}`: {error}", hook.name))
                    .await?;
                return Ok(true);
            }
        };
        let delivery = new_delivery(self.live, &accepted);
        let key = delivery.key.id.clone();
        if let Appended::New { .. } = self.host.store.append(delivery).await? {
            self.host.metrics.reconciled(self.name.as_str(), "delivery");
            tracing::info!(
                delivery.id = %key, hook = %hook.name, made = text::time(at), "took a call in that GitLab could not deliver"
            );
        }
        Ok(true)
    }
}

/// How long to wait after the last call that was sent again.
fn pause(last: Instant, now: Instant) -> Duration {
    BETWEEN_RESENDS.saturating_sub(now.duration_since(last))
}

/// How far the log was read, and which calls were sent again.
fn read_mark(text: &str) -> (Timestamp, Vec<u64>) {
    serde_json::from_str::<(u64, Vec<u64>)>(text)
        .map(|(since, ids)| (Timestamp(since), ids))
        .unwrap_or_default()
}

fn write_mark(since: Timestamp, ids: &[u64]) -> String {
    serde_json::to_string(&(since.0, ids)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_calls_that_are_sent_again_take_more_than_a_minute() {
        let begun = Instant::now();
        let mut at = begun;
        for _ in 1..6 {
            at += pause(at, at);
        }
        assert!(at - begun > Duration::from_secs(60), "GitLab takes five");
        let late = begun + Duration::from_secs(600);
        assert_eq!(pause(begun, late), Duration::ZERO);
    }
}
