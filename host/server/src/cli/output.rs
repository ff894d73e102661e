//! How answers are written: tables for people, JSON for scripts.

use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::check::{Finding, Verdict};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Writes an answer.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) fn answer(format: Format, json: &impl Serialize, text: impl FnOnce() -> String) {
    match format {
        Format::Text => println!("{}", text().trim_end()),
        Format::Json => match serde_json::to_string_pretty(json) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                println!("{{\"error\": \"the answer could not be written as JSON: {error}\"}}")
            }
        },
    }
}

/// Writes why a command failed.
#[expect(clippy::print_stderr, reason = "the message of a command that failed")]
pub(super) fn fail(error: &anyhow::Error) -> ExitCode {
    let told = format!("{error:#}");
    // Problems of a configuration begin with the word themselves.
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    eprintln!("error: {told}");
    ExitCode::FAILURE
}

/// A table without lines, as wide as the terminal.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Writes findings of a check.
pub(super) fn findings(findings: &[Finding], format: Format) {
    answer(format, &findings, || told(findings));
}

/// Findings as text.
pub(super) fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok     ",
            Verdict::Weak => "weak   ",
            Verdict::Bad => "BAD    ",
            Verdict::Unknown => "unknown",
        };
        text.push_str(&format!("{mark}  {}", finding.what));
        if !finding.detail.is_empty() {
            text.push_str(&format!(": {}", finding.detail));
        }
        text.push('\n');
        if let Some(remedy) = finding
            .remedy
            .as_ref()
            .filter(|_| finding.verdict != Verdict::Good)
        {
            text.push_str(&format!("         {remedy}\n"));
        }
    }
    text
}
