//! What a delivery's event may be trusted for, by GitLab's own answer.

use std::time::Duration;

use penstock_gitlab::{Client, ConfirmError, Confirmed, confirm, confirm_host};
use penstock_store::Store;

use super::{Delivery, Source};
use crate::live::OwnUsersError;

/// Asks GitLab, by this client, what the event may be trusted for.
pub(super) async fn confirmed(
    store: &Store,
    delivery: &Delivery,
    client: &Client,
) -> Result<Confirmed, Unconfirmed> {
    let Delivery {
        instance,
        stored,
        parsed,
        source,
        ..
    } = delivery;
    if let Source::Host(event) = source {
        let own = instance.own_users(store).await?;
        return confirm_host(client, event, &own)
            .await
            .map_err(Unconfirmed::away);
    }
    let scope = instance.scope_of(&stored.hook).ok_or_else(|| {
        Unconfirmed::Never(format!(
            "the configuration has no hook `{}` any more",
            stored.hook
        ))
    })?;
    let own = instance.own_users(store).await?;
    confirm(client, parsed, &scope, &own)
        .await
        .map_err(|error| match error {
            ConfirmError::Api(error) => Unconfirmed::away(error),
            error @ ConfirmError::OutOfScope { .. } => Unconfirmed::Never(error.to_string()),
        })
}

/// Why it can't be said.
pub(super) enum Unconfirmed {
    Away {
        why: String,
        after: Option<Duration>,
    },
    Never(String),
}

impl From<OwnUsersError> for Unconfirmed {
    fn from(error: OwnUsersError) -> Self {
        Self::Away {
            after: error.retry_after(),
            why: error.to_string(),
        }
    }
}

impl Unconfirmed {
    fn away(error: penstock_gitlab::ApiError) -> Self {
        Self::Away {
            after: error.retry_after(),
            why: error.to_string(),
        }
    }
}
