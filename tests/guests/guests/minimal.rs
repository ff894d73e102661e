//! Decides nothing and imports nothing: the smallest plugin there is.

use penstock_sdk::{Event, Plan, PluginError, Trigger};

struct Minimal;

impl Trigger for Minimal {
    fn decide(_event: Event) -> Result<Plan, PluginError> {
        Ok(Plan::nothing("this plugin starts nothing"))
    }
}

penstock_sdk::export!(Minimal);
