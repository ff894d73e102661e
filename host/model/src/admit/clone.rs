//! Secrets that the host makes for a run: which there may be, and what they are really called.
//!
//! Their values are made long after the plan was judged and are in no order: an order names projects, and who carries it out asks GitLab for credentials.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::walk::Fault;
use crate::effect::{RunSecret, SecretSource};
use crate::grant::Grant;
use crate::id::{EffectId, ProjectPath};
use crate::tenant::{Place, is_dns_label};

/// How the real names begin. No manifest may name such a Secret itself: it would be another run's.
pub const PREFIX: &str = "penstock-clone-";

/// Secrets of one run.
const MOST: usize = 4;
/// Other projects of one Secret.
const MOST_OTHERS: usize = 10;

/// A Secret with credentials that clone the run's own project, and others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSecret {
    /// Its real name: from the effect's id.
    pub name: String,
    /// Paths of the other projects.
    pub others: Vec<ProjectPath>,
}

/// The Secrets of a run.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// To be made.
    pub(super) made: Vec<CloneSecret>,
    /// Real names by the plugin's.
    pub(super) names: BTreeMap<String, String>,
}

/// Judges what a plugin asks for; every fault is told.
pub(super) fn judge(
    id: EffectId,
    wanted: &[RunSecret],
    place: &Place,
    grant: &Grant,
) -> Result<Secrets, Vec<Fault>> {
    let mut secrets = Secrets::default();
    let mut faults = Vec::new();
    if wanted.len() > MOST {
        faults.push(Fault::new(
            "secrets",
            format!("a run has at most {MOST} Secrets of its own"),
            "let the plugin ask for fewer",
        ));
    }
    for (n, secret) in wanted.iter().enumerate().take(MOST) {
        let path = format!("secrets[{n}]");
        let SecretSource::Clone(others) = &secret.source else {
            faults.push(Fault::new(
                format!("{path}.source"),
                "Secrets by reference are not built yet in this release",
                "let an operator make the Secret and list it in `policy.secrets` of the place",
            ));
            continue;
        };
        let before = faults.len();
        faults.extend(name_fault(&path, &secret.name, &secrets));
        if !place.policy.clone {
            faults.push(Fault::new(
                format!("{path}.source"),
                format!("place `{}` gives runs no credentials to clone", place.name),
                "let the operator write `policy: { clone: true }` for the place",
            ));
        }
        faults.extend(others_faults(&path, others, grant));
        if faults.len() > before {
            continue;
        }
        let short: String = id.hex().chars().take(20).collect();
        let real = format!("{PREFIX}{short}-{n}");
        secrets.names.insert(secret.name.clone(), real.clone());
        secrets.made.push(CloneSecret {
            name: real,
            others: others.iter().map(|it| ProjectPath::new(&**it)).collect(),
        });
    }
    match faults.is_empty() {
        true => Ok(secrets),
        false => Err(faults),
    }
}

fn name_fault(path: &str, name: &str, known: &Secrets) -> Option<Fault> {
    let path = format!("{path}.name");
    if !is_dns_label(name) {
        let rule = "the name of a Secret is at most 63 of lower-case letters, digits and `-`, with a letter or digit at both ends";
        return Some(Fault::new(path, rule, "let the plugin give it such a name"));
    }
    known.names.contains_key(name).then(|| {
        Fault::new(
            path,
            "another Secret of the run has the same name",
            "let the plugin give each a name of its own",
        )
    })
}

fn others_faults(path: &str, others: &[String], grant: &Grant) -> Vec<Fault> {
    if others.len() > MOST_OTHERS {
        return vec![Fault::new(
            format!("{path}.source"),
            format!("a Secret clones at most {MOST_OTHERS} other projects"),
            "let the plugin ask for fewer",
        )];
    }
    let missing = others.iter().filter(|it| !grant.elsewhere.contains(*it));
    missing
        .map(|project| {
            let shown: String = project
                .chars()
                .take(200)
                .flat_map(char::escape_debug)
                .collect();
            Fault::new(
                format!("{path}.source"),
                format!(
                    "the plugin has no grant for the project `{shown}` in events of this trust"
                ),
                format!("add `{shown}` to `grants.elsewhere` of the plugin"),
            )
        })
        .collect()
}
