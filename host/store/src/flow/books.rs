//! What is counted in each scope, and whether another run finds room.
//!
//! Counts are read when they are first asked for, and kept up while runs are let in within one transaction.

use std::collections::HashMap;

use penstock_model::flow::{Flow, FlowLimits, Kind, Limit, Scope};
use penstock_model::id::Timestamp;

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;

/// A second in the unit of paces.
const SECOND: u64 = 1_000_000;

/// Why a run is not let in now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// The scope without room: the narrowest, so that others wait for nothing that is not theirs.
    pub(super) scope: Scope,
    /// For people.
    pub(super) why: String,
    /// When time alone makes room; none: a run has to end first.
    pub(super) until: Option<Timestamp>,
}

/// A run's scopes with their limits.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) flow: Flow,
    scopes: [(Scope, Limit); 5],
    tenant: Scope,
    project: Scope,
    queue: Option<Scope>,
}

impl Place {
    pub(super) fn new(flow: Flow, limits: &FlowLimits) -> Self {
        Self {
            scopes: limits.of(&flow),
            tenant: flow.scope(Kind::Tenant),
            project: flow.scope(Kind::Project),
            queue: flow.queue.is_some().then(|| flow.scope(Kind::Queue)),
            flow,
        }
    }

    /// Nothing limits it.
    pub(super) fn is_free(&self) -> bool {
        self.queue.is_none() && self.scopes.iter().all(|(_, limit)| limit.is_lifted())
    }

    /// The scope of this key.
    pub(super) fn scope(&self, key: &str) -> Option<Scope> {
        let scopes = self.scopes.iter().map(|(scope, _)| scope);
        scopes
            .chain(self.queue.as_ref())
            .find(|scope| scope.to_string() == key)
            .cloned()
    }

    /// The keys of its scopes, for six parameters.
    pub(super) fn keys(&self) -> [String; 6] {
        let [cluster, tenant, place, project, pipeline] =
            self.scopes.each_ref().map(|(scope, _)| scope.to_string());
        let queue = self.queue.as_ref().map(Scope::to_string);
        [
            cluster,
            tenant,
            place,
            project,
            pipeline,
            queue.unwrap_or_default(),
        ]
    }
}

/// A queue's runs in flight, and the least limit of those that have not ended.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    in_flight: u64,
    limit: Option<u64>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Books {
    in_flight: HashMap<Scope, u64>,
    due: HashMap<Scope, u64>,
    queues: HashMap<Scope, Share>,
    /// Scopes in which a run was created: their paces are to be written.
    paced: HashMap<Scope, u64>,
}

fn micros(now: Timestamp) -> u64 {
    now.0.saturating_mul(1000)
}

/// Time between creations that come evenly.
fn interval(per_second: u32) -> u64 {
    SECOND / u64::from(per_second.max(1))
}

impl Books {
    /// Reads what is counted in the scopes of a run, where it is not known yet.
    pub(super) fn read(
        &mut self,
        tx: &mut dyn Tx,
        place: &Place,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if place
            .scopes
            .iter()
            .any(|(scope, _)| !self.in_flight.contains_key(scope))
        {
            self.read_flights(tx, place)?;
            self.read_paces(tx, place, now)?;
        }
        if let Some(queue) = place.queue.as_ref()
            && !self.queues.contains_key(queue)
        {
            let share = read_share(tx, &place.flow)?;
            self.queues.insert(queue.clone(), share);
        }
        Ok(())
    }

    fn read_flights(&mut self, tx: &mut dyn Tx, place: &Place) -> Result<(), StoreError> {
        let flow = &place.flow;
        let row = tx.first(
            "SELECT (SELECT count(*) FROM flow_flights WHERE cluster = ?1), \
             (SELECT count(*) FROM flow_flights WHERE tenant = ?2), \
             (SELECT count(*) FROM flow_flights WHERE tenant = ?2 AND place = ?3), \
             (SELECT count(*) FROM flow_flights WHERE project = ?4), \
             (SELECT count(*) FROM flow_flights WHERE project = ?4 AND pipeline = ?5)",
            params![
                flow.cluster.as_str(),
                flow.tenant.as_str(),
                &flow.place_key(),
                &flow.project_key(),
                &flow.pipeline
            ],
        )?;
        let mut row = row.ok_or_else(|| StoreError::unreadable("a count has no row"))?;
        for (scope, _) in &place.scopes {
            let counted = row.uint()?;
            // What is known includes what was let in since.
            self.in_flight.entry(scope.clone()).or_insert(counted);
        }
        Ok(())
    }

