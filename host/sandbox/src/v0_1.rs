//! Version 0.1 of the contract: bindings made from `wit/`, and the conversions between them and the model.
//!
//! WIT types end in this module. A later version of an interface gets a module beside this one.

mod answer;
mod event;
mod host;
mod plan;

use wasmtime::component::{HasSelf, Linker};

use crate::ask::Caller;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "penstock:plugin/trigger-plugin",
        imports: {
            "penstock:plugin/log.write": trappable,
            "penstock:plugin/config.settings": trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

pub(crate) use bindings::penstock::plugin as wit;
pub(crate) use event::event;
pub(crate) use plan::{error, plan, problems};

/// What `trigger.decide` is given.
pub(crate) type DecideParams<'a> = (&'a wit::events::Event,);
/// What `trigger.decide` answers.
pub(crate) type DecideResults = (Result<wit::effects::Plan, wit::types::PluginError>,);
/// What `settings.schema` answers.
pub(crate) type SchemaResults = (String,);
/// What `settings.validate` is given.
pub(crate) type ValidateParams<'a> = (&'a str,);
/// What `settings.validate` answers.
pub(crate) type ValidateResults = (Vec<wit::types::Problem>,);

/// Every import of the worlds for triggers and approvals; `get` finds the caller in a store's data.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> &mut Caller,
) -> wasmtime::Result<()> {
    bindings::TriggerPlugin::add_to_linker::<T, HasSelf<Caller>>(linker, get)
}
