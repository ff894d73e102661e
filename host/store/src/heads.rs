//! What was last decided about each branch, tag and merge request, so that a change that no delivery told of is found.
//!
//! A head is written down with the decision about it, or when a project is first looked at: what was there before Penstock came is nothing to be made up for.

use std::collections::{BTreeMap, BTreeSet};

use penstock_model::host_event::{HostEvent, host_hook};
use penstock_model::id::{CommitId, DeliveryId, InstanceName, ProjectId, ProjectPath, Timestamp};
use penstock_model::lane::Lane;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::blob::{self, Packed};
use crate::claim::{Queue, wake_lane};
use crate::delivery::{dispatch_lane, subject_text};
use crate::error::StoreError;
use crate::mark;
use crate::store::Store;

/// The mark of what the host last found itself.
const FOUND: &str = "found";

/// The head of one branch, tag or merge request; none: it is gone or closed.
pub type Head = Option<CommitId>;

/// An event of the host's own, to be decided like a delivery.
#[derive(Clone, Debug)]
pub struct NewHostEvent {
    /// Its id: the same for the same thing found twice.
    pub id: String,
    /// What stands where a delivery has `X-Gitlab-Event`.
    pub header: &'static str,
    /// It.
    pub event: HostEvent,
    /// What it must stay in order with.
    pub lane: Lane,
    /// The head that it tells of; none: it tells of none.
    pub moves: Option<Move>,
    /// It is not decided before.
    pub not_before: Timestamp,
}

/// A head that is another than was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// As it was known. If it is known otherwise by now, the event is not kept.
    pub from: Head,
    /// As it is known from now on.
    pub to: Head,
}

/// A project that something was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProject {
    /// GitLab's id.
    pub id: ProjectId,
    /// Its path when it was last seen.
    pub path: ProjectPath,
}

/// What of a project is still to be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Subjects of which a delivery waits: nothing can be said of their heads yet.
    pub subjects: BTreeSet<String>,
    /// Number of the last delivery up to which none of the project waits.
    pub settled_to: u64,
}

/// A head that was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedHead {
    /// Whose it is.
    pub project: ProjectId,
    /// The lane's subject: the full name of a ref, or `!N`.
    pub subject: String,
    /// It.
    pub head: Head,
}

/// Writes a head down when it is decided.
pub(crate) fn decided(
    tx: &mut dyn Tx,
    instance: &InstanceName,
    it: &DecidedHead,
    now: Timestamp,
) -> Result<(), StoreError> {
    write(tx, instance, it.project, &it.subject, &it.head, now)
}

fn write(
    tx: &mut dyn Tx,
    instance: &InstanceName,
    project: ProjectId,
    subject: &str,
    head: &Head,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO heads (instance, project, subject, head, known_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (instance, project, subject) DO UPDATE SET head = excluded.head, known_at = excluded.known_at",
        params![
            instance.as_str(),
            project.0,
            subject,
            head.as_ref().map(CommitId::as_str),
            now
        ],
    )
    .map(drop)
}

fn known(
    tx: &mut dyn Tx,
    instance: &InstanceName,
    project: ProjectId,
    subject: &str,
) -> Result<Head, StoreError> {
    let row = tx.first(
        "SELECT head FROM heads WHERE instance = ?1 AND project = ?2 AND subject = ?3 FOR UPDATE",
        params![instance.as_str(), project.0, subject],
    )?;
    let text = row.map(|mut row| row.opt_text()).transpose()?.flatten();
    read_head(text, subject)
}

fn read_head(text: Option<String>, subject: &str) -> Result<Head, StoreError> {
    text.map(|text| CommitId::parse(&text))
        .transpose()
        .map_err(|error| StoreError::unreadable(format!("the head of {subject}: {error}")))
}

