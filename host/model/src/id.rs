//! Names, ids and digests, each as a type of its own so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// Name of a GitLab instance in the configuration.
    InstanceName;
    /// Name of a hook of an instance in the configuration.
    HookName;
    /// Id of a delivery: the hook's name, a colon, and `webhook-id` of a verified signature, else `Idempotency-Key`; without either `sha256:` of instance, hook,
    /// event header and body.
    DeliveryId;
    /// A tenant's pattern as the configuration writes it, such as `acme/{team}/**`.
    TenantName;
    /// Name of a plugin in the configuration.
    PluginName;
    /// Name of a cluster in the configuration.
    ClusterName;
    /// Name of a place of a tenant.
    PlaceName;
    /// Name of a route: the tenant's pattern and the plugin it leads to.
    RouteName;
    /// Key that a plugin gave an effect; unique in its plan.
    EffectKey;
    /// Full ref name, such as `refs/heads/main`.
    RefName;
    /// Full path of a project, such as `acme/payments/api`.
    ProjectPath;
}

/// GitLab's id of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u64);

/// GitLab's id of a project. It stays when the path changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub u64);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time now, by the system's clock.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// This time and so much later.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// This time and so much earlier, not before 1970.
    pub fn minus(self, duration: std::time::Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A full commit id: 40 or 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CommitId(String);

/// Why a text is no commit id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no full commit id: 40 or 64 lower-case hexadecimal digits are wanted")]
pub struct NotACommit {
    /// What was given, cut after 80 characters.
    pub text: String,
}

impl CommitId {
    /// Reads a full commit id. GitLab's id of 'nothing' (all zeros) is one too: see [`CommitId::is_zero`].
    pub fn parse(text: &str) -> Result<Self, NotACommit> {
        let full = matches!(text.len(), 40 | 64)
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if full {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotACommit {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// All zeros: git's way to say that there is no commit.
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CommitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of bytes; written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no digest: `sha256:` and 64 hexadecimal digits are wanted")]
pub struct NotADigest {
    /// What was given, cut after 80 characters.
    pub text: String,
}

impl Digest {
    /// Digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digest of parts, each preceded by its length, so that no two lists of parts give the same bytes.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Reads `sha256:<hex>`.
    pub fn parse(text: &str) -> Result<Self, NotADigest> {
        let wrong = || NotADigest {
            text: text.chars().take(80).collect(),
        };
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }

    /// The 64 hexadecimal digits without `sha256:`.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Id of an effect: hash of (instance, delivery, route, attempt, key). Names in Kubernetes come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(Digest);

impl EffectId {
    /// The id of one effect of one decision.
    pub fn new(
        instance: &InstanceName,
        delivery: &DeliveryId,
        route: &RouteName,
        attempt: u32,
        key: &EffectKey,
    ) -> Self {
        let attempt = attempt.to_be_bytes();
        Self(Digest::of_parts([
            instance.as_str().as_bytes(),
            delivery.as_str().as_bytes(),
            route.as_str().as_bytes(),
            attempt.as_slice(),
            key.as_str().as_bytes(),
        ]))
    }

    /// Id of an effect that the host itself makes, such as the status of a run: named by the effect it follows from and a key of the host's.
    pub fn follow_up(&self, key: &str) -> Self {
        Self(Digest::of_parts([
            self.0.as_bytes().as_slice(),
            key.as_bytes(),
        ]))
    }

    /// Reads the 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, NotADigest> {
        Digest::parse(&format!("sha256:{text}")).map(Self)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.hex()
    }

    /// Name of the object in Kubernetes that this effect makes: a DNS label of at most 63 characters that begins with a
    /// readable prefix and ends in 20 digits of the id.
    pub fn object_name(&self, prefix: &str) -> String {
        let mut readable = String::new();
        for c in prefix.chars().map(|c| c.to_ascii_lowercase()) {
            let fits = c.is_ascii_lowercase() || c.is_ascii_digit();
            if fits {
                readable.push(c);
            } else if !readable.is_empty() && !readable.ends_with('-') {
                readable.push('-');
            }
            if readable.len() == 40 {
                break;
            }
        }
        let readable = readable.trim_end_matches('-');
        let id: String = self.hex().chars().take(20).collect();
        // A DNS label begins with a letter here: object names that begin with a digit are legal, label values in some tools are not.
        match readable.chars().next() {
            Some(first) if first.is_ascii_lowercase() => format!("{readable}-{id}"),
            Some(_) => format!("run-{readable}-{id}"),
            None => format!("run-{id}"),
        }
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &str) -> EffectId {
        EffectId::new(&"main".into(), &"d1".into(), &"r".into(), 1, &key.into())
    }

    #[test]
    fn parts_that_join_to_the_same_bytes_have_different_digests() {
        let left = Digest::of_parts([b"ab".as_slice(), b"c".as_slice()]);
        let right = Digest::of_parts([b"a".as_slice(), b"bc".as_slice()]);
        assert_ne!(left, right);
    }

    #[test]
    fn an_object_name_is_a_dns_label_whatever_the_prefix() {
        for prefix in [
            "Build",
            "9lives",
            "",
            "----",
            "ünïcode",
            &"x".repeat(200),
            "a_b.c/d",
        ] {
            let name = id("k").object_name(prefix);
            assert!(name.len() <= 63, "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(
                name.ends_with(|c: char| c.is_ascii_alphanumeric()),
                "{name}"
            );
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
        }
    }

    #[test]
    fn another_key_gives_another_id() {
        assert_ne!(id("run/a"), id("run/b"));
    }

    #[test]
    fn a_time_moves_both_ways_and_stays_a_time() {
        use std::time::Duration;
        let time = Timestamp(10_000);
        assert_eq!(time.plus(Duration::from_secs(3)), Timestamp(13_000));
        assert_eq!(time.minus(Duration::from_secs(3)), Timestamp(7_000));
        assert_eq!(time.minus(Duration::from_secs(11)), Timestamp(0));
        assert_eq!(time.minus(Duration::MAX), Timestamp(0));
        assert_eq!(time.plus(Duration::MAX), Timestamp(u64::MAX));
    }

    #[test]
    fn a_short_or_upper_case_id_is_no_commit() {
        assert!(CommitId::parse("abc").is_err());
        assert!(CommitId::parse(&"A".repeat(40)).is_err());
        assert!(CommitId::parse(&"a".repeat(40)).is_ok());
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert!(Digest::parse("sha256:zz").is_err());
    }
}
