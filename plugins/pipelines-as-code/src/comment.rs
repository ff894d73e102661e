//! The one living comment of a merge request: a table of its runs, and what has to be
//! mended.

use std::collections::BTreeSet;

use penstock_sdk::events::{Run, RunState};

use crate::memory::Said;

/// Rows and results that are shown; the rest is counted.
const MOST_ROWS: usize = 100;
const MOST_RESULTS: usize = 20;
const MOST_LENGTH: usize = 400;

/// A run that this decision asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) pipeline: String,
}

/// The comment's text; none: there is nothing to show.
pub(crate) fn body(said: &Said, runs: &[Run], asked: &[Asked], with_table: bool) -> Option<String> {
    let rows = if with_table {
        rows(said, runs, asked)
    } else {
        Vec::new()
    };
    if rows.is_empty() && said.problems.is_empty() && said.notes.is_empty() {
        return None;
    }
    let short: String = said.commit.chars().take(12).collect();
    let mut text = format!("**Pipelines** of `{short}`\n");
    if !rows.is_empty() {
        text.push_str("\n| pipeline | state | took | |\n|---|---|---|---|\n");
        let left_out = rows.len().saturating_sub(MOST_ROWS);
        for row in rows.into_iter().take(MOST_ROWS) {
            text.push_str(&row);
            text.push('\n');
        }
        if left_out > 0 {
            text.push_str(&format!("| and {left_out} more | | | |\n"));
        }
    }
    if with_table {
        for (id, excerpt) in &said.excerpts {
            if let Some(run) = newest_failed(runs, id) {
                text.push_str(&log(&run.pipeline, excerpt));
            }
        }
    }
    if !said.problems.is_empty() {
        text.push_str("\n**To mend**\n\n");
        for problem in &said.problems {
            text.push_str(&format!("- {problem}\n"));
        }
    }
    if !said.notes.is_empty() {
        text.push('\n');
        for note in &said.notes {
            text.push_str(&format!("- {note}\n"));
        }
    }
    Some(text)
}

/// The newest run of each pipeline, those that are asked for now in front of those of before.
fn rows(said: &Said, runs: &[Run], asked: &[Asked]) -> Vec<String> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    for it in asked {
        if seen.insert(it.pipeline.clone()) {
            let row = format!("| {} | ⏳ asked for | | |", cell(&it.pipeline));
            rows.push((it.pipeline.clone(), row));
        }
    }
    for run in runs {
        if seen.insert(run.pipeline.clone()) {
            rows.push((
                run.pipeline.clone(),
                row(run, said.failed_tasks.get(&run.id)),
            ));
        }
    }
    rows.sort();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn row(run: &Run, failed_task: Option<&String>) -> String {
    let name = match &run.web_url {
        Some(url) => format!(
            "[{}]({})",
            cell(&run.pipeline),
            url.replace([')', '|', ' ', '\n'], "")
        ),
        None => cell(&run.pipeline),
    };
    let state = match run.state {
        RunState::Queued => "⏳ waits its turn",
        RunState::Gated => "✋ waits for an approval",
        RunState::Running => "🏃 running",
        RunState::Succeeded => "✅ succeeded",
        RunState::Failed => "❌ failed",
        RunState::Canceled => "🚫 cancelled",
        RunState::Refused => "⛔ refused",
        RunState::Gone => "❔ gone",
    };
    let mut more = Vec::new();
    let quiet = matches!(
        run.state,
        RunState::Succeeded | RunState::Queued | RunState::Running
    );
    if let Some(task) = failed_task {
        more.push(format!("task {}", code(task)));
    }
    if !quiet && !run.reason.is_empty() {
        more.push(cell(&run.reason));
    }
    for (name, value) in run.results.iter().take(MOST_RESULTS) {
        more.push(format!("`{}`: {}", cell(name), code(value)));
    }
    if run.results.len() > MOST_RESULTS {
        more.push(format!(
            "and {} more results",
            run.results.len() - MOST_RESULTS
        ));
    }
    format!(
        "| {name} | {state} | {} | {} |",
        took(run),
        more.join("<br>")
    )
}

/// The run of this id, if it failed and no newer one of its pipeline took its row.
fn newest_failed<'r>(runs: &'r [Run], id: &str) -> Option<&'r Run> {
    let run = runs.iter().find(|run| run.id == id)?;
    let newest = runs.iter().find(|it| it.pipeline == run.pipeline)?;
    (newest.id == id && run.state == RunState::Failed).then_some(run)
}

/// The end of a log, folded. Within a fence that is longer than any run of its own backticks nothing is acted on.
fn log(pipeline: &str, excerpt: &str) -> String {
    let longest = excerpt
        .split(|it| it != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!(
        "\n<details><summary>{}: the end of the failed step's log</summary>\n\n{fence}text\n{excerpt}\n{fence}\n\n</details>\n",
        plain(pipeline).replace('>', "&gt;")
    )
}

/// How long it ran.
fn took(run: &Run) -> String {
    let (Some(start), Some(end)) = (run.started_at, run.finished_at) else {
        return String::new();
    };
    let seconds = end.saturating_sub(start) / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Text that a cluster or a repository gave, in a cell: it formats nothing, links to
/// nothing and calls nobody.
fn cell(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

fn code(text: &str) -> String {
    let text: String = shortened(text).replace('`', "'").replace('|', "\\|");
    if text.trim().is_empty() {
        String::new()
    } else {
        format!("`{}`", text.trim())
    }
}

fn shortened(text: &str) -> String {
    let clean = |it: char| if it.is_control() { ' ' } else { it };
    let mut short: String = text.chars().take(MOST_LENGTH).map(clean).collect();
    if text.chars().nth(MOST_LENGTH).is_some() {
        short.push('…');
    }
    short
}

/// Text outside of code: what Markdown would act on is made harmless, code in backticks
/// stays code.
pub(crate) fn plain(text: &str) -> String {
    let mut text = shortened(text);
    // An odd one would make code of all that follows.
    if text.matches('`').count() % 2 == 1 {
        text = text.replace('`', "'");
    }
    let mut plain = String::with_capacity(text.len());
    for (index, piece) in text.split('`').enumerate() {
        let is_code = index % 2 == 1;
        if index > 0 {
            plain.push('`');
        }
        if is_code {
            plain.push_str(piece);
        } else {
            for it in piece.chars() {
                match it {
                    '<' => plain.push_str("&lt;"),
                    '@' => plain.push_str("&#64;"),
                    '[' | ']' | '!' | '*' | '#' | '\\' | '~' => {
                        plain.push('\\');
                        plain.push(it);
                    }
                    it => plain.push(it),
                }
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_can_not_leave_its_table() {
        for (text, expect) in [
            ("a | b", "a \\| b"),
            (
                "see [x](http://y) @all <b>",
                "see \\[x\\](http://y) &#64;all &lt;b>",
            ),
            ("`code` and `x", "'code' and 'x"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(cell(text), expect);
        }
        assert_eq!(code("a`b|c"), "`a'b\\|c`");
    }

    #[test]
    fn a_log_can_not_leave_its_fence() {
        let text = log("te<st>", "a\n```\n@all </details>\n````x");
        let lines: Vec<&str> = text.lines().collect();
        let fence = "`````";
        assert_eq!(
            lines,
            [
                "",
                "<details><summary>te&lt;st&gt;: the end of the failed step's log</summary>",
                "",
                "`````text",
                "a",
                "```",
                "@all </details>",
                "````x",
                fence,
                "",
                "</details>",
            ]
        );
    }
}
