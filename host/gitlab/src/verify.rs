//! Tells GitLab's requests from anybody else's.
//!
//! Does no IO. Only [`verify`] makes a [`VerifiedBody`], so what was not checked can never become an event. Two schemes:
//!
//! - `X-Gitlab-Token`, a shared text;
//! - a signing token (GitLab 19 and later; the Standard Webhooks scheme): `webhook-signature` holds `v1,` and the base64 of
//!   HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`, perhaps several of them, split by spaces. The key is
//!   written `whsec_` and base64.
//!
//! A signature that is present must verify: there is no falling back to the token. What the headers alone rule out is refused by [`screen`]
//! before the body is read. The HMAC is made here and not by the
//! `standardwebhooks` crate, which holds one key, reads its own clock, takes the first of repeated headers, wants a body of
//! UTF-8 and compares by a loop that the compiler may shorten; a test has it sign for us.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use penstock_model::id::{Digest, Timestamp};
use penstock_model::secret::Secret;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

pub(crate) const TOKEN: &str = "x-gitlab-token";
pub(crate) const SIGNATURE: &str = "webhook-signature";
pub(crate) const MESSAGE_ID: &str = "webhook-id";
const MESSAGE_TIME: &str = "webhook-timestamp";
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Headers that decide who speaks and what the delivery is called: each may come once.
const ONCE: [&str; 5] = [TOKEN, SIGNATURE, MESSAGE_ID, MESSAGE_TIME, IDEMPOTENCY_KEY];

/// More signatures than GitLab or a rotation ever needs; the rest is not looked at.
const MOST_SIGNATURES: usize = 16;

/// Length of an HMAC-SHA256.
const HMAC_BYTES: usize = 32;

/// The keys of one hook: several while one is rotated.
pub struct Keys {
    /// SHA-256 of each token: equal lengths compare in equal time, and the token itself is not kept.
    tokens: Vec<Digest>,
    signing: Vec<Zeroizing<Vec<u8>>>,
    freshness: Duration,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("tokens", &self.tokens.len())
            .field("signing", &self.signing.len())
            .field("freshness", &self.freshness)
            .finish()
    }
}

/// Why keys can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none: everybody could speak.
    #[error("a hook needs a `signing-token` or a `token`")]
    NoKeys,
    /// An empty token.
    #[error("the hook's token is empty")]
    EmptyToken,
    /// Not `whsec_` and base64.
    #[error(
        "the hook's signing token is malformed: it is `whsec_` and the base64 text that GitLab showed"
    )]
    SigningToken,
}

impl Keys {
    /// Takes the keys of a hook in: texts of `X-Gitlab-Token`, and signing tokens as GitLab shows them.
    ///
    /// # Errors
    /// There is none, one is empty, or a signing token is malformed.
    pub fn new(tokens: Vec<Secret>, signing: Vec<Secret>) -> Result<Self, KeyError> {
        if tokens.is_empty() && signing.is_empty() {
            return Err(KeyError::NoKeys);
        }
        if tokens.iter().any(|token| token.reveal().is_empty()) {
            return Err(KeyError::EmptyToken);
        }
        let digest = |token: &Secret| Digest::of(token.reveal().as_bytes());
        let decode = |key: &Secret| {
            let text = key.reveal().trim().strip_prefix("whsec_");
            let bytes = text.and_then(|text| STANDARD.decode(text).ok());
            let bytes = bytes.filter(|bytes| bytes.len() >= 16);
            bytes.map(Zeroizing::new).ok_or(KeyError::SigningToken)
        };
        Ok(Self {
            tokens: tokens.iter().map(digest).collect(),
            signing: signing.iter().map(decode).collect::<Result<_, _>>()?,
            freshness: Duration::from_secs(300),
        })
    }

    /// Sets how far a signed request's time may be from ours, either way; 300 s unless told.
    #[must_use]
    pub fn with_freshness(mut self, freshness: Duration) -> Self {
        self.freshness = freshness;
        self
    }
}

/// Why a request is not taken for GitLab's. It never says what would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Neither token nor signature.
    #[error(
        "the request carries no credential: set the hook's signing token or secret token in GitLab"
    )]
    NoCredential,
    /// A header that decides came more than once.
    #[error("the header `{header}` came more than once")]
    Repeated {
        /// Its name.
        header: &'static str,
    },
    /// The token is none of ours.
    #[error("`x-gitlab-token` is not the hook's")]
    WrongToken,
    /// Only signing tokens are configured and the request has no signature.
    #[error("this hook wants a signature (`webhook-signature`): set its signing token in GitLab")]
    SignatureWanted,
    /// A signature came and no signing token is configured.
    #[error("the request is signed and the hook has no `signing-token` to check it with")]
    SignatureUnknown,
    /// A header that the signature covers is missing or malformed.
    #[error("the request is signed and `{header}` is missing or malformed")]
    Malformed {
        /// Its name.
        header: &'static str,
    },
    /// The signed time is too far from ours.
    #[error(
        "the signed time is {seconds} s from this host's clock and {limit} s are allowed: check both clocks"
    )]
    Stale {
        /// How far, either way.
        seconds: u64,
        /// How far it may be.
        limit: u64,
    },
    /// No signature fits.
    #[error("the signature does not fit")]
    WrongSignature,
}

