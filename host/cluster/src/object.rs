//! A PipelineRun with no more than the watch needs: most of its bytes (specs, managed fields) are passed over unread.
//!
//! What stands in `spec` and `status` is written by others. It is taken leniently: one odd object must not end the
//! watch of all.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::names::{DIGEST_ANNOTATION, EFFECT_ANNOTATION};

/// Fields of `spec` that are read.
const SPEC: &[&str] = &["status"];
/// Fields of `status` that are read.
const STATUS: &[&str] = &[
    "conditions",
    "startTime",
    "completionTime",
    "results",
    "childReferences",
];

/// See the module.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SeenRun {
    /// Name, namespace, uid, resourceVersion, and of the annotations the effect's id and the manifest's digest.
    #[serde(deserialize_with = "metadata")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "spec")]
    pub(crate) spec: Fields,
    #[serde(default, deserialize_with = "status")]
    pub(crate) status: Fields,
}

/// Some fields of an object; none of anything else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// A field.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// A field that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The items of a field that is a list.
    pub(crate) fn items(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }
}

fn spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
    deserializer.deserialize_any(Pick(SPEC))
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
    deserializer.deserialize_any(Pick(STATUS))
}

/// Takes these fields of an object and passes over everything else.
struct Pick(&'static [&'static str]);

impl<'de> Visitor<'de> for Pick {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.0.iter().find(|wanted| **wanted == name) {
                Some(wanted) => fields.0.push((wanted, map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fields, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fields::default())
    }

    fn visit_unit<E>(self) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Fields, E> {
        Ok(Fields::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Fields, E> {
        Ok(Fields::default())
    }
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let Metadata {
        name,
        namespace,
        uid,
        resource_version,
        annotations,
    } = Metadata::deserialize(deserializer)?;
    if name.is_none() {
        return Err(D::Error::missing_field("name"));
    }
    let ours = annotations.map(|mut all| {
        all.retain(|name, _| name == EFFECT_ANNOTATION || name == DIGEST_ANNOTATION);
        all
    });
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        annotations: ours,
        ..ObjectMeta::default()
    })
}

impl Resource for SeenRun {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "PipelineRun".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "tekton.dev".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pipelineruns".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &Value, status: &Value) -> SeenRun {
        let object =
            json!({ "metadata": { "name": "x", "labels": {} }, "spec": spec, "status": status });
        let from_text: SeenRun = serde_json::from_str(&object.to_string()).unwrap();
        let from_value: SeenRun = serde_json::from_value(object).unwrap();
        assert_eq!(format!("{from_text:?}"), format!("{from_value:?}"));
        from_text
    }

    #[test]
    fn only_what_is_needed_is_kept() {
        let run = read(
            &json!({"pipelineSpec": {"tasks": []}, "status": "Cancelled"}),
            &json!({"pipelineSpec": {}, "startTime": "t"}),
        );
        assert_eq!(run.spec.text("status"), Some("Cancelled"));
        assert_eq!(run.status.text("startTime"), Some("t"));
        assert_eq!((run.spec.0.len(), run.status.0.len()), (1, 1));
    }

    #[test]
    fn an_odd_status_does_not_end_the_watch() {
        for odd in [
            json!(null),
            json!(true),
            json!(-1),
            json!(1),
            json!(0.5),
            json!("x"),
            json!([[1], {}]),
        ] {
            let run = read(&odd, &odd);
            assert!(run.spec.0.is_empty() && run.status.0.is_empty(), "{odd}");
        }
        let run = read(
            &json!({"status": 7}),
            &json!({"conditions": "none", "results": {}}),
        );
        assert_eq!(run.spec.text("status"), None);
        assert_eq!(run.status.items("conditions").count(), 0);
    }
}
