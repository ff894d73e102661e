//! What GitLab sent, kept once for each id.
//!
//! A delivery is on the disk before `append` returns. One whose id is known is not kept again; one whose body came a moment ago
//! through another hook is kept and decides nothing.

use bytes::Bytes;
use penstock_model::id::{
    DeliveryId, Digest, HookName, InstanceName, ProjectId, ProjectPath, RefName, TenantName,
    Timestamp,
};
use penstock_model::lane::{Lane, Subject};

use crate::backend::dialect::guard_key;
use crate::backend::value::{Row, params};
use crate::backend::{Hints, Tx};
use crate::blob::{self, Packed};
use crate::claim::{Queue, wake_lane};
use crate::error::StoreError;
use crate::store::Store;

/// How long the same body through another hook is the same event, in milliseconds.
const SAME_EVENT: u64 = 10 * 60 * 1000;

/// What a delivery is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// The id, unique within it.
    pub id: DeliveryId,
}

/// A verified webhook call.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// What it is found by.
    pub key: DeliveryKey,
    /// The hook that verified it.
    pub hook: HookName,
    /// The header `X-Gitlab-Event`.
    pub event_header: String,
    /// The body's own word for what it is, such as `push`.
    pub kind: String,
    /// Headers, those with credentials left out.
    pub headers: Vec<(String, String)>,
    /// The body, secrets redacted.
    pub body: Bytes,
    /// Digest of the body as it was received.
    pub body_digest: Digest,
    /// Whose it is; none: no tenant matches.
    pub tenant: Option<TenantName>,
    /// The project; none: an event of a group or of the instance.
    pub project: Option<(ProjectId, ProjectPath)>,
    /// What it must stay in order with.
    pub lane: Lane,
    /// When it was received.
    pub received_at: Timestamp,
}

/// What became of a delivery that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is kept and will be decided.
    New {
        /// Its number: rises with each delivery.
        seq: u64,
    },
    /// Its id was here before; nothing was kept.
    Duplicate {
        /// When it came first.
        first_received_at: Timestamp,
    },
    /// Its body came a moment ago through another hook. It is kept and decides nothing.
    SameEvent {
        /// The one that decides.
        first: DeliveryId,
    },
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryOutcome {
    /// Something is still to be decided.
    Waiting,
    /// All its routes are decided.
    Decided,
    /// A route failed.
    Failed,
    /// A route was tried for too long.
    Dead,
    /// No route leads anywhere.
    Unrouted,
    /// It can't be read into an event.
    Unreadable,
    /// Another delivery decides for it.
    SameEvent,
}

impl DeliveryOutcome {
    const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Decided,
        Self::Failed,
        Self::Dead,
        Self::Unrouted,
        Self::Unreadable,
        Self::SameEvent,
    ];

    /// The word of the store, the command line and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Decided => "decided",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Unrouted => "unrouted",
            Self::Unreadable => "unreadable",
            Self::SameEvent => "same-event",
        }
    }

    /// Reads [`DeliveryOutcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// A delivery as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// What it is found by.
    pub key: DeliveryKey,
    /// Its number.
    pub seq: u64,
    /// The hook that verified it.
    pub hook: HookName,
    /// The header `X-Gitlab-Event`.
    pub event_header: String,
    /// The body's own word for what it is.
    pub kind: String,
    /// Headers without credentials; empty once they have expired.
    pub headers: Vec<(String, String)>,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// The project.
    pub project: Option<(ProjectId, ProjectPath)>,
    /// Its lane.
    pub lane: Lane,
    /// When it was received.
    pub received_at: Timestamp,
    /// The body, where it was asked for and has not expired.
    pub body: Option<Vec<u8>>,
    /// Bytes of the body.
    pub body_size: u64,
    /// Digest of the body as it was received.
    pub body_digest: Digest,
    /// Where it stands.
    pub outcome: DeliveryOutcome,
    /// Why, for people.
    pub why: Option<String>,
    /// The delivery that decides for it.
    pub same_as: Option<DeliveryId>,
}

