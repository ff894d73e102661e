//! Builds the plugins of this repository into components.
//!
//! A guest in Rust is a target of crate type `cdylib` in a package of the workspace: a
//! library (`penstock-trigger-map` gives `trigger-map`) or an example of
//! `tests/guests`. Each is compiled for `wasm32-unknown-unknown`, made a component,
//! validated, and written to `CACHE/guests/NAME.wasm`, where CACHE is
//! `$PENSTOCK_CACHE` or `~/.cache/penstock`. The same sources give the same bytes,
//! wherever they lie. Those in other languages are listed in `languages`.
//! Nothing is ever written into the repository.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand, TargetKind};
use duct::cmd;
use serde::Serialize;
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{IndexMap, WorldItem, WorldKey};

use crate::languages::{FOREIGN, Foreign};

const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler for the web: newer than its `rustc`, with the sources of std.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const RUSTUP_ADD_LIMIT: Duration = Duration::from_secs(60);

/// A component that was built.
#[derive(Clone, Debug, Serialize)]
pub struct Built {
    /// Such as `trigger-map`.
    pub name: String,
    /// The component.
    pub path: PathBuf,
    /// `sha256:` and 64 hexadecimal digits of the component.
    pub digest: String,
    /// Length of the component in bytes.
    pub size: u64,
    /// Interfaces that it imports, such as `penstock:plugin/log@0.1.0`. Those that
    /// only hold types are not among them.
    pub imports: Vec<String>,
    /// Interfaces that it exports: `settings` and that of its kind.
    pub exports: Vec<String>,
}

/// Builds these guests, or all of them if none is named.
///
/// # Errors
/// Where a name is unknown, no compiler for wasm is to be had, a guest does not
/// compile, or a component imports something else than Penstock's interfaces.
pub fn build(names: &[&str]) -> Result<Vec<Built>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("can't read the workspace")?;
    let known = guests(&metadata);
    let is_wanted = |name: &str| names.is_empty() || names.contains(&name);
    let foreign: Vec<&Foreign> = FOREIGN.iter().filter(|it| is_wanted(it.name)).collect();
    let wanted: BTreeMap<&str, &Guest> = known
        .iter()
        .map(|(name, guest)| (name.as_str(), guest))
        .filter(|(name, _)| is_wanted(name))
        .collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| !wanted.contains_key(*name) && !foreign.iter().any(|it| it.name == **name))
    {
        let all: Vec<_> = known
            .keys()
            .map(String::as_str)
            .chain(FOREIGN.iter().map(|it| it.name))
            .collect();
        bail!(
            "there is no guest `{unknown}`: the guests are {}",
            all.join(", ")
        );
    }
    let folder = cache()?.join("guests");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let root = metadata.workspace_root.as_std_path();
    if !wanted.is_empty() {
        let toolchain = Toolchain::find()?;
        let target = folder.join("target");
        compile(&toolchain, root, &target, wanted.values().copied())?;
    }
    let rust = wanted.into_iter().map(|(name, guest)| {
        let module = folder
            .join("target")
            .join(TARGET)
            .join("guest")
            .join(&guest.module);
        componentize(&module)
            .and_then(|component| keep(name, &component, &folder, &[]))
            .with_context(|| format!("can't make a component of {name}"))
    });
    let foreign = foreign.into_iter().map(|guest| {
        let component = guest.build(root, &folder)?;
        // Their runtimes ask for WASI, and get the host's own.
        keep(guest.name, &component, &folder, &["wasi:"])
            .with_context(|| format!("{} is no plugin", guest.name))
    });
    rust.chain(foreign).collect()
}

/// Compiles a package of another workspace, of crate type `cdylib`, into a core module, as the guests are.
///
/// # Errors
/// No compiler for wasm is to be had, or it does not compile.
pub fn module(root: &Path, package: &str, target: &Path) -> Result<PathBuf> {
    let file = PathBuf::from(format!("{}.wasm", package.replace('-', "_")));
    let guest = Guest {
        select: ["--package", package, "--lib"].map(str::to_owned).to_vec(),
        module: file.clone(),
    };
    let root = root
        .canonicalize()
        .with_context(|| format!("{} is missing", root.display()))?;
    compile(&Toolchain::find()?, &root, target, std::iter::once(&guest))?;
    Ok(target.join(TARGET).join("guest").join(file))
}

