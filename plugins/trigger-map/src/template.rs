//! Templates of runs: a PipelineRun, or a TriggerTemplate as Tekton Triggers has it.
//!
//! `$(tt.params.NAME)` and `$(uid)` are replaced in the strings of the parsed
//! document, so that a value can never become a field. Every other `$(…)` is left
//! for Tekton.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::fault::Fault;

const PARAM: &str = "$(tt.params.";
const UID: &str = "$(uid)";

/// A template, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// PipelineRuns, one or, from a TriggerTemplate, several.
    runs: Vec<Value>,
    /// Params that a TriggerTemplate declares, with their defaults.
    declared: Option<BTreeMap<String, Option<String>>>,
}

impl Template {
    /// Reads YAML or JSON.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let value = penstock_reading::yaml::parse(text).map_err(|fault| vec![fault])?;
        let template = Self::from_value(&value)?;
        template.check(text)?;
        Ok(template)
    }

    /// Takes a document as the settings hold it.
    pub(crate) fn from_value(value: &Value) -> Result<Self, Vec<Fault>> {
        let text = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let template = match (text("/kind"), text("/apiVersion")) {
            ("PipelineRun", _) => Self {
                runs: vec![value.clone()],
                declared: None,
            },
            ("TriggerTemplate", version) if version.starts_with("triggers.tekton.dev/") => Self {
                runs: value
                    .pointer("/spec/resourcetemplates")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
                declared: Some(declared(value)),
            },
            (kind, version) => {
                return Err(vec![Fault::new(format!(
                    "must be a PipelineRun of tekton.dev/v1 or a TriggerTemplate, and is `{kind}` of `{version}`"
                ))]);
            }
        };
        if template.runs.is_empty() {
            return Err(vec![Fault::new("has no `resourcetemplates`")]);
        }
        let mut faults = Vec::new();
        for run in &template.runs {
            let kind = run.get("kind").and_then(Value::as_str).unwrap_or_default();
            let version = run
                .get("apiVersion")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if kind != "PipelineRun" {
                faults.push(Fault::new(format!(
                    "holds a `{kind}`: only PipelineRuns can be started"
                )));
            } else if !["tekton.dev/v1", "tekton.dev/v1beta1"].contains(&version) {
                faults.push(Fault::new(format!(
                    "`apiVersion` must be `tekton.dev/v1`, and is `{version}`"
                )));
            }
            keys(run, &mut |key| {
                if key.contains(PARAM) || key.contains(UID) {
                    faults.push(Fault::new(format!(
                        "`{key}` is a key: values are put in values alone"
                    )));
                }
            });
        }
        if faults.is_empty() {
            Ok(template)
        } else {
            Err(faults)
        }
    }

    /// Places of a TriggerTemplate's text where it uses a param that it doesn't declare.
    fn check(&self, text: &str) -> Result<(), Vec<Fault>> {
        let Some(declared) = &self.declared else {
            return Ok(());
        };
        let faults: Vec<Fault> = self
            .params()
            .into_iter()
            .filter(|name| !declared.contains_key(name))
            .map(|name| unknown(text, &name, "is not in the template's `spec.params`"))
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// Names of the params that it uses.
    fn params(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for run in &self.runs {
            strings(run, &mut |text| names.extend(params_of(text)));
        }
        names
    }

    /// Params that it needs and that have no default.
    pub(crate) fn required(&self) -> BTreeSet<String> {
        let mut names = self.params();
        if let Some(declared) = &self.declared {
            names.retain(|name| !matches!(declared.get(name), Some(Some(_))));
        }
        names
    }

    /// The default of a param.
    pub(crate) fn default(&self, name: &str) -> Option<&str> {
        self.declared.as_ref()?.get(name)?.as_deref()
    }

    /// The runs with their values.
    ///
    /// # Errors
    /// The name of a param that has no value.
    pub(crate) fn fill(
        &self,
        params: &BTreeMap<String, String>,
        uid: &str,
    ) -> Result<Vec<Value>, String> {
        let names = self.params();
        let value = |name: &str| {
            params
                .get(name)
                .map(String::as_str)
                .or_else(|| self.default(name))
        };
        if let Some(missing) = names.iter().find(|it| value(it).is_none()) {
            return Err(missing.clone());
        }
        Ok(self
            .runs
            .iter()
            .map(|run| filled(run, &|text| fill(text, &value, uid)))
            .collect())
    }
}

/// A fault at the place in a text where a param is used.
pub(crate) fn unknown(text: &str, name: &str, what: &str) -> Fault {
    let written = format!("{PARAM}{name})");
    let message = format!("`{written}` {what}");
    match text.find(&written) {
        Some(at) => Fault::at(text, at, message),
        None => Fault::new(message),
    }
}

fn declared(template: &Value) -> BTreeMap<String, Option<String>> {
    let params = template.pointer("/spec/params").and_then(Value::as_array);
    params
        .into_iter()
        .flatten()
        .filter_map(|param| {
            let name = param.get("name")?.as_str()?.to_owned();
            let default = param
                .get("default")
                .map(|it| crate::text::as_text(it.clone()));
            Some((name, default))
        })
        .collect()
}

fn params_of(text: &str) -> impl Iterator<Item = String> {
    text.split(PARAM)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
}

/// Replaces placeholders once: what a value holds is never looked at again.
fn fill<'v>(text: &str, value: &impl Fn(&str) -> Option<&'v str>, uid: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, found) = rest.split_at(at);
        result.push_str(before);
        if let Some(after) = found.strip_prefix(UID) {
            result.push_str(uid);
            rest = after;
        } else if let Some((name, after)) =
            found.strip_prefix(PARAM).and_then(|it| it.split_once(')'))
        {
            result.push_str(value(name).unwrap_or_default());
            rest = after;
        } else {
            result.push_str("$(");
            rest = found.get(2..).unwrap_or_default();
        }
    }
    result.push_str(rest);
    result
}

