//! GitLab, for Penstock.
//!
//! The only crate that knows GitLab: what its webhooks look like, how they are signed, what its REST API answers and which
//! rules a commit status follows. It keeps nothing but caches; what must last is the store's.
//!
//! A request becomes an event in four steps, each with a type that only the step before can make:
//!
//! ```text
//! headers, body --verify--> VerifiedBody --within--> Accepted --parse--> Parsed --confirm--> Confirmed
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`verify`](mod@verify) | is it GitLab that speaks? |
//! | [`scope`] | may this hook speak for this project? What of the delivery is kept |
//! | [`redact`] | what is blanked before anything is stored |
//! | [`incoming`] | requests that come by no webhook |
//! | [`parse`](mod@parse) | a delivery, read into a typed value |
//! | [`client`], `call`, `budget`, [`error`] | calls of the REST API: caches, limits, fair shares, errors |
//! | `api` | the few resources of the REST API that are read |
//! | [`confirm`](mod@confirm), [`trust`] | what GitLab says of an event by id, and how far it is trusted |
//! | [`lookup`](mod@lookup) | answers to plugins |
//! | [`status`], [`comment`](mod@comment) | what is written to GitLab |
//! | [`deploy_token`] | credentials with which runs clone |
//! | [`check`](mod@check), [`hooks`] | what `penstock check` asks; webhooks as GitLab keeps them |
//! | [`heads`](mod@heads), [`hook_log`], [`told`], [`whereabouts`](mod@whereabouts) | what GitLab did not tell: where everything stands, which calls failed, what kept bodies told of |

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

mod api;
mod budget;
mod call;
pub mod check;
mod claims;
pub mod client;
pub mod comment;
pub mod confirm;
pub mod deploy_token;
pub mod error;
pub mod heads;
pub mod hook_log;
pub mod hooks;
pub mod incoming;
pub mod lookup;
mod neutral;
pub mod parse;
mod payload;
pub mod redact;
pub mod scope;
pub mod status;
pub mod told;
pub mod trust;
pub mod verify;
pub mod whereabouts;

pub use check::{Health, TokenFacts, TokenUser, check};
pub use client::{CallReport, Client, ClientError, ClientSettings, Observer, OwnUser};
pub use comment::{CommentOutcome, comment};
pub use confirm::{
    ConfirmError, Confirmed, OwnUsers, confirm, confirm_host, host_claims, is_at, visibility,
};
pub use deploy_token::DeployToken;
pub use error::{ActError, ApiError};
pub use heads::{
    Heads, Listed, OpenRequest, SeenNote, heads, merge_request_now, notes_since, projects_of,
};
pub use hook_log::{BETWEEN_RESENDS, FailedCall, FailedCalls, NotReadBack, failed_calls, resend};
pub use hooks::{HookState, TEST_EVENTS, WantedHook, Webhook, test_hook, webhook_at};
pub use incoming::Incoming;
pub use lookup::{EventContext, lookup};
pub use parse::{ActorClaim, ParseError, Parsed, ScopeClaim, parse};
pub use redact::{Redaction, RedactionError};
pub use scope::{Accepted, HookScope, ProjectClaim, ScopeError};
pub use status::{
    HeadNow, HeadPipeline, MergeRequestNow, Placement, StatusOutcome, head_pipeline, placement,
    set_status,
};
pub use told::{note_of, tells_head, tells_of};
pub use verify::{KeyError, Keys, VerifiedBody, VerifyError, screen, verify};
pub use whereabouts::{BulkPush, FoundCommit, MOST_REFS_TOLD, Sought, Whereabouts, whereabouts};