/// Where built things are kept between runs.
fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PENSTOCK_CACHE") {
        return Ok(PathBuf::from(path));
    }
    let home = env::home_dir().context("there is no home folder: set PENSTOCK_CACHE")?;
    Ok(home.join(".cache").join("penstock"))
}

/// A target that becomes a component.
struct Guest {
    /// What selects it on cargo's command line.
    select: Vec<String>,
    /// The file that cargo makes, below the profile's folder.
    module: PathBuf,
}

fn guests(metadata: &Metadata) -> BTreeMap<String, Guest> {
    let mut found = BTreeMap::new();
    for package in metadata.workspace_packages() {
        for target in &package.targets {
            if !target
                .crate_types
                .contains(&cargo_metadata::CrateType::CDyLib)
            {
                continue;
            }
            let file = format!("{}.wasm", target.name.replace('-', "_"));
            let package_name = package.name.to_string();
            let (name, module, select) = if target.kind.contains(&TargetKind::Example) {
                let select = vec!["--example".to_owned(), target.name.clone()];
                (
                    target.name.clone(),
                    Path::new("examples")
                        .join(&target.name)
                        .with_extension("wasm"),
                    select,
                )
            } else {
                let name = package_name
                    .strip_prefix("penstock-")
                    .unwrap_or(&package_name);
                (
                    name.to_owned(),
                    PathBuf::from(file),
                    vec!["--lib".to_owned()],
                )
            };
            let select = ["--package".to_owned(), package_name]
                .into_iter()
                .chain(select)
                .collect();
            found.insert(name, Guest { select, module });
        }
    }
    found
}

/// What compiles Rust to wasm on this machine.
enum Toolchain {
    /// The current toolchain of rustup, which has the target.
    Rustup,
    /// Debian's `cargo` in `/usr/bin`, which builds std itself.
    Debian,
}

impl Toolchain {
    /// What is there, else what can be got: rustup's target before Debian's packages.
    fn find() -> Result<Self> {
        let rustup = cmd!("rustup", "target", "list", "--installed")
            .stderr_null()
            .unchecked()
            .read()
            .ok();
        if rustup
            .as_ref()
            .is_some_and(|list| list.lines().any(|it| it == TARGET))
        {
            return Ok(Self::Rustup);
        }
        if Self::has_debian() {
            return Ok(Self::Debian);
        }
        if rustup.is_some() && rustup_add() {
            return Ok(Self::Rustup);
        }
        if cmd!("id", "-u").read().is_ok_and(|id| id == "0") {
            let install = ["install", "--yes", "--no-install-recommends"];
            let installed = cmd("apt-get", install.into_iter().chain(DEBIAN_PACKAGES))
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout_to_stderr()
                .run();
            if installed.is_ok() && Self::has_debian() {
                return Ok(Self::Debian);
            }
        }
        bail!(
            "there is no Rust compiler for wasm: run `rustup target add {TARGET}`, or on Debian `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    fn has_debian() -> bool {
        Path::new("/usr/bin/cargo").exists()
            && Path::new("/usr/bin/wasm-ld-19").exists()
            && Path::new("/usr/lib/rustlib/src/rust/library/std").exists()
    }
}

/// Tries to get the target from rustup, for at most a minute.
fn rustup_add() -> bool {
    let Ok(child) = cmd!("rustup", "target", "add", TARGET)
        .stdout_to_stderr()
        .unchecked()
        .start()
    else {
        return false;
    };
    match child.wait_timeout(RUSTUP_ADD_LIMIT) {
        Ok(Some(output)) => output.status.success(),
        Ok(None) | Err(_) => {
            // Whether it could be ended or not, the answer is the same.
            drop(child.kill());
            false
        }
    }
}

fn compile<'a>(
    toolchain: &Toolchain,
    root: &Path,
    target_dir: &Path,
    guests: impl Iterator<Item = &'a Guest>,
) -> Result<()> {
    // One call for each package: `--lib` and `--example` of several packages can't be told apart in one.
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for guest in guests {
        let (package, select) = guest.select.split_at(2);
        packages
            .entry(package.join(" "))
            .or_default()
            .extend(select.iter().cloned());
    }
    for (package, select) in packages {
        let mut args: Vec<OsString> =
            ["build", "--quiet", "--profile", "guest", "--target", TARGET]
                .into_iter()
                .map(OsString::from)
                .collect();
        args.push("--target-dir".into());
        args.push(target_dir.into());
        args.extend(package.split(' ').map(OsString::from));
        args.extend(select.into_iter().map(OsString::from));
        let program = match toolchain {
            Toolchain::Rustup => "cargo",
            Toolchain::Debian => {
                args.push("-Zbuild-std=std,panic_abort".into());
                "/usr/bin/cargo"
            }
        };
        cmd(program, args)
            .dir(root)
            .full_env(environment(toolchain, root))
            .stdout_to_stderr()
            .run()
            .with_context(|| {
                format!(
                    "{} does not compile for {TARGET}",
                    package.trim_start_matches("--package ")
                )
            })?;
    }
    Ok(())
}

