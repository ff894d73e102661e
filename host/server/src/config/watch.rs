//! Notices that the configuration changed: its own files, and the files of secrets that it names.
//!
//! What counts is content: a file that was touched and says the same is no change. The file system's word is a hint; once a minute everything is looked at
//! anyway, because not every file system gives one.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::files::Seen;
use super::{Config, Problems, read};

/// An editor or a mounted Secret changes several files one after the other; they are read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(150);

/// However unquiet it is, they are read after so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Without any hint everything is looked at after so long.
const POLL: Duration = Duration::from_secs(60);

/// Why the configuration can't be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The operating system gives no watch.
    #[error("changes of the configuration can't be watched: {0}")]
    System(#[from] notify::Error),
}

/// Names of the files that the configuration is made of. Others that lie beside them, such as a database that is written a thousand times a second, are
/// nobody's concern.
#[derive(Clone, Debug, Default)]
struct Names(Arc<RwLock<BTreeSet<OsString>>>);

impl Names {
    fn set(&self, files: &Seen) {
        let names = files.keys().filter_map(|file| file.file_name());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            names.map(OsStr::to_owned).collect();
    }

    /// Something may have changed that counts.
    fn concerns(&self, event: &notify::Event) -> bool {
        if event.kind.is_access() {
            return false;
        }
        if event.need_rescan() || event.paths.is_empty() {
            return true;
        }
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        event.paths.iter().any(|path| {
            let Some(name) = path.file_name() else {
                return true;
            };
            let yaml = path
                .extension()
                .is_some_and(|it| it == "yaml" || it == "yml");
            // A mounted Secret is changed by renaming a link `..data` beside it.
            yaml || name.as_encoded_bytes().starts_with(b"..") || names.contains(name)
        })
    }
}

/// Changes of a configuration, one after the other.
pub struct Changes {
    path: PathBuf,
    seen: Seen,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    names: Names,
    hints: mpsc::Receiver<()>,
    poll: Duration,
}

/// Watches a configuration from now on.
///
/// # Errors
/// The operating system gives no watch.
pub fn watch(path: PathBuf) -> Result<Changes, WatchError> {
    // One hint that waits is enough: it leads to looking at everything.
    let (hint, hints) = mpsc::channel(1);
    let names = Names::default();
    let meant = names.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| meant.concerns(&event)) {
            // Full: a hint waits already. Closed: nobody is interested any more.
            let _ = hint.try_send(());
        }
    })?;
    let (_, seen) = read::load(&path, &environment);
    let mut changes = Changes {
        path,
        seen,
        watcher,
        watched: BTreeSet::new(),
        names,
        hints,
        poll: POLL,
    };
    changes.follow();
    Ok(changes)
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Changes {
    /// The next change: the new configuration, or what is wrong with it. Safe to cancel. None: it is no longer watched.
    pub async fn next(&mut self) -> Option<Result<Config, Problems>> {
        loop {
            match tokio::time::timeout(self.poll, self.hints.recv()).await {
                Ok(None) => return None,
                Ok(Some(())) => self.quiet().await,
                Err(_) => {}
            }
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || read::load(&path, &environment)).await;
            let Ok((outcome, seen)) = read else {
                tracing::error!("reading the configuration was interrupted");
                continue;
            };
            if seen != self.seen {
                self.seen = seen;
                self.follow();
                return Some(outcome);
            }
        }
    }

    /// Waits until no more hints come.
    async fn quiet(&mut self) {
        let more = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.hints.recv()).await {}
        };
        let _ = tokio::time::timeout(PATIENCE, more).await;
    }

    /// Watches the folders of all files that were read: a file is often replaced, and its watch would go with it.
    fn follow(&mut self) {
        self.names.set(&self.seen);
        let named = if self.path.is_dir() {
            Some(self.path.as_path())
        } else {
            self.path.parent()
        };
        let folders: BTreeSet<PathBuf> = self
            .seen
            .keys()
            .filter_map(|file| file.parent())
            .chain(named)
            .map(|folder| {
                if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    folder
                }
            })
            .map(Path::to_owned)
            .collect();
        for gone in self.watched.difference(&folders) {
            // It may be gone from the disk too.
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            let held = self.watched.contains(&folder)
                || match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(folder = %folder.display(), %error, "a folder of the configuration is only looked at once a minute");
                        false
                    }
                };
            if held {
                watched.insert(folder);
            }
        }
        self.watched = watched;
    }
}

#[cfg(test)]
mod tests;
