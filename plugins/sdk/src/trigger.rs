//! The trait that a trigger plugin implements, and the macro that exports it.

use crate::{Event, Plan, PluginError, Problem, settings};

/// A trigger mapping: what an event means.
///
/// There is no `self`: the host makes a fresh instance for every call, so nothing
/// a call leaves in memory is seen by the next. What must be kept goes into
/// [`imports::state`](crate::imports::state).
pub trait Trigger {
    /// JSON Schema of the settings. By default: there are none.
    fn schema() -> String {
        settings::NONE_SCHEMA.to_owned()
    }

    /// Every problem of the settings, as JSON text, at once. None: they can be
    /// used. Nothing but the log may be called from here. By default: there must
    /// be no settings.
    fn validate(settings: &str) -> Vec<Problem> {
        settings::check_none(settings)
    }

    /// Decides what to do.
    ///
    /// The same event is given again when the host could not finish, so nothing
    /// may depend on how often it is asked.
    ///
    /// # Errors
    /// [`PluginError::Source`] where the repository must be mended: it is shown to
    /// the author of the change. The other two fail the delivery.
    fn decide(event: Event) -> Result<Plan, PluginError>;
}

/// Exports a type that implements [`Trigger`] as the plugin.
///
/// Once in a crate of type `cdylib`. On targets other than wasm32 it only checks
/// that the trait is implemented, so the same crate builds and tests natively.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: () = {
            struct Exported;

            impl $crate::settings_contract::exports::penstock::plugin::settings::Guest for Exported {
                fn schema() -> ::std::string::String {
                    <$plugin as $crate::Trigger>::schema()
                }
                fn validate(settings: ::std::string::String) -> ::std::vec::Vec<$crate::Problem> {
                    <$plugin as $crate::Trigger>::validate(&settings)
                }
            }

            impl $crate::contract::exports::penstock::plugin::trigger::Guest for Exported {
                fn decide(
                    event: $crate::Event,
                ) -> ::std::result::Result<$crate::Plan, $crate::PluginError> {
                    <$plugin as $crate::Trigger>::decide(event)
                }
            }

            // Elsewhere nothing is exported: only the plugin is kept alive for the compiler.
            #[cfg(not(target_arch = "wasm32"))]
            #[used]
            static EXPORTED: fn(
                $crate::Event,
            ) -> ::std::result::Result<$crate::Plan, $crate::PluginError> =
                <Exported as $crate::contract::exports::penstock::plugin::trigger::Guest>::decide;

            #[cfg(target_arch = "wasm32")]
            $crate::settings_contract::export_settings!(Exported with_types_in $crate::settings_contract);
            #[cfg(target_arch = "wasm32")]
            $crate::contract::export_trigger!(Exported with_types_in $crate::contract);
        };
    };
}
