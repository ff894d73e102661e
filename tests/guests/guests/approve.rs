//! An approval policy: whoever did not write it may approve it, alone.

use penstock_sdk::PluginError;
use penstock_sdk::approval::{ApprovalRequest, Approved, Decision, Need, Policy, Voter, Waiting};

/// Developer.
const DEVELOPER: u32 = 30;

struct Approve;

impl Policy for Approve {
    fn decide(request: ApprovalRequest) -> Result<Decision, PluginError> {
        let wrote = |user: u64| {
            request
                .authors
                .iter()
                .any(|author| author.user.as_ref().is_some_and(|it| it.id == user))
        };
        let counted: Vec<u64> = request
            .votes
            .iter()
            .filter(|vote| vote.approve && !wrote(vote.by.id))
            .map(|vote| vote.by.id)
            .collect();
        if counted.is_empty() || request.authors_truncated {
            return Ok(Decision::Wait(Waiting::new(vec![Need {
                count: 1,
                voters: vec![Voter::AtLeast(DEVELOPER)],
                why: "somebody else must look at it".to_owned(),
            }])));
        }
        Ok(Decision::Approve(Approved::by(
            counted,
            "somebody else approved it",
        )))
    }
}

penstock_sdk::export_approval!(Approve);
