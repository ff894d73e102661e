//! Marks in a commit's message by which its author wants nothing to run.

use penstock_sdk::Plan;

const MARKS: [&str; 4] = ["[skip ci]", "[ci skip]", "[skip tkn]", "[tkn skip]"];

/// The decision to do nothing, where the message has a mark. A message that is not to be
/// had skips nothing.
pub(crate) fn marked<E>(message: Result<&str, E>) -> Option<Plan> {
    let message = message.ok()?.to_lowercase();
    let mark = MARKS.iter().find(|it| message.contains(**it))?;
    Some(Plan::nothing(format!("the commit's message says `{mark}`")))
}

/// One plan of two.
pub(crate) fn both(one: Plan, other: Plan) -> Plan {
    let mut both = one;
    both.effects.extend(other.effects);
    both.reasons.extend(other.reasons);
    both.warnings.extend(other.warnings);
    both
}

/// The first line of a message.
pub(crate) fn title(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_anywhere_in_the_message_skips() {
        for message in [
            "[skip ci] docs",
            "docs\n\n[ci skip]",
            "a [skip tkn]",
            "[TKN SKIP]",
        ] {
            assert!(marked::<()>(Ok(message)).is_some(), "{message}");
        }
        for message in ["skip ci", "[skip-ci]", ""] {
            assert!(marked::<()>(Ok(message)).is_none(), "{message}");
        }
        assert!(marked(Err("denied")).is_none());
    }
}