/// The body and headers of a request that GitLab made. Only [`verify`] makes one, and [`crate::hook_log`], of what GitLab itself answers to a
/// question of ours.
pub struct VerifiedBody {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `webhook-id`, where a signature covers it.
    pub(crate) signed_id: Option<String>,
}

impl std::fmt::Debug for VerifiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedBody")
            .field("bytes", &self.body.len())
            .field("signed_id", &self.signed_id)
            .finish_non_exhaustive()
    }
}

impl VerifiedBody {
    /// Of a row in GitLab's own log of the hook.
    pub(crate) fn read_back(body: Bytes, headers: HeaderMap) -> Self {
        Self {
            headers,
            body,
            signed_id: None,
        }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// It was a signature that verified, not a token.
    pub fn is_signed(&self) -> bool {
        self.signed_id.is_some()
    }
}

/// Whether a request could verify, as far as its headers tell: before its body is read. It says no more than [`verify`] would say of it, and a
/// request that passes is verified all the same: a signature is over the body.
///
/// # Errors
/// Whatever the body is, [`verify`] would refuse it.
pub fn screen(keys: &Keys, headers: &HeaderMap, now: Timestamp) -> Result<(), VerifyError> {
    claim(keys, headers, now).map(drop)
}

/// Checks a request against a hook's keys, in a time that does not depend on how much of a credential is right.
///
/// # Errors
/// The request is not GitLab's, as far as can be told: answer 401 and keep nothing of it.
pub fn verify(
    keys: &Keys,
    headers: &HeaderMap,
    body: Bytes,
    now: Timestamp,
) -> Result<VerifiedBody, VerifyError> {
    let signed_id = match claim(keys, headers, now)? {
        Claim::Token => None,
        Claim::Signed(signed) => Some(signed.check(keys, &body)?),
    };
    Ok(VerifiedBody {
        headers: headers.clone(),
        body,
        signed_id,
    })
}

/// What a request's headers show that it is GitLab's by.
enum Claim<'a> {
    /// The hook's token, which was held against ours.
    Token,
    /// Signatures, which only the body can bear out.
    Signed(Signed<'a>),
}

/// A signature that is present decides alone, whatever token is beside it.
fn claim<'a>(
    keys: &Keys,
    headers: &'a HeaderMap,
    now: Timestamp,
) -> Result<Claim<'a>, VerifyError> {
    for header in ONCE {
        if headers.get_all(header).iter().nth(1).is_some() {
            return Err(VerifyError::Repeated { header });
        }
    }
    match headers.get(SIGNATURE) {
        Some(signature) => Signed::read(keys, headers, signature, now).map(Claim::Signed),
        None => check_token(keys, headers).map(|()| Claim::Token),
    }
}

fn check_token(keys: &Keys, headers: &HeaderMap) -> Result<(), VerifyError> {
    if keys.tokens.is_empty() {
        return Err(VerifyError::SignatureWanted);
    }
    let token = headers.get(TOKEN).ok_or(VerifyError::NoCredential)?;
    let given = Digest::of(token.as_bytes());
    let mut fits = Choice::from(0);
    for token in &keys.tokens {
        fits |= token.as_bytes().ct_eq(given.as_bytes());
    }
    if bool::from(fits) {
        Ok(())
    } else {
        Err(VerifyError::WrongToken)
    }
}

/// A signed request whose time is ours, its signatures not yet checked.
struct Signed<'a> {
    id: &'a str,
    time: &'a str,
    signatures: Vec<Vec<u8>>,
}

