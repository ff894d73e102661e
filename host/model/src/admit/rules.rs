//! What a place's policy says about single fields.
//!
//! Pure and local: a rule sees one value, the place and nothing else. Tekton replaces variables such as `$(params.x)` after the host
//! has judged, so a judged name that holds one is refused unless everything is allowed anyway.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::label;
use super::reference;
use super::schema::Rule;
use super::walk::{Fault, join};
use crate::tenant::{Place, PlacePolicy, When};

/// What becomes of a field.
pub(super) enum Verdict {
    /// Its shape is walked.
    Keep,
    /// It gets this value.
    Replace(Value),
    /// It is left out without a word: the host writes it.
    Drop,
    /// It is refused.
    Refuse(Vec<Fault>),
}

/// The rules of one place.
pub(super) struct Rules<'a> {
    pub(super) place: &'a Place,
    /// Real names of the Secrets that the host makes for the run, by the manifest's.
    pub(super) secrets: &'a BTreeMap<String, String>,
}

impl Rules<'_> {
    /// The place takes forks: none of the risky things, whatever the policy says.
    fn fork(&self) -> bool {
        self.place.when == When::Fork
    }

    pub(super) fn policy(&self) -> &PlacePolicy {
        &self.place.policy
    }

    /// Judges one field.
    pub(super) fn judge(&self, rule: Option<Rule>, value: &Value, path: &str) -> Verdict {
        let Some(rule) = rule else {
            return Verdict::Keep;
        };
        let faults = match rule {
            Rule::Host => return Verdict::Drop,
            Rule::Account => return self.account(value),
            Rule::ApiVersion => api_version(value, path),
            Rule::Kind => kind(value, path),
            Rule::Labels => self.keys(value, path, label::On::Labels),
            Rule::Annotations => self.keys(value, path, label::On::Annotations),
            Rule::Reference => reference::judge(self, value, path),
            Rule::PodTemplate => self.switch(
                self.policy().pod_template,
                path,
                "a pod template",
                "pod-template: true",
            ),
            Rule::Security if is_hardening(value) => Vec::new(),
            Rule::Security => self.switch(
                self.policy().security_context,
                path,
                "a security context that gives a container more than it has",
                "security-context: true",
            ),
            Rule::HostAccess if is_harmless(value) => Vec::new(),
            Rule::HostAccess => self.switch(
                self.policy().security_context,
                path,
                "a way onto the node",
                "security-context: true",
            ),
            Rule::Secret => match value.as_str().and_then(|name| self.secrets.get(name)) {
                Some(real) => return Verdict::Replace(Value::from(real.as_str())),
                None => self.secret(value, path),
            },
            Rule::ConfigMap => match (&self.policy().config_maps, self.fork()) {
                (None, false) => Vec::new(),
                (None, true) => self.names(Some(&[]), value, path, "ConfigMap", "config-maps"),
                (Some(names), _) => {
                    self.names(Some(names), value, path, "ConfigMap", "config-maps")
                }
            },
            Rule::Claim if self.fork() => {
                vec![self.never(path, "an existing PersistentVolumeClaim")]
            }
            Rule::Claim => self.names(
                self.policy().volume_claims.as_deref(),
                value,
                path,
                "PersistentVolumeClaim",
                "volume-claims",
            ),
            Rule::HostPath => self.host_path(value, path),
            Rule::Driver if self.fork() => vec![self.never(path, "a CSI driver")],
            Rule::Driver => {
                let known = self
                    .policy()
                    .csi_drivers
                    .iter()
                    .any(|it| Some(it.as_str()) == value.as_str());
                self.listed(known, path, "the CSI driver", value, "csi-drivers")
            }
            Rule::Token => self.token(value, path),
            Rule::Image => self.image(value, path),
        };
        if faults.is_empty() {
            Verdict::Keep
        } else {
            Verdict::Refuse(faults)
        }
    }

    /// A Secret's name, wherever it stands.
    pub(super) fn secret(&self, value: &Value, path: &str) -> Vec<Fault> {
        if value
            .as_str()
            .is_some_and(|name| name.starts_with(super::clone::PREFIX))
        {
            let rule = "Secrets of this prefix are made for one run and are no other run's";
            vec![Fault::new(
                path,
                rule,
                "let the plugin ask for one of its own in `secrets`",
            )]
        } else if self.fork() {
            vec![self.never(path, "a Secret")]
        } else {
            self.names(
                Some(&self.policy().secrets),
                value,
                path,
                "Secret",
                "secrets",
            )
        }
    }

    /// Something that no place for forks has.
    pub(super) fn never(&self, path: &str, what: &str) -> Fault {
        Fault::new(
            path,
            format!(
                "place `{}` is for forks and never gives a run {what}",
                self.place.name
            ),
            "leave it out, or let a member of the project start this run",
        )
    }

    /// Something that the policy lists or doesn't.
    pub(super) fn listed(
        &self,
        known: bool,
        path: &str,
        what: &str,
        value: &Value,
        key: &str,
    ) -> Vec<Fault> {
        if known {
            return Vec::new();
        }
        let named = shown(value);
        vec![Fault::new(
            path,
            format!("place `{}` does not allow {what} {named}", self.place.name),
            format!("leave it out, or let the operator add it to `policy.{key}` of the place"),
        )]
    }

    fn switch(&self, on: bool, path: &str, what: &str, setting: &str) -> Vec<Fault> {
        if self.fork() {
            return vec![self.never(path, what)];
        }
        if on {
            return Vec::new();
        }
        vec![Fault::new(
            path,
            format!("place `{}` does not allow {what}", self.place.name),
            format!(
                "leave it out, or let the operator write `policy: {{ {setting} }}` for the place"
            ),
        )]
    }

    fn names(
        &self,
        allowed: Option<&[String]>,
        value: &Value,
        path: &str,
        what: &str,
        key: &str,
    ) -> Vec<Fault> {
        let Some(allowed) = allowed else {
            return Vec::new();
        };
        if allowed.iter().any(|pattern| pattern == "*") {
            return Vec::new();
        }
        if let Some(fault) = variable(value, path) {
            return vec![fault];
        }
        let known = value
            .as_str()
            .is_some_and(|name| allowed.iter().any(|pattern| glob(pattern, name)));
        self.listed(known, path, &format!("the {what}"), value, key)
    }

    /// Keys of labels or annotations. Tekton copies them to pods, and what they do there (an identity, a network, a sidecar) is the operator's to say.
    fn keys(&self, value: &Value, path: &str, on: label::On) -> Vec<Fault> {
        let (what, setting, allowed) = match on {
            label::On::Labels => ("label", "labels", &self.policy().labels),
            label::On::Annotations => ("annotation", "annotations", &self.policy().annotations),
        };
        let keys = value.as_object().into_iter().flat_map(Map::keys);
        keys.flat_map(|key| {
            let path = join(path, key);
            if let Some(fault) = label::reserved(key, &path, on) {
                vec![fault]
            } else if self.fork() {
                vec![self.never(&path, &format!("{what}s of its own"))]
            } else {
                let known = allowed.iter().any(|pattern| glob(pattern, key));
                let key = Value::from(key.as_str());
                self.listed(known, &path, &format!("the {what}"), &key, setting)
            }
        })
        .collect()
    }

    fn account(&self, value: &Value) -> Verdict {
        let allowed = !self.fork()
            && value
                .as_str()
                .is_some_and(|name| self.policy().service_accounts.iter().any(|it| it == name));
        if allowed {
            Verdict::Keep
        } else {
            Verdict::Replace(Value::String(self.place.run_as.clone()))
        }
    }

    fn host_path(&self, value: &Value, path: &str) -> Vec<Fault> {
        if self.fork() {
            return vec![self.never(path, "a path of the node")];
        }
        let named = value.get("path").unwrap_or(&Value::Null);
        let path = join(path, "path");
        if let Some(fault) = variable(named, &path) {
            return vec![fault];
        }
        let known = named.as_str().is_some_and(|wanted| {
            !wanted.split('/').any(|part| part == "..")
                && self
                    .policy()
                    .host_paths
                    .iter()
                    .any(|allowed| below(allowed, wanted))
        });
        self.listed(known, &path, "the path of the node", named, "host-paths")
    }

    fn token(&self, value: &Value, path: &str) -> Vec<Fault> {
        if self.fork() {
            return vec![self.never(path, "a service account token")];
        }
        let audience = value.get("audience").unwrap_or(&Value::Null);
        let path = join(path, "audience");
        if let Some(fault) = variable(audience, &path) {
            return vec![fault];
        }
        // Without an audience the token is one for the API server itself.
        let known = audience.as_str().is_some_and(|it| {
            !it.is_empty()
                && self
                    .policy()
                    .token_audiences
                    .iter()
                    .any(|known| known == it)
        });
        self.listed(
            known,
            &path,
            "a token of the audience",
            audience,
            "token-audiences",
        )
    }

    fn image(&self, value: &Value, path: &str) -> Vec<Fault> {
        let Some(allowed) = &self.policy().images else {
            return Vec::new();
        };
        if allowed.iter().any(|pattern| pattern == "**") {
            return Vec::new();
        }
        if let Some(fault) = variable(value, path) {
            return vec![fault];
        }
        let known = value.as_str().is_some_and(|image| {
            let full = full_image(image);
            allowed
                .iter()
                .any(|pattern| glob(pattern, image) || glob(&full_image(pattern), &full))
        });
        self.listed(known, path, "the image", value, "images")
    }
}