    fn read_paces(
        &mut self,
        tx: &mut dyn Tx,
        place: &Place,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if place
            .scopes
            .iter()
            .all(|(_, limit)| limit.per_second.is_none())
        {
            return Ok(());
        }
        let [cluster, tenant, at, project, pipeline, _] = place.keys();
        let rows = tx.query(
            "SELECT scope, due FROM flow_paces WHERE scope IN (?1, ?2, ?3, ?4, ?5)",
            params![&cluster, &tenant, &at, &project, &pipeline],
        )?;
        for mut row in rows {
            let (key, due) = (row.text()?, row.uint()?);
            // What lies further ahead was written before the clock was set back.
            if let Some(scope) = place.scope(&key)
                && due <= micros(now).saturating_add(2 * SECOND)
            {
                self.due.entry(scope).or_insert(due);
            }
        }
        Ok(())
    }

    /// Runs in flight of the tenant and of the project: who has fewest goes first.
    pub(super) fn held(&self, place: &Place) -> (u64, u64) {
        let of = |scope| self.in_flight.get(scope).copied().unwrap_or_default();
        (of(&place.tenant), of(&place.project))
    }

    /// When a scope has room for another creation by its pace, if not now.
    fn paced_until(&self, scope: &Scope, per_second: u32, now: Timestamp) -> Option<Timestamp> {
        let now = micros(now);
        // A second's creations may come at once.
        let due = self.due.get(scope).copied().unwrap_or_default();
        let ahead = SECOND.saturating_sub(interval(per_second));
        let from = due.saturating_sub(ahead);
        (from > now).then(|| Timestamp(from.div_ceil(1000)))
    }

    /// The narrowest scope that has no room; none: the run may be created.
    pub(super) fn blocked(&self, place: &Place, now: Timestamp) -> Option<Blocked> {
        if let Some(queue) = place.queue.as_ref() {
            let share = self.queues.get(queue).copied().unwrap_or_default();
            if let Some(limit) = share.limit
                && share.in_flight >= limit
            {
                return Some(full(queue, share.in_flight, limit));
            }
        }
        for (scope, limit) in place.scopes.iter().rev() {
            if let Some(most) = limit.in_flight {
                let held = self.in_flight.get(scope).copied().unwrap_or_default();
                if held >= u64::from(most) {
                    return Some(full(scope, held, u64::from(most)));
                }
            }
            if let Some(per_second) = limit.per_second
                && let Some(until) = self.paced_until(scope, per_second, now)
            {
                return Some(Blocked {
                    scope: scope.clone(),
                    why: format!("{scope} creates at most {per_second} runs a second"),
                    until: Some(until),
                });
            }
        }
        None
    }

    /// Counts a run that is let in.
    pub(super) fn enter(&mut self, place: &Place, now: Timestamp) {
        let now = micros(now);
        for (scope, limit) in &place.scopes {
            *self.in_flight.entry(scope.clone()).or_default() += 1;
            if let Some(per_second) = limit.per_second {
                let due = self.due.entry(scope.clone()).or_default();
                *due = (*due).max(now).saturating_add(interval(per_second));
                self.paced.insert(scope.clone(), *due);
            }
        }
        if let Some(queue) = place.queue.as_ref() {
            self.queues.entry(queue.clone()).or_default().in_flight += 1;
        }
    }

    /// Writes the paces down.
    pub(super) fn close(self, tx: &mut dyn Tx) -> Result<(), StoreError> {
        for (scope, due) in self.paced {
            tx.execute(
                "INSERT INTO flow_paces (scope, due) VALUES (?1, ?2) ON CONFLICT (scope) DO UPDATE SET due = excluded.due",
                params![&scope.to_string(), due],
            )?;
        }
        Ok(())
    }
}

fn full(scope: &Scope, held: u64, most: u64) -> Blocked {
    Blocked {
        scope: scope.clone(),
        why: format!("{scope} has {held} of {most} runs in flight"),
        until: None,
    }
}

fn read_share(tx: &mut dyn Tx, flow: &Flow) -> Result<Share, StoreError> {
    let queue = flow.queue.as_deref();
    let row = tx.first(
        "SELECT (SELECT count(*) FROM flow_flights WHERE project = ?1 AND queue = ?2), \
         (SELECT min(queue_limit) FROM runs WHERE instance = ?3 AND project = ?4 AND queue = ?2 AND finished = 0)",
        params![
            &flow.project_key(),
            queue,
            flow.instance.as_str(),
            flow.project.0
        ],
    )?;
    let mut row = row.ok_or_else(|| StoreError::unreadable("a count has no row"))?;
    Ok(Share {
        in_flight: row.uint()?,
        limit: row.opt_uint()?,
    })
}
