//! Applies YAML documents to a cluster, as `kubectl apply --server-side` does.

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

/// How many objects are sent at the same time.
const AT_ONCE: usize = 8;
/// How often an object is sent again when another writer was quicker.
const TRIES: usize = 5;

/// Reads all objects of a YAML text with one or more documents; empty documents are left out.
///
/// # Errors
/// If the text is not YAML or a document is not a Kubernetes object.
pub fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut options = serde_saphyr::Options::default();
    // The texts are our own and Tekton's, and its CRDs are larger than the default budget.
    options.budget = None;
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple_with_options(yaml, options).context("not YAML")?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|document| serde_json::from_value(document).context("not a Kubernetes object"))
        .collect()
}

/// Applies `objects`, several at once, so none may need another one of the list.
///
/// # Errors
/// The first refusal, with the object's kind and name.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> Result<()> {
    stream::iter(objects)
        .map(|object| apply_one(client, object))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Applies the objects of a YAML text one after the other, in the order of the text.
///
/// # Errors
/// If the text can't be read, or the first refusal.
pub async fn apply_in_order(client: &Client, objects: &[DynamicObject]) -> Result<()> {
    for object in objects {
        apply_one(client, object).await?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &DynamicObject) -> Result<()> {
    let types = object
        .types
        .as_ref()
        .context("an object without apiVersion and kind")?;
    let name = object
        .metadata
        .name
        .as_deref()
        .context("an object without a name")?;
    let resource = ApiResource::from_gvk(
        &GroupVersionKind::try_from(types).context("an unreadable apiVersion")?,
    );
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("penstock-tests").force();
    let mut tries = 0;
    loop {
        tries += 1;
        match api.patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => return Ok(()),
            // Two test processes may apply the same object at the same time.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => {}
            Err(error) => {
                return Err(error).with_context(|| format!("can't apply {} `{name}`", types.kind));
            }
        }
    }
}
