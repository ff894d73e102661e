//! The plugin: asks the host by its imports and leaves the rest to [`decide`](crate::decide()).

use penstock_sdk::imports::{delivery, gitlab_read};
use penstock_sdk::{Event, Plan, PluginError, Problem, Trigger};

use crate::facts::{Changes, World};
use crate::settings::{self, Settings};

struct TriggerMap;

impl Trigger for TriggerMap {
    fn schema() -> String {
        crate::SCHEMA.to_owned()
    }

    fn validate(settings: &str) -> Vec<Problem> {
        settings::validate(settings)
    }

    fn decide(event: Event) -> Result<Plan, PluginError> {
        penstock_sdk::log::panics();
        let settings = Settings::parse(&penstock_sdk::imports::config::settings())
            .map_err(PluginError::Settings)?;
        crate::decide(&settings, &event, &Host)
    }
}

/// The host behind the plugin.
struct Host;

impl World for Host {
    fn payload(&self) -> Result<String, String> {
        delivery::payload().map_err(|error| error.describe())
    }

    fn headers(&self) -> Result<Vec<(String, String)>, String> {
        delivery::headers().map_err(|error| error.describe())
    }

    fn changes(&self) -> Result<Changes, String> {
        let changes = gitlab_read::changed_paths().map_err(|error| error.describe())?;
        Ok(Changes {
            added: changes.added,
            modified: changes.modified,
            deleted: changes.deleted,
            renamed: changes
                .renamed
                .into_iter()
                .map(|it| (it.before, it.after))
                .collect(),
            truncated: changes.truncated,
        })
    }

    fn file(&self, path: &str) -> Result<String, PluginError> {
        penstock_sdk::repository::text(path)
    }
}

penstock_sdk::export!(TriggerMap);
