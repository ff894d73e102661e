//! Many files of one commit in one call, which is what GitLab's GraphQL is for here.
//!
//! GraphQL gives text, so a file is taken only if its bytes have the id that git gives them: binaries, other encodings and files that are
//! not there are left to REST, one by one, and so is everything where GitLab does not serve GraphQL. The shape and the limits are those of
//! GitLab's `RepositoryBlob` and `BlobsResolver`: the cost of a query grows with its paths, of 250 that it may have, and all files of
//! one may have 20 MB.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::{Asked, Place};
use crate::api::or_default;
use crate::call::Call;
use crate::error::ApiError;

/// Files of one call: about 90 of the 250 that GitLab lets a query cost.
const MOST_PATHS: usize = 50;

/// Fewer are read by themselves.
const FEWEST: usize = 2;

const QUERY: &str = "query($project: ID!, $ref: String!, $paths: [String!]!) { \
     project(fullPath: $project) { id repository { blobs(ref: $ref, paths: $paths) { nodes { path oid rawTextBlob } } } } }";

/// A file's blob id and content, by path.
pub(super) type Batch = HashMap<String, (String, Bytes)>;

#[derive(Deserialize)]
struct Reply {
    #[serde(default, deserialize_with = "or_default")]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    project: Option<Project>,
}

#[derive(Deserialize)]
struct Project {
    id: String,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    blobs: Option<Blobs>,
}

#[derive(Deserialize)]
struct Blobs {
    #[serde(default, deserialize_with = "or_default")]
    nodes: Vec<Option<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    oid: String,
    raw_text_blob: Option<String>,
}

impl Asked<'_> {
    /// As many of these files as can be had together, of at most so many bytes in all; the rest is to be read one by one.
    pub(super) async fn batch(self, place: &Place, paths: &[String], most: u64) -> Batch {
        let mut batch = Batch::new();
        if paths.len() < FEWEST {
            return batch;
        }
        let mut left = most;
        for paths in paths.chunks(MOST_PATHS) {
            // What is too much in all is too much for the answer, and is found out there.
            if left == 0 || self.client.shared.no_graphql.load(Ordering::Relaxed) {
                break;
            }
            match self.some(place, paths, left).await {
                Ok(found) => {
                    let bytes: usize = found.values().map(|(_, content)| content.len()).sum();
                    left = left.saturating_sub(bytes as u64);
                    batch.extend(found);
                }
                Err(ApiError::Forbidden(_) | ApiError::NotFound(_)) => {
                    self.client.shared.no_graphql.store(true, Ordering::Relaxed);
                }
                // REST says what is wrong, or gives the files that are too large together.
                Err(_) => break,
            }
        }
        batch
    }

    async fn some(self, place: &Place, paths: &[String], most: u64) -> Result<Batch, ApiError> {
        let variables = json!({ "project": place.path, "ref": place.commit, "paths": paths });
        // JSON writes some bytes as two.
        let call = Call::graphql("files", json!({ "query": QUERY, "variables": variables }))
            .at_most(most.saturating_mul(2).saturating_add(64 << 10))
            .of(place.project);
        let reply: Reply = self.client.now(&call).await?;
        // A path may by now be another project's.
        let wanted = format!("gid://gitlab/Project/{}", place.project);
        let project = reply.data.project.filter(|it| it.id == wanted);
        let nodes = project
            .and_then(|it| it.repository?.blobs)
            .map_or_else(Vec::new, |it| it.nodes);
        let whole = nodes.into_iter().flatten().filter_map(|node| {
            let content = Bytes::from(node.raw_text_blob?);
            is_blob(&node.oid, &content).then_some((node.path, (node.oid, content)))
        });
        Ok(whole.collect())
    }
}

/// Whether these bytes have this id in git.
fn is_blob(id: &str, content: &[u8]) -> bool {
    let head = format!("blob {}\0", content.len());
    let found = match id.len() {
        40 => hex::encode(
            Sha1::new()
                .chain_update(&head)
                .chain_update(content)
                .finalize(),
        ),
        64 => hex::encode(
            Sha256::new()
                .chain_update(&head)
                .chain_update(content)
                .finalize(),
        ),
        _ => return false,
    };
    found == id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_known_by_what_git_calls_it() {
        // `printf 'hello\n' | git hash-object --stdin`, and the same in a repository of SHA-256.
        let sha1 = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4";
        for id in [sha1, sha256] {
            assert!(is_blob(id, b"hello\n"), "{id}");
            assert!(!is_blob(id, b"hello\r\n"), "{id}");
        }
        assert!(!is_blob("", b""));
    }
}