fn append_host(
    tx: &mut dyn Tx,
    new: &NewHostEvent,
    body: &Packed,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let of = &new.event.of;
    let lane = dispatch_lane(Some(&of.tenant), &new.lane);
    let subject = subject_text(&new.lane.subject);
    // A decision holds its lane before it writes its head: in the same order here, nobody waits for the other.
    tx.first(
        "SELECT 1 FROM lanes WHERE queue = ?1 AND lane = ?2 FOR UPDATE",
        params![Queue::Dispatch.as_str(), &lane],
    )?;
    if let Some(moves) = &new.moves {
        // What came while somebody looked may tell of the same.
        let waits = tx.first(
            "SELECT 1 FROM deliveries WHERE outcome = 'waiting' AND lane = ?1 LIMIT 1",
            params![&lane],
        )?;
        if waits.is_some() || known(tx, &of.instance, of.project, &subject)? != moves.from {
            return Ok(false);
        }
        write(tx, &of.instance, of.project, &subject, &moves.to, now)?;
    }
    let inserted = tx.execute(
        "INSERT INTO deliveries (instance, id, hook, event_header, kind, tenant, project, project_path, lane, subject, \
         received_at, headers, body, body_size, received_digest, outcome, routed, tries, next_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, '[]', ?12, ?13, ?12, 'waiting', 0, 0, ?14) \
         ON CONFLICT (instance, id) DO NOTHING",
        params![
            of.instance.as_str(),
            &new.id,
            host_hook().as_str(),
            new.header,
            new.event.kind.word(),
            of.tenant.as_str(),
            of.project.0,
            of.path.as_str(),
            &lane,
            &subject,
            now,
            &body.digest,
            body.size,
            new.not_before,
        ],
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    blob::put(tx, body, now)?;
    mark::set(tx, FOUND, &new.id, now)?;
    wake_lane(
        tx,
        Queue::Dispatch,
        &lane,
        of.tenant.as_str(),
        new.not_before,
        now,
    )?;
    Ok(true)
}

impl Store {
    /// Keeps an event of the host's own, with the head that is known by it; false: it was here before, or something waits that may tell of the
    /// same head. It is on the disk when this returns.
    ///
    /// # Errors
    /// The store's.
    pub async fn append_host(&self, new: NewHostEvent, now: Timestamp) -> Result<bool, StoreError> {
        let json = serde_json::to_vec(&new.event)
            .map_err(|error| StoreError::unreadable(error.to_string()))?;
        let body = blob::packed(json).await?;
        let appended = self
            .write(move |tx| append_host(tx, &new, &body, now))
            .await?;
        if appended {
            self.hint(Queue::Dispatch);
        }
        Ok(appended)
    }

    /// An event of the host's own whose id begins so and that did something, or may still: one that came to nothing stands in nobody's way.
    ///
    /// # Errors
    /// The store's.
    pub async fn host_event(
        &self,
        instance: &InstanceName,
        prefix: &str,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let (instance, prefix) = (instance.clone(), prefix.to_owned());
        self.read(move |tx| {
            let row = tx.first(
                "SELECT id FROM deliveries d WHERE id >= ?1 AND id < ?4 AND instance = ?2 AND hook = ?3 AND (outcome = 'waiting' \
                 OR EXISTS (SELECT 1 FROM effects e WHERE e.instance = d.instance AND e.delivery = d.id)) ORDER BY id LIMIT 1",
                // The last of all texts that begin so.
                params![prefix.as_str(), instance.as_str(), host_hook().as_str(), &format!("{prefix}\u{10ffff}")],
            )?;
            row.map(|mut row| row.text().map(DeliveryId::new)).transpose()
        })
        .await
    }

    /// Whether the host found anything itself since a time, other than the ends of runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn found_since(&self, since: Timestamp) -> Result<bool, StoreError> {
        self.read(move |tx| {
            let row = tx.first(
                "SELECT 1 FROM marks WHERE name = ?1 AND noted_at >= ?2",
                params![FOUND, since],
            )?;
            Ok(row.is_some())
        })
        .await
    }

    /// The known head of a subject; none: nothing is known.
    ///
    /// # Errors
    /// The store's.
    pub async fn head_of(
        &self,
        instance: &InstanceName,
        project: ProjectId,
        subject: &str,
    ) -> Result<Option<Head>, StoreError> {
        let (instance, subject) = (instance.clone(), subject.to_owned());
        self.read(move |tx| {
            let row = tx.first(
                "SELECT head FROM heads WHERE instance = ?1 AND project = ?2 AND subject = ?3",
                params![instance.as_str(), project.0, subject.as_str()],
            )?;
            row.map(|mut row| read_head(row.opt_text()?, &subject))
                .transpose()
        })
        .await
    }

    /// The known heads of a project, by lane subject: full names of refs, and `!N` for merge requests.
    ///
    /// # Errors
    /// The store's.
    pub async fn heads(
        &self,
        instance: &InstanceName,
        project: ProjectId,
    ) -> Result<BTreeMap<String, Head>, StoreError> {
        let instance = instance.clone();
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT subject, head FROM heads WHERE instance = ?1 AND project = ?2",
                params![instance.as_str(), project.0],
            )?;
            rows.into_iter()
                .map(|mut row| {
                    let subject = row.text()?;
                    let head = read_head(row.opt_text()?, &subject)?;
                    Ok((subject, head))
                })
                .collect()
        })
        .await
    }

    /// Takes heads for known without an event: those that are looked at for the first time, and those that a delivery told of which decided nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_heads_for_known(
        &self,
        instance: &InstanceName,
        project: ProjectId,
        heads: Vec<(String, Head)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let instance = instance.clone();
        self.write(move |tx| {
            heads
                .iter()
                .try_for_each(|(subject, head)| write(tx, &instance, project, subject, head, now))
        })
        .await
    }

    /// Deliveries of a project that still wait.
    ///
    /// # Errors
    /// The store's.
    pub async fn waiting(
        &self,
        instance: &InstanceName,
        project: ProjectId,
    ) -> Result<Waiting, StoreError> {
        let instance = instance.clone();
        self.read(move |tx| {
            let last = tx.first("SELECT max(seq) FROM deliveries", params![])?;
            let last = last.map(|mut row| row.opt_uint()).transpose()?.flatten();
            let rows = tx.query(
                "SELECT subject, min(seq) FROM deliveries WHERE outcome = 'waiting' AND instance = ?1 AND project = ?2 \
                 GROUP BY subject",
                params![instance.as_str(), project.0],
            )?;
            let mut found = Waiting {
                settled_to: last.unwrap_or_default(),
                ..Waiting::default()
            };
            for mut row in rows {
                found.subjects.insert(row.text()?);
                found.settled_to = found.settled_to.min(row.uint()?.saturating_sub(1));
            }
            Ok(found)
        })
        .await
    }

    /// Bodies of webhook calls about a subject, of the project with this id and this path, later than delivery number `after`; those that
    /// have expired are left out. A hook's scope is held against the path: by its id alone a body may name anybody's project.
    ///
    /// # Errors
    /// The store's.
    pub async fn told(
        &self,
        instance: &InstanceName,
        project: &KnownProject,
        subject: &str,
        after: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (instance, project, subject) = (instance.clone(), project.clone(), subject.to_owned());
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT b.content FROM deliveries d JOIN blobs b ON b.digest = d.body WHERE d.seq > ?1 AND d.instance = ?2 \
                 AND d.project = ?3 AND d.project_path = ?4 AND d.subject = ?5 AND d.hook <> ?6 \
                 AND d.kind IN ('push', 'tag_push', 'merge_request') ORDER BY d.seq",
                params![
                    after,
                    instance.as_str(),
                    project.id.0,
                    project.path.as_str(),
                    subject.as_str(),
                    host_hook().as_str(),
                ],
            )?;
            rows.into_iter()
                .map(|mut row| blob::unpack(&row.bytes()?))
                .collect()
        })
        .await
    }

    /// Bodies of deliveries about comments on a subject of the project with this id and this path, received since a time; those that have
    /// expired are left out.
    ///
    /// # Errors
    /// The store's.
    pub async fn notes_about(
        &self,
        instance: &InstanceName,
        project: &KnownProject,
        subject: &str,
        since: Timestamp,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (instance, project, subject) = (instance.clone(), project.clone(), subject.to_owned());
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT b.content FROM deliveries d JOIN blobs b ON b.digest = d.body WHERE d.instance = ?1 AND d.project = ?2 \
                 AND d.project_path = ?3 AND d.subject = ?4 AND d.kind = 'note' AND d.received_at >= ?5 ORDER BY d.seq",
                params![
                    instance.as_str(),
                    project.id.0,
                    project.path.as_str(),
                    subject.as_str(),
                    since
                ],
            )?;
            rows.into_iter()
                .map(|mut row| blob::unpack(&row.bytes()?))
                .collect()
        })
        .await
    }

    /// The same, of deliveries that came by a webhook and of which something was decided, or tried in vain; with their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn notes_decided(
        &self,
        instance: &InstanceName,
        project: &KnownProject,
        subject: &str,
        since: Timestamp,
    ) -> Result<Vec<(DeliveryId, Vec<u8>)>, StoreError> {
        let (instance, project, subject) = (instance.clone(), project.clone(), subject.to_owned());
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT d.id, b.content FROM deliveries d JOIN blobs b ON b.digest = d.body WHERE d.instance = ?1 AND d.project = ?2 \
                 AND d.project_path = ?3 AND d.subject = ?4 AND d.kind = 'note' AND d.received_at >= ?5 AND d.hook <> ?6 \
                 AND d.outcome IN ('decided', 'failed', 'dead') ORDER BY d.seq",
                params![
                    instance.as_str(),
                    project.id.0,
                    project.path.as_str(),
                    subject.as_str(),
                    since,
                    host_hook().as_str()
                ],
            )?;
            rows.into_iter()
                .map(|mut row| Ok((DeliveryId::new(row.text()?), blob::unpack(&row.bytes()?)?)))
                .collect()
        })
        .await
    }

    /// Projects of an instance that something was decided about.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_projects(
        &self,
        instance: &InstanceName,
    ) -> Result<Vec<KnownProject>, StoreError> {
        let instance = instance.clone();
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT project, path FROM projects WHERE instance = ?1 ORDER BY project",
                params![instance.as_str()],
            )?;
            rows.into_iter()
                .map(|mut row| {
                    Ok(KnownProject {
                        id: ProjectId(row.uint()?),
                        path: ProjectPath::new(row.text()?),
                    })
                })
                .collect()
        })
        .await
    }
}
