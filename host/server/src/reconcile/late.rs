//! What a webhook tells of and the host found by itself: it must not be decided twice, whichever of the two comes first.
//!
//! Both are in one lane, and a lane's deliveries are decided one after the other: who is decided last sees the other.
//! Webhooks are many and findings are few, so the store is asked about a webhook only while something was found lately.

use std::time::{Duration, Instant};

use penstock_gitlab::{Parsed, note_of};
use penstock_model::event::{EventKind, MergeRequestEvent, NoteTarget};
use penstock_model::host_event::is_host_hook;
use penstock_model::id::{CommitId, DeliveryId, Digest, InstanceName, ProjectId, Timestamp};
use penstock_model::lane::Lane;
use penstock_store::{Head, KnownProject, Store, StoreError, StoredDelivery};
use tokio::sync::Mutex;

use crate::host::Host;

/// GitLab does not deliver later than this; a person may send again later, and means it.
const LATELY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the store's answer is believed that something was found.
const BELIEVED: Duration = Duration::from_secs(5);
/// And that nothing was: another process may have found something since.
const NOTHING_BELIEVED: Duration = Duration::from_millis(200);
/// What was found is decided no sooner, and what comes after it in its lane waits for it: by then every process knows that something was found.
pub(super) const KNOWN_EVERYWHERE: Duration = Duration::from_secs(1);

/// Whether the host found anything by itself lately.
#[derive(Default)]
pub struct FoundLately(Mutex<Option<(Instant, bool)>>);

impl FoundLately {
    /// This process found something.
    pub async fn yes(&self) {
        *self.0.lock().await = Some((Instant::now(), true));
    }

    async fn ask(&self, store: &Store) -> Result<bool, StoreError> {
        let mut known = self.0.lock().await;
        let fresh =
            |at: Instant, found| at.elapsed() < if found { BELIEVED } else { NOTHING_BELIEVED };
        if let Some((_, found)) = known.filter(|(at, found)| fresh(*at, *found)) {
            return Ok(found);
        }
        let since = Timestamp::now().minus(LATELY);
        let found = store.found_since(since).await?;
        *known = Some((Instant::now(), found));
        Ok(found)
    }
}

/// Route's word for the event that a sweep stands for.
pub fn stands_for(kind: &EventKind) -> Option<&'static str> {
    match kind {
        EventKind::Sweep(sweep) if sweep.merge_request.is_some() => Some("merge_request"),
        EventKind::Sweep(sweep) if sweep.ref_name.as_str().starts_with("refs/tags/") => {
            Some("tag_push")
        }
        EventKind::Sweep(_) => Some("push"),
        _ => None,
    }
}

/// What a webhook tells of that may have been found before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The head of a lane's subject.
    Head(String, Head),
    /// A comment, by GitLab's id.
    Note(u64),
}

/// `commit`: the one that the event is about, where that is known. Of an annotated tag the event itself names the tag alone, and GitLab's list the commit.
pub(super) fn told(kind: &EventKind, commit: Option<&CommitId>) -> Option<Told> {
    match kind {
        EventKind::Push(push) => Some(Told::Head(
            push.ref_name.as_str().to_owned(),
            push.after.clone(),
        )),
        EventKind::TagPush(tag) => {
            let head = match &tag.after {
                None => None,
                // A tag that is there is not gone because its commit is not known.
                Some(_) => Some(commit?.clone()),
            };
            Some(Told::Head(tag.ref_name.as_str().to_owned(), head))
        }
        EventKind::MergeRequest(event) => of_request(event),
        EventKind::Note(note) if note.created => Some(Told::Note(note.id)),
        _ => None,
    }
}

/// Only what a sweep would stand for: an approval or a label is news of its own.
fn of_request(event: &MergeRequestEvent) -> Option<Told> {
    let subject = format!("!{}", event.merge_request.iid);
    let head = match event.action.as_str() {
        "open" | "reopen" => Some(event.merge_request.head.clone()),
        "update" if event.old_head.is_some() => Some(event.merge_request.head.clone()),
        "close" | "merge" => None,
        _ => return None,
    };
    Some(Told::Head(subject, head))
}

