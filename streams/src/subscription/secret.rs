//! Server secret: signs webhooks, wake ids and tokens.
//!
//! All keys are derived from 32 random bytes, which the store draws once. The server signs webhooks
//! with Ed25519 (RFC 8032), so that receivers need no shared secret. They read the public key from
//! a JSON Web Key Set (RFC 7517, RFC 8037). Only the server that issues a token verifies it, so
//! tokens carry a keyed hash, and the server stores none of them.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signer, SigningKey};
use pmx_core::time::Timestamp;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::limits::WAKE_TOKEN_SECONDS;

/// The secret of a server's subscriptions.
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

/// The public keys, as receivers read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Key {
    kty: &'static str,
    crv: &'static str,
    kid: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    x: String,
}

/// The wake that a token was issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WakeRef {
    /// The subscription's number, which is never reused.
    pub(super) subscription: u64,
    /// The wake's generation.
    pub(super) generation: u64,
}

/// Why the server rejects a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// This server did not issue it, or not as a token.
    Invalid,
    /// Too old.
    Expired,
}

impl Secret {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    pub(super) fn key_set(&self) -> KeySet {
        let key = Key {
            kty: "OKP",
            crv: "Ed25519",
            kid: self.key_id(),
            usage: "sig",
            alg: "EdDSA",
            x: BASE64URL_NOPAD.encode(self.signing_key().verifying_key().as_bytes()),
        };
        KeySet { keys: vec![key] }
    }

    /// The key's id. It is derived from the key, so that different keys have different ids.
    pub(super) fn key_id(&self) -> String {
        let public = self.signing_key().verifying_key();
        let hash = blake3::derive_key(KEY_ID, public.as_bytes());
        format!("ds_{}", BASE64URL_NOPAD.encode(&hash[..18]))
    }

    /// The `Webhook-Signature` of a body.
    pub(super) fn sign(&self, body: &[u8], now: Timestamp) -> String {
        let seconds = now.as_millis() / 1000;
        let mut signed = format!("{seconds}.").into_bytes();
        signed.extend_from_slice(body);
        let signature = self.signing_key().sign(&signed).to_bytes();
        let signature = BASE64URL_NOPAD.encode(&signature);
        format!("t={seconds},kid={},ed25519={signature}", self.key_id())
    }

    /// The id of a wake: unique and unguessable.
    pub(super) fn wake_id(&self, wake: WakeRef) -> String {
        let hash = self.hash(WAKE_ID, &wake.text());
        format!("w_{}", HEXLOWER.encode(&hash.as_bytes()[..12]))
    }

    /// An evenly distributed number for the jitter of a retry.
    pub(super) fn jitter_seed(&self, wake: WakeRef, failures: u64) -> u16 {
        let hash = self.hash(JITTER, &format!("{}.{failures}", wake.text()));
        let [low, high, ..] = *hash.as_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Issues the token of a wake: `<subscription>.<generation>.<expiry in seconds>.<keyed hash>`.
    pub(super) fn token(&self, wake: WakeRef, now: Timestamp) -> String {
        let until = now.as_millis() / 1000 + WAKE_TOKEN_SECONDS;
        let text = format!("{}.{until}", wake.text());
        let hash = self.hash(TOKEN, &text);
        format!("{text}.{}", BASE64URL_NOPAD.encode(hash.as_bytes()))
    }

    /// Verifies a token and returns its wake.
    pub(super) fn read_token(&self, token: &str, now: Timestamp) -> Result<WakeRef, BadToken> {
        let (text, hash) = token.rsplit_once('.').ok_or(BadToken::Invalid)?;
        let given = BASE64URL_NOPAD
            .decode(hash.as_bytes())
            .map_err(|_| BadToken::Invalid)?;
        let expected = self.hash(TOKEN, text);
        if !bool::from(given.ct_eq(expected.as_bytes().as_slice())) {
            return Err(BadToken::Invalid);
        }
        let mut numbers = text.split('.').map(str::parse);
        let mut next = || numbers.next().and_then(Result::ok).ok_or(BadToken::Invalid);
        let (subscription, generation, until): (_, _, u64) = (next()?, next()?, next()?);
        if now.as_millis() / 1000 > until {
            return Err(BadToken::Expired);
        }
        Ok(WakeRef {
            subscription,
            generation,
        })
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&blake3::derive_key(SIGNING, &self.0))
    }