impl<'a> Signed<'a> {
    fn read(
        keys: &Keys,
        headers: &'a HeaderMap,
        signature: &http::HeaderValue,
        now: Timestamp,
    ) -> Result<Self, VerifyError> {
        if keys.signing.is_empty() {
            return Err(VerifyError::SignatureUnknown);
        }
        let text = |header: &'static str| {
            let value = headers.get(header).and_then(|value| value.to_str().ok());
            value
                .filter(|value| !value.is_empty())
                .ok_or(VerifyError::Malformed { header })
        };
        let (id, time) = (text(MESSAGE_ID)?, text(MESSAGE_TIME)?);
        let signed_at: u64 = time.parse().map_err(|_| VerifyError::Malformed {
            header: MESSAGE_TIME,
        })?;
        let seconds = signed_at.abs_diff(now.0 / 1000);
        let limit = keys.freshness.as_secs();
        if seconds > limit {
            return Err(VerifyError::Stale { seconds, limit });
        }
        let signatures = signature
            .to_str()
            .map_err(|_| VerifyError::Malformed { header: SIGNATURE })?;
        let signatures: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|one| one.strip_prefix("v1,"))
            .filter_map(|one| STANDARD.decode(one).ok())
            .filter(|one| one.len() == HMAC_BYTES)
            .take(MOST_SIGNATURES)
            .collect();
        if signatures.is_empty() {
            // None of them could fit any body.
            return Err(VerifyError::WrongSignature);
        }
        Ok(Self {
            id,
            time,
            signatures,
        })
    }

    /// Gives the id that a signature covers.
    fn check(&self, keys: &Keys, body: &[u8]) -> Result<String, VerifyError> {
        let mut fits = Choice::from(0);
        for key in &keys.signing {
            // HMAC takes keys of any length: this arm is never taken.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
                continue;
            };
            for part in [self.id.as_bytes(), b".", self.time.as_bytes(), b".", body] {
                mac.update(part);
            }
            let wanted = mac.finalize().into_bytes();
            for signature in &self.signatures {
                fits |= wanted.as_slice().ct_eq(signature);
            }
        }
        if bool::from(fits) {
            Ok(self.id.to_owned())
        } else {
            Err(VerifyError::WrongSignature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn keys(tokens: &[&str], signing: &[&str]) -> Keys {
        let secrets = |texts: &[&str]| texts.iter().map(|text| Secret::new(*text)).collect();
        Keys::new(secrets(tokens), secrets(signing)).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn signature(key: &str, id: &str, seconds: u64, body: &str) -> String {
        let webhook = standardwebhooks::Webhook::new(key).unwrap();
        let seconds = i64::try_from(seconds).unwrap();
        webhook.sign(id, seconds, body.as_bytes()).unwrap()
    }

    fn check(keys: &Keys, headers: &HeaderMap, body: &str) -> Result<Option<String>, VerifyError> {
        verify(keys, headers, Bytes::from(body.to_owned()), NOW).map(|it| it.signed_id)
    }

    fn signed(signatures: &str, seconds: u64) -> HeaderMap {
        headers(&[
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", &seconds.to_string()),
            ("webhook-signature", signatures),
        ])
    }

    #[test]
    fn any_of_several_tokens_is_taken_and_no_other() {
        let keys = keys(&["old", "new"], &[]);
        for token in ["old", "new"] {
            assert_eq!(check(&keys, &headers(&[(TOKEN, token)]), "{}"), Ok(None));
        }
        for token in ["", "ol", "oldd", "OLD"] {
            let found = check(&keys, &headers(&[(TOKEN, token)]), "{}");
            assert_eq!(found, Err(VerifyError::WrongToken), "{token}");
        }
        assert_eq!(
            check(&keys, &HeaderMap::new(), "{}"),
            Err(VerifyError::NoCredential)
        );
    }

    #[test]
    fn any_of_several_signatures_may_fit_any_of_several_keys() {
        let seconds = NOW.0 / 1000;
        let wrong = signature(OTHER, "msg_1", seconds, "other body");
        let right = signature(OTHER, "msg_1", seconds, "{}");
        let both = format!("{wrong} v2,AAAA {right}");
        let found = check(&keys(&[], &[KEY, OTHER]), &signed(&both, seconds), "{}");
        assert_eq!(found, Ok(Some("msg_1".to_owned())));
        let found = check(&keys(&[], &[KEY]), &signed(&both, seconds), "{}");
        assert_eq!(found, Err(VerifyError::WrongSignature));
    }

    #[test]
    fn a_signature_covers_body_id_and_time() {
        let seconds = NOW.0 / 1000;
        let keys = keys(&[], &[KEY]);
        let right = signature(KEY, "msg_1", seconds, "{}");
        assert!(check(&keys, &signed(&right, seconds), "{}").is_ok());
        for (headers, body) in [
            (signed(&right, seconds), "{ }"),
            (signed(&right, seconds + 1), "{}"),
            (
                signed(&signature(KEY, "msg_2", seconds, "{}"), seconds),
                "{}",
            ),
        ] {
            assert_eq!(
                check(&keys, &headers, body),
                Err(VerifyError::WrongSignature)
            );
        }
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_either_way() {
        let keys = keys(&[], &[KEY]);
        let now = NOW.0 / 1000;
        for (seconds, fresh) in [
            (now - 300, true),
            (now - 301, false),
            (now + 300, true),
            (now + 301, false),
        ] {
            let right = signature(KEY, "msg_1", seconds, "{}");
            let found = check(&keys, &signed(&right, seconds), "{}");
            assert_eq!(found.is_ok(), fresh, "{seconds}: {found:?}");
        }
    }

    #[test]
    fn a_wrong_signature_is_not_made_good_by_the_right_token() {
        let mut headers = signed("v1,AAAA", NOW.0 / 1000);
        headers.insert(TOKEN, "secret".parse().unwrap());
        let both = keys(&["secret"], &[KEY]);
        assert_eq!(
            check(&both, &headers, "{}"),
            Err(VerifyError::WrongSignature)
        );
        let token_only = keys(&["secret"], &[]);
        assert_eq!(
            check(&token_only, &headers, "{}"),
            Err(VerifyError::SignatureUnknown)
        );
    }

    #[test]
    fn a_token_is_refused_where_only_signing_tokens_are_configured() {
        let found = check(&keys(&[], &[KEY]), &headers(&[(TOKEN, "x")]), "{}");
        assert_eq!(found, Err(VerifyError::SignatureWanted));
    }

    #[test]
    fn repeated_credentials_are_refused() {
        let keys = keys(&["secret"], &[KEY]);
        for header in ONCE {
            let found = check(
                &keys,
                &headers(&[(header, "secret"), (header, "secret")]),
                "{}",
            );
            assert_eq!(found, Err(VerifyError::Repeated { header }));
        }
    }

    #[test]
    fn a_signature_without_its_id_or_time_is_malformed() {
        let keys = keys(&[], &[KEY]);
        for missing in [MESSAGE_ID, MESSAGE_TIME] {
            let mut headers = signed("v1,AAAA", NOW.0 / 1000);
            headers.remove(missing);
            let found = check(&keys, &headers, "{}");
            assert_eq!(found, Err(VerifyError::Malformed { header: missing }));
        }
    }

    #[test]
    fn headers_that_no_body_could_make_good_are_refused_before_it_is_read() {
        let now = NOW.0 / 1000;
        let both = keys(&["secret"], &[KEY]);
        let screened = |headers: &HeaderMap| screen(&both, headers, NOW);
        let wrong_token = headers(&[(TOKEN, "guess")]);
        assert_eq!(screened(&wrong_token), Err(VerifyError::WrongToken));
        assert_eq!(screened(&HeaderMap::new()), Err(VerifyError::NoCredential));
        assert_eq!(screened(&headers(&[(TOKEN, "secret")])), Ok(()));
        for nothing in ["", "v1,", "v1,AAAA", "v2,AAAA", "nonsense"] {
            let mut signed = signed(nothing, now);
            signed.insert(TOKEN, "secret".parse().unwrap());
            let found = screened(&signed);
            assert_eq!(found, Err(VerifyError::WrongSignature), "{nothing}");
        }
        let stale = signed(&signature(KEY, "msg_1", now - 301, "{}"), now - 301);
        assert!(matches!(
            screened(&stale),
            Err(VerifyError::Stale { seconds: 301, .. })
        ));
        // Whether a signature fits is the body's to say.
        let of_another_body = signed(&signature(KEY, "msg_1", now, "other"), now);
        assert_eq!(screened(&of_another_body), Ok(()));
        assert_eq!(
            check(&both, &of_another_body, "{}"),
            Err(VerifyError::WrongSignature)
        );
    }

    #[test]
    fn keys_that_would_let_everybody_in_are_refused() {
        let new = |tokens: &[&str], signing: &[&str]| {
            let secrets = |texts: &[&str]| texts.iter().map(|text| Secret::new(*text)).collect();
            Keys::new(secrets(tokens), secrets(signing)).map(|_| ())
        };
        assert_eq!(new(&[], &[]), Err(KeyError::NoKeys));
        assert_eq!(new(&[""], &[]), Err(KeyError::EmptyToken));
        for key in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
            "whsec_?",
        ] {
            assert_eq!(new(&[], &[key]), Err(KeyError::SigningToken), "{key}");
        }
    }

    #[test]
    fn keys_and_bodies_do_not_print() {
        let keys = keys(&["hunter2"], &[KEY]);
        assert!(!format!("{keys:?}").contains("hunter2"));
        let body = verify(
            &keys,
            &headers(&[(TOKEN, "hunter2")]),
            Bytes::from("{\"a\":1}"),
            NOW,
        );
        let shown = format!("{:?}", body.unwrap());
        assert!(
            !shown.contains("hunter2") && !shown.contains("\"a\""),
            "{shown}"
        );
    }
}
