//! What a component is, judged by its imports and exports alone.
//!
//! Imports are exact: what is not written there can't be called. So a component that imports what its plugin was not granted is refused before it runs.

use penstock_model::grant::Grants;
use penstock_model::limits::Limits;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};

use crate::compile::CompileError;
use crate::limiter;
use crate::parts;
use crate::wasi;

/// What a plugin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Decides what an event means.
    Trigger,
    /// Decides whether what waits may go on.
    Approval,
    /// Rotates a kind of credential.
    Rotation,
}

impl Kind {
    /// The interface that makes a component of this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Approval => "approval",
            Self::Rotation => "rotation",
        }
    }

    /// The imports of its world.
    fn imports(self) -> &'static [&'static str] {
        match self {
            Self::Trigger => &[
                "log",
                "config",
                "delivery",
                "gitlab-read",
                "cluster-read",
                "history",
                "fetch",
                "state",
            ],
            Self::Approval => &["log", "config", "gitlab-read", "history"],
            Self::Rotation => &["log", "config", "secrets", "http", "login"],
        }
    }
}

/// Why a component is not loaded. Each message names what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More bytes than it may have.
    #[error(
        "the component has {size} bytes and {limit} are allowed: raise `limits.component` or make it smaller"
    )]
    TooLarge {
        /// Bytes.
        size: u64,
        /// Bytes.
        limit: u64,
    },
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component: run `wasm-tools component new`, or build with `penstock plugin build`"
    )]
    CoreModule,
    /// Something else.
    #[error(
        "this is not a WebAssembly component: it does not begin with `\\0asm` and the component's version"
    )]
    NotWasm,
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It exports none of the three.
    #[error(
        "the component exports none of `penstock:plugin/trigger`, `approval` and `rotation`: build it for one of the worlds in `wit/`"
    )]
    NoKind,
    /// It exports several of the three.
    #[error(
        "the component exports both `{first}` and `{second}`: one component is of one kind; make two"
    )]
    TwoKinds {
        /// One.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// It has no settings.
    #[error("the component does not export `penstock:plugin/settings`, which every plugin must")]
    NoSettings,
    /// Another version of the contract.
    #[error(
        "the component was built against `{interface}`; this host speaks version 0.1 of the contract: build it again with the `wit/` of this release"
    )]
    OtherContract {
        /// Interface with its version.
        interface: String,
    },
    /// It imports something of WASI that plugins don't get.
    #[error(
        "the component imports `{import}`, and this host gives plugins clocks, random numbers and streams of WASI and nothing else: leave it out (`wasm32-unknown-unknown`, `componentize-py --stub-wasi`, `disableFeatures` of componentize-js)"
    )]
    Wasi {
        /// The import.
        import: String,
    },
    /// It was built for another version of WASI.
    #[error(
        "the component imports `{import}`, and this host speaks WASI 0.2: build it with tools for 0.2, or leave WASI out (`componentize-py --stub-wasi`, `disableFeatures` of componentize-js)"
    )]
    WasiVersion {
        /// The import.
        import: String,
    },
    /// It imports something that there isn't.
    #[error(
        "the component imports `{import}`, which this host does not have: remove it from the plugin's world"
    )]
    UnknownImport {
        /// The import.
        import: String,
    },
    /// It imports something that its kind does not have.
    #[error(
        "the component imports `{import}`, which {kind} plugins do not have: remove it from the plugin's world"
    )]
    NotOfKind {
        /// The import.
        import: String,
        /// The kind.
        kind: &'static str,
    },
    /// It imports something that is not granted.
    #[error(
        "the component imports `{import}` and has no grant for it: write `{import}` into the plugin's `grants`, or remove it from the plugin's world"
    )]
    NotGranted {
        /// Short name of the interface.
        import: String,
    },
    /// A function or type differs from the contract.
    #[error("the component does not fit the contract: {message}")]
    Contract {
        /// What wasmtime says, cut after 4 KiB.
        message: String,
    },
    /// It can't even begin with the memory that it may have.
    #[error(
        "the component begins with {needs} bytes of memory and tables and {limit} are allowed: raise `limits.memory` or build it with less"
    )]
    Memory {
        /// Bytes.
        needs: u64,
        /// Bytes.
        limit: u64,
    },
    /// Too many core instances, memories or tables.
    #[error("the component has {found} {what} and {limit} are allowed: merge its modules")]
    TooMany {
        /// `core instances`, `memories` or `tables`.
        what: &'static str,
        /// How many.
        found: u32,
        /// How many are allowed.
        limit: u32,
    },
}

/// What a component says about itself.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) kind: Kind,
    pub(crate) imports: Vec<String>,
    pub(crate) memory: u64,
    pub(crate) exports: Exports,
}

/// Where its functions are.
pub(crate) struct Exports {
    pub(crate) schema: ComponentExportIndex,
    pub(crate) validate: ComponentExportIndex,
    /// Full name of the kind's own interface.
    pub(crate) own: String,
    /// `decide` of a trigger.
    pub(crate) decide: Option<ComponentExportIndex>,
}

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exports")
    }
}

