//! The imports: each function is one lookup, asked through [`Caller`].
//!
//! What a guest writes here (paths, names, numbers) goes on as it is: the world decides what it means. Commit ids are the exception, for the model
//! knows only whole ones: another is answered `invalid`. So are names with control characters that the store would be asked for.

use penstock_model::id::{CommitId, UserId};
use penstock_model::lookup::{Answer, Content, Lookup, LookupError, RunFilter, Source};
use penstock_model::record::{LogLine, StateWrite};

use super::wit::{
    cluster_read, config, delivery, effects, events, fetch, gitlab_read, history, log, types,
};
use super::{answer, wit};
use crate::ask::{Allowed, Caller};
use crate::state;
use crate::stop::Stop;
use crate::weigh::Weigh;

/// What a function that can say why there is no answer gives.
type Told<T> = wasmtime::Result<Result<T, types::LookupError>>;

impl Caller {
    /// Asks, and reads the answer.
    async fn look<T>(&mut self, lookup: Lookup, read: fn(&Answer) -> Result<T, Stop>) -> Told<T> {
        match self.ask(lookup).await? {
            Ok(answer) => Ok(Ok(read(answer)?)),
            Err(error) => Ok(Err(answer::error(error))),
        }
    }

    /// Writes a key of the state.
    async fn write(&mut self, key: String, write: StateWrite, lookup: Lookup) -> Told<()> {
        if let Err(error) = state::key(&key) {
            return self.malformed(error);
        }
        let written = self.write_state(key, write, lookup).await?;
        Ok(written.map_err(answer::error))
    }

    /// A question that can't be asked: counted, and answered without the world.
    fn malformed<T>(&mut self, error: LookupError) -> Told<T> {
        self.count()?;
        Ok(Err(answer::error(error)))
    }
}

fn commit_id(text: &str) -> Result<CommitId, LookupError> {
    CommitId::parse(text).map_err(|error| LookupError::Invalid(error.to_string()))
}

/// Names that the store is asked for: none of them has control characters, and Postgres takes no NUL.
fn named<const N: usize>(names: [Option<&str>; N]) -> Result<(), LookupError> {
    if names
        .into_iter()
        .flatten()
        .any(|it| it.contains(char::is_control))
    {
        return Err(LookupError::Invalid(
            "a name holds a control character".to_owned(),
        ));
    }
    Ok(())
}

fn source(source: gitlab_read::Source) -> Result<Source, LookupError> {
    Ok(match source {
        gitlab_read::Source::Event => Source::Event,
        gitlab_read::Source::Commit(id) => Source::Commit(commit_id(&id)?),
        gitlab_read::Source::TargetBranch => Source::TargetBranch,
        gitlab_read::Source::DefaultBranch => Source::DefaultBranch,
        gitlab_read::Source::Ref(name) => Source::Ref(name.into()),
        gitlab_read::Source::Elsewhere(it) => Source::Elsewhere {
            project: it.project,
            revision: it.revision,
        },
    })
}

impl types::Host for Caller {}
impl events::Host for Caller {}
impl effects::Host for Caller {}

impl log::Host for Caller {
    fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        Ok(self.log(LogLine {
            level: level.to_owned(),
            message,
            fields,
        })?)
    }
}

impl config::Host for Caller {
    fn settings(&mut self) -> wasmtime::Result<String> {
        self.count()?;
        if matches!(self.allowed, Allowed::LogOnly) {
            return Err(Stop::trap(
                "denied: only `log` may be called while the settings are checked (asked by `config.settings`)",
            )
            .into());
        }
        self.give(self.settings.weigh())?;
        Ok(self.settings.clone())
    }
}

impl delivery::Host for Caller {
    async fn payload(&mut self) -> Told<String> {
        self.look(Lookup::Payload, answer::text).await
    }

    async fn at(&mut self, pointer: String) -> Told<Option<String>> {
        self.look(Lookup::PayloadAt(pointer), answer::part).await
    }

    async fn headers(&mut self) -> Told<Vec<(String, String)>> {
        self.look(Lookup::Headers, answer::headers).await
    }
}

impl gitlab_read::Host for Caller {
    async fn folder(
        &mut self,
        from: gitlab_read::Source,
        path: String,
    ) -> Told<Vec<gitlab_read::File>> {
        match source(from) {
            Ok(source) => {
                let lookup = Lookup::Folder { source, path };
                self.look(lookup, answer::folder).await
            }
            Err(error) => self.malformed(error),
        }
    }

    async fn files(
        &mut self,
        from: gitlab_read::Source,
        paths: Vec<String>,
    ) -> Told<Vec<Result<gitlab_read::File, types::LookupError>>> {
        match source(from) {
            Ok(source) => {
                let lookup = Lookup::Files { source, paths };
                self.look(lookup, answer::files).await
            }
            Err(error) => self.malformed(error),
        }
    }

    async fn resolve(&mut self, from: gitlab_read::Source) -> Told<String> {
        match source(from) {
            Ok(source) => self.look(Lookup::Resolve(source), answer::commit_id).await,
            Err(error) => self.malformed(error),
        }
    }

