//! One wasmtime engine, and the components that are ready in it.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::id::Digest;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::ask::Caller;
use crate::clamp;
use crate::config::{self, Reservation};
use crate::engine::EngineError;
use crate::inspect::{self, Exports, Kind, LoadError};
use crate::v0_1;
use crate::wasi;

/// One wasmtime engine.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) engine: wasmtime::Engine,
    linker: Arc<Linker<Caller>>,
    pub(crate) reservation: Reservation,
    pub(crate) pooled: bool,
    pub(crate) compatibility: Digest,
}

/// A component, ready to be instantiated.
pub(crate) struct Compiled {
    pub(crate) pre: InstancePre<Caller>,
    pub(crate) kind: Kind,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Exports,
    /// Bytes of memory that it begins with.
    pub(crate) memory: u64,
    pub(crate) pooled: bool,
}

impl Side {
    pub(crate) fn new(found: config::Found, tick: Duration) -> Result<Self, EngineError> {
        let config::Found {
            engine,
            reservation,
            pooled,
        } = found;
        let mut linker = Linker::new(&engine);
        v0_1::link(&mut linker, |caller: &mut Caller| caller).map_err(|error| setup(&error))?;
        wasi::link(&mut linker).map_err(|error| setup(&error))?;
        start_ticking(&engine, tick)?;
        Ok(Self {
            compatibility: config::compatibility(&engine),
            engine,
            linker: Arc::new(linker),
            reservation,
            pooled,
        })
    }

    /// A component from compiled code.
    pub(crate) fn revive(&self, code: &[u8]) -> Result<Component, LoadError> {
        #[expect(
            unsafe_code,
            reason = "forged compiled code would run as it is. This code was made a moment ago by this process or by its own child from the same program, or \
                      it was read from the cache once and its MAC, whose key nobody else has, held for these very bytes"
        )]
        // SAFETY: see the reason above.
        let component = unsafe { Component::deserialize(&self.engine, code) };
        component.map_err(|error| contract(&error))
    }
}

impl Compiled {
    pub(crate) fn new(side: &Side, component: &Component) -> Result<Self, LoadError> {
        let looked = inspect::look(&side.engine, component)?;
        let pre = link(side, component, &looked).map_err(|error| contract(&error))?;
        if looked.kind == Kind::Trigger {
            check_decide(&side.engine, &pre, &looked.exports.own)?;
        }
        Ok(Self {
            pre,
            kind: looked.kind,
            imports: looked.imports,
            exports: looked.exports,
            memory: looked.memory,
            pooled: side.pooled,
        })
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }
}

/// Joins a component with what it imports.
fn link(
    side: &Side,
    component: &Component,
    looked: &inspect::Looked,
) -> wasmtime::Result<InstancePre<Caller>> {
    let refused = looked.imports.iter().any(|it| wasi::is_refused(it));
    if !refused && looked.kind != Kind::Rotation {
        return side.linker.instantiate_pre(component);
    }
    let mut linker = Linker::clone(&side.linker);
    if refused {
        wasi::refuse(&mut linker, component)?;
    }
    if looked.kind == Kind::Rotation {
        // The rest of its imports may not be called while settings are checked, which is all that is done with it.
        linker.define_unknown_imports_as_traps(component)?;
    }
    linker.instantiate_pre(component)
}

/// `decide` has the types of the contract. [`crate::call`] relies on it.
fn check_decide(
    engine: &wasmtime::Engine,
    pre: &InstancePre<Caller>,
    interface: &str,
) -> Result<(), LoadError> {
    let ty = pre.component().component_type();
    let decide = ty.get_export(engine, interface).and_then(|it| match it.ty {
        ComponentItem::ComponentInstance(it) => it.get_export(engine, "decide").map(|it| it.ty),
        _ => None,
    });
    let Some(ComponentItem::ComponentFunc(decide)) = decide else {
        return Err(LoadError::Contract {
            message: "`decide` is not a function".to_owned(),
        });
    };
    decide
        .typecheck::<v0_1::DecideParams<'_>, v0_1::DecideResults>(&pre.instance_type())
        .map_err(|error| contract(&error))
}

fn contract(error: &wasmtime::Error) -> LoadError {
    LoadError::Contract {
        message: clamp::cut(&format!("{error:#}"), 4096),
    }
}

pub(crate) fn setup(error: &wasmtime::Error) -> EngineError {
    EngineError::Setup {
        message: format!("{error:#}"),
    }
}

/// A thread that ticks for as long as the engine is there.
fn start_ticking(engine: &wasmtime::Engine, tick: Duration) -> Result<(), EngineError> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("plugin-ticker".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(tick);
            }
        })
        .map(drop)
        .map_err(EngineError::Threads)
}