    fn hash(&self, context: &'static str, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&blake3::derive_key(context, &self.0), text.as_bytes())
    }
}

impl WakeRef {
    fn text(self) -> String {
        format!("{}.{}", self.subscription, self.generation)
    }
}

const SIGNING: &str = "pmx-sync 2026-11 stream subscriptions: webhook signing key";
const KEY_ID: &str = "pmx-sync 2026-11 stream subscriptions: name of the signing key";
const WAKE_ID: &str = "pmx-sync 2026-11 stream subscriptions: wake id";
const TOKEN: &str = "pmx-sync 2026-11 stream subscriptions: token";
const JITTER: &str = "pmx-sync 2026-11 stream subscriptions: jitter";

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_778_324_210_999);

    fn wake(subscription: u64, generation: u64) -> WakeRef {
        WakeRef {
            subscription,
            generation,
        }
    }

    #[test]
    fn webhook_signatures_verify_with_the_public_key() {
        let secret = Secret::new([7; 32]);
        let json = serde_json::to_value(secret.key_set()).unwrap();
        let key = &json["keys"][0];
        assert_eq!(
            (&key["kty"], &key["crv"]),
            (&"OKP".into(), &"Ed25519".into())
        );
        assert_eq!((&key["alg"], &key["use"]), (&"EdDSA".into(), &"sig".into()));
        let header = secret.sign(b"{\"a\":1}", NOW);
        let fields: Vec<_> = header.split(',').collect();
        assert_eq!(fields[0], "t=1778324210");
        assert_eq!(fields[1], format!("kid={}", key["kid"].as_str().unwrap()));
        assert!(fields[1].starts_with("kid=ds_"));
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let signature = decode(fields[2].strip_prefix("ed25519=").unwrap());
        let signature = Signature::from_slice(&signature).unwrap();
        let x = decode(key["x"].as_str().unwrap()).try_into().unwrap();
        let public = VerifyingKey::from_bytes(&x).unwrap();
        let check = |body: &[u8]| public.verify_strict(body, &signature).is_ok();
        assert!(check(b"1778324210.{\"a\":1}"));
        assert!(!check(b"1778324211.{\"a\":1}"));
        assert!(!check(b"1778324210.{\"a\":2}"));
        assert_ne!(Secret::new([8; 32]).key_id(), secret.key_id());
    }

    #[test]
    fn tokens_are_valid_for_one_wake_until_they_expire() {
        let secret = Secret::new([7; 32]);
        let token = secret.token(wake(3, 9), NOW);
        assert_eq!(secret.read_token(&token, NOW), Ok(wake(3, 9)));
        let later = Timestamp::from_millis(NOW.as_millis() + WAKE_TOKEN_SECONDS * 1000);
        assert_eq!(secret.read_token(&token, later), Ok(wake(3, 9)));
        let late = Timestamp::from_millis(later.as_millis() + 1000);
        assert_eq!(secret.read_token(&token, late), Err(BadToken::Expired));
        let other = Secret::new([8; 32]);
        assert_eq!(other.read_token(&token, NOW), Err(BadToken::Invalid));
        for bad in [
            "",
            ".",
            "a.b.c.d",
            "3.9.1",
            &token.replacen('3', "4", 1),
            &token[1..],
        ] {
            assert_eq!(secret.read_token(bad, NOW), Err(BadToken::Invalid), "{bad}");
        }
    }

    #[test]
    fn wake_ids_differ_between_wakes_and_servers() {
        let secret = Secret::new([7; 32]);
        let id = secret.wake_id(wake(1, 1));
        assert!(id.starts_with("w_") && id.len() == 26, "{id}");
        assert_ne!(id, secret.wake_id(wake(1, 2)));
        assert_ne!(id, secret.wake_id(wake(11, 1)));
        assert_ne!(id, Secret::new([8; 32]).wake_id(wake(1, 1)));
    }
}
