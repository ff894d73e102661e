//! The fields of GitLab's payloads that are read, as GitLab writes them (17.x to 19.x).
//!
//! Every field may be missing or null: what a kind can't do without is asked for by `parse`, which names its path.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(crate) id: Option<u64>,
    pub(crate) username: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Author {
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Commit {
    pub(crate) id: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) author: Option<Author>,
    pub(crate) added: Option<Vec<String>>,
    pub(crate) modified: Option<Vec<String>>,
    pub(crate) removed: Option<Vec<String>>,
}

/// `push` and `tag_push`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Push {
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) checkout_sha: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) user_id: Option<u64>,
    pub(crate) user_username: Option<String>,
    pub(crate) commits: Option<Vec<Commit>>,
    pub(crate) total_commits_count: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Label {
    pub(crate) title: Option<String>,
}

/// A merge request: `object_attributes` of its own event, `merge_request` of notes and pipelines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MergeRequest {
    pub(crate) iid: Option<u64>,
    pub(crate) title: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) draft: Option<bool>,
    pub(crate) work_in_progress: Option<bool>,
    pub(crate) source_project_id: Option<u64>,
    pub(crate) source_branch: Option<String>,
    pub(crate) target_branch: Option<String>,
    pub(crate) last_commit: Option<Commit>,
    pub(crate) author_id: Option<u64>,
    pub(crate) labels: Option<Vec<Label>>,
    pub(crate) url: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) oldrev: Option<String>,
    pub(crate) system: Option<bool>,
}

/// `merge_request`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MergeRequestEvent {
    pub(crate) user: Option<User>,
    pub(crate) object_attributes: Option<MergeRequest>,
    pub(crate) labels: Option<Vec<Label>>,
    pub(crate) changes: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NoteAttributes {
    pub(crate) id: Option<u64>,
    pub(crate) note: Option<String>,
    pub(crate) noteable_type: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) system: Option<bool>,
    pub(crate) commit_id: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
}

/// `note`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    pub(crate) user: Option<User>,
    pub(crate) object_attributes: Option<NoteAttributes>,
    pub(crate) merge_request: Option<MergeRequest>,
    pub(crate) commit: Option<Commit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PipelineAttributes {
    pub(crate) id: Option<u64>,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    pub(crate) tag: Option<bool>,
    pub(crate) sha: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) source: Option<String>,
}

/// `pipeline`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pipeline {
    pub(crate) user: Option<User>,
    pub(crate) object_attributes: Option<PipelineAttributes>,
    pub(crate) merge_request: Option<MergeRequest>,
}

/// `deployment`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) user: Option<User>,
    pub(crate) deployment_id: Option<u64>,
    pub(crate) status: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) environment_tier: Option<String>,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    pub(crate) short_sha: Option<String>,
    pub(crate) commit_url: Option<String>,
}

/// `release`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Release {
    pub(crate) tag: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) commit: Option<Commit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenAttributes {
    pub(crate) id: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) expires_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Owner {
    pub(crate) path_with_namespace: Option<String>,
    pub(crate) full_path: Option<String>,
    pub(crate) group_path: Option<String>,
}

/// `access_token`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenExpiring {
    pub(crate) object_attributes: Option<TokenAttributes>,
    pub(crate) project: Option<Owner>,
    pub(crate) group: Option<Owner>,
}

/// What the kinds without a type of their own have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Other {
    pub(crate) user: Option<User>,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<serde_json::Value>,
    pub(crate) tag: Option<serde_json::Value>,
    pub(crate) sha: Option<serde_json::Value>,
}
