//! Deliveries become decisions: parse, confirm with GitLab, route, ask the plugin, admit, commit.
//!
//! What can't be done now because something is away is postponed with backoff, and given up after a day; what fails because of a plugin is recorded as failed.
//! Nothing here acts: orders go into the outbox in the transaction that commits the decision.

mod confirm;
mod decide;
mod fetch;
mod routes;
mod turns;
mod world;

use std::sync::Arc;
use std::time::Duration;

use penstock_gitlab::{Accepted, Parsed, ScopeClaim, host_claims, parse};
use penstock_model::admit::{Order, ProjectOf};
use penstock_model::host_event::{HostEvent, is_host_hook};
use penstock_model::id::{
    CommitId, DeliveryId, EffectId, EffectKey, RouteName, TenantName, Timestamp,
};
use penstock_model::scope::Project;
use penstock_store::{
    Claim, LaneError, Onward, Pending, PendingRoute, Pinned, StoredDelivery, Then,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backoff::{self, GIVE_UP_AFTER};
use crate::host::Host;
use crate::lanes::After;
use crate::live::{Instance, Live};
use crate::{status, statuses, trace};

use confirm::{Unconfirmed, confirmed};
use routes::NoRoute;

pub use turns::Turns;

/// Works through one lane until nothing is left to decide in it.
pub async fn lane(host: Arc<Host>, claim: Claim, first: Pending, stop: CancellationToken) -> After {
    let mut next = Some(first);
    while !stop.is_cancelled() {
        let pending = match next.take() {
            Some(pending) => pending,
            None => match host.store.head(&claim, Timestamp::now()).await {
                Ok(Some(pending)) => pending,
                Ok(None) => return After::GiveBack,
                Err(error) => {
                    tracing::warn!(%error, lane = claim.lane, "could not read the head of a lane");
                    return After::GiveBackLater;
                }
            },
        };
        let span = tracing::info_span!("dispatch", delivery.id = %pending.delivery.key.id);
        let place = trace::of(&pending.delivery.key);
        let facts = || {
            [
                ("delivery.id", pending.delivery.key.id.to_string().into()),
                ("delivery.kind", pending.delivery.kind.clone().into()),
                ("delivery.tries", i64::from(pending.tries).into()),
            ]
        };
        let traced = trace::begin(place, "dispatch", facts);
        // On the heap: it is large, and would be moved about on the stack.
        let work = Box::pin(step(&host, &claim, pending)).instrument(span);
        match traced.around(work).await {
            Ok(Some(Onward::Stays)) => {}
            Ok(Some(Onward::Next(pending))) => next = Some(pending),
            Ok(Some(Onward::GivenBack)) => return After::GivenBack,
            Ok(None) => return After::GiveBackLater,
            Err(error) => {
                tracing::warn!(%error, lane = claim.lane, "a lane is left as it is");
                return After::GiveBackLater;
            }
        }
    }
    After::GiveBack
}

impl Delivery {
    /// A failed status for what came to nothing before GitLab confirmed it: only for the project that the hook may speak for.
    fn unconfirmed_status(&self, route: Option<&RouteName>, why: &str) -> Option<Order> {
        let key = &self.stored.key;
        let ScopeClaim::Project { id, path } = &self.parsed.scope else {
            return None;
        };
        let of = ProjectOf {
            instance: key.instance.clone(),
            project: *id,
            path: path.clone(),
            tenant: self.stored.tenant.clone()?,
        };
        let any = RouteName::new("");
        let about = EffectId::new(
            &key.instance,
            &key.id,
            route.unwrap_or(&any),
            0,
            &EffectKey::new("host/unconfirmed"),
        );
        let plugin = route.and_then(|name| {
            self.live
                .config
                .routes
                .iter()
                .find(|route| route.name == *name)
        });
        let claim = status::Unconfirmed {
            name: plugin.map_or_else(
                || "penstock".to_owned(),
                |route| format!("penstock/{}", route.plugin),
            ),
            commit: CommitId::parse(self.parsed.revision.as_deref()?).ok()?,
            ref_name: self.parsed.ref_name.clone(),
            merge_request: self.parsed.kind.merge_request().map(|it| it.iid),
            source_project: self.parsed.source_project,
        };
        Some(status::of_unconfirmed(about, of, claim, why))
    }
}

/// One delivery on its way.
struct Delivery {
    live: Arc<Live>,
    instance: Arc<Instance>,
    stored: StoredDelivery,
    source: Source,
    parsed: Parsed,
}

/// Where an event comes from.
enum Source {
    /// A hook.
    Hook(Box<Accepted>),
    /// The host itself.
    Host(Box<HostEvent>),
}

/// Does the next thing, and says what became of the lane; none: memory is short, and the lane rests.
async fn step(
    host: &Arc<Host>,
    claim: &Claim,
    pending: Pending,
) -> Result<Option<Onward<Pending>>, LaneError> {
    let Pending {
        delivery: mut stored,
        routed,
        mut routes,
        behind,
        tries,
        first_tried_at,
    } = pending;
    let key = stored.key.clone();
    let now = Timestamp::now();
    let live = host.live();
    let Some(instance) = live.instance(&key.instance).map(Arc::clone) else {
        let why = format!(
            "the configuration has no GitLab instance `{}` any more",
            key.instance
        );
        host.store.unrouted(claim, &key, &why, now).await?;
        return Ok(Some(Onward::Stays));
    };
    // Bodies that are being decided share a budget too: a thousand large ones must not be in memory at once.
    let Ok(_share) = host.bodies.take(stored.body_size).await else {
        return Ok(None);
    };
    let body = match stored.body.take() {
        Some(body) => Some(body),
        None => host.store.body(&key).await?,
    };
    let delivery = match read(live, instance, stored, body) {
        Ok(delivery) => delivery,
        Err(why) => {
            tracing::warn!(why, "a delivery can't be read; it is kept and shown");
            host.store.unreadable(claim, &key, &why, now).await?;
            return Ok(Some(Onward::Stays));
        }
    };
    let mut unwritten = None;
    if !routed {
        statuses::of_event(host, &delivery.instance, &delivery.stored, &delivery.parsed).await;
        let found = routes::find(host, &delivery).await;
        // Only one that is older than that can have been given up, and told so.
        let old = now.since(delivery.stored.received_at) > GIVE_UP_AFTER;
        if old && !matches!(found, Err(NoRoute::Away { .. })) {
            host.store.take_back(&key, status::of_routed, now).await?;
        }
        let names = match found {
            Ok(names) => names,
            Err(NoRoute::Settled(why)) => {
                tracing::info!(why, "a delivery leads to no plugin");
                host.store.unrouted(claim, &key, &why, now).await?;
                return Ok(Some(Onward::Stays));
            }
            Err(NoRoute::Away { why, after }) => {
                let wait = Wait {
                    tries,
                    first_tried_at,
                    after,
                };
                postpone(host, claim, &delivery, None, &why, wait).await?;
                return Ok(Some(Onward::Stays));
            }
        };
        if names.iter().any(|name| behind.contains(name)) {
            // An earlier delivery goes first on one of them: the store says when each is due.
            host.store.route(claim, &key, names, now).await?;
            return Ok(Some(Onward::Stays));
        }
        routes = names.iter().cloned().map(PendingRoute::first).collect();
        unwritten = Some(names);
    }
    let mut onward = Onward::Stays;
    let count = routes.len();
    for (n, route) in routes.iter().enumerate() {
        let then = if n + 1 == count {
            Then::GoOn
        } else {
            Then::Stay
        };
        // One that waits does not hold up the others: the store brings it back when it is due.
        onward = decide::route(host, claim, &delivery, route, &mut unwritten, then).await?;
    }
    Ok(Some(onward))
}

/// Reads what the store kept into a typed delivery.
fn read(
    live: Arc<Live>,
    instance: Arc<Instance>,
    stored: StoredDelivery,
    body: Option<Vec<u8>>,
) -> Result<Delivery, String> {
    let body = body.ok_or("its body has expired: only its digest is kept")?;
    let (source, parsed) = if is_host_hook(&stored.hook) {
        let event: HostEvent = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let parsed = host_claims(&event);
        (Source::Host(Box::new(event)), parsed)
    } else {
        let accepted = Accepted::restore(
            stored.key.instance.clone(),
            stored.hook.clone(),
            stored.key.id.clone(),
            stored.headers.clone(),
            body.into(),
        )
        .map_err(|error| error.to_string())?;
        let parsed = parse(&accepted).map_err(|error| error.to_string())?;
        (Source::Hook(Box::new(accepted)), parsed)
    };
    Ok(Delivery {
        live,
        instance,
        stored,
        source,
        parsed,
    })
}

fn moved(project: &Project, pinned: &Pinned, now: &TenantName, delivery: &DeliveryId) -> String {
    let Project { id, path, .. } = project;
    format!(
        "the project was first seen as `{}` of the tenant `{}` and is now `{path}` of `{now}`: \
         if that is meant, run `penstock projects repin {id} {path}` (or `penstock projects repin --tenant '{}'` for all that were seen there) \
         and then `penstock deliveries retry {delivery}`",
        pinned.first_path, pinned.tenant, pinned.tenant
    )
}

/// How often and how long something was tried.
#[derive(Clone, Copy)]
struct Wait {
    tries: u32,
    first_tried_at: Option<Timestamp>,
    after: Option<Duration>,
}

impl Wait {
    fn of(route: &PendingRoute, after: Option<Duration>) -> Self {
        Self {
            tries: route.tries,
            first_tried_at: route.first_tried_at,
            after,
        }
    }
}

/// Tries again later; after a day gives up, visibly.
async fn postpone(
    host: &Host,
    claim: &Claim,
    delivery: &Delivery,
    route: Option<&PendingRoute>,
    why: &str,
    wait: Wait,
) -> Result<(), LaneError> {
    let now = Timestamp::now();
    let key = &delivery.stored.key;
    let name = route.map(|route| &route.route);
    if wait
        .first_tried_at
        .is_some_and(|first| now.since(first) > GIVE_UP_AFTER)
    {
        tracing::error!(
            why,
            tries = wait.tries,
            "gave a delivery up after a day; `deliveries retry` tries again"
        );
        let said = format!("given up after a day: {why}");
        let told = delivery
            .unconfirmed_status(name, &said)
            .into_iter()
            .collect();
        return host.store.give_up(claim, key, name, why, told, now).await;
    }
    let pause = backoff::wait(wait.tries, wait.after, rand::random());
    tracing::warn!(why, tries = wait.tries, pause = ?pause, "a delivery waits");
    host.store
        .postpone(claim, key, name, now.plus(pause), why, now)
        .await
}
