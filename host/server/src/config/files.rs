//! The files that a configuration names, and the secrets in them.
//!
//! Each is opened through a folder: a relative path can't leave the configuration's own, not by `..` and not by a link. What was read is remembered by path and
//! digest, so that a change is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use penstock_model::id::Digest;
use penstock_model::secret::Secret;

use super::reader::{Item, listed};
use super::tree::Value;

/// Bytes of a secret.
const MAX_SECRET: u64 = 64 * 1024;

/// What was read: each file with its digest, or none where it could not be read.
pub(super) type Seen = BTreeMap<PathBuf, Option<Digest>>;

/// Where a value of an environment variable is looked up.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Opens files that a configuration names.
pub(super) struct Files<'e> {
    /// The configuration's folder.
    base: PathBuf,
    environment: Environment<'e>,
    seen: RefCell<Seen>,
}

impl<'e> Files<'e> {
    /// Files beside a configuration in this folder.
    pub(super) fn new(base: PathBuf, environment: Environment<'e>) -> Self {
        Self {
            base,
            environment,
            seen: RefCell::default(),
        }
    }

    /// What was read.
    pub(super) fn into_seen(self) -> Seen {
        self.seen.into_inner()
    }

    /// The path as seen from the configuration's folder.
    pub(super) fn path(&self, named: &str) -> PathBuf {
        self.base.join(named)
    }

    /// Reads a whole file of at most so many bytes. The error is for people and holds nothing of the contents.
    pub(super) fn read(&self, named: &str, most: u64) -> Result<Vec<u8>, String> {
        let outcome = self.open(named, most);
        let digest = outcome.as_ref().ok().map(|bytes| Digest::of(bytes));
        self.seen.borrow_mut().insert(self.path(named), digest);
        outcome
    }

    fn open(&self, named: &str, most: u64) -> Result<Vec<u8>, String> {
        let path = Path::new(named);
        let (folder, inside) = if path.is_absolute() {
            let name = path
                .file_name()
                .ok_or_else(|| format!("`{named}` names no file"))?;
            (path.parent().unwrap_or(path), Path::new(name))
        } else {
            (self.base.as_path(), path)
        };
        let why = |error: std::io::Error| format!("`{named}` can't be read: {error}");
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(why)?;
        let file = dir.open(inside).map_err(why)?;
        let facts = file.metadata().map_err(why)?;
        if !facts.is_file() {
            return Err(format!("`{named}` is no file"));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(why)?;
        if bytes.len() as u64 > most {
            return Err(format!("`{named}` has more than {most} bytes"));
        }
        Ok(bytes)
    }

    /// A secret by its reference. What stands there in its stead is never repeated: it may be the secret itself.
    pub(super) fn secret(&self, item: Item<'_>) -> Option<Secret> {
        let refuse = |message: &str, help: &str| {
            item.collector
                .hidden(item.spot(), message, Some(help.to_owned()));
            None
        };
        const HELP: &str = "write `{ file: PATH }` or `{ env: NAME }`";
        let Value::Map(entries) = &item.node.value else {
            return refuse(
                "a secret never stands in the configuration itself, only where it is found",
                HELP,
            );
        };
        let [(key, node)] = entries.as_slice() else {
            return refuse("a secret is named by one reference", HELP);
        };
        let inner = Item { node, ..item };
        match key.text.as_str() {
            "file" => {
                item.collector.knows("file");
                self.in_file(inner)
            }
            "env" => {
                item.collector.knows("env");
                let name = inner.text()?;
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if !name.chars().all(fits) {
                    return refuse("this is no name of a variable", "write `{ env: NAME }`");
                }
                let found = (self.environment)(name).filter(|value| !value.is_empty());
                found.map(Secret::new).or_else(|| {
                    inner.wrong(
                        format!("the environment has no variable `{name}`, or it is empty"),
                        None,
                    )
                })
            }
            "vault" => refuse(
                "secrets from Vault are not built yet in this release",
                "let an agent write it into a file, and write `{ file: PATH }`",
            ),
            _ => refuse(
                &format!("a secret is found by {}", listed(&["file", "env"])),
                HELP,
            ),
        }
    }

    fn in_file(&self, item: Item<'_>) -> Option<Secret> {
        let named = item.text()?;
        let bytes = match self.read(named, MAX_SECRET) {
            Ok(bytes) => bytes,
            Err(why) => {
                // A name that leads to no file may be a secret that was pasted.
                let why = why.replace(&format!("`{named}`"), "the file that is named here");
                item.collector.hidden(item.spot(), why, None);
                return None;
            }
        };
        let text = String::from_utf8(bytes).ok();
        let Some(text) = text
            .as_deref()
            .map(|text| text.trim_end_matches(['\n', '\r']))
        else {
            return item.wrong(format!("`{named}` is no text"), None);
        };
        if text.is_empty() {
            return item.wrong(format!("`{named}` is empty"), None);
        }
        Some(Secret::new(text))
    }

    /// One secret, or a list of them while one is rotated.
    pub(super) fn secrets(&self, item: Item<'_>) -> Option<Vec<Secret>> {
        if matches!(item.node.value, Value::List(_)) {
            let read: Vec<Option<Secret>> = item
                .list()?
                .into_iter()
                .map(|item| self.secret(item))
                .collect();
            return read.into_iter().collect();
        }
        Some(vec![self.secret(item)?])
    }
}