/// A value as it stands in a message: text in quotes, cut after 120 characters.
pub(super) fn shown(value: &Value) -> String {
    match value.as_str() {
        Some("") | None => "(none given)".to_owned(),
        Some(text) => {
            let cut: String = text
                .chars()
                .take(120)
                .flat_map(char::escape_debug)
                .collect();
            format!("`{cut}`")
        }
    }
}

/// A value that Tekton would fill in after it was judged.
pub(super) fn variable(value: &Value, path: &str) -> Option<Fault> {
    value.as_str().filter(|text| text.contains("$(")).map(|_| {
        Fault::new(
            path,
            "the place's policy judges this value, and a variable is filled in only after that",
            "write the value out, or let the plugin's template fill it in",
        )
    })
}

/// `*` stands for any characters but `/`, `**` for any at all.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    let (deep, after) = match after.strip_prefix('*') {
        Some(after) => (true, after),
        None => (false, after),
    };
    let ends = rest
        .char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .take_while(|at| deep || !rest.get(..*at).is_some_and(|taken| taken.contains('/')));
    let mut ends: Vec<usize> = ends.collect();
    ends.reverse();
    ends.into_iter()
        .filter_map(|at| rest.get(at..))
        .any(|tail| glob(after, tail))
}

/// `path` is `folder` or lies in it.
fn below(folder: &str, path: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `alpine:3` is short for `docker.io/library/alpine:3`.
fn full_image(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((host, _)) if host.contains(['.', ':', '*']) || host == "localhost" => {
            image.to_owned()
        }
        Some(_) => format!("docker.io/{image}"),
    }
}