/// The environment of the compiler: nothing of the outer cargo or rustup is left
/// that would choose another toolchain, flags or profile.
fn environment(toolchain: &Toolchain, root: &Path) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> = env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            let of_cargo = name.starts_with("CARGO")
                && name != "CARGO_HOME"
                && !name.starts_with("CARGO_HTTP_")
                && !name.starts_with("CARGO_NET_")
                && !name.starts_with("CARGO_REGISTR");
            let of_rust = name.starts_with("RUST")
                && !(name.starts_with("RUSTUP") && matches!(toolchain, Toolchain::Rustup));
            !of_cargo && !of_rust && name != "LD_LIBRARY_PATH"
        })
        .collect();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=penstock", root.display())];
    if let Some(home) = cargo_home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    environment.insert(
        "CARGO_ENCODED_RUSTFLAGS".into(),
        flags.join("\u{1f}").into(),
    );
    if matches!(toolchain, Toolchain::Debian) {
        environment.insert("RUSTC_BOOTSTRAP".into(), "1".into());
        environment.insert(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER".into(),
            "wasm-ld-19".into(),
        );
        let path = env::var_os("PATH").unwrap_or_default();
        let mut search = OsString::from("/usr/bin:");
        search.push(path);
        environment.insert("PATH".into(), search);
    }
    environment
}

fn componentize(module: &Path) -> Result<Vec<u8>> {
    let core = fs::read(module).with_context(|| format!("can't read {}", module.display()))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&core)?
        .encode()
}

/// Checks a component and writes it where the tests look for it. Besides the contract it may import what begins with one of these words.
fn keep(name: &str, component: &[u8], folder: &Path, also: &[&str]) -> Result<Built> {
    let to = folder.join(format!("{name}.wasm"));
    let (imports, mut exports) = interfaces(component)?;
    for interface in &imports {
        ensure!(
            interface.starts_with("penstock:plugin/")
                || also.iter().any(|begin| interface.starts_with(begin)),
            "it names `{interface}`, which is not of the contract: a dependency asks for it"
        );
    }
    // componentize-py leaves a description of its own beside the two.
    exports.retain(|interface| interface.starts_with("penstock:plugin/") || also.is_empty());
    ensure!(
        exports.len() == 2,
        "it must export `settings` and one kind of plugin, and exports {exports:?}"
    );
    if fs::read(&to).ok().as_deref() != Some(component) {
        // Written beside and renamed, so that nobody reads half of it.
        let part = to.with_extension(format!("part-{}", std::process::id()));
        fs::write(&part, component).with_context(|| format!("can't write {}", part.display()))?;
        fs::rename(&part, &to).with_context(|| format!("can't write {}", to.display()))?;
    }
    Ok(Built {
        name: name.to_owned(),
        digest: format!("sha256:{}", hex::encode(Sha256::digest(component))),
        size: component.len() as u64,
        path: to,
        imports,
        exports,
    })
}

/// Interfaces with functions that a component imports and exports, in order of their names.
fn interfaces(component: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is not a component");
    };
    let world = resolve.worlds.get(world).context("it has no world")?;
    let names = |items: &IndexMap<WorldKey, WorldItem>| {
        let mut names: Vec<String> = items
            .iter()
            .filter(|(_, item)| match item {
                WorldItem::Interface { id, .. } => resolve
                    .interfaces
                    .get(*id)
                    .is_none_or(|interface| !interface.functions.is_empty()),
                WorldItem::Function(_) | WorldItem::Type { .. } => true,
            })
            .map(|(key, _)| resolve.name_world_key(key))
            .collect();
        names.sort();
        names
    };
    Ok((names(&world.imports), names(&world.exports)))
}
