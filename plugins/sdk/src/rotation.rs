//! Rotations: how a kind of credential is made, used and ended.
//!
//! Implement [`Rotation`] and export it with [`export_rotation!`](crate::export_rotation).
//! Each function is one journaled step. A plugin holds secrets as handles and never
//! sees their bytes.

pub use contract::exports::penstock::plugin::rotation::{
    Context, Description, PastCall, Recovered, RetireReason, StepError, Version,
};
pub use contract::penstock::plugin::{http, login, secrets};

use crate::{PluginError, Problem, settings};

/// A way to rotate a kind of credential.
pub trait Rotation {
    /// JSON Schema of the settings. By default: there are none.
    fn schema() -> String {
        settings::NONE_SCHEMA.to_owned()
    }

    /// Every problem of the settings at once. By default: there must be none.
    fn validate(settings: &str) -> Vec<Problem> {
        settings::check_none(settings)
    }

    /// Says what it rotates.
    ///
    /// # Errors
    /// Where the settings or the credential make no sense to it.
    fn describe(context: Context) -> Result<Description, PluginError>;

    /// Makes a new version.
    ///
    /// # Errors
    /// Why the step was not taken, or that nobody knows whether it was.
    fn mint(context: Context) -> Result<Version, StepError>;

    /// Makes the issuer use a version, after every sink has it. By default:
    /// nothing, for credentials whose description does not say `activates`.
    ///
    /// # Errors
    /// As for [`Rotation::mint`].
    fn activate(_context: Context, _version: Version) -> Result<(), StepError> {
        Ok(())
    }

    /// Uses the new version as a consumer would.
    ///
    /// # Errors
    /// As for [`Rotation::mint`].
    fn verify(context: Context, version: Version) -> Result<(), StepError>;

    /// Ends a version. What is already gone is success.
    ///
    /// # Errors
    /// As for [`Rotation::mint`].
    fn retire(context: Context, version: Version, why: RetireReason) -> Result<(), StepError>;

    /// Finds out what an unanswered `mint` did.
    ///
    /// # Errors
    /// As for [`Rotation::mint`].
    fn recover(context: Context, calls: Vec<PastCall>) -> Result<Recovered, StepError>;
}

/// Exports a type that implements [`Rotation`] as the plugin.
#[macro_export]
macro_rules! export_rotation {
    ($plugin:ty) => {
        const _: () = {
            use $crate::rotation::{
                Context, Description, PastCall, Recovered, RetireReason, StepError, Version,
            };
            use ::std::result::Result;

            struct Exported;

            impl $crate::settings_contract::exports::penstock::plugin::settings::Guest for Exported {
                fn schema() -> ::std::string::String {
                    <$plugin as $crate::rotation::Rotation>::schema()
                }
                fn validate(settings: ::std::string::String) -> ::std::vec::Vec<$crate::Problem> {
                    <$plugin as $crate::rotation::Rotation>::validate(&settings)
                }
            }

            impl $crate::rotation::contract::exports::penstock::plugin::rotation::Guest for Exported {
                fn describe(context: Context) -> Result<Description, $crate::PluginError> {
                    <$plugin as $crate::rotation::Rotation>::describe(context)
                }
                fn mint(context: Context) -> Result<Version, StepError> {
                    <$plugin as $crate::rotation::Rotation>::mint(context)
                }
                fn activate(context: Context, version: Version) -> Result<(), StepError> {
                    <$plugin as $crate::rotation::Rotation>::activate(context, version)
                }
                fn verify(context: Context, version: Version) -> Result<(), StepError> {
                    <$plugin as $crate::rotation::Rotation>::verify(context, version)
                }
                fn retire(context: Context, version: Version, why: RetireReason) -> Result<(), StepError> {
                    <$plugin as $crate::rotation::Rotation>::retire(context, version, why)
                }
                fn recover(
                    context: Context,
                    calls: ::std::vec::Vec<PastCall>,
                ) -> Result<Recovered, StepError> {
                    <$plugin as $crate::rotation::Rotation>::recover(context, calls)
                }
            }

            #[cfg(not(target_arch = "wasm32"))]
            #[used]
            static EXPORTED: fn(Context) -> Result<Version, StepError> =
                <Exported as $crate::rotation::contract::exports::penstock::plugin::rotation::Guest>::mint;

            #[cfg(target_arch = "wasm32")]
            $crate::settings_contract::export_settings!(Exported with_types_in $crate::settings_contract);
            #[cfg(target_arch = "wasm32")]
            $crate::rotation::contract::export_rotation_contract!(Exported with_types_in $crate::rotation::contract);
        };
    };
}

/// The bindings of the world `rotation-plugin`, but for `settings`; what it shares with the trigger
/// world is taken from there.
#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated from wit/, where fields with plain names have no text of their own"
)]
pub mod contract {
    wit_bindgen::generate!({
        inline: "
            package penstock:guest;
            world rotation-part {
                import penstock:plugin/log@0.1.0;
                import penstock:plugin/config@0.1.0;
                import penstock:plugin/secrets@0.1.0;
                import penstock:plugin/http@0.1.0;
                import penstock:plugin/login@0.1.0;
                export penstock:plugin/rotation@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_rotation_contract",
        generate_unused_types: true,
        with: {
            "penstock:plugin/types@0.1.0": crate::contract::penstock::plugin::types,
            "penstock:plugin/log@0.1.0": crate::contract::penstock::plugin::log,
            "penstock:plugin/config@0.1.0": crate::contract::penstock::plugin::config,
        },
    });
}
