//! Builds the control plane's binaries with the Go tool chain, once, into a cache.
//!
//! The cache is `$PENSTOCK_CACHE/control-plane`, else `~/.cache/penstock/control-plane`. A stamp of
//! the module files and build flags lies beside the binaries; while it holds, nothing is built.
//! `KUBEBUILDER_ASSETS` may name a folder with `etcd` and `kube-apiserver` to use instead of ours.

mod loopback;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// Says where the cache is.
pub const CACHE_VARIABLE: &str = "PENSTOCK_CACHE";
/// Names a folder with an `etcd` and a `kube-apiserver` of the user's own.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// Tekton's and client-go's version checks need a version that can be parsed.
const KUBERNETES_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.36.1 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36";
const TEKTON_FLAGS: &str = "-s -w";
const TEKTON_MODULE: &str = "github.com/tektoncd/pipeline";

/// Where everything that a control plane runs lies.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd's server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers for service accounts, namespaces and garbage collection.
    pub kube_controller_manager: PathBuf,
    /// Tekton's controller.
    pub tekton_controller: PathBuf,
    /// Tekton's admission and conversion webhook.
    pub tekton_webhook: PathBuf,
    /// Tekton's `config/` folder: CRDs, config maps, roles.
    pub tekton_config: PathBuf,
}

/// One folder with a go.mod, and what is built from it.
struct Module {
    folder: &'static str,
    flags: &'static str,
    /// Whether its servers have to be told to stay on loopback.
    on_loopback: bool,
    programs: &'static [(&'static str, &'static str)],
}

const ETCD: (&str, &str) = ("etcd", "go.etcd.io/etcd/server/v3");
const API_SERVER: (&str, &str) = ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
const CONTROLLER_MANAGER: (&str, &str) = (
    "kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
);
const TEKTON: Module = Module {
    folder: "tekton",
    flags: TEKTON_FLAGS,
    on_loopback: true,
    programs: &[
        (
            "tekton-controller",
            "github.com/tektoncd/pipeline/cmd/controller",
        ),
        ("tekton-webhook", "github.com/tektoncd/pipeline/cmd/webhook"),
    ],
};

/// Builds what is missing or out of date and says where it lies. Takes minutes the first time, and
/// blocks; a second process waits for the first.
///
/// # Errors
/// If Go is missing, a build fails, or the cache can't be written.
pub fn binaries() -> Result<Binaries> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("can't create {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("can't create the cache's lock")?;
    lock.lock().context("can't lock the cache")?;

    let assets = std::env::var_os(ASSETS_VARIABLE)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let kubernetes = Module {
        folder: "kubernetes",
        flags: KUBERNETES_FLAGS,
        on_loopback: false,
        programs: if assets.is_some() {
            &[CONTROLLER_MANAGER]
        } else {
            &[ETCD, API_SERVER, CONTROLLER_MANAGER]
        },
    };
    build(&kubernetes, &cache)?;
    build(&TEKTON, &cache)?;

    let given = assets.unwrap_or_else(|| cache.clone());
    for name in [ETCD.0, API_SERVER.0] {
        if !given.join(name).is_file() {
            bail!(
                "{} has no `{name}`; correct or unset {ASSETS_VARIABLE}",
                given.display()
            );
        }
    }
    Ok(Binaries {
        etcd: given.join(ETCD.0),
        kube_apiserver: given.join(API_SERVER.0),
        kube_controller_manager: cache.join(CONTROLLER_MANAGER.0),
        tekton_controller: cache.join("tekton-controller"),
        tekton_webhook: cache.join("tekton-webhook"),
        tekton_config: module_source(&module_folder(TEKTON.folder), TEKTON_MODULE)?.join("config"),
    })
}

/// The cache for binaries.
fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os(CACHE_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()
            .with_context(|| format!("no home folder is known; set {CACHE_VARIABLE}"))?
            .join(".cache/penstock"),
    };
    Ok(base.join("control-plane"))
}

fn module_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("control-plane")
        .join(name)
}

fn build(module: &Module, cache: &Path) -> Result<()> {
    let folder = module_folder(module.folder);
    let stamp = stamp(&folder, module)?;
    let is_current = |program: &str| {
        let found = fs::read_to_string(cache.join(format!("{program}.stamp")));
        cache.join(program).is_file() && found.is_ok_and(|found| found == stamp)
    };
    if module
        .programs
        .iter()
        .all(|(program, _)| is_current(program))
    {
        return Ok(());
    }
    let mut arguments = vec![
        "build".to_owned(),
        "-ldflags".to_owned(),
        module.flags.to_owned(),
    ];
    if module.on_loopback {
        arguments.push(format!(
            "-modfile={}",
            loopback::changed_modules(&folder, cache)?.display()
        ));
    }
    for (program, package) in module.programs {
        if is_current(program) {
            continue;
        }
        let output = cache.join(program).display().to_string();
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["-o", &output, package]);
        go(&folder, &arguments).with_context(|| format!("can't build {program}"))?;
        let stamp_file = cache.join(format!("{program}.stamp"));
        fs::write(&stamp_file, &stamp)
            .with_context(|| format!("can't write {}", stamp_file.display()))?;
    }
    Ok(())
}

/// What a module's binaries depend on, as one digest.
fn stamp(folder: &Path, module: &Module) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(module.flags);
    if module.on_loopback {
        digest.update(loopback::stamp());
    }
    for name in ["go.mod", "go.sum"] {
        let path = folder.join(name);
        digest.update(fs::read(&path).with_context(|| format!("can't read {}", path.display()))?);
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Where the module cache holds the sources of a module that `folder`'s go.mod requires.
fn module_source(folder: &Path, module: &str) -> Result<PathBuf> {
    let list = ["list", "-m", "-f", "{{.Dir}}", module];
    let mut found = go(folder, &list)?;
    if found.is_empty() {
        // Not downloaded: the binaries may have come from another machine's cache.
        go(folder, &["mod", "download", module])?;
        found = go(folder, &list)?;
    }
    Ok(PathBuf::from(found))
}

/// Runs `go` in `folder` and gives what it prints.
fn go(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = match Command::new("go")
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "the test control plane is built with Go: install Go 1.26 or newer and put `go` on the PATH"
            )
        }
        Err(error) => return Err(error).context("can't run go"),
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = told.lines().collect();
        let end = lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n");
        bail!("`go {}` failed:\n{end}", arguments.first().unwrap_or(&""));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
