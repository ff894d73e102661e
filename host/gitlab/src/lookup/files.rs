//! Files and folders at a commit: one listing, then the blobs many at a time or side by side, all of it bounded and cached by what can't change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use penstock_model::lookup::{Content, File, LookupError};

use super::{Asked, Failure, Place, invalid};
use crate::api::TreeRow;
use crate::call::Call;
use crate::client::{Lasting, LastingKey, header};
use crate::error::ApiError;

/// Files read at the same time for one question.
const SIDE_BY_SIDE: usize = 8;

/// Files of one answer.
const MOST_FILES: usize = 500;

/// Pages of a listing: folders and submodules are rows too.
const MOST_TREE_PAGES: usize = 20;

/// Bytes that all files of one answer may still take.
struct Room(AtomicU64);

impl Room {
    fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes room for a file.
    fn take(&self, bytes: usize, most: u64) -> Result<(), Failure> {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes as u64)
            });
        taken
            .map(|_| ())
            .map_err(|left| LookupError::TooLarge(most - left + bytes as u64).into())
    }
}

impl Asked<'_> {
    /// All files in a folder and below it, in order of their paths.
    pub(super) async fn folder(self, place: &Place, path: &str) -> Result<Vec<File>, Failure> {
        let path = path.trim_matches('/');
        if !path.is_empty() {
            check_path(path)?;
        }
        let rows = self.tree(place, path).await?;
        // Owned: a stream over borrowed rows gives a future that nobody can box as `Send`.
        let blobs: Vec<TreeRow> = rows
            .iter()
            .filter(|row| row.kind == "blob")
            .cloned()
            .collect();
        if blobs.len() > MOST_FILES {
            return Err(invalid(format!(
                "the folder has {} files and {MOST_FILES} may be read at once",
                blobs.len()
            )));
        }
        let most = self.context.max_bytes;
        let missing: Vec<String> = blobs
            .iter()
            .filter(|row| self.kept(place, &row.id).is_none())
            .map(|row| row.path.clone())
            .collect();
        let batch = self.batch(place, &missing, most).await;
        let room = Room(AtomicU64::new(most));
        let (room, batch) = (&room, &batch);
        let files = stream::iter(blobs).map(|row| async move {
            let content = match batch.get(&row.path) {
                Some((id, content)) if *id == row.id => {
                    self.keep(place, id, content);
                    content.clone()
                }
                _ => self.blob(place, &row.id, room.left()).await?,
            };
            room.take(content.len(), most)?;
            Ok::<_, Failure>(File {
                path: row.path,
                blob: row.id,
                content: Content(content.to_vec()),
            })
        });
        let mut files: Vec<File> = files.buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    /// Several files, an answer for each.
    pub(super) async fn files(
        self,
        place: &Place,
        paths: &[String],
    ) -> Result<Vec<Result<File, LookupError>>, Failure> {
        if paths.len() > MOST_FILES {
            return Err(invalid(format!(
                "{} files are asked for and {MOST_FILES} may be",
                paths.len()
            )));
        }
        let most = self.context.max_bytes;
        let missing: Vec<String> = paths
            .iter()
            .filter(|path| check_path(path).is_ok() && self.known(place, path).is_none())
            .cloned()
            .collect();
        for (path, (blob, content)) in self.batch(place, &missing, most).await {
            let key = LastingKey::File(place.project, place.commit.clone(), path);
            let file = Lasting::File { blob, content };
            self.client.shared.lasting.insert(key, file);
        }
        let room = Room(AtomicU64::new(most));
        let room = &room;
        let found: Vec<Result<File, Failure>> = stream::iter(paths.to_vec())
            .map(|path| async move {
                check_path(&path)?;
                let file = self.file(place, &path, room.left()).await?;
                room.take(file.content.0.len(), most)?;
                Ok(file)
            })
            .buffered(SIDE_BY_SIDE)
            .collect()
            .await;
        found
            .into_iter()
            .map(|file| match file {
                Ok(file) => Ok(Ok(file)),
                Err(Failure::World(error)) => Ok(Err(error)),
                Err(host) => Err(host),
            })
            .collect()
    }

    async fn tree(self, place: &Place, path: &str) -> Result<Arc<Vec<TreeRow>>, Failure> {
        let key = LastingKey::Tree(place.project, place.commit.clone(), path.to_owned());
        if let Some(Lasting::Tree(rows)) = self.client.shared.lasting.get(&key) {
            return Ok(rows);
        }
        let project = place.project.to_string();
        let address = ["projects", &project, "repository", "tree"];
        let call = Call::get("tree", &address)
            .with("ref", place.commit.as_str())
            .with("path", path)
            .with("recursive", "true")
            .with("pagination", "keyset")
            .of(place.project);
        let found = self.client.pages::<TreeRow>(&call, MOST_TREE_PAGES).await?;
        if !found.complete {
            return Err(invalid(
                "the folder has too many files to be read at once: ask for one below it",
            ));
        }
        // Git has no empty folders: older releases answer with nothing where newer ones say 404.
        if found.rows.is_empty() {
            return Err(LookupError::NotFound.into());
        }
        let rows = Arc::new(found.rows);
        self.client
            .shared
            .lasting
            .insert(key, Lasting::Tree(Arc::clone(&rows)));
        Ok(rows)
    }

    async fn blob(self, place: &Place, id: &str, most: u64) -> Result<Bytes, Failure> {
        if let Some(content) = self.kept(place, id) {
            return Ok(content);
        }
        let project = place.project.to_string();
        let address = ["projects", &project, "repository", "blobs", id, "raw"];
        let reply = self
            .client
            .send(&Call::get("blob", &address).at_most(most).of(place.project))
            .await?;
        self.keep(place, id, &reply.body);
        Ok(reply.body)
    }

    fn kept(self, place: &Place, id: &str) -> Option<Bytes> {
        let key = LastingKey::Blob(place.project, id.to_owned());
        match self.client.shared.lasting.get(&key)? {
            Lasting::Blob(content) => Some(content),
            _ => None,
        }
    }

    fn keep(self, place: &Place, id: &str, content: &Bytes) {
        let key = LastingKey::Blob(place.project, id.to_owned());
        let blob = Lasting::Blob(content.clone());
        self.client.shared.lasting.insert(key, blob);
    }

    fn known(self, place: &Place, path: &str) -> Option<(String, Bytes)> {
        let key = LastingKey::File(place.project, place.commit.clone(), path.to_owned());
        match self.client.shared.lasting.get(&key)? {
            Lasting::File { blob, content } => Some((blob, content)),
            _ => None,
        }
    }

    async fn file(self, place: &Place, path: &str, most: u64) -> Result<File, Failure> {
        let key = LastingKey::File(place.project, place.commit.clone(), path.to_owned());
        let file = |blob: String, content: &Bytes| File {
            path: path.to_owned(),
            blob,
            content: Content(content.to_vec()),
        };
        if let Some((blob, content)) = self.known(place, path) {
            let size = content.len() as u64;
            if size > most {
                return Err(LookupError::TooLarge(size).into());
            }
            return Ok(file(blob, &content));
        }
        let project = place.project.to_string();
        let address = ["projects", &project, "repository", "files", path, "raw"];
        let call = Call::get("file", &address)
            .with("ref", place.commit.as_str())
            .at_most(most)
            .of(place.project);
        let reply = self.client.send(&call).await?;
        let blob = header(&reply.headers, "x-gitlab-blob-id").map(str::to_owned);
        let blob = blob.ok_or_else(|| {
            Failure::Host(ApiError::Unreadable {
                class: "file",
                problem: "the header `x-gitlab-blob-id` is missing".to_owned(),
            })
        })?;
        let lasting = Lasting::File {
            blob: blob.clone(),
            content: reply.body.clone(),
        };
        self.client.shared.lasting.insert(key, lasting);
        Ok(file(blob, &reply.body))
    }
}

/// A path in a repository, as git writes it.
fn check_path(path: &str) -> Result<(), Failure> {
    let wrong = path.len() > 4096
        || path.contains('\0')
        || path
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."));
    if wrong {
        let shown: String = path.chars().take(80).collect();
        return Err(invalid(format!("`{shown}` is no path in a repository")));
    }
    Ok(())
}
