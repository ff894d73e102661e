//! Plugins and routes as the configuration names them.

use std::path::{Path, PathBuf};

use penstock_guests::{Behaviour, Settings};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A plugin of the configuration, with every grant unless a test takes some away.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// The component.
    pub file: PathBuf,
    settings: Value,
    grants: Value,
    limits: Value,
}

impl Plugin {
    /// The guest that does what it is told.
    #[must_use]
    pub fn misbehave(name: &str, behaviour: Behaviour) -> Self {
        Self::new(name, &guest("misbehave"))
            .settings(serde_json::to_value(Settings::from(behaviour)).unwrap())
    }

    /// The guest that starts one run of this manifest, under the pipeline's and the status' name `build`.
    #[must_use]
    pub fn starts(name: &str, manifest: &Value) -> Self {
        Self::misbehave(name, Self::start_run(manifest))
    }

    /// The behaviour behind [`Plugin::starts`].
    #[must_use]
    pub fn start_run(manifest: &Value) -> Behaviour {
        Behaviour::StartRun {
            manifest: manifest.to_string(),
            key: "run/build".to_owned(),
            pipeline: "build".to_owned(),
        }
    }

    /// The plugin `trigger-map` with these rules.
    #[must_use]
    pub fn trigger_map(name: &str, rules: Value) -> Self {
        Self::new(name, &guest("trigger-map")).settings(json!({ "rules": rules }))
    }

    /// A component somewhere, without settings.
    #[must_use]
    pub fn new(name: &str, file: &Path) -> Self {
        Self {
            name: name.to_owned(),
            file: file.to_owned(),
            settings: json!({}),
            grants: json!({
                "gitlab-read": ["files", "commits", "merge-requests", "members"],
                "cluster-read": ["places", "runs"],
                "delivery": true,
                "history": true,
                "state": true,
                "fetch": ["example.com"],
                "effects": ["start-run", "cancel-runs", "comment", "commit-status"],
            }),
            // Guests give way to all others: on a busy machine a second of theirs may take a minute.
            limits: json!({ "cpu": "5s", "deadline": "5m" }),
        }
    }

    /// Replaces the settings.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> Self {
        self.settings = settings;
        self
    }

    /// Sets one grant.
    #[must_use]
    pub fn grant(mut self, name: &str, value: Value) -> Self {
        self.grants[name] = value;
        self
    }

    /// Sets one limit.
    #[must_use]
    pub fn limit(mut self, name: &str, value: &str) -> Self {
        self.limits[name] = json!(value);
        self
    }

    /// As the configuration has it.
    #[must_use]
    pub fn yaml(&self) -> Value {
        json!({
            "name": self.name,
            "source": format!("file:{}", self.file.display()),
            "digest": digest(&self.file),
            "settings": self.settings,
            "grants": self.grants,
            "limits": self.limits,
        })
    }
}

/// A route of the configuration.
#[derive(Clone, Debug)]
pub struct Route {
    plugin: String,
    on: Vec<String>,
    mode: &'static str,
    tenant: String,
}

impl Route {
    /// Pushes and merge requests of the tenant `acme/**` lead to this plugin.
    #[must_use]
    pub fn to(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            on: vec!["push".to_owned(), "merge_request".to_owned()],
            mode: "act",
            tenant: "acme/**".to_owned(),
        }
    }

    /// Only these kinds.
    #[must_use]
    pub fn on(mut self, kinds: &[&str]) -> Self {
        self.on = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        self
    }

    /// Of another tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.to_owned();
        self
    }

    /// Decides and does nothing.
    #[must_use]
    pub fn observe(mut self) -> Self {
        self.mode = "observe";
        self
    }

    /// As the configuration has it.
    #[must_use]
    pub fn yaml(&self) -> Value {
        json!({ "tenant": self.tenant, "on": self.on, "plugin": self.plugin, "mode": self.mode })
    }
}

/// Where a component of this repository lies.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let folder = std::env::var_os("PENSTOCK_GUESTS")
        .filter(|it| !it.is_empty())
        .map_or_else(cached, PathBuf::from);
    let file = folder.join(format!("{name}.wasm"));
    assert!(
        file.is_file(),
        "{} is missing: run `cargo xtask guests`, or `cargo xtask test`, which does",
        file.display()
    );
    file
}

fn cached() -> PathBuf {
    let cache = std::env::var_os("PENSTOCK_CACHE").map(PathBuf::from);
    let home =
        || PathBuf::from(std::env::var_os("HOME").expect("a home folder")).join(".cache/penstock");
    cache.unwrap_or_else(home).join("guests")
}

/// `sha256:…` of a file.
///
/// # Panics
/// If it can't be read.
#[must_use]
pub fn digest(file: &Path) -> String {
    let bytes = std::fs::read(file)
        .unwrap_or_else(|error| panic!("can't read {}: {error}", file.display()));
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
