//! Where a delivery leads: to which routes, or why to none. It decides nothing about what the event may be trusted for.

use std::time::Duration;

use penstock_gitlab::ScopeClaim;
use penstock_model::id::RouteName;

use super::Delivery;
use crate::host::Host;
use crate::reconcile;

/// Why there is none.
pub(super) enum NoRoute {
    /// No plugin will be asked.
    Settled(String),
    /// It can't be said now.
    Away {
        why: String,
        after: Option<Duration>,
    },
}

/// The routes of the tenant that the event's project belongs to, as the payload has it: GitLab is asked for each of them.
pub(super) async fn find(host: &Host, delivery: &Delivery) -> Result<Vec<RouteName>, NoRoute> {
    let Delivery {
        live,
        instance,
        parsed,
        ..
    } = delivery;
    if let Some(why) = told_elsewhere(host, delivery).await? {
        return Err(NoRoute::Settled(why));
    }
    if let Some(actor) = &parsed.actor {
        let own = instance
            .own_users(&host.store)
            .await
            .map_err(|error| NoRoute::Away {
                after: error.retry_after(),
                why: error.to_string(),
            })?;
        if own.contains(&actor.id) {
            return Err(NoRoute::Settled(format!(
                "`{}` is Penstock's own user: what it does starts nothing",
                actor.username
            )));
        }
    }
    let path = match &parsed.scope {
        ScopeClaim::Project { path, .. } => path.as_str(),
        ScopeClaim::Group {
            path: Some(path), ..
        } => path.as_str(),
        ScopeClaim::Group { path: None, .. } => {
            return Err(NoRoute::Settled(
                "the event names its group by id alone".to_owned(),
            ));
        }
        ScopeClaim::Instance => {
            return Err(NoRoute::Settled(
                "the event belongs to no project or group".to_owned(),
            ));
        }
    };
    let tenant = live
        .belonging(path)
        .map_err(|none| NoRoute::Settled(none.to_string()))?
        .tenant;
    if let Some(why) = live.rests(&tenant.name()) {
        return Err(NoRoute::Away { why, after: None });
    }
    let kind = parsed.kind.word();
    let mut routes = live.routes(tenant, kind);
    if let Some(lost) = reconcile::stands_for(&parsed.kind) {
        // A sweep stands for the event that was lost.
        let more = live.routes(tenant, lost);
        routes.extend(more.into_iter().filter(|route| !route.on.contains(kind)));
    }
    if routes.is_empty() {
        return Err(NoRoute::Settled(format!(
            "no route of the tenant `{}` takes `{kind}`: add it to `on` of a route",
            tenant.name()
        )));
    }
    Ok(routes.into_iter().map(|route| route.name.clone()).collect())
}

/// Why another delivery is decided in the place of this one.
async fn told_elsewhere(host: &Host, delivery: &Delivery) -> Result<Option<String>, NoRoute> {
    reconcile::told_elsewhere(host, &delivery.stored, &delivery.parsed)
        .await
        .map_err(|error| NoRoute::Away {
            why: error.to_string(),
            after: None,
        })
}