    async fn find_commit(&mut self, commit: String) -> Told<gitlab_read::CommitInfo> {
        match commit_id(&commit) {
            Ok(id) => self.look(Lookup::FindCommit(id), answer::commit).await,
            Err(error) => self.malformed(error),
        }
    }

    async fn changed_paths(&mut self) -> Told<gitlab_read::Changes> {
        self.look(Lookup::ChangedPaths, answer::changes).await
    }

    async fn find_merge_request(&mut self, iid: u64) -> Told<events::MergeRequest> {
        self.look(Lookup::FindMergeRequest(iid), answer::merge_request)
            .await
    }

    async fn open_merge_requests(
        &mut self,
        source_branch: String,
    ) -> Told<Vec<events::MergeRequest>> {
        self.look(
            Lookup::OpenMergeRequests(source_branch),
            answer::merge_requests,
        )
        .await
    }

    async fn merge_request_approvals(
        &mut self,
        iid: u64,
    ) -> Told<Vec<gitlab_read::MergeRequestApproval>> {
        self.look(Lookup::MergeRequestApprovals(iid), answer::approvals)
            .await
    }

    async fn find_user(&mut self, username: String) -> Told<types::Actor> {
        self.look(Lookup::FindUser(username), answer::user).await
    }

    async fn access(&mut self, user: u64) -> Told<u32> {
        self.look(Lookup::Access(UserId(user)), answer::access)
            .await
    }

    async fn group_access(&mut self, user: u64, group: String) -> Told<u32> {
        let user = UserId(user);
        self.look(Lookup::GroupAccess { user, group }, answer::access)
            .await
    }
}

impl cluster_read::Host for Caller {
    async fn places(&mut self) -> Told<Vec<cluster_read::Place>> {
        self.look(Lookup::Places, answer::places).await
    }

    async fn runs(
        &mut self,
        filter: cluster_read::RunFilter,
        limit: u32,
    ) -> Told<Vec<events::Run>> {
        let commit = match filter.commit.as_deref().map(commit_id).transpose() {
            Ok(commit) => commit,
            Err(error) => return self.malformed(error),
        };
        if let Err(error) = named([filter.ref_name.as_deref(), filter.pipeline.as_deref()]) {
            return self.malformed(error);
        }
        let filter = RunFilter {
            commit,
            merge_request: filter.merge_request,
            ref_name: filter.ref_name.map(Into::into),
            pipeline: filter.pipeline,
        };
        self.look(Lookup::Runs { filter, limit }, answer::runs)
            .await
    }
}

impl history::Host for Caller {
    async fn summarize(&mut self, pipeline: String, days: u32) -> Told<history::Summary> {
        if let Err(error) = named([Some(pipeline.as_str())]) {
            return self.malformed(error);
        }
        self.look(Lookup::History { pipeline, days }, answer::summary)
            .await
    }
}

impl fetch::Host for Caller {
    async fn get(&mut self, url: String) -> Told<fetch::Fetched> {
        self.look(Lookup::Fetch(url), answer::fetched).await
    }
}

impl wit::state::Host for Caller {
    async fn get(&mut self, key: String) -> Told<Option<Vec<u8>>> {
        if let Err(error) = state::key(&key) {
            return self.malformed(error);
        }
        if let Some(known) = self.state.known(&key) {
            let value = known.map(|it| it.0.clone());
            self.count()?;
            let bytes = value.as_ref().map_or(0, Vec::len) as u64;
            self.give(bytes.saturating_add(key.weigh()))?;
            return Ok(Ok(value));
        }
        let value = match self
            .look(Lookup::StateGet(key.clone()), answer::state)
            .await?
        {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        };
        if !self.keeps_state {
            // There is nothing that a commit could compare.
            return Ok(Ok(value.map(|it| it.value.0)));
        }
        Ok(Ok(self.state.read(key, value).map(|it| it.0)))
    }

    async fn put(&mut self, key: String, value: Vec<u8>, days: Option<u32>) -> Told<()> {
        let lookup = Lookup::StatePut(key.clone());
        let value = Some(Content(value));
        self.write(key, StateWrite { value, days }, lookup).await
    }

    async fn delete(&mut self, key: String) -> Told<()> {
        let lookup = Lookup::StateDelete(key.clone());
        let nothing = StateWrite {
            value: None,
            days: None,
        };
        self.write(key, nothing, lookup).await
    }

    async fn keys(&mut self, prefix: String, limit: u32) -> Told<Vec<String>> {
        if let Err(error) = state::prefix(&prefix) {
            return self.malformed(error);
        }
        let asked = self.state.to_ask(&prefix, limit);
        let lookup = Lookup::StateKeys {
            prefix: prefix.clone(),
            limit: asked,
        };
        let found = match self.look(lookup, answer::keys).await? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        if !self.keeps_state {
            return Ok(Ok(found));
        }
        Ok(Ok(self.state.list(&prefix, limit, asked, found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_asked_for_no_name_with_a_control_character() {
        assert_eq!(named([None, Some("refs/heads/ä")]), Ok(()));
        for name in ["a\0", "\n", "\u{85}"] {
            assert!(matches!(
                named([Some("build"), Some(name)]),
                Err(LookupError::Invalid(_))
            ));
        }
    }
}
