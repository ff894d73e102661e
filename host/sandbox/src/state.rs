//! The plugin's own keys during a call: what it read, and its writes laid over it.
//!
//! Nothing is written here: the writes leave with the decision record and are committed with it, or not at all.

use std::collections::BTreeMap;

use penstock_model::limits::Limits;
use penstock_model::lookup::{Content, LookupError, StateValue};
use penstock_model::record::{Failure, StateChange, StateWrite};

/// Bytes of a key.
const KEY: usize = 512;
/// Keys that one listing gives at most, whatever a guest asks for.
const LISTED: u32 = 1_000;

/// Refuses a key that can't be one.
pub(crate) fn key(text: &str) -> Result<(), LookupError> {
    if text.is_empty() || text.len() > KEY {
        return Err(LookupError::Invalid(format!(
            "state: a key has 1 to {KEY} bytes, and this one has {}",
            text.len()
        )));
    }
    printable("state: a key", text)
}

/// Refuses the beginning of keys that no key can have.
pub(crate) fn prefix(text: &str) -> Result<(), LookupError> {
    printable("state: the beginning of a key", text)
}

/// People read keys, and Postgres takes no NUL.
fn printable(what: &str, text: &str) -> Result<(), LookupError> {
    if text.contains(char::is_control) {
        return Err(LookupError::Invalid(format!(
            "{what} holds a control character"
        )));
    }
    Ok(())
}

/// One call's view of its state.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    change: StateChange,
    known: BTreeMap<String, Option<Content>>,
    bytes: u64,
}

impl Overlay {
    /// The value, if this call wrote or read the key before.
    pub(crate) fn known(&self, key: &str) -> Option<Option<&Content>> {
        if let Some(write) = self.change.written.get(key) {
            return Some(write.value.as_ref());
        }
        self.known.get(key).map(Option::as_ref)
    }

    /// Notes what was read of a key.
    pub(crate) fn read(&mut self, key: String, value: Option<StateValue>) -> Option<Content> {
        let version = value.as_ref().map_or(0, |it| it.version);
        let content = value.map(|it| it.value);
        self.change.read.insert(key.clone(), version);
        self.known.insert(key, content.clone());
        content
    }

    /// How many keys must be asked for, so that `limit` (1,000 at most) are left after those that this call removed.
    pub(crate) fn to_ask(&self, prefix: &str, limit: u32) -> u32 {
        let removed = self
            .under(prefix)
            .filter(|(_, write)| write.value.is_none())
            .count();
        limit
            .min(LISTED)
            .saturating_add(u32::try_from(removed).unwrap_or(u32::MAX))
    }

