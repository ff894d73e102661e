//! Everything that a test needs, set up as a platform team would: a GitLab with groups, people and hooks, a namespace with its accounts, and
//! the configuration that joins them.
//!
//! In GitLab there are the groups `acme` (projects `acme/api`, `acme/web`) and `other` (`other/api`); alice is a developer and maria a
//! maintainer of `acme`, mallory owns a fork of `acme/api`, and the bot `penstock` is whose token the host holds. The hook `acme` signs,
//! the hook `other` carries a secret token.

mod build;
mod look;
mod send;

use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_control_plane::{Access, TestPlace};
use penstock_doubles::gitlab::GitLab;
use serde_json::Value;
use tempfile::TempDir;

pub use build::{Builder, FORK, PROJECT};
pub use look::annotation;
pub use send::{Answer, Poster};

use crate::penstock::Penstock;

/// A scene. Dropped, it ends its processes and removes its folder.
pub struct Scene {
    /// The host.
    pub penstock: Penstock,
    /// GitLab.
    pub gitlab: GitLab,
    /// The namespace `ci` of the tenant `acme/**`, and of `other/**`.
    pub place: TestPlace,
    /// The namespace for forks, if the scene has one.
    pub fork_place: Option<TestPlace>,
    /// GitLab's id of the hook of the group `acme`.
    pub hook: u64,
    /// GitLab's id of the hook of the group `other`.
    pub other_hook: u64,
    /// Every secret that is in play, by what it is.
    pub secrets: Vec<(&'static str, String)>,
    access: Access,
    config: Value,
    url: String,
    poster: Poster,
    folder: TempDir,
}

impl Scene {
    /// Begins a scene; the name is the namespace's prefix.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// Changes the configuration's file, as an operator would with an editor.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write_config(&yaml(&self.config));
    }

    /// Replaces the configuration's file by this text.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn write_config(&self, text: &str) {
        self.replace(&self.config_path(), text);
    }

    /// Replaces a file that the host looks at by this text, in one step: it never reads a half.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn replace(&self, path: &Path, text: &str) {
        let half = path.with_extension("half");
        std::fs::write(&half, text).expect("a file");
        if let Ok(before) = std::fs::metadata(path) {
            std::fs::set_permissions(&half, before.permissions()).expect("a file");
        }
        std::fs::rename(&half, path).expect("a file");
    }

    /// The configuration's file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("config/penstock.yaml")
    }

    /// The scene's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of the store, with SQLite.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("penstock.db")
    }

    /// A connection to the store, with SQLite, beside a host that writes to it too.
    ///
    /// # Panics
    /// If it can't be opened.
    #[must_use]
    pub fn store(&self) -> rusqlite::Connection {
        let store = rusqlite::Connection::open(self.store_path()).expect("the store");
        store
            .busy_timeout(Duration::from_secs(60))
            .expect("a time-out");
        store
    }

    /// Another process beside the first, on the same store, at an address of its own.
    ///
    /// # Panics
    /// If its configuration can't be written.
    #[must_use]
    pub fn replica(&self) -> (Penstock, String) {
        let url = format!("http://127.0.0.1:{}", free_port());
        let mut config = self.config.clone();
        config["listen"] = url.trim_start_matches("http://").into();
        let folder = self
            .folder
            .path()
            .join(url.rsplit(':').next().expect("a port"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("penstock.yaml"), yaml(&config)).expect("a configuration");
        let log = folder.join("penstock.log");
        (
            Penstock::new(crate::penstock::program(), &folder, &url).log_to(&log),
            url,
        )
    }

    /// Where the host listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How the API server is reached.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The address of a hook, by the name that the configuration gives it.
    #[must_use]
    pub fn hook_url(&self, name: &str) -> String {
        format!("{}/hooks/gitlab/main/{name}", self.url)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // With this variable set, a test that failed leaves its log, store and configuration behind to be looked at.
        if std::thread::panicking() && std::env::var_os("PENSTOCK_KEEP_FAILED").is_some() {
            self.folder.disable_cleanup(true);
        }
    }
}

/// A value as YAML.
fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a configuration is YAML")
}

/// A port of loopback that is this test's own from now on: a process that was killed can have it again.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    penstock_control_plane::ports::reserve().expect("a free port")
}
