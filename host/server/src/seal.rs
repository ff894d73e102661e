//! What the host's own key does: it seals what is kept in the store and must not be read there, and signs the links to its pages.
//!
//! Each use has a key of its own, made from the configured one by HMAC with the name of the use; a sealed value is bound to what it is about, so that one
//! can't be put in another's place. XChaCha20-Poly1305: its nonces may be random.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use penstock_model::id::EffectId;
use penstock_model::secret::Secret;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Characters that a key has at least.
pub const SHORTEST: usize = 32;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// The keys of a configuration.
#[derive(Clone)]
pub struct SealingKeys(Vec<Secret>);

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKeys({})", self.0.len())
    }
}

/// Why something can't be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The configuration has no key.
    #[error("there is no `sealing-key` in the configuration: make one with `openssl rand -hex 32`")]
    NoKey,
    /// None of the keys opens it.
    #[error(
        "none of the keys in `sealing-key` opens it: list the one that sealed it beside the new one"
    )]
    Unopened,
}

impl SealingKeys {
    /// The first seals and signs; each of them opens and checks.
    pub fn new(keys: &[Secret]) -> Self {
        Self(keys.to_vec())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seals `plain`, which is `about` something and opens for nothing else.
    ///
    /// # Errors
    /// There is no key.
    pub fn seal(&self, about: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.0.first().ok_or(SealError::NoKey)?;
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload {
            msg: plain,
            aad: about.as_bytes(),
        };
        let sealed = cipher(key)
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::NoKey)?;
        let mut out = nonce.to_vec();
        out.extend(sealed);
        Ok(out)
    }

    /// Opens what [`SealingKeys::seal`] sealed about the same.
    ///
    /// # Errors
    /// No key opens it.
    pub fn open(&self, about: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, text) = sealed
            .split_first_chunk::<NONCE>()
            .ok_or(SealError::Unopened)?;
        let opened = self.0.iter().find_map(|key| {
            let payload = Payload {
                msg: text,
                aad: about.as_bytes(),
            };
            cipher(key).decrypt(&XNonce::from(*nonce), payload).ok()
        });
        opened.map(Zeroizing::new).ok_or(SealError::Unopened)
    }

    /// What lets whoever holds it see the page of a run; none: there is no key.
    pub fn pass(&self, run: &EffectId) -> Option<String> {
        let mac = mac(self.0.first()?, "page", run.hex().as_bytes());
        Some(URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether this is the pass of the run, by any of the keys.
    pub fn is_pass(&self, run: &EffectId, given: &str) -> bool {
        let Ok(given) = URL_SAFE_NO_PAD.decode(given) else {
            return false;
        };
        let given = Secret::new(hex_of(&given));
        self.0.iter().any(|key| {
            let right = mac(key, "page", run.hex().as_bytes());
            Secret::new(hex_of(&right)) == given
        })
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &Secret, word: &str, about: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key.reveal().as_bytes());
    mac.update(b"penstock/");
    mac.update(word.as_bytes());
    mac.update(b"/");
    mac.update(about);
    mac.finalize().into_bytes().into()
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("a key of any length")
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    let bytes = Zeroizing::new(mac(key, "seal", b""));
    XChaCha20Poly1305::new(&Key::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(of: &[&str]) -> SealingKeys {
        SealingKeys::new(
            &of.iter()
                .map(|key| Secret::new(key.repeat(32)))
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn what_is_sealed_is_not_seen_and_opens_for_what_it_is_about_alone() {
        let keys = keys(&["a"]);
        let sealed = keys.seal("deploy-token/1", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(&**keys.open("deploy-token/1", &sealed).unwrap(), b"hunter2");
        assert_eq!(
            keys.open("deploy-token/2", &sealed),
            Err(SealError::Unopened)
        );
        let mut changed = sealed;
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        assert_eq!(
            keys.open("deploy-token/1", &changed),
            Err(SealError::Unopened)
        );
        assert_eq!(
            keys.open("deploy-token/1", b"short"),
            Err(SealError::Unopened)
        );
    }

    #[test]
    fn a_key_is_rotated_by_listing_the_new_one_first() {
        let sealed = keys(&["a"]).seal("x", b"hunter2").unwrap();
        assert!(keys(&["b", "a"]).open("x", &sealed).is_ok());
        assert_eq!(keys(&["b"]).open("x", &sealed), Err(SealError::Unopened));
        assert_eq!(keys(&[]).seal("x", b""), Err(SealError::NoKey));
    }

    #[test]
    fn a_pass_is_good_for_one_run_and_as_long_as_its_key_is_listed() {
        let (one, two) = (
            EffectId::parse(&"ab".repeat(32)).unwrap(),
            EffectId::parse(&"cd".repeat(32)).unwrap(),
        );
        let pass = keys(&["a"]).pass(&one).unwrap();
        assert!(keys(&["a"]).is_pass(&one, &pass));
        assert!(keys(&["b", "a"]).is_pass(&one, &pass));
        assert!(!keys(&["a"]).is_pass(&two, &pass));
        assert!(!keys(&["b"]).is_pass(&one, &pass));
        for odd in ["", "x", "%%", &"A".repeat(500)] {
            assert!(!keys(&["a"]).is_pass(&one, odd), "{odd}");
        }
        assert_eq!(keys(&[]).pass(&one), None);
        assert!(!format!("{:?}", keys(&["a"])).contains("aaa"));
    }
}
