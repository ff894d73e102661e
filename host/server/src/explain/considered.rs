//! Which routes a delivery could have taken, and the first condition that each of them failed.
//!
//! Pure: the configuration of now and what the store kept.

use penstock_model::id::{PluginName, TenantName};
use penstock_store::{Explained, RouteOutcome};
use serde::Serialize;

use crate::config::{Config, Delegated};

/// A route and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The route.
    pub route: String,
    /// The delivery came to it.
    pub taken: bool,
    /// The first condition that failed, or what came of it.
    pub why: String,
}

/// The tenant's own file says that a plugin is not to be asked.
fn leaves_out(config: &Config, tenant: &TenantName, plugin: &PluginName) -> bool {
    match config.delegated.get(tenant) {
        Some(Delegated::Narrowed(plugins)) => plugins.get(plugin) == Some(&None),
        Some(Delegated::Wrong(_)) | None => false,
    }
}

/// Goes through the routes of the configuration.
pub fn considered(config: &Config, explained: &Explained) -> Vec<Considered> {
    let delivery = &explained.delivery;
    let mut all: Vec<Considered> = Vec::new();
    for route in &config.routes {
        if let Some(taken) = explained
            .routes
            .iter()
            .rev()
            .find(|it| it.route == route.name)
        {
            let why = match (&taken.why, taken.outcome) {
                (Some(why), _) => why.clone(),
                (None, RouteOutcome::Waiting) => "it waits to be decided".to_owned(),
                (None, _) if taken.admitted.is_empty() && taken.refused.is_empty() => {
                    "its plugin asked for nothing; its reasons say which rule failed by what"
                        .to_owned()
                }
                (None, _) if taken.admitted.is_empty() => {
                    "all that its plugin asked for was refused".to_owned()
                }
                (None, _) => "its plugin asked for something, and it was admitted".to_owned(),
            };
            all.push(Considered {
                route: route.name.to_string(),
                taken: true,
                why,
            });
            continue;
        }
        let why = match (&route.tenant, &delivery.tenant) {
            (_, None) => "no tenant's pattern fits the project's path".to_owned(),
            (Some(of), Some(tenant)) if of != tenant => {
                format!("it is of the tenant `{of}`, and the project is of `{tenant}`")
            }
            _ if !route.on.contains(&delivery.kind) => {
                let on: Vec<&str> = route.on.iter().map(String::as_str).collect();
                format!(
                    "it takes {}, and this is `{}`",
                    on.join(", "),
                    delivery.kind
                )
            }
            (_, Some(tenant)) if leaves_out(config, tenant, &route.plugin) => {
                format!("the own file of `{tenant}` leaves its plugin out")
            }
            _ => delivery.why.clone().unwrap_or_else(|| {
                "it was not there, or took other events, when the delivery came".to_owned()
            }),
        };
        all.push(Considered {
            route: route.name.to_string(),
            taken: false,
            why,
        });
    }
    all
}
