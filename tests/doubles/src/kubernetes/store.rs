//! Objects, their resource versions, and the log that watches read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::kinds::{KINDS, Kind};

/// A `Status` with a failure.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    /// Kind in plural and name of what is not there.
    missing: Option<(&'static str, String)>,
}

impl Refused {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            missing: None,
        }
    }

    /// An object that is not there.
    pub(crate) fn missing(kind: usize, name: &str) -> Self {
        let kind = &KINDS[kind];
        Self {
            missing: Some((kind.plural, name.to_owned())),
            ..Self::new(
                404,
                "NotFound",
                format!("{} \"{name}\" not found", qualified(kind)),
            )
        }
    }

    pub(crate) fn show(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some((kind, name)) = &self.missing {
            status["details"] = json!({ "name": name, "kind": kind });
        }
        status
    }
}

/// Kind, namespace (empty if it has none), name.
pub(crate) type Key = (usize, String, String);

/// One change, with the object before and after it.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) version: u64,
    pub(crate) kind: usize,
    pub(crate) namespace: String,
    pub(crate) old: Option<Value>,
    pub(crate) new: Option<Value>,
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) log: Vec<Logged>,
    pub(crate) version: u64,
    /// Watches from before this version are told 410.
    pub(crate) compacted: u64,
}

pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn qualified(kind: &Kind) -> String {
    if kind.group.is_empty() {
        kind.plural.to_owned()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    }
}

impl Store {
    pub(crate) fn get(&self, key: &Key) -> Result<&Value, Refused> {
        self.objects
            .get(key)
            .ok_or_else(|| Refused::missing(key.0, &key.2))
    }

    /// Stores a new object; the name may be made from `generateName`.
    pub(crate) fn create(
        &mut self,
        kind: usize,
        namespace: &str,
        mut object: Value,
        dry: bool,
    ) -> Result<Value, Refused> {
        let of = &KINDS[kind];
        if !object.is_object() || !object["metadata"].is_object() {
            return Err(Refused::new(
                400,
                "BadRequest",
                "the body is no object with metadata",
            ));
        }
        if object["kind"]
            .as_str()
            .is_some_and(|given| given != of.kind)
        {
            return Err(Refused::new(
                400,
                "BadRequest",
                format!("the body is no {}", of.kind),
            ));
        }
        if object["metadata"]["namespace"]
            .as_str()
            .is_some_and(|given| given != namespace)
        {
            let said = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refused::new(400, "BadRequest", said));
        }
        if of.namespaced
            && !self.objects.contains_key(&(
                Kind::named("namespaces"),
                String::new(),
                namespace.to_owned(),
            ))
        {
            return Err(Refused::missing(Kind::named("namespaces"), namespace));
        }
        let name = match object["metadata"]["name"].as_str() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => match object["metadata"]["generateName"].as_str() {
                Some(prefix) => format!("{prefix}{}", &Uuid::new_v4().simple().to_string()[..5]),
                None => {
                    return Err(Refused::new(
                        422,
                        "Invalid",
                        "name or generateName is required",
                    ));
                }
            },
        };
        let valid = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.')
        };
        if name.len() > 253 || !name.chars().all(valid) {
            let said = format!(
                "{}.{} \"{name}\" is invalid: metadata.name",
                of.kind, of.group
            );
            return Err(Refused::new(422, "Invalid", said));
        }
        let key = (kind, namespace.to_owned(), name.clone());
        if self.objects.contains_key(&key) {
            let said = format!("{} \"{name}\" already exists", qualified(of));
            return Err(Refused::new(409, "AlreadyExists", said));
        }
        object["kind"] = json!(of.kind);
        object["apiVersion"] = json!(of.api_version());
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        if of.namespaced {
            metadata["namespace"] = json!(namespace);
        }
        metadata["uid"] = json!(Uuid::new_v4().to_string());
        metadata["creationTimestamp"] = json!(now());
        metadata["generation"] = json!(1);
        if dry {
            Ok(object)
        } else {
            Ok(self.put(key, object))
        }
    }

    /// Replaces an object by what a client sent: the spec and metadata, or with `status` the status alone.
    pub(crate) fn replace(
        &mut self,
        key: &Key,
        mut sent: Value,
        status: bool,
        dry: bool,
    ) -> Result<Value, Refused> {
        let old = self.get(key)?.clone();
        let expected = sent["metadata"]["resourceVersion"].as_str();
        if expected.is_some_and(|version| {
            !version.is_empty() && old["metadata"]["resourceVersion"] != version
        }) {
            let said = format!(
                "Operation cannot be fulfilled on {} \"{}\": the object has been modified; \
                 please apply your changes to the latest version and try again",
                qualified(&KINDS[key.0]),
                key.2
            );
            return Err(Refused::new(409, "Conflict", said));
        }
        let mut new = old.clone();
        if status {
            new["status"] = sent["status"].take();
        } else {
            new = sent;
            if let Some(map) = new.as_object_mut() {
                map.remove("status");
            }
            if let Some(kept) = old.get("status") {
                new["status"] = kept.clone();
            }
            for field in [
                "name",
                "namespace",
                "uid",
                "creationTimestamp",
                "deletionTimestamp",
                "generation",
            ] {
                if let Some(kept) = old["metadata"].get(field) {
                    new["metadata"][field] = kept.clone();
                }
            }
            new["kind"] = old["kind"].clone();
            new["apiVersion"] = old["apiVersion"].clone();
            if new["spec"] != old["spec"] {
                new["metadata"]["generation"] =
                    json!(old["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
            }
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if dry || new == old {
            return Ok(new);
        }
        if new["metadata"]["deletionTimestamp"].is_string() && no_finalizers(&new) {
            self.erase(key);
            return Ok(new);
        }
        Ok(self.put(key.clone(), new))
    }

    /// Deletes, or marks for deletion while there are finalizers; what it owns goes with it.
    pub(crate) fn delete(&mut self, key: &Key) -> Result<Value, Refused> {
        let mut object = self.get(key)?.clone();
        if no_finalizers(&object) {
            self.erase(key);
            return Ok(object);
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(now());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            object = self.put(key.clone(), object);
        }
        Ok(object)
    }

    fn erase(&mut self, key: &Key) {
        let Some(mut object) = self.objects.remove(key) else {
            return;
        };
        self.version += 1;
        let uid = object["metadata"]["uid"].clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (kind, namespace, name) = key.clone();
        self.log.push(Logged {
            version: self.version,
            kind,
            namespace,
            old: Some(object),
            new: None,
        });
        let is_namespace = kind == Kind::named("namespaces");
        let owned = |(key, object): (&Key, &Value)| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            let by_owner =
                owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid));
            (by_owner || (is_namespace && key.1 == name)).then(|| key.clone())
        };
        let owned: Vec<Key> = self.objects.iter().filter_map(owned).collect();
        for key in owned {
            let _ = self.delete(&key);
        }
    }

    /// Writes an object with the next version.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (kind, namespace) = (key.0, key.1.clone());
        let old = self.objects.insert(key, object.clone());
        self.log.push(Logged {
            version: self.version,
            kind,
            namespace,
            old,
            new: Some(object.clone()),
        });
        object
    }
}

fn no_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
}
