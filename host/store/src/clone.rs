//! The journal of credentials with which runs clone: GitLab deploy tokens, and the Secrets that hold them.
//!
//! Nothing is made of which there is no row yet, so that whoever comes after a crash finds all that may be there. A token's value is kept sealed by the caller;
//! it is wiped when the token is revoked. A project has at most one token that takes runs, for an hour; it is to be revoked when all of these have ended.

use std::time::Duration;

use penstock_model::id::{ClusterName, EffectId, InstanceName, ProjectId, Timestamp};

use crate::backend::Tx;
use crate::backend::dialect::{guard, guard_key};
use crate::backend::value::{Row, params};
use crate::error::StoreError;
use crate::store::Store;

/// How long a token takes new runs.
pub(crate) const TAKES_RUNS: Duration = Duration::from_secs(60 * 60);

/// How long one worker is left alone with a token that it makes or revokes.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A Secret that a run is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFor {
    /// The run.
    pub run: EffectId,
    /// Name of the Secret.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// The account that makes and deletes it.
    pub creator: String,
}

/// A token that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneToken {
    /// Its row.
    pub seq: u64,
    /// Its name in GitLab, which is unique.
    pub name: String,
    /// The user name that goes with it.
    pub username: String,
    /// Its value, sealed.
    pub sealed: Vec<u8>,
}

/// What a run that wants to clone a project gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloneAnswer {
    /// A token; the run counts among its users.
    Ready(CloneToken),
    /// The caller makes it, under this name, and says so with [`Store::clone_made`].
    Make {
        /// Its row.
        seq: u64,
        /// The name that it gets in GitLab.
        name: String,
        /// Somebody began to make it and did not say what came of it: one of this name may be there, and nobody knows its value.
        begun: bool,
    },
    /// Somebody else makes it just now.
    Busy,
}

/// A token whose runs have all ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleToken {
    /// Its row.
    pub seq: u64,
    /// The GitLab instance.
    pub instance: InstanceName,
    /// The project.
    pub project: ProjectId,
    /// Its name in GitLab.
    pub name: String,
    /// GitLab's id; none: it is not known whether there is one.
    pub gitlab_id: Option<u64>,
    /// How often it was tried.
    pub tries: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A Secret whose run has ended or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleSecret {
    /// Where it is.
    pub secret: SecretFor,
    /// How often it was tried.
    pub tries: u32,
}

/// What is known of credentials, for people and tests: counts of what may still be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFigures {
    /// Tokens that are not revoked.
    pub tokens: u64,
    /// Secrets that are not deleted.
    pub secrets: u64,
}

struct Wanted<'a> {
    instance: &'a InstanceName,
    project: ProjectId,
    secret: &'a SecretFor,
    name: &'a str,
    now: Timestamp,
}

fn begin(tx: &mut dyn Tx, it: &Wanted<'_>) -> Result<CloneAnswer, StoreError> {
    // Of two runs that come first in a project, one makes the token.
    let project = it.project.0.to_string();
    guard(
        tx,
        guard_key(["clone", it.instance.as_str(), project.as_str()]),
    )?;
    let run = it.secret.run.hex();
    open_secret(tx, it.secret, &run, it.now)?;
    let row = tx.first(
        "SELECT seq, name, state, username, sealed, held_until FROM clone_tokens \
         WHERE instance = ?1 AND project = ?2 AND (state = 'making' OR state = 'live' AND created_at > ?3) \
         ORDER BY seq DESC LIMIT 1 FOR UPDATE",
        params![
            it.instance.as_str(),
            it.project.0,
            before(it.now, TAKES_RUNS)
        ],
    )?;
    let held_until = it.now.plus(LEASE);
    let Some(mut row) = row else {
        let made = tx.first(
            "INSERT INTO clone_tokens (instance, project, name, state, created_at, held_until, tries) \
             VALUES (?1, ?2, ?3, 'making', ?4, ?5, 0) RETURNING seq",
            params![
                it.instance.as_str(),
                it.project.0,
                it.name,
                it.now,
                held_until
            ],
        )?;
        let seq = made
            .ok_or_else(|| StoreError::unreadable("a token's row was not written"))?
            .uint()?;
        use_by(tx, seq, &run)?;
        return Ok(CloneAnswer::Make {
            seq,
            name: it.name.to_owned(),
            begun: false,
        });
    };
    let (seq, name, state) = (row.uint()?, row.text()?, row.text()?);
    let (username, sealed, held) = (row.opt_text()?, row.opt_bytes()?, row.time()?);
    use_by(tx, seq, &run)?;
    match (state.as_str(), username, sealed) {
        ("live", Some(username), Some(sealed)) => Ok(CloneAnswer::Ready(CloneToken {
            seq,
            name,
            username,
            sealed,
        })),
        _ if held > it.now => Ok(CloneAnswer::Busy),
        _ => {
            tx.execute(
                "UPDATE clone_tokens SET held_until = ?2, tries = tries + 1 WHERE seq = ?1",
                params![seq, held_until],
            )?;
            Ok(CloneAnswer::Make {
                seq,
                name,
                begun: true,
            })
        }
    }
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(
        now.0
            .saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)),
    )
}