/// False, `None` and the empty text ask for nothing.
fn is_harmless(value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty() || text == "None",
        Value::Number(number) => number.as_u64() == Some(0),
        _ => false,
    }
}

/// The security context only takes rights away. Pod security's `restricted` level asks for just that, so it is allowed everywhere.
fn is_hardening(value: &Value) -> bool {
    let Some(context) = value.as_object() else {
        return false;
    };
    context.iter().all(|(key, value)| match key.as_str() {
        "privileged" | "allowPrivilegeEscalation" => value == &Value::Bool(false),
        "runAsNonRoot" => value == &Value::Bool(true),
        "readOnlyRootFilesystem" => value.is_boolean(),
        "runAsUser" | "runAsGroup" | "fsGroup" => value.as_u64().is_some_and(|id| id > 0),
        "fsGroupChangePolicy" => value.is_string(),
        "capabilities" => value
            .as_object()
            .is_some_and(|it| it.keys().all(|key| key == "drop")),
        "seccompProfile" | "appArmorProfile" => {
            let only = |it: &Map<String, Value>| {
                it.len() == 1 && it.get("type") == Some(&Value::from("RuntimeDefault"))
            };
            value.as_object().is_some_and(only)
        }
        _ => value.is_null(),
    })
}

fn api_version(value: &Value, path: &str) -> Vec<Fault> {
    match value.as_str() {
        Some("tekton.dev/v1") => Vec::new(),
        Some("tekton.dev/v1beta1") => vec![Fault::new(
            path,
            "`tekton.dev/v1beta1` is no longer taken",
            "write `apiVersion: tekton.dev/v1`; what changed: `serviceAccountName` and `podTemplate` moved into `taskRunTemplate`, `timeout` into `timeouts.pipeline`, `bundle` into a resolver, `resources` of steps became `computeResources`",
        )],
        _ => vec![Fault::new(
            path,
            format!(
                "a PipelineRun of `tekton.dev/v1` is wanted, not {}",
                shown(value)
            ),
            "write `apiVersion: tekton.dev/v1` and `kind: PipelineRun`",
        )],
    }
}

fn kind(value: &Value, path: &str) -> Vec<Fault> {
    if value.as_str() == Some("PipelineRun") {
        return Vec::new();
    }
    vec![Fault::new(
        path,
        format!("a PipelineRun is wanted, not {}", shown(value)),
        "write `kind: PipelineRun`; a Task or a Pipeline goes into its `pipelineSpec`, or is named by a `pipelineRef`",
    )]
}
