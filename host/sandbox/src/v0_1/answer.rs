//! The model's answers in the words of the contract.
//!
//! Each function takes the one variant that fits its lookup; another is a fault of the host.

use penstock_model::lookup::{Answer, Changes, CommitInfo, File, LookupError};

use super::event;
use super::wit::{cluster_read, events, fetch, gitlab_read, history, types};
use crate::stop::Stop;

/// A fault of the host: the world answered something else than was asked.
fn unfit(wanted: &str) -> Stop {
    Stop::fault(format!(
        "the host answered a lookup with something else than {wanted}"
    ))
}

/// Why there is no answer.
pub(super) fn error(error: LookupError) -> types::LookupError {
    match error {
        LookupError::NotFound => types::LookupError::NotFound,
        LookupError::Denied(words) => types::LookupError::Denied(words),
        LookupError::TooLarge(bytes) => types::LookupError::TooLarge(bytes),
        LookupError::Invalid(words) => types::LookupError::Invalid(words),
    }
}

macro_rules! readers {
    ($($name:ident($pattern:pat => $value:expr) -> $type:ty, $wanted:literal;)*) => {$(
        pub(super) fn $name(answer: &Answer) -> Result<$type, Stop> {
            match answer {
                $pattern => Ok($value),
                _ => Err(unfit($wanted)),
            }
        }
    )*};
}

readers! {
    text(Answer::Text(text) => text.clone()) -> String, "a text";
    part(Answer::Part(part) => part.clone()) -> Option<String>, "a part";
    headers(Answer::Headers(pairs) => pairs.clone()) -> Vec<(String, String)>, "headers";
    folder(Answer::Folder(files) => files.iter().map(file).collect()) -> Vec<gitlab_read::File>, "a folder";
    files(Answer::Files(files) => files.iter().map(one_file).collect())
        -> Vec<Result<gitlab_read::File, types::LookupError>>, "files";
    commit_id(Answer::CommitId(id) => id.to_string()) -> String, "a commit's id";
    commit(Answer::Commit(it) => commit_info(it)) -> gitlab_read::CommitInfo, "a commit";
    changes(Answer::Changes(it) => changed(it)) -> gitlab_read::Changes, "changed paths";
    merge_request(Answer::MergeRequest(it) => event::merge_request(it)) -> events::MergeRequest, "a merge request";
    merge_requests(Answer::MergeRequests(them) => them.iter().map(event::merge_request).collect())
        -> Vec<events::MergeRequest>, "merge requests";
    approvals(Answer::Approvals(them) => them.iter().map(|it| gitlab_read::MergeRequestApproval {
        by: event::actor(&it.by),
        at: it.at.map(|at| at.0),
    }).collect()) -> Vec<gitlab_read::MergeRequestApproval>, "approvals";
    user(Answer::User(it) => event::actor(it)) -> types::Actor, "a user";
    access(Answer::Access(level) => *level) -> u32, "an access level";
    places(Answer::Places(them) => them.iter().map(|it| cluster_read::Place {
        name: it.name.clone(),
        cluster: it.cluster.clone(),
        namespace: it.namespace.clone(),
        allowed: it.allowed,
    }).collect()) -> Vec<cluster_read::Place>, "places";
    runs(Answer::Runs(them) => them.iter().map(event::run).collect()) -> Vec<events::Run>, "runs";
    summary(Answer::Summary(it) => history::Summary {
        runs: it.runs,
        failed: it.failed,
        canceled: it.canceled,
        median_duration: it.median_duration,
        last_success: it.last_success.map(|at| at.0),
        last_failure: it.last_failure.map(|at| at.0),
        approved_by_people: it.approved_by_people,
        refused_by_people: it.refused_by_people,
    }) -> history::Summary, "figures of the past";
    fetched(Answer::Fetched { content, digest } => fetch::Fetched {
        content: content.0.clone(),
        digest: digest.to_string(),
    }) -> fetch::Fetched, "what was fetched";
    state(Answer::State(value) => value.clone()) -> Option<penstock_model::lookup::StateValue>, "a value of the state";
    keys(Answer::Keys(keys) => keys.clone()) -> Vec<String>, "keys of the state";
}

fn file(file: &File) -> gitlab_read::File {
    gitlab_read::File {
        path: file.path.clone(),
        blob: file.blob.clone(),
        content: file.content.0.clone(),
    }
}

fn one_file(one: &Result<File, LookupError>) -> Result<gitlab_read::File, types::LookupError> {
    match one {
        Ok(it) => Ok(file(it)),
        Err(why) => Err(error(why.clone())),
    }
}

fn commit_info(it: &CommitInfo) -> gitlab_read::CommitInfo {
    gitlab_read::CommitInfo {
        id: it.id.to_string(),
        message: it.message.clone(),
        author: event::author(&it.author),
        committer: event::author(&it.committer),
        web_url: it.web_url.clone(),
    }
}

fn changed(it: &Changes) -> gitlab_read::Changes {
    let rename = |(before, after): &(String, String)| gitlab_read::Rename {
        before: before.clone(),
        after: after.clone(),
    };
    gitlab_read::Changes {
        added: it.added.clone(),
        modified: it.modified.clone(),
        deleted: it.deleted.clone(),
        renamed: it.renamed.iter().map(rename).collect(),
        truncated: it.truncated,
    }
}