/// Which deliveries are listed. What is none does not narrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this instance.
    pub instance: Option<InstanceName>,
    /// That stand there.
    pub outcome: Option<DeliveryOutcome>,
    /// Of the project of this path.
    pub project: Option<String>,
    /// Received then or later.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

impl Default for DeliveryFilter {
    fn default() -> Self {
        Self {
            instance: None,
            outcome: None,
            project: None,
            since: None,
            limit: 50,
        }
    }
}

/// Columns of a delivery `d` as [`read`] reads them.
macro_rules! delivery_columns {
    () => {
        "d.instance, d.id, d.seq, d.hook, d.event_header, d.kind, d.headers, d.tenant, d.project, d.project_path, \
         d.subject, d.received_at, d.body_size, d.received_digest, d.outcome, d.why, d.same_as"
    };
}
pub(crate) use delivery_columns;

/// Reads [`delivery_columns`]; the body is not among them.
pub(crate) fn read(row: &mut Row) -> Result<StoredDelivery, StoreError> {
    let key = DeliveryKey {
        instance: row.text()?.into(),
        id: row.text()?.into(),
    };
    let seq = row.uint()?;
    let hook = HookName::new(row.text()?);
    let (event_header, kind) = (row.text()?, row.text()?);
    let headers = row.opt_json()?.unwrap_or_default();
    let tenant = row.opt_text()?.map(TenantName::new);
    let project = match (row.opt_uint()?, row.opt_text()?) {
        (Some(id), Some(path)) => Some((ProjectId(id), ProjectPath::new(path))),
        _ => None,
    };
    let lane = Lane {
        instance: key.instance.clone(),
        project: project.as_ref().map(|(id, _)| *id),
        subject: read_subject(row.text()?),
    };
    Ok(StoredDelivery {
        key,
        seq,
        hook,
        event_header,
        kind,
        headers,
        tenant,
        project,
        lane,
        received_at: row.time()?,
        body: None,
        body_size: row.uint()?,
        body_digest: row.digest()?,
        outcome: read_outcome(row)?,
        why: row.opt_text()?,
        same_as: row.opt_text()?.map(DeliveryId::new),
    })
}

