//! Texts from a guest, made fit to be shown to people, and kept: Postgres takes no NUL in a text.
//!
//! Each way out of the sandbox passes here: the outcome of a call ([`outcome`]), a fault of the host that repeats what a guest asked for ([`fault`]), a line of
//! the log ([`log_line`]), problems of the settings ([`problems`]). Within, texts are left as the guest wrote them.

use penstock_model::effect::{Action, Plan, PluginError, Problem};
use penstock_model::lookup::HostFault;
use penstock_model::record::{Failure, LogLine, Outcome};

/// Bytes of one reason or message.
const MESSAGE: usize = 4096;
/// Bytes of a path or a title.
const TITLE: usize = 1024;
/// Characters of a commit status' description that GitLab keeps.
const DESCRIPTION: usize = 255;
/// Reasons, warnings or problems that are kept.
const MANY: usize = 256;

/// The text, or so many bytes of it and `…`, never in the middle of a character.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut kept = text.get(..end).unwrap_or_default().to_owned();
    kept.push('…');
    kept
}

/// A character that could make a terminal or a page show something else than the text: controls (but for line ends and tabs) and those that turn the
/// direction of writing.
pub(crate) fn is_tricky(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
}

/// Cuts the text and puts U+FFFD in the place of tricky characters.
pub(crate) fn for_people(text: &mut String, bytes: usize) {
    if text.contains(is_tricky) {
        *text = text.replace("\r\n", "\n").replace(is_tricky, "\u{fffd}");
    }
    if text.len() > bytes {
        *text = cut(text, bytes);
    }
}

/// What of an outcome is shown to people.
pub(crate) fn outcome(outcome: &mut Outcome) {
    match outcome {
        Outcome::Plan(it) => plan(it),
        Outcome::Error(it) => error(it),
        Outcome::Failure(it) => failure(it),
    }
}

/// What of a failure is shown to people: all of it.
pub(crate) fn failure(failure: &mut Failure) {
    match failure {
        Failure::Trap { message }
        | Failure::BadAnswer { message }
        | Failure::NotStored { message } => for_people(message, MESSAGE),
        Failure::HostBytesExceeded { what, .. }
        | Failure::StateExceeded { what, .. }
        | Failure::StateFull { what, .. } => for_people(what, TITLE),
        Failure::MemoryExceeded { .. }
        | Failure::CpuExceeded { .. }
        | Failure::DeadlinePassed { .. }
        | Failure::StackOverflow
        | Failure::HostCallsExceeded { .. }
        | Failure::OutputExceeded { .. }
        | Failure::EffectsExceeded { .. }
        | Failure::RecordExceeded { .. }
        | Failure::HandlesExceeded { .. }
        | Failure::StateConflict { .. } => {}
    }
}

/// A fault of the host, whose words may repeat what a guest asked for.
pub(crate) fn fault(mut fault: HostFault) -> HostFault {
    for_people(&mut fault.what, MESSAGE);
    fault
}

/// A line of the plugin's log. Its length was counted before.
pub(crate) fn log_line(line: &mut LogLine) {
    for_people(&mut line.message, usize::MAX);
    for (name, value) in &mut line.fields {
        for_people(name, usize::MAX);
        for_people(value, usize::MAX);
    }
}

/// What of a plan is shown to people. Manifests and comments are left alone: they are not messages of the host.
fn plan(plan: &mut Plan) {
    plan.reasons.truncate(MANY);
    for reason in &mut plan.reasons {
        for_people(reason, MESSAGE);
    }
    problems(&mut plan.warnings);
    for effect in &mut plan.effects {
        match &mut effect.action {
            Action::CancelRuns(it) => for_people(&mut it.reason, MESSAGE),
            Action::CommitStatus(it) => {
                for_people(&mut it.description, MESSAGE);
                if let Some((end, _)) = it.description.char_indices().nth(DESCRIPTION) {
                    it.description.truncate(end);
                }
            }
            Action::StartRun(_)
            | Action::Comment(_)
            | Action::RequestApproval(_)
            | Action::Extension(_) => {}
        }
    }
}

/// What of a plugin's own error is shown to people: all of it.
fn error(error: &mut PluginError) {
    match error {
        PluginError::Settings(them) | PluginError::Source(them) => problems(them),
        PluginError::Other(message) => for_people(message, MESSAGE),
    }
}

/// Problems are shown to people.
pub(crate) fn problems(problems: &mut Vec<Problem>) {
    problems.truncate(MANY);
    for problem in problems {
        for_people(&mut problem.path, TITLE);
        for_people(&mut problem.message, MESSAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_cut_within_a_character() {
        assert_eq!(cut("aé", 2), "a…");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn whatever_leaves_for_people_holds_nothing_that_can_not_be_kept() {
        let bad = || "one\n\ttwo\0\u{7}".to_owned();
        let good = "one\n\ttwo\u{fffd}\u{fffd}";
        let mut trap = Failure::Trap { message: bad() };
        failure(&mut trap);
        assert_eq!(trap.to_string(), format!("trap: {good}"));
        let mut answer = Outcome::Failure(Failure::BadAnswer {
            message: bad().repeat(1000),
        });
        outcome(&mut answer);
        let Outcome::Failure(Failure::BadAnswer { message }) = &answer else {
            panic!("{answer:?}")
        };
        assert!(message.starts_with(good) && message.len() <= MESSAGE + '…'.len_utf8());
        let once = answer.clone();
        outcome(&mut answer);
        assert_eq!(answer, once, "what is fit stays as it is");
        let told = fault(HostFault {
            what: bad(),
            retry_after: Some(1),
        });
        assert_eq!((told.what.as_str(), told.retry_after), (good, Some(1)));
        let mut line = LogLine {
            level: "info".to_owned(),
            message: bad(),
            fields: vec![(bad(), bad())],
        };
        log_line(&mut line);
        assert_eq!(line.message, good);
        assert_eq!(line.fields, [(good.to_owned(), good.to_owned())]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        let mut text = "one\r\ntwo\u{1b}[31m\u{202e}\0".to_owned();
        for_people(&mut text, 100);
        assert_eq!(text, "one\ntwo\u{fffd}[31m\u{fffd}\u{fffd}");
    }
}