/// The beginning of the ids of all sweeps of one head.
pub(super) fn sweep_id(project: ProjectId, subject: &str, found: &Head) -> String {
    let found = found.as_ref().map_or("gone", |commit| commit.as_str());
    // The id stands in addresses, and the name of a branch may hold nearly anything.
    let subject = Digest::of(subject.as_bytes()).hex();
    let subject = subject.get(..16).unwrap_or_default();
    format!("sweep:{project}:{subject}:{found}:")
}

/// The id of the delivery that tells of a comment which was found.
pub(super) fn host_note_id(project: ProjectId, note: u64) -> String {
    format!("found-note:{project}:{note}")
}

/// Why a delivery is not decided: another told of the same and was, or will be. None: it is decided.
///
/// # Errors
/// The store's.
pub async fn told_elsewhere(
    host: &Host,
    delivery: &StoredDelivery,
    parsed: &Parsed,
) -> Result<Option<String>, StoreError> {
    if is_host_hook(&delivery.hook) {
        let told = told_meanwhile(&host.store, delivery, parsed).await?;
        return Ok(told.map(|told| {
            format!("`{told}` told of it while Penstock found it itself, and was decided")
        }));
    }
    let found = found_before(host, &delivery.key.instance, &delivery.lane, parsed).await?;
    Ok(found.map(|found| format!("Penstock found this itself, as `{found}`, before it came")))
}

/// The webhook that told of a comment before what the host found of it is decided. Of a head no webhook does: the transaction that keeps a
/// sweep looks whether one waits.
async fn told_meanwhile(
    store: &Store,
    delivery: &StoredDelivery,
    parsed: &Parsed,
) -> Result<Option<DeliveryId>, StoreError> {
    let (Some((id, path)), EventKind::Note(note)) = (&delivery.project, &parsed.kind) else {
        return Ok(None);
    };
    let NoteTarget::MergeRequest(request) = &note.target else {
        return Ok(None);
    };
    let project = KnownProject {
        id: *id,
        path: path.clone(),
    };
    let since = delivery.received_at.minus(LATELY);
    let subject = format!("!{}", request.iid);
    let decided = store
        .notes_decided(&delivery.key.instance, &project, &subject, since)
        .await?;
    let told = decided
        .into_iter()
        .find(|(_, body)| note_of(body) == Some(note.id));
    Ok(told.map(|(id, _)| id))
}

/// The event of the host's own that told of the same before this webhook came.
async fn found_before(
    host: &Host,
    instance: &InstanceName,
    lane: &Lane,
    parsed: &Parsed,
) -> Result<Option<DeliveryId>, StoreError> {
    let revision = parsed.revision.as_deref().map(CommitId::parse);
    let commit = revision.and_then(Result::ok);
    let (Some(project), Some(told)) = (lane.project, told(&parsed.kind, commit.as_ref())) else {
        return Ok(None);
    };
    if !host.found.ask(&host.store).await? {
        return Ok(None);
    }
    match told {
        Told::Note(note) => {
            let id = host_note_id(project, note);
            let found = host.store.host_event(instance, &id).await?;
            Ok(found.filter(|found| found.as_str() == id))
        }
        Told::Head(subject, head) => {
            // Moved away and back since, it is news again.
            let known = host.store.head_of(instance, project, &subject).await?;
            if known.as_ref() != Some(&head) {
                return Ok(None);
            }
            let prefix = sweep_id(project, &subject, &head);
            host.store.host_event(instance, &prefix).await
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::event::TagPush;

    use super::*;

    const HEAD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_tag_leads_to_the_commit_and_not_to_the_tag_s_own_id() {
        let head = CommitId::parse(HEAD).unwrap();
        let tag = |after: Option<&str>| {
            EventKind::TagPush(TagPush {
                ref_name: "refs/tags/v1".into(),
                before: None,
                after: after.map(str::to_owned),
                message: None,
            })
        };
        let is = |head| Some(Told::Head("refs/tags/v1".to_owned(), head));
        let own = "b".repeat(40);
        let annotated = tag(Some(&own));
        assert_eq!(told(&annotated, Some(&head)), is(Some(head.clone())));
        assert_eq!(
            told(&annotated, None),
            None,
            "it is there, and where is not known"
        );
        assert_eq!(told(&tag(None), None), is(None));
        assert_eq!(told(&tag(None), Some(&head)), is(None));
    }
}
