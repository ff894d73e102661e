//! What the demo plays on: the stand-ins, and a configuration in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use penstock_doubles::gitlab::{Access, GitLab, Hook, ProjectSeed, Token, World};
use penstock_doubles::kubernetes::Kubernetes;
use penstock_model::id::Digest;
use serde_json::Value;

use super::plugin;

/// The project of the demo.
pub(super) const PROJECT: &str = "acme/api";
/// The GitLab user that Penstock acts as.
pub(super) const BOT_NAME: &str = "penstock-bot";
/// The secret token of the demo's hook; it guards nothing but this demo on loopback.
pub(super) const TOKEN: &str = "demo-secret-token";
/// Its signing token.
const SIGNING_TOKEN: &str = "whsec_ZGVtby1zaWduaW5nLXRva2VuLW9mLTMyLWJ5dGVzISE=";
/// The stand-in's token of the bot.
const BOT_TOKEN: &str = "demo-bot-token";
/// The place that `examples/cluster/place.yaml` makes.
pub(super) const NAMESPACE: &str = "ci-acme";

/// The stand-ins and the folder.
pub(super) struct Scene {
    pub(super) gitlab: GitLab,
    kubernetes: Option<Kubernetes>,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Scene {
    /// Starts the stand-ins and writes the configuration for a host at `address`.
    pub(super) async fn set(
        address: &str,
        plugins: &Path,
        kubeconfig: Option<&Path>,
        namespace: &str,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("penstock-demo-")
            .tempdir()
            .context("can't make a folder for the demo")?;
        let gitlab = GitLab::start(world(address)).await;
        let (kubernetes, kubeconfig) = match kubeconfig {
            Some(real) => (
                None,
                fs::canonicalize(real)
                    .with_context(|| format!("no kubeconfig at {}", real.display()))?,
            ),
            None => {
                let stand_in = cluster(namespace).await;
                let path = folder.path().join("kubeconfig.yaml");
                fs::write(&path, stand_in.kubeconfig()).context("can't write the kubeconfig")?;
                (Some(stand_in), path)
            }
        };
        for (name, secret) in [
            ("gitlab-token", BOT_TOKEN),
            ("hook-token", TOKEN),
            ("signing-token", SIGNING_TOKEN),
        ] {
            fs::write(folder.path().join(name), secret)
                .with_context(|| format!("can't write {name}"))?;
        }
        let config = folder.path().join("penstock.yaml");
        let text = configuration(address, &gitlab.url(), &kubeconfig, plugins, namespace)?;
        fs::write(&config, text).context("can't write the configuration")?;
        Ok(Self {
            gitlab,
            kubernetes,
            kubeconfig,
            folder,
            config,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    pub(super) fn cluster_kind(&self) -> &'static str {
        if self.kubernetes.is_some() {
            "a stand-in"
        } else {
            "a real one"
        }
    }

    pub(super) fn cluster_address(&self) -> String {
        match &self.kubernetes {
            Some(stand_in) => stand_in.url(),
            None => format!("as {} says", self.kubeconfig.display()),
        }
    }

    /// A PipelineRun as the stand-in holds it; a real cluster is asked with kubectl.
    pub(super) fn run(&self, namespace: &str, name: &str) -> Option<Value> {
        self.kubernetes
            .as_ref()?
            .object("pipelineruns", namespace, name)
    }
}

fn world(address: &str) -> World {
    let mut world = World::new();
    world.user("dev").bot(BOT_NAME).group("acme");
    world.project(ProjectSeed::new(PROJECT));
    world
        .member("acme", "dev", Access::Developer)
        .member("acme", BOT_NAME, Access::Maintainer);
    world.token(Token::new(BOT_TOKEN, BOT_NAME));
    let url = format!("{address}/hooks/gitlab/main/acme");
    world.hook(
        Hook::group("acme", &url)
            .token(TOKEN)
            .signing_token(SIGNING_TOKEN),
    );
    world
}

async fn cluster(namespace: &str) -> Kubernetes {
    let kubernetes = Kubernetes::start().await;
    kubernetes
        .namespace(namespace)
        .account(namespace, "creator")
        .account(namespace, "run-as")
        .grant(
            namespace,
            "creator",
            &["create", "get", "patch"],
            "pipelineruns",
        );
    kubernetes
}

fn configuration(
    address: &str,
    gitlab: &str,
    kubeconfig: &Path,
    plugins: &Path,
    namespace: &str,
) -> Result<String> {
    let pinned = |name: &str| {
        let file = fs::canonicalize(plugin(plugins, name)).with_context(|| {
            format!(
                "there is no {name}.wasm in {}: run `cargo xtask guests`",
                plugins.display()
            )
        })?;
        let bytes = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        anyhow::Ok((file, Digest::of(&bytes)))
    };
    let (rules, rules_digest) = pinned("trigger-map")?;
    let (greeter, greeter_digest) = pinned("greeter")?;
    let listen = address.trim_start_matches("http://");
    let (kubeconfig, rules, greeter) = (kubeconfig.display(), rules.display(), greeter.display());
    Ok(format!(
        r#"# Written by `penstock demo`. Change it while the demo is up: a valid change is put in force at once.
listen: {listen}
public-url: {address}
data: data
gitlab:
  - name: main
    url: {gitlab}
    token: {{ file: gitlab-token }}
    hooks:
      - name: acme
        scope: {{ group: acme }}
        token: {{ file: hook-token }}
        signing-token: {{ file: signing-token }}
clusters:
  - name: local
    kubeconfig: {kubeconfig}
tenants:
  - match: acme/**
    places:
      ci: {{ cluster: local, namespace: {namespace}, creator: creator, run-as: run-as }}
plugins:
  - name: rules
    source: file:{rules}
    digest: {rules_digest}
    grants: {{ delivery: true, gitlab-read: [files, commits], effects: [start-run, cancel-runs] }}
    settings:
      rules:
        - name: build
          on: [push, merge_request]
          when: event.commit != ""
          cancel: superseded
          params:
            revision: $(event.commit)
          template:
            apiVersion: tekton.dev/v1
            kind: PipelineRun
            spec:
              params:
                - {{ name: revision, value: $(tt.params.revision) }}
              pipelineSpec:
                params: [{{ name: revision }}]
                tasks:
                  - name: build
                    params: [{{ name: revision, value: $(params.revision) }}]
                    taskSpec:
                      params: [{{ name: revision }}]
                      steps:
                        - name: build
                          image: busybox
                          script: echo building $(params.revision)
  - name: greeter
    source: file:{greeter}
    digest: {greeter_digest}
    grants: {{ effects: [comment] }}
routes:
  - {{ tenant: acme/**, on: [push, merge_request], plugin: rules, mode: act }}
  - {{ tenant: acme/**, on: [merge_request], plugin: greeter, mode: act }}
"#
    ))
}