fn open_secret(
    tx: &mut dyn Tx,
    secret: &SecretFor,
    run: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO clone_secrets (run, name, cluster, namespace, creator, state, created_at, next_at, tries) \
         VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6, ?6, 0) \
         ON CONFLICT (run, name) DO UPDATE SET state = 'open', next_at = excluded.next_at, tries = 0, why = NULL",
        params![
            run,
            &secret.name,
            secret.cluster.as_str(),
            &secret.namespace,
            &secret.creator,
            now
        ],
    )
    .map(drop)
}

fn use_by(tx: &mut dyn Tx, token: u64, run: &str) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO clone_uses (token, run) VALUES (?1, ?2) ON CONFLICT (token, run) DO NOTHING",
        params![token, run],
    )
    .map(drop)
}

/// Takes Secrets whose run has ended, was refused, given up or cancelled, and leaves each to the caller for a while.
fn idle_secrets(tx: &mut dyn Tx, now: Timestamp, most: u32) -> Result<Vec<IdleSecret>, StoreError> {
    let rows = tx.query(
        "SELECT s.run, s.name, s.cluster, s.namespace, s.creator, s.tries FROM clone_secrets s \
         WHERE s.state = 'open' AND s.next_at <= ?1 AND NOT EXISTS ( \
           SELECT 1 FROM runs r JOIN effects e ON e.id = r.id \
           WHERE r.id = s.run AND r.finished = 0 AND e.state IN ('waiting', 'done')) \
         ORDER BY s.next_at LIMIT ?2",
        params![now, most],
    )?;
    let mut idle = Vec::new();
    for mut row in rows {
        let secret = SecretFor {
            run: row.effect_id()?,
            name: row.text()?,
            cluster: row.text()?.into(),
            namespace: row.text()?,
            creator: row.text()?,
        };
        let tries = row.small()?;
        let taken = tx.execute(
            "UPDATE clone_secrets SET next_at = ?3, tries = tries + 1 \
             WHERE run = ?1 AND name = ?2 AND state = 'open' AND next_at <= ?4",
            params![&secret.run.hex(), &secret.name, now.plus(LEASE), now],
        )?;
        if taken > 0 {
            idle.push(IdleSecret { secret, tries });
        }
    }
    Ok(idle)
}

