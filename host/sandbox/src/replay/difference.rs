//! The first thing that is not the same in two records of one call, told so that a person finds it.

use std::fmt;

use penstock_model::lookup::Lookup;
use penstock_model::record::{DecisionRecord, HostCall, Outcome};
use serde::Serialize;
use serde_json::Value;

use crate::ask;
use crate::clamp;

/// Bytes of a value that are shown.
const SHOWN: usize = 300;

/// What is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which host call, counted from 1; none: it is not one of them.
    pub position: Option<usize>,
    /// What differs, such as `the argument of gitlab-read.files` or `outcome/plan/reasons/0`.
    pub what: String,
    /// What is in the record, cut after 300 bytes.
    pub then: String,
    /// What came of it now, cut after 300 bytes.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "host call {position}: ")?;
        }
        write!(f, "{} was `{}` and is `{}`", self.what, self.then, self.now)
    }
}

impl Difference {
    /// Another question than the record has at this index, or one more than it has.
    pub(super) fn question(index: usize, then: Option<&Lookup>, now: &Lookup) -> Self {
        let (what, told) = match then {
            None => (
                "the number of host calls".to_owned(),
                format!("only {index} were made"),
            ),
            Some(then) if ask::name(then) == ask::name(now) => {
                (format!("the argument of {}", ask::name(now)), shown(then))
            }
            Some(then) => (
                "the function".to_owned(),
                format!("{} {}", ask::name(then), shown(then)),
            ),
        };
        let now_told = match then {
            Some(then) if ask::name(then) == ask::name(now) => shown(now),
            _ => format!("{} {}", ask::name(now), shown(now)),
        };
        Self {
            position: Some(index + 1),
            what,
            then: told,
            now: now_told,
        }
    }

    /// The first host call, as far as both records go, that is not the same.
    pub(super) fn of_calls(then: &DecisionRecord, now: &DecisionRecord) -> Option<Self> {
        let pairs = || then.calls.iter().zip(&now.calls);
        let index = pairs().position(|(then, now)| then != now)?;
        let (then, now) = pairs().nth(index)?;
        Some(if then.lookup == now.lookup {
            Self {
                position: Some(index + 1),
                what: format!("the answer of {}", ask::name(&then.lookup)),
                then: answer(then),
                now: answer(now),
            }
        } else {
            Self::question(index, Some(&then.lookup), &now.lookup)
        })
    }

    /// The first log line, as far as both records go, that is not the same.
    pub(super) fn of_log(then: &DecisionRecord, now: &DecisionRecord) -> Option<Self> {
        let mut pairs = then.log.iter().zip(&now.log).enumerate();
        let (index, (then, now)) = pairs.find(|(_, (then, now))| then != now)?;
        Some(Self {
            position: None,
            what: format!("log/{index}"),
            then: shown(then),
            now: shown(now),
        })
    }

    pub(super) fn number_of_calls(then: &DecisionRecord, now: &DecisionRecord) -> Self {
        Self {
            position: None,
            what: "the number of host calls".to_owned(),
            then: then.calls.len().to_string(),
            now: now.calls.len().to_string(),
        }
    }

    /// The first part that differs, in the order in which a reader asks.
    pub(super) fn between(then: &DecisionRecord, now: &DecisionRecord) -> Self {
        if let Some(difference) = Self::of_calls(then, now) {
            return difference;
        }
        if then.calls.len() != now.calls.len() {
            return Self::number_of_calls(then, now);
        }
        let parts = |record: &DecisionRecord| {
            [
                ("outcome", value(&record.outcome)),
                ("withheld", value(&record.withheld)),
                ("state", value(&record.state)),
                ("log", value(&record.log)),
                ("contract", value(&record.contract)),
                ("cut", value(&record.cut)),
            ]
        };
        for ((name, then_part), (_, now_part)) in parts(then).into_iter().zip(parts(now)) {
            let mut path = name.to_owned();
            if let Some((then, now)) = first(&then_part, &now_part, &mut path) {
                return Self {
                    position: None,
                    what: path,
                    then,
                    now,
                };
            }
        }
        Self {
            position: None,
            what: "the encoding".to_owned(),
            then: word(&then.outcome).to_owned(),
            now: word(&now.outcome).to_owned(),
        }
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Plan(_) => "plan",
        Outcome::Error(_) => "error",
        Outcome::Failure(failure) => failure.word(),
    }
}

fn answer(call: &HostCall) -> String {
    match &call.answer {
        Ok(answer) => shown(answer),
        Err(error) => clamp::cut(&error.to_string(), SHOWN),
    }
}

fn value(part: &impl Serialize) -> Value {
    // Plain data can always be written.
    serde_json::to_value(part).unwrap_or_default()
}

fn shown(part: &impl Serialize) -> String {
    clamp::cut(&value(part).to_string(), SHOWN)
}

/// The first place where two values differ, and what stands there in each. The depth is that of our own types.
fn first(then: &Value, now: &Value, path: &mut String) -> Option<(String, String)> {
    if then == now {
        return None;
    }
    let before = path.len();
    let mut inside = |name: &str, one: Option<&Value>, other: Option<&Value>| {
        let gone = Value::Null;
        path.push('/');
        path.push_str(name);
        let found = first(one.unwrap_or(&gone), other.unwrap_or(&gone), path);
        if found.is_none() {
            path.truncate(before);
        }
        found
    };
    let found = match (then, now) {
        (Value::Object(one), Value::Object(other)) => one
            .keys()
            .chain(other.keys().filter(|key| !one.contains_key(*key)))
            .find_map(|key| inside(key, one.get(key), other.get(key))),
        (Value::Array(one), Value::Array(other)) => (0..one.len().max(other.len()))
            .find_map(|index| inside(&index.to_string(), one.get(index), other.get(index))),
        _ => None,
    };
    found.or_else(|| Some((shown(then), shown(now))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let mut path = "outcome".to_owned();
        let then = json!({"plan": {"effects": [{"key": "a"}, {"key": "b"}], "reasons": []}});
        let now = json!({"plan": {"effects": [{"key": "a"}, {"key": "c"}], "reasons": ["x"]}});
        let found = first(&then, &now, &mut path).unwrap();
        assert_eq!(path, "outcome/plan/effects/1/key");
        assert_eq!(found, ("\"b\"".to_owned(), "\"c\"".to_owned()));
    }

    #[test]
    fn what_is_there_only_once_is_named_too() {
        let mut path = "state".to_owned();
        let found = first(&json!([1]), &json!([1, 2]), &mut path).unwrap();
        assert_eq!(
            (path.as_str(), found.0.as_str(), found.1.as_str()),
            ("state/1", "null", "2")
        );
    }
}