fn filled(value: &Value, fill: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text)),
        Value::Array(items) => items.iter().map(|it| filled(it, fill)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, it)| (name.clone(), filled(it, fill)))
            .collect(),
        other => other.clone(),
    }
}

fn strings(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|it| strings(it, see)),
        Value::Object(entries) => entries.values().for_each(|it| strings(it, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn keys(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|it| keys(it, see)),
        Value::Object(entries) => entries.iter().for_each(|(name, it)| {
            see(name);
            keys(it, see);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const RUN: &str = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  generateName: $(tt.params.name)-$(uid)-\nspec:\n  params:\n    - name: branch\n      value: $(tt.params.branch)\n    - name: theirs\n      value: $(context.pipelineRun.name)\n";

    fn params(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn placeholders_are_replaced_and_those_of_tekton_are_kept() {
        let template = Template::parse(RUN).unwrap();
        let runs = template
            .fill(&params(&[("name", "build"), ("branch", "main")]), "abc")
            .unwrap();
        assert_eq!(
            runs,
            [json!({
                "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
                "metadata": {"generateName": "build-abc-"},
                "spec": {"params": [
                    {"name": "branch", "value": "main"},
                    {"name": "theirs", "value": "$(context.pipelineRun.name)"},
                ]},
            })]
        );
    }

    #[test]
    fn a_branch_name_can_not_add_a_field() {
        let branch = "x\"\n  taskRunTemplate: {serviceAccountName: admin}\n#";
        let template = Template::parse(RUN).unwrap();
        let runs = template
            .fill(&params(&[("name", "build"), ("branch", branch)]), "")
            .unwrap();
        assert_eq!(
            runs[0].pointer("/spec/params/0/value"),
            Some(&json!(branch))
        );
        assert_eq!(runs[0]["spec"].as_object().unwrap().len(), 1);
    }

    #[test]
    fn a_value_is_never_read_as_a_placeholder() {
        let template = Template::parse(RUN).unwrap();
        let runs = template
            .fill(
                &params(&[("name", "$(tt.params.branch)"), ("branch", "$(uid)")]),
                "secret",
            )
            .unwrap();
        assert_eq!(
            runs[0].pointer("/metadata/generateName"),
            Some(&json!("$(tt.params.branch)-secret-"))
        );
        assert_eq!(
            runs[0].pointer("/spec/params/0/value"),
            Some(&json!("$(uid)"))
        );
    }

    #[test]
    fn a_param_without_a_value_is_named() {
        let template = Template::parse(RUN).unwrap();
        assert_eq!(
            template.fill(&params(&[("name", "x")]), ""),
            Err("branch".to_owned())
        );
    }

    #[test]
    fn a_trigger_template_brings_defaults_and_several_runs() {
        let template = Template::parse(
            "apiVersion: triggers.tekton.dev/v1beta1\nkind: TriggerTemplate\nspec:\n  params:\n    - name: a\n    - name: b\n      default: two\n  resourcetemplates:\n    - apiVersion: tekton.dev/v1\n      kind: PipelineRun\n      spec: {x: $(tt.params.a)}\n    - apiVersion: tekton.dev/v1\n      kind: PipelineRun\n      spec: {x: $(tt.params.b)}\n",
        )
        .unwrap();
        assert_eq!(template.required().into_iter().collect::<Vec<_>>(), ["a"]);
        let runs = template.fill(&params(&[("a", "one")]), "").unwrap();
        assert_eq!(
            runs.iter().map(|it| &it["spec"]["x"]).collect::<Vec<_>>(),
            ["one", "two"]
        );
    }

    fn check_fault(text: &str, place: Option<(u32, u32)>, message: &str) {
        let fault = Template::parse(text).expect_err(text).remove(0);
        assert!(fault.message.contains(message), "{}", fault.message);
        assert_eq!(fault.place, place, "{fault:?}");
    }

    #[test]
    fn a_bad_template_has_its_place() {
        check_fault(
            "kind: PipelineRun\nspec: [1, 2\n",
            Some((2, 7)),
            "is not YAML",
        );
        check_fault(
            "kind: Pipeline\napiVersion: tekton.dev/v1\n",
            None,
            "must be a PipelineRun",
        );
        check_fault(
            "kind: PipelineRun\napiVersion: tekton.dev/v1alpha1\n",
            None,
            "must be `tekton.dev/v1`",
        );
        check_fault(
            "kind: PipelineRun\napiVersion: tekton.dev/v1\nspec: {$(uid): 1}\n",
            None,
            "is a key",
        );
        check_fault(
            "kind: TriggerTemplate\napiVersion: triggers.tekton.dev/v1beta1\nspec:\n  resourcetemplates:\n  - kind: PipelineRun\n    apiVersion: tekton.dev/v1\n    spec: {x: $(tt.params.y)}\n",
            Some((7, 15)),
            "is not in the template's `spec.params`",
        );
    }

    proptest! {
        #[test]
        fn no_value_changes_the_shape(value in any::<String>()) {
            let template = Template::parse(RUN).unwrap();
            let plain = template.fill(&params(&[("name", "n"), ("branch", "b")]), "u").unwrap();
            let filled = template.fill(&params(&[("name", "n"), ("branch", &value)]), "u").unwrap();
            let mut expected = plain;
            *expected[0].pointer_mut("/spec/params/0/value").unwrap() = json!(value);
            prop_assert_eq!(filled, expected);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = Template::parse(&text);
        }
    }
}