/// Takes tokens whose runs have all ended, and leaves each to the caller for a while. From then on they take no run.
fn idle_tokens(tx: &mut dyn Tx, now: Timestamp, most: u32) -> Result<Vec<IdleToken>, StoreError> {
    let rows = tx.query(
        "SELECT seq, instance, project FROM clone_tokens t WHERE state <> 'revoked' AND held_until <= ?1 AND NOT EXISTS ( \
           SELECT 1 FROM clone_uses u JOIN runs r ON r.id = u.run JOIN effects e ON e.id = r.id \
           WHERE u.token = t.seq AND r.finished = 0 AND e.state IN ('waiting', 'done')) \
         ORDER BY seq LIMIT ?2",
        params![now, most],
    )?;
    let mut idle = Vec::new();
    for mut row in rows {
        let (seq, instance, project) = (row.uint()?, row.text()?, row.uint()?);
        // A run may be about to use it: whoever comes second sees what the first wrote.
        guard(
            tx,
            guard_key(["clone", instance.as_str(), project.to_string().as_str()]),
        )?;
        let taken = tx.first(
            "UPDATE clone_tokens SET state = 'revoking', held_until = ?2, tries = tries + 1 \
             WHERE seq = ?1 AND state <> 'revoked' AND held_until <= ?3 AND NOT EXISTS ( \
               SELECT 1 FROM clone_uses u JOIN runs r ON r.id = u.run JOIN effects e ON e.id = r.id \
               WHERE u.token = clone_tokens.seq AND r.finished = 0 AND e.state IN ('waiting', 'done')) \
             RETURNING seq, instance, project, name, gitlab_id, tries, created_at",
            params![seq, now.plus(LEASE), now],
        )?;
        if let Some(mut row) = taken {
            idle.push(read_idle(&mut row)?);
        }
    }
    Ok(idle)
}

fn read_idle(row: &mut Row) -> Result<IdleToken, StoreError> {
    Ok(IdleToken {
        seq: row.uint()?,
        instance: row.text()?.into(),
        project: ProjectId(row.uint()?),
        name: row.text()?,
        gitlab_id: row.opt_uint()?,
        tries: row.small()?,
        created_at: row.time()?,
    })
}

/// Takes away what is over and older, at most `most` rows of each kind, and says how many.
pub(crate) fn purge(tx: &mut dyn Tx, cutoff: Timestamp, most: u32) -> Result<u64, StoreError> {
    let secrets = tx.execute(
        "DELETE FROM clone_secrets WHERE (run, name) IN ( \
           SELECT run, name FROM clone_secrets WHERE state = 'gone' AND created_at < ?1 LIMIT ?2)",
        params![cutoff, most],
    )?;
    tx.execute(
        "DELETE FROM clone_uses WHERE token IN ( \
           SELECT seq FROM clone_tokens WHERE state = 'revoked' AND created_at < ?1 ORDER BY seq LIMIT ?2)",
        params![cutoff, most],
    )?;
    let tokens = tx.execute(
        "DELETE FROM clone_tokens WHERE seq IN ( \
           SELECT t.seq FROM clone_tokens t WHERE t.state = 'revoked' AND t.created_at < ?1 \
           AND NOT EXISTS (SELECT 1 FROM clone_uses u WHERE u.token = t.seq) ORDER BY t.seq LIMIT ?2)",
        params![cutoff, most],
    )?;
    Ok(secrets.max(tokens))
}

