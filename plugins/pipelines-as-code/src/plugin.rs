//! The plugin: asks the host by its imports and leaves the rest to [`decide`](crate::decide()).

use penstock_sdk::events::{MergeRequest, Run};
use penstock_sdk::imports::{cluster_read, delivery, fetch, gitlab_read, state};
use penstock_sdk::{Event, LookupError, Plan, PluginError, Problem, Trigger};

use crate::settings::{self, Settings};
use crate::world::{Changes, File, Place, RunFilter, Source, World};

struct PipelinesAsCode;

impl Trigger for PipelinesAsCode {
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
    fn payload(&self) -> Result<String, LookupError> {
        delivery::payload()
    }

    fn part(&self, pointer: &str) -> Result<Option<String>, LookupError> {
        delivery::at(pointer)
    }

    fn headers(&self) -> Result<Vec<(String, String)>, LookupError> {
        delivery::headers()
    }

    fn folder(&self, source: &Source, path: &str) -> Result<Vec<File>, LookupError> {
        gitlab_read::folder(source, path)
    }

    fn files(
        &self,
        source: &Source,
        paths: &[String],
    ) -> Result<Vec<Result<File, LookupError>>, LookupError> {
        gitlab_read::files(source, paths)
    }

    fn resolve(&self, source: &Source) -> Result<String, LookupError> {
        gitlab_read::resolve(source)
    }

    fn message(&self, commit: &str) -> Result<String, LookupError> {
        gitlab_read::find_commit(commit).map(|it| it.message)
    }

    fn changes(&self) -> Result<Changes, LookupError> {
        gitlab_read::changed_paths()
    }

    fn open_merge_requests(&self, branch: &str) -> Result<Vec<MergeRequest>, LookupError> {
        gitlab_read::open_merge_requests(branch)
    }

    fn group_access(&self, user: u64, group: &str) -> Result<u32, LookupError> {
        gitlab_read::group_access(user, group)
    }

    fn places(&self) -> Result<Vec<Place>, LookupError> {
        cluster_read::places()
    }

    fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<Run>, LookupError> {
        cluster_read::runs(filter, limit)
    }

    fn fetch(&self, url: &str) -> Result<Vec<u8>, LookupError> {
        fetch::get(url).map(|it| it.content)
    }

    fn recall(&self, key: &str) -> Result<Option<Vec<u8>>, LookupError> {
        state::get(key)
    }

    fn keep(&self, key: &str, value: Vec<u8>, days: u32) -> Result<(), LookupError> {
        state::put(key, &value, Some(days))
    }
}

penstock_sdk::export!(PipelinesAsCode);
