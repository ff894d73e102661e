//! Requests for a run that come by `/incoming` and not by a webhook of GitLab: how one is kept, and how it is read again.
//!
//! The host's own route writes them, under a hook whose name no webhook can have: a webhook's body that calls itself `incoming` is none.

use bytes::Bytes;
use penstock_model::id::{HookName, ProjectId, ProjectPath, RefName};
use serde::{Deserialize, Serialize};

/// How the names of such hooks begin. No hook of the configuration has a colon in its name.
const PREFIX: &str = "incoming:";

/// What a delivery of this kind calls itself, in listings.
pub const KIND: &str = "incoming";

/// The word by which routes name such events.
pub(crate) const ROUTED_AS: &str = "request";

/// The name of the hook that stands for an entry of `incoming` in the configuration.
pub fn hook_name(entry: &str) -> HookName {
    HookName::new(format!("{PREFIX}{entry}"))
}

/// Whether a delivery came by `/incoming`.
pub(crate) fn is_incoming(hook: &HookName) -> bool {
    hook.as_str().starts_with(PREFIX)
}

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The project, as the configuration has it.
    pub project: ProjectId,
    /// Its path there.
    pub path: ProjectPath,
    /// Name of the branch.
    pub branch: String,
    /// The pipeline; none: whichever takes such events.
    pub pipeline: Option<String>,
    /// Parameters, by name.
    pub parameters: Vec<(String, String)>,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    object_kind: String,
    project: KeptProject,
    #[serde(rename = "ref")]
    ref_name: String,
    pipelinerun: Option<String>,
    params: Vec<(String, String)>,
}

#[derive(Deserialize, Serialize)]
struct KeptProject {
    id: u64,
    path_with_namespace: String,
}

/// What an event asks for, beside its ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The pipeline.
    pub name: Option<String>,
    /// Parameters, by name.
    pub parameters: Vec<(String, String)>,
}

impl Incoming {
    /// The branch's full name.
    pub fn ref_name(&self) -> RefName {
        RefName::new(format!("refs/heads/{}", self.branch))
    }

    /// The body that is kept: what was asked for, and no secret.
    pub fn body(&self) -> Bytes {
        let kept = Kept {
            object_kind: KIND.to_owned(),
            project: KeptProject {
                id: self.project.0,
                path_with_namespace: self.path.to_string(),
            },
            ref_name: self.ref_name().to_string(),
            pipelinerun: self.pipeline.clone(),
            params: self.parameters.clone(),
        };
        // Texts and numbers can always be written.
        serde_json::to_vec(&kept).unwrap_or_default().into()
    }
}

/// Reads what was kept.
pub(crate) fn read(body: &[u8]) -> Result<(RefName, Asked), serde_json::Error> {
    let kept: Kept = serde_json::from_slice(body)?;
    let asked = Asked {
        name: kept.pipelinerun,
        parameters: kept.params,
    };
    Ok((RefName::new(kept.ref_name), asked))
}
