//! Approval policies: whether what waits at a gate may go on.
//!
//! Implement [`Policy`] and export it with [`export_approval!`](crate::export_approval).
//! A policy is a pure function of its argument and of what it reads.

pub use contract::exports::penstock::plugin::approval::{
    ApprovalRequest, Approved, Decision, Need, Subject, Vote, Voter, Waiting,
};

use crate::{PluginError, Problem, settings};

/// An approval policy.
pub trait Policy {
    /// JSON Schema of the settings. By default: there are none.
    fn schema() -> String {
        settings::NONE_SCHEMA.to_owned()
    }

    /// Every problem of the settings at once. By default: there must be none.
    fn validate(settings: &str) -> Vec<Problem> {
        settings::check_none(settings)
    }

    /// Decides. Asked again on every vote, event and named time, and once more when
    /// what waits is released.
    ///
    /// # Errors
    /// Where no decision can be made: the gate stays shut.
    fn decide(request: ApprovalRequest) -> Result<Decision, PluginError>;
}

impl Waiting {
    /// Waits for these votes, without a time.
    #[must_use]
    pub const fn new(needs: Vec<Need>) -> Self {
        Self {
            needs,
            look_again_at: None,
            expires_at: None,
            remind_at: None,
            reasons: Vec::new(),
            extras: Vec::new(),
        }
    }
}

impl Approved {
    /// An approval that rests on these people's votes.
    #[must_use]
    pub fn by(counted: Vec<u64>, reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
            counted,
            valid_until: None,
            extras: Vec::new(),
        }
    }
}

/// Exports a type that implements [`Policy`] as the plugin.
#[macro_export]
macro_rules! export_approval {
    ($plugin:ty) => {
        const _: () = {
            struct Exported;

            impl $crate::settings_contract::exports::penstock::plugin::settings::Guest for Exported {
                fn schema() -> ::std::string::String {
                    <$plugin as $crate::approval::Policy>::schema()
                }
                fn validate(settings: ::std::string::String) -> ::std::vec::Vec<$crate::Problem> {
                    <$plugin as $crate::approval::Policy>::validate(&settings)
                }
            }

            impl $crate::approval::contract::exports::penstock::plugin::approval::Guest for Exported {
                fn decide(
                    request: $crate::approval::ApprovalRequest,
                ) -> ::std::result::Result<$crate::approval::Decision, $crate::PluginError> {
                    <$plugin as $crate::approval::Policy>::decide(request)
                }
            }

            #[cfg(not(target_arch = "wasm32"))]
            #[used]
            static EXPORTED: fn(
                $crate::approval::ApprovalRequest,
            ) -> ::std::result::Result<
                $crate::approval::Decision,
                $crate::PluginError,
            > = <Exported as $crate::approval::contract::exports::penstock::plugin::approval::Guest>::decide;

            #[cfg(target_arch = "wasm32")]
            $crate::settings_contract::export_settings!(Exported with_types_in $crate::settings_contract);
            #[cfg(target_arch = "wasm32")]
            $crate::approval::contract::export_approval_contract!(Exported with_types_in $crate::approval::contract);
        };
    };
}

/// The bindings of the world `approval-plugin`, but for `settings`; its imports and types are those of
/// the trigger world.
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
            world approval-part {
                import penstock:plugin/log@0.1.0;
                import penstock:plugin/config@0.1.0;
                import penstock:plugin/gitlab-read@0.1.0;
                import penstock:plugin/history@0.1.0;
                export penstock:plugin/approval@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_approval_contract",
        generate_unused_types: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        with: {
            "penstock:plugin/types@0.1.0": crate::contract::penstock::plugin::types,
            "penstock:plugin/events@0.1.0": crate::contract::penstock::plugin::events,
            "penstock:plugin/log@0.1.0": crate::contract::penstock::plugin::log,
            "penstock:plugin/config@0.1.0": crate::contract::penstock::plugin::config,
            "penstock:plugin/gitlab-read@0.1.0": crate::contract::penstock::plugin::gitlab_read,
            "penstock:plugin/history@0.1.0": crate::contract::penstock::plugin::history,
        },
    });
}