    /// Notes a listing and lays the writes of this call over it.
    pub(crate) fn list(
        &mut self,
        prefix: &str,
        limit: u32,
        asked: u32,
        found: Vec<String>,
    ) -> Vec<String> {
        let mut keys: std::collections::BTreeSet<String> = found.iter().cloned().collect();
        for (key, write) in self.under(prefix) {
            if write.value.is_some() {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        self.change.listed.push((prefix.to_owned(), asked, found));
        let limit = usize::try_from(limit.min(LISTED)).unwrap_or(usize::MAX);
        keys.into_iter().take(limit).collect()
    }

    /// Writes or removes a [`key`].
    pub(crate) fn write(
        &mut self,
        key: String,
        write: StateWrite,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let size = |key: &str, write: &StateWrite| {
            let value = write.value.as_ref().map_or(0, |it| it.0.len());
            u64::try_from(key.len().saturating_add(value)).unwrap_or(u64::MAX)
        };
        let before = self.change.written.get(&key).map(|it| size(&key, it));
        let keys = self.change.written.len() + usize::from(before.is_none());
        if u64::try_from(keys).unwrap_or(u64::MAX) > u64::from(limits.state_keys) {
            return Err(Failure::StateExceeded {
                what: "keys".to_owned(),
                limit: u64::from(limits.state_keys),
            });
        }
        let bytes = self
            .bytes
            .saturating_sub(before.unwrap_or(0))
            .saturating_add(size(&key, &write));
        if bytes > limits.state_bytes {
            return Err(Failure::StateExceeded {
                what: "bytes".to_owned(),
                limit: limits.state_bytes,
            });
        }
        self.bytes = bytes;
        self.change.written.insert(key, write);
        Ok(())
    }

    /// Keys that the call would write.
    pub(crate) fn keys(&self) -> u32 {
        u32::try_from(self.change.written.len()).unwrap_or(u32::MAX)
    }

    /// Bytes that the call would write.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What goes into the record.
    pub(crate) fn into_change(self) -> StateChange {
        self.change
    }

    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a StateWrite)> {
        self.change
            .written
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(overlay: &mut Overlay, key: &str, value: Option<&[u8]>) -> Result<(), Failure> {
        let value = value.map(|it| Content(it.to_vec()));
        overlay.write(
            key.to_owned(),
            StateWrite { value, days: None },
            &Limits::default(),
        )
    }

    #[test]
    fn a_write_is_seen_by_the_same_call_at_once() {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.known("k"), None);
        put(&mut overlay, "k", Some(b"1")).unwrap();
        assert_eq!(overlay.known("k"), Some(Some(&Content(b"1".to_vec()))));
        put(&mut overlay, "k", None).unwrap();
        assert_eq!(overlay.known("k"), Some(None));
    }

    #[test]
    fn a_listing_shows_writes_and_hides_removals() {
        let mut overlay = Overlay::default();
        put(&mut overlay, "a/2", Some(b"")).unwrap();
        put(&mut overlay, "a/1", None).unwrap();
        put(&mut overlay, "b/1", Some(b"")).unwrap();
        let asked = overlay.to_ask("a/", 2);
        assert_eq!(asked, 3);
        let found = ["a/1", "a/3", "a/4"].map(str::to_owned).to_vec();
        assert_eq!(overlay.list("a/", 2, asked, found.clone()), ["a/2", "a/3"]);
        assert_eq!(overlay.into_change().listed, [("a/".to_owned(), 3, found)]);
    }

    #[test]
    fn a_key_with_a_control_character_is_refused() {
        for text in ["a\0", "\n", "a\u{7f}b", "\u{85}"] {
            let expect = "state: a key holds a control character".to_owned();
            assert_eq!(key(text), Err(LookupError::Invalid(expect)));
            assert!(prefix(text).is_err());
        }
        assert_eq!(key("ä/ b"), Ok(()));
        assert_eq!(prefix(""), Ok(()));
        assert!(key("").is_err() && key(&"k".repeat(KEY + 1)).is_err());
    }

    #[test]
    fn no_more_than_a_thousand_keys_are_listed_beside_the_removed_ones() {
        let mut overlay = Overlay::default();
        put(&mut overlay, "a/0", None).unwrap();
        put(&mut overlay, "a/new", Some(b"")).unwrap();
        put(&mut overlay, "b/0", None).unwrap();
        assert_eq!(overlay.to_ask("a/", u32::MAX), 1_001);
        assert_eq!(overlay.to_ask("", 999), 1_001);
        let found = (0..1_001).map(|n| format!("a/{n}")).collect();
        assert_eq!(overlay.list("a/", u32::MAX, 1_001, found).len(), 1_000);
    }

    #[test]
    fn a_key_that_is_written_twice_counts_once() {
        let mut overlay = Overlay::default();
        let limits = Limits {
            state_keys: 1,
            state_bytes: 6,
            ..Limits::default()
        };
        let mut write = |key: &str, value: &[u8]| {
            overlay.write(
                key.to_owned(),
                StateWrite {
                    value: Some(Content(value.to_vec())),
                    days: None,
                },
                &limits,
            )
        };
        assert!(write("k", b"12345").is_ok());
        assert!(write("k", b"54321").is_ok());
        assert!(
            matches!(write("k", b"123456"), Err(Failure::StateExceeded { what, .. }) if what == "bytes")
        );
        assert!(
            matches!(write("l", b""), Err(Failure::StateExceeded { what, .. }) if what == "keys")
        );
    }
}
