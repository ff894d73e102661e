//! A run as the API server stored it, and the digest by which its spec is known again.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_model::id::Digest;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// A PipelineRun as the API server stored it, defaults filled in. Read only when asked.
#[derive(Clone, Debug)]
pub struct StoredRun {
    body: Bytes,
}

impl StoredRun {
    /// Takes an answer that was found to hold a `spec`.
    pub(crate) fn new(body: Bytes) -> Self {
        Self { body }
    }

    /// Digest of the stored `spec`, the same for every reading of it: see [`spec_digest`].
    ///
    /// # Errors
    /// The API server's answer is nested deeper than can be read.
    pub fn spec_digest(&self) -> Result<Digest, serde_json::Error> {
        #[derive(Deserialize)]
        struct Spec {
            spec: Value,
        }
        let Spec { spec } = serde_json::from_slice(&self.body)?;
        Ok(spec_digest(&spec))
    }

    /// The whole object.
    ///
    /// # Errors
    /// The API server's answer is nested deeper than can be read.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// The API server's answer, JSON.
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }
}

/// Digest of a spec that the API server returned, whichever way it was read: of its JSON without spaces, the keys of
/// every object in order of their bytes.
pub fn spec_digest(spec: &Value) -> Digest {
    struct Ordered<'a>(&'a Value);
    impl Serialize for Ordered<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
                Value::Object(fields) => {
                    let fields: BTreeMap<&String, &Value> = fields.iter().collect();
                    let mut map = serializer.serialize_map(Some(fields.len()))?;
                    for (name, value) in fields {
                        map.serialize_entry(name, &Ordered(value))?;
                    }
                    map.end()
                }
                simple => simple.serialize(serializer),
            }
        }
    }
    // Values have text keys alone, so writing them to memory can't fail.
    Digest::of(&serde_json::to_vec(&Ordered(spec)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_digest_of_a_spec_does_not_depend_on_the_order_of_its_keys() {
        let one: Value = serde_json::from_str(r#"{"b":[{"y":1,"x":"<"}],"a":null}"#).unwrap();
        let other: Value =
            serde_json::from_str(r#"{ "a": null, "b": [ {"x":"\u003c","y":1} ] }"#).unwrap();
        assert_eq!(spec_digest(&one), spec_digest(&other));
        assert_eq!(
            spec_digest(&one),
            Digest::of(br#"{"a":null,"b":[{"x":"<","y":1}]}"#)
        );
        assert_ne!(spec_digest(&one), spec_digest(&json!({"a": null})));
    }

    #[test]
    fn a_stored_run_has_the_digest_of_its_spec() {
        let body = Bytes::from(r#"{"metadata":{"uid":"u"},"spec":{"z":1,"a":2}}"#);
        let digest = StoredRun { body }.spec_digest().unwrap();
        assert_eq!(digest, spec_digest(&json!({"a": 2, "z": 1})));
    }
}