/// Looks at the first bytes only.
pub(crate) fn header(wasm: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let size = u64::try_from(wasm.len()).unwrap_or(u64::MAX);
    if size > limits.component {
        return Err(LoadError::TooLarge {
            size,
            limit: limits.component,
        });
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(LoadError::CoreModule),
        Some([0, b'a', b's', b'm', _, 0, 1, 0]) => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}

/// Looks at how many instances it makes, before it is compiled.
pub(crate) fn size(wasm: &[u8]) -> Result<(), LoadError> {
    let found = parts::instances(wasm);
    if found > limiter::INSTANCES {
        return Err(LoadError::TooMany {
            what: "core instances",
            found,
            limit: limiter::INSTANCES,
        });
    }
    Ok(())
}

/// Looks at imports, exports and memories.
pub(crate) fn look(engine: &Engine, component: &Component) -> Result<Looked, LoadError> {
    let kind = kind(engine, component)?;
    let mut imports = Vec::new();
    for (name, _) in component.component_type().imports(engine) {
        import(name, kind)?;
        imports.push(name.to_owned());
    }
    Ok(Looked {
        kind,
        imports,
        memory: memory(component)?,
        exports: exports(engine, component, kind)?,
    })
}

/// Every import has a grant at some trust.
pub(crate) fn granted(imports: &[String], kind: Kind, grants: &Grants) -> Result<(), LoadError> {
    if kind == Kind::Rotation {
        // What a rotation may do is in the operator's grant for each credential, not here.
        return Ok(());
    }
    for name in imports {
        let Some((short, _)) = ours(name) else {
            continue;
        };
        if !grants.base.covers_import(short) {
            return Err(LoadError::NotGranted {
                import: short.to_owned(),
            });
        }
    }
    Ok(())
}

/// Short name and version of an interface of the contract.
fn ours(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("penstock:plugin/")?.split_once('@')
}

/// Whether a version of the contract is one that this host speaks.
fn speaks(version: &str) -> bool {
    version.starts_with("0.1.")
}

fn import(name: &str, kind: Kind) -> Result<(), LoadError> {
    let import = name.to_owned();
    let Some((short, version)) = ours(name) else {
        if name.starts_with("wasi:") {
            return wasi::import(name);
        }
        return Err(LoadError::UnknownImport { import });
    };
    if !speaks(version) {
        return Err(LoadError::OtherContract { interface: import });
    }
    let types_only = matches!(short, "types" | "events" | "effects");
    if types_only || kind.imports().contains(&short) {
        return Ok(());
    }
    let known = [Kind::Trigger, Kind::Approval, Kind::Rotation]
        .iter()
        .any(|kind| kind.imports().contains(&short));
    Err(if known {
        LoadError::NotOfKind {
            import: short.to_owned(),
            kind: kind.as_str(),
        }
    } else {
        LoadError::UnknownImport { import }
    })
}

fn kind(engine: &Engine, component: &Component) -> Result<Kind, LoadError> {
    let mut found: Option<Kind> = None;
    let mut settings = false;
    for (name, _) in component.component_type().exports(engine) {
        let Some((short, version)) = ours(name) else {
            continue;
        };
        if !speaks(version) {
            return Err(LoadError::OtherContract {
                interface: name.to_owned(),
            });
        }
        let kind = match short {
            "trigger" => Kind::Trigger,
            "approval" => Kind::Approval,
            "rotation" => Kind::Rotation,
            other => {
                settings |= other == "settings";
                continue;
            }
        };
        if let Some(first) = found {
            return Err(LoadError::TwoKinds {
                first: first.as_str(),
                second: kind.as_str(),
            });
        }
        found = Some(kind);
    }
    match found {
        None => Err(LoadError::NoKind),
        Some(_) if !settings => Err(LoadError::NoSettings),
        Some(kind) => Ok(kind),
    }
}

/// Bytes of the largest memory and table at the beginning; how many there are is checked here.
fn memory(component: &Component) -> Result<u64, LoadError> {
    let Some(needs) = component.resources_required() else {
        return Err(LoadError::Contract {
            message: "it imports core modules".to_owned(),
        });
    };
    for (what, found, limit) in [
        ("memories", needs.num_memories, limiter::MEMORIES),
        ("tables", needs.num_tables, limiter::TABLES),
    ] {
        if found > limit {
            return Err(LoadError::TooMany { what, found, limit });
        }
    }
    let pages = needs.max_initial_memory_size.unwrap_or(0);
    let elements = needs.max_initial_table_size.unwrap_or(0);
    Ok(pages
        .saturating_mul(64 * 1024)
        .saturating_add(elements.saturating_mul(8)))
}

fn exports(engine: &Engine, component: &Component, kind: Kind) -> Result<Exports, LoadError> {
    let find = |inside: Option<&ComponentExportIndex>, name: &str| {
        component
            .get_export_index(inside, name)
            .ok_or_else(|| LoadError::Contract {
                message: format!("`{name}` is not exported"),
            })
    };
    let name = |wanted: &str| {
        let ty = component.component_type();
        let found = ty
            .exports(engine)
            .find(|(name, item)| {
                ours(name).is_some_and(|(short, _)| short == wanted)
                    && matches!(item.ty, ComponentItem::ComponentInstance(_))
            })
            .map(|(name, _)| name.to_owned());
        found.ok_or_else(|| LoadError::Contract {
            message: format!("`{wanted}` is not an interface"),
        })
    };
    let settings = find(None, &name("settings")?)?;
    let own = name(kind.as_str())?;
    let decide = match kind {
        Kind::Trigger => Some(find(Some(&find(None, &own)?), "decide")?),
        Kind::Approval | Kind::Rotation => None,
    };
    Ok(Exports {
        schema: find(Some(&settings), "schema")?,
        validate: find(Some(&settings), "validate")?,
        own,
        decide,
    })
}