impl Store {
    /// Writes down that a run will have this Secret with a token of this project, and says which: one that is there, or one that the caller is to make
    /// under `name`, which no other has.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_begin(
        &self,
        instance: &InstanceName,
        project: ProjectId,
        secret: &SecretFor,
        name: &str,
        now: Timestamp,
    ) -> Result<CloneAnswer, StoreError> {
        let (instance, secret, name) = (instance.clone(), secret.clone(), name.to_owned());
        self.write(move |tx| {
            let wanted = Wanted {
                instance: &instance,
                project,
                secret: &secret,
                name: &name,
                now,
            };
            begin(tx, &wanted)
        })
        .await
    }

    /// A token was made; its value is kept sealed.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_made(
        &self,
        token: CloneToken,
        gitlab_id: u64,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_tokens SET state = 'live', gitlab_id = ?2, username = ?3, sealed = ?4, expires_at = ?5, held_until = 0, tries = 0, why = NULL \
                 WHERE seq = ?1 AND state = 'making'",
                params![
                    token.seq,
                    gitlab_id,
                    &token.username,
                    &token.sealed,
                    expires_at
                ],
            )
            .map(drop)
        })
        .await
    }

    /// It did not come to a token, or it could not be revoked: others may try from `next_at` on.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_put_off(
        &self,
        seq: u64,
        next_at: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_tokens SET held_until = ?2, why = ?3 WHERE seq = ?1 AND state <> 'revoked'",
                params![seq, next_at, &why],
            )
            .map(drop)
        })
        .await
    }

    /// A token's value can't be opened any more: it takes no run, and is revoked when those that have it end.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_lost(&self, seq: u64, why: &str) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_tokens SET state = 'revoking', why = ?2 WHERE seq = ?1 AND state = 'live'",
                params![seq, &why],
            )
            .map(drop)
        })
        .await
    }

    /// Secrets that are to be deleted, at most so many; each is the caller's for a minute.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_idle_secrets(
        &self,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<IdleSecret>, StoreError> {
        // Most of the time there are none, and finding that takes no turn of the writer's.
        let any = self
            .read(|tx| {
                Ok(tx
                    .first(
                        "SELECT 1 FROM clone_secrets WHERE state = 'open' LIMIT 1",
                        &[],
                    )?
                    .is_some())
            })
            .await?;
        if !any {
            return Ok(Vec::new());
        }
        self.write(move |tx| idle_secrets(tx, now, most)).await
    }

    /// A Secret is deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_secret_gone(&self, secret: &SecretFor) -> Result<(), StoreError> {
        let (run, name) = (secret.run.hex(), secret.name.clone());
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_secrets SET state = 'gone', why = NULL WHERE run = ?1 AND name = ?2",
                params![&run, &name],
            )
            .map(drop)
        })
        .await
    }

    /// A Secret could not be deleted: it is tried again from `next_at` on.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_secret_put_off(
        &self,
        secret: &SecretFor,
        next_at: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        let (run, name, why) = (secret.run.hex(), secret.name.clone(), why.to_owned());
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_secrets SET next_at = ?3, why = ?4 WHERE run = ?1 AND name = ?2 AND state = 'open'",
                params![&run, &name, next_at, &why],
            )
            .map(drop)
        })
        .await
    }

    /// Tokens that are to be revoked, at most so many; each is the caller's for a minute and takes no run any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_idle_tokens(
        &self,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<IdleToken>, StoreError> {
        let any = self
            .read(|tx| {
                Ok(tx
                    .first(
                        "SELECT 1 FROM clone_tokens WHERE state <> 'revoked' LIMIT 1",
                        &[],
                    )?
                    .is_some())
            })
            .await?;
        if !any {
            return Ok(Vec::new());
        }
        self.write(move |tx| idle_tokens(tx, now, most)).await
    }

    /// A token is revoked, or never was: its value is wiped.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_revoked(&self, seq: u64) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE clone_tokens SET state = 'revoked', sealed = NULL, why = NULL WHERE seq = ?1",
                params![seq],
            )
            .map(drop)
        })
        .await
    }

    /// The tokens that Secrets of a run hold, each with its project.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_tokens_of(
        &self,
        run: &EffectId,
    ) -> Result<Vec<(ProjectId, CloneToken)>, StoreError> {
        let run = run.hex();
        self.read(move |tx| {
            let rows = tx.query(
                "SELECT t.project, t.seq, t.name, t.username, t.sealed FROM clone_uses u JOIN clone_tokens t ON t.seq = u.token \
                 WHERE u.run = ?1 AND t.sealed IS NOT NULL AND t.username IS NOT NULL",
                params![&run],
            )?;
            rows.into_iter()
                .map(|mut row| {
                    let project = ProjectId(row.uint()?);
                    let token = CloneToken {
                        seq: row.uint()?,
                        name: row.text()?,
                        username: row.text()?,
                        sealed: row.bytes()?,
                    };
                    Ok((project, token))
                })
                .collect()
        })
        .await
    }

    /// What may still be there.
    ///
    /// # Errors
    /// The store's.
    pub async fn clone_figures(&self) -> Result<CloneFigures, StoreError> {
        self.read(|tx| {
            let mut count = |sql| -> Result<u64, StoreError> {
                tx.first(sql, &[])?
                    .ok_or_else(|| StoreError::unreadable("a count without a row"))?
                    .uint()
            };
            Ok(CloneFigures {
                tokens: count("SELECT count(*) FROM clone_tokens WHERE state <> 'revoked'")?,
                secrets: count("SELECT count(*) FROM clone_secrets WHERE state = 'open'")?,
            })
        })
        .await
    }
}