fn read_outcome(row: &mut Row) -> Result<DeliveryOutcome, StoreError> {
    let word = row.text()?;
    DeliveryOutcome::parse(&word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no outcome of a delivery")))
}

fn read_subject(text: String) -> Subject {
    if text == "-" {
        return Subject::Whole;
    }
    if let Some(group) = text.strip_prefix("group:") {
        return Subject::Group(group.to_owned());
    }
    match text.strip_prefix('!').map(str::parse) {
        Some(Ok(iid)) => Subject::MergeRequest(iid),
        _ => Subject::Ref(RefName::new(text)),
    }
}

pub(crate) fn subject_text(subject: &Subject) -> String {
    match subject {
        Subject::MergeRequest(iid) => format!("!{iid}"),
        Subject::Ref(name) => name.as_str().to_owned(),
        Subject::Group(group) => format!("group:{group}"),
        Subject::Whole => "-".to_owned(),
    }
}

/// Key of the lane that a delivery is decided in. A webhook's body says which project it is about and nobody has proved that:
/// with the tenant in the key, what one tenant's hook sends never waits in a lane of another's.
pub(crate) fn dispatch_lane(tenant: Option<&TenantName>, lane: &Lane) -> String {
    format!("{}|{lane}", tenant.map_or("-", TenantName::as_str))
}

/// A delivery with all that can be made ready before the transaction.
struct Ready {
    new: NewDelivery,
    body: Packed,
    headers: String,
    lane: String,
    subject: String,
}

fn append(tx: &mut dyn Tx, ready: &Ready) -> Result<Appended, StoreError> {
    let new = &ready.new;
    let first = same_event(tx, new)?;
    let (outcome, routed) = match first {
        Some(_) => (DeliveryOutcome::SameEvent, true),
        None => (DeliveryOutcome::Waiting, false),
    };
    let inserted = tx.first(
        "INSERT INTO deliveries (instance, id, hook, event_header, kind, tenant, project, project_path, lane, subject, \
         received_at, headers, body, body_size, received_digest, outcome, routed, tries, next_at, same_as) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0, ?11, ?18) \
         ON CONFLICT (instance, id) DO NOTHING RETURNING seq",
        params![
            new.key.instance.as_str(),
            new.key.id.as_str(),
            new.hook.as_str(),
            &new.event_header,
            &new.kind,
            new.tenant.as_ref().map(TenantName::as_str),
            new.project.as_ref().map(|(id, _)| id.0),
            new.project.as_ref().map(|(_, path)| path.as_str()),
            &ready.lane,
            &ready.subject,
            new.received_at,
            &ready.headers,
            &ready.body.digest,
            ready.body.size,
            &new.body_digest,
            outcome.as_str(),
            routed,
            first.as_ref().map(DeliveryId::as_str),
        ],
    )?;
    let Some(mut row) = inserted else {
        let mut row = tx
            .first(
                "SELECT received_at FROM deliveries WHERE instance = ?1 AND id = ?2",
                params![new.key.instance.as_str(), new.key.id.as_str()],
            )?
            .ok_or_else(|| StoreError::unreadable("a delivery vanished while it was looked at"))?;
        return Ok(Appended::Duplicate {
            first_received_at: row.time()?,
        });
    };
    blob::put(tx, &ready.body, new.received_at)?;
    if let Some(first) = first {
        return Ok(Appended::SameEvent { first });
    }
    let tenant = new.tenant.as_ref().map_or("", TenantName::as_str);
    wake_lane(
        tx,
        Queue::Dispatch,
        &ready.lane,
        tenant,
        new.received_at,
        new.received_at,
    )?;
    Ok(Appended::New { seq: row.uint()? })
}

/// The delivery of the same body that came a moment ago through another hook and decides.
fn same_event(tx: &mut dyn Tx, new: &NewDelivery) -> Result<Option<DeliveryId>, StoreError> {
    let row = tx.first(
        "SELECT id FROM deliveries WHERE instance = ?1 AND received_digest = ?2 AND hook <> ?3 AND received_at >= ?4 \
         AND outcome <> 'same-event' AND id <> ?5 ORDER BY seq LIMIT 1",
        params![
            new.key.instance.as_str(),
            &new.body_digest,
            new.hook.as_str(),
            new.received_at.0.saturating_sub(SAME_EVENT),
            new.key.id.as_str(),
        ],
    )?;
    row.map(|mut row| row.text().map(DeliveryId::new))
        .transpose()
}

/// Finds a delivery; of several instances the newest.
pub(crate) fn find(
    tx: &mut dyn Tx,
    instance: Option<&str>,
    id: &str,
) -> Result<Option<StoredDelivery>, StoreError> {
    let row = tx.first(
        concat!(
            "SELECT ",
            delivery_columns!(),
            ", b.content FROM deliveries d LEFT JOIN blobs b ON b.digest = d.body \
             WHERE (CAST(?1 AS TEXT) IS NULL OR d.instance = ?1) AND d.id = ?2 ORDER BY d.seq DESC LIMIT 1"
        ),
        params![instance, id],
    )?;
    row.map(|mut row| with_body(&mut row)).transpose()
}

/// Reads [`delivery_columns`] and the packed body after them.
fn with_body(row: &mut Row) -> Result<StoredDelivery, StoreError> {
    let mut delivery = read(row)?;
    delivery.body = row
        .opt_bytes()?
        .map(|content| blob::unpack(&content))
        .transpose()?;
    Ok(delivery)
}

impl Store {
    /// Keeps a delivery. It is on the disk when this returns.
    ///
    /// # Errors
    /// The store's; nothing was kept, or it is unknown whether it was: it may be handed in again.
    pub async fn append(&self, mut new: NewDelivery) -> Result<Appended, StoreError> {
        let body = blob::packed(std::mem::take(&mut new.body)).await?;
        let headers = serde_json::to_string(&new.headers)
            .map_err(|error| StoreError::unreadable(error.to_string()))?;
        let lane = dispatch_lane(new.tenant.as_ref(), &new.lane);
        let digests = [new.body_digest, body.digest].map(|digest| digest.hex());
        let hints = Hints {
            guards: digests
                .iter()
                .map(|digest| guard_key(["body", digest.as_str()]))
                .collect(),
            order: lane.clone(),
            urgent: true,
            ..Hints::default()
        };
        let ready = Ready {
            subject: subject_text(&new.lane.subject),
            new,
            body,
            headers,
            lane,
        };
        let appended = self
            .write_batched(hints, move |tx| append(tx, &ready))
            .await?;
        if matches!(appended, Appended::New { .. }) {
            self.hint(Queue::Dispatch);
        }
        Ok(appended)
    }

    /// A delivery with its body, if that has not expired; of several instances the newest.
    ///
    /// # Errors
    /// The store's.
    pub async fn delivery(
        &self,
        instance: Option<&InstanceName>,
        id: &DeliveryId,
    ) -> Result<Option<StoredDelivery>, StoreError> {
        let (instance, id) = (instance.cloned(), id.clone());
        self.read(move |tx| {
            let instance = instance.as_ref().map(InstanceName::as_str);
            find(tx, instance, id.as_str())
        })
        .await
    }

    /// The body of a delivery; none: it has expired, or there is no such delivery.
    ///
    /// # Errors
    /// The store's.
    pub async fn body(&self, key: &DeliveryKey) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.clone();
        let packed = self
            .read(move |tx| {
                tx.first(
                    "SELECT b.content FROM deliveries d JOIN blobs b ON b.digest = d.body WHERE d.instance = ?1 AND d.id = ?2",
                    params![key.instance.as_str(), key.id.as_str()],
                )?
                .map(|mut row| row.bytes())
                .transpose()
            })
            .await?;
        packed.map(|content| blob::unpack(&content)).transpose()
    }

    /// Deliveries, newest first, without bodies.
    ///
    /// # Errors
    /// The store's.
    pub async fn deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        self.read(move |tx| {
            let rows = tx.query(
                concat!(
                    "SELECT ",
                    delivery_columns!(),
                    " FROM deliveries d WHERE (CAST(?1 AS TEXT) IS NULL OR d.instance = ?1) \
                     AND (CAST(?2 AS TEXT) IS NULL OR d.outcome = ?2) AND (CAST(?3 AS TEXT) IS NULL OR d.project_path = ?3) \
                     AND d.received_at >= ?4 ORDER BY d.seq DESC LIMIT ?5"
                ),
                params![
                    filter.instance.as_ref().map(InstanceName::as_str),
                    filter.outcome.map(DeliveryOutcome::as_str),
                    filter.project.as_ref(),
                    filter.since.unwrap_or_default(),
                    filter.limit,
                ],
            )?;
            rows.into_iter().map(|mut row| read(&mut row)).collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::lane::Subject;

    use super::{read_subject, subject_text};

    #[test]
    fn a_subject_reads_what_it_writes() {
        for subject in [
            Subject::MergeRequest(7),
            Subject::Ref("refs/heads/main".into()),
            Subject::Ref("refs/heads/!7".into()),
            Subject::Group("acme/payments".to_owned()),
            Subject::Whole,
        ] {
            assert_eq!(read_subject(subject_text(&subject)), subject);
        }
    }
}
