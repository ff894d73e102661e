//! Figures with their goals, for people and for scripts.

use std::fmt::Write as _;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What DESIGN.md asks for; none: it is reported alone.
    pub goal: Option<String>,
    /// Whether it is reached.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure without a goal.
    pub(super) fn plain(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            goal: None,
            met: None,
        }
    }

    /// One that should be at most this.
    pub(super) fn at_most(name: &str, value: f64, unit: &'static str, goal: f64) -> Self {
        Self {
            goal: Some(format!("<= {}", written(goal))),
            met: Some(value <= goal),
            ..Self::plain(name, value, unit)
        }
    }

    /// One that should be at least this.
    pub(super) fn at_least(name: &str, value: f64, unit: &'static str, goal: f64) -> Self {
        Self {
            goal: Some(format!(">= {}", written(goal))),
            met: Some(value >= goal),
            ..Self::plain(name, value, unit)
        }
    }
}

/// What a measurement prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What was run.
    pub command: String,
    /// Where.
    pub machine: String,
}

impl Report {
    /// A report of this machine.
    #[must_use]
    pub fn new(command: String, figures: Vec<Figure>) -> Self {
        Self {
            figures,
            command,
            machine: machine(),
        }
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: a report is JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is JSON")
    }

    /// As a table.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.command, self.machine);
        let wide = self
            .figures
            .iter()
            .map(|figure| figure.name.chars().count())
            .max()
            .unwrap_or(0);
        for figure in &self.figures {
            let said = match (&figure.goal, figure.met) {
                (Some(goal), Some(true)) => format!("goal {goal}: met"),
                (Some(goal), _) => format!("goal {goal}: MISSED"),
                (None, _) => String::new(),
            };
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{:wide$}  {:>12} {:<10} {said}",
                figure.name,
                number(figure.value),
                figure.unit
            );
        }
        text
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A number of things.
pub(super) fn whole(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A goal as it was written, and one that was computed to two digits.
fn written(goal: f64) -> String {
    format!("{}", (goal * 100.0).round() / 100.0)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cores = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = field(
        &std::fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemTotal",
    );
    let memory = memory
        .trim_end_matches(" kB")
        .parse::<u64>()
        .map_or(0, |kib| kib / 1024 / 1024);
    format!(
        "{cores} cores ({}), {memory} GiB",
        field(&info, "model name")
    )
}

/// A percentile of what was measured.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let last = sorted.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list of measurements"
    )]
    let at = (last as f64 * percent / 100.0).ceil() as usize;
    sorted[at.min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values_and_never_kinder_than_it_is() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 99.0), 100.0);
        assert_eq!(percentile(&values, 50.0), 51.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
    }

    #[test]
    fn a_report_says_whether_a_goal_is_met_in_both_forms() {
        let figures = vec![
            Figure::at_most("a", 2.0, "ms", 1.0),
            Figure::at_least("b", 2.0, "x", 1.0),
            Figure::plain("c", 0.5, "s"),
        ];
        let report = Report::new("measure x".to_owned(), figures);
        let text = report.text();
        assert!(
            text.contains("goal <= 1: MISSED") && text.contains("goal >= 1: met"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["figures"][0]["met"], false);
        assert_eq!(json["figures"][2]["goal"], serde_json::Value::Null);
    }
}
