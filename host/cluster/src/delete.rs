//! Deletes PipelineRuns that have ended and are kept no longer, with the rights of the account that created them. Never deletes
//! an object that does not carry the effect it is deleted for, nor one that has not ended.

use penstock_model::admit::DeleteOrder;
use serde_json::json;

use crate::{
    Cluster,
    names::run_path,
    observe::Call,
    refusal::Trouble,
    stop::{Meant, StopError, error, gone_or},
    token::Account,
    wire::Ask,
};

/// What became of an order to delete. All of these are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The API server was told.
    Asked,
    /// It does not exist any more, or another object has its name.
    Gone,
    /// It has not ended: it is left alone.
    Unfinished,
}

impl Cluster {
    /// Deletes the run, and with it what Tekton made for it. May be repeated.
    ///
    /// # Errors
    /// See [`StopError`]: what stands in the way of a change stands in the way of a deletion.
    pub async fn delete_run(&self, order: &DeleteOrder) -> Result<Deleted, StopError> {
        let creator = Account {
            namespace: order.namespace.clone(),
            name: order.creator.clone(),
        };
        let meant = Meant {
            namespace: &order.namespace,
            creator: &order.creator,
            name: &order.name,
            run: order.run,
            uid: Some(&order.uid),
            verbs: "[create, get, patch, delete]",
        };
        let Some(run) = self.meant(&meant, &creator).await? else {
            return Ok(Deleted::Gone);
        };
        if !run.state.is_final() {
            return Ok(Deleted::Unfinished);
        }
        // The UID makes the API server refuse if another object bears the name by now.
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": { "uid": run.uid },
        })
        .to_string();
        let path = run_path(&order.namespace, &order.name);
        let ask = || Ask::delete(Call::DeleteRun, path.clone(), options.clone());
        match self.tokens.ask(&creator, ask).await {
            Ok(Ok(_)) => Ok(Deleted::Asked),
            Ok(Err(Trouble::NotFound(_) | Trouble::Terminating | Trouble::Conflict(_))) => {
                Ok(Deleted::Gone)
            }
            Ok(Err(trouble)) => Err(error(trouble, &meant)),
            Err(error) => gone_or(error).map(|()| Deleted::Gone),
        }
    }
}
