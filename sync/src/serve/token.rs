//! Deploy tokens: a deploy's number with a MAC, which a client repeats to get that deploy or a
//! newer one.
//!
//! Only the server can make tokens, so a client can claim no deploy that the server never showed.
//! The key is derived from the publish secret, so all hosts and isolates of one server share it.

use std::sync::OnceLock;

use data_encoding::BASE64URL_NOPAD;
use pmx_core::channel::Channel;
use pmx_core::hash::{DEPLOY_TOKEN_CONTEXT, Hash};
use pmx_core::limits::EXACT_INTEGER_MAX;
use subtle::ConstantTimeEq as _;

/// Makes and checks the tokens of one server. Without a secret it makes none and accepts none.
pub(super) struct DeployTokens {
    secret: Option<String>,
    /// Derived from the secret for the first token.
    key: OnceLock<Hash>,
}

/// Rounds of the key derivation. A token lets its holder test guesses of the secret offline. The
/// rounds make each guess dearer, and cost a millisecond when the server makes its first token.
const ROUNDS: u32 = 16_384;

/// Bytes of a MAC: an attacker needs 2^64 requests for an even chance at half of that.
const MAC_BYTES: usize = 16;

impl DeployTokens {
    /// The tokens of a server with this publish secret.
    pub(super) fn of(secret: Option<&str>) -> Self {
        let secret = secret.filter(|secret| !secret.is_empty());
        Self {
            secret: secret.map(str::to_owned),
            key: OnceLock::new(),
        }
    }

    fn key(&self) -> Option<&Hash> {
        let secret = self.secret.as_ref()?;
        Some(self.key.get_or_init(|| {
            let first = Hash::derived(DEPLOY_TOKEN_CONTEXT, secret.as_bytes());
            (1..ROUNDS).fold(first, |key, _| {
                Hash::derived(DEPLOY_TOKEN_CONTEXT, key.as_bytes())
            })
        }))
    }

    /// The token of a channel's deploy: visible ASCII that fits a cookie.
    pub(super) fn token(&self, channel: &Channel, deploy: u64) -> Option<String> {
        let mac = mac(self.key()?, channel, deploy);
        Some(format!("{deploy}.{}", BASE64URL_NOPAD.encode(&mac)))
    }

    /// The deploy that a token of this channel names; `None` if the server did not make the token.
    pub(super) fn read(&self, channel: &Channel, token: &str) -> Option<u64> {
        let (number, given) = token.split_once('.')?;
        let deploy = plain_number(number)?;
        let given = BASE64URL_NOPAD.decode(given.as_bytes()).ok()?;
        let expected = mac(self.key()?, channel, deploy);
        bool::from(given.ct_eq(&expected)).then_some(deploy)
    }
}

fn mac(key: &Hash, channel: &Channel, deploy: u64) -> [u8; MAC_BYTES] {
    let label = channel.to_string();
    let input = [label.as_bytes(), &[0], &deploy.to_be_bytes()].concat();
    let whole = Hash::keyed(key, &input);
    *whole.as_bytes().first_chunk().unwrap_or(&[0; MAC_BYTES])
}

fn plain_number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_plain.then(|| text.parse().ok()).flatten()?;
    (number <= EXACT_INTEGER_MAX && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(label: &str) -> Channel {
        Channel::of_label(label).unwrap()
    }

    #[test]
    fn token_is_read_by_its_own_server_and_channel_only() {
        let (mine, other) = (
            DeployTokens::of(Some("s3cret")),
            DeployTokens::of(Some("other")),
        );
        let docs = channel("docs");
        let token = mine.token(&docs, 12).unwrap();
        assert_eq!(mine.read(&docs, &token), Some(12));
        assert_eq!(
            DeployTokens::of(Some("s3cret")).read(&docs, &token),
            Some(12)
        );
        assert_eq!(other.read(&docs, &token), None);
        assert_eq!(DeployTokens::of(None).read(&docs, &token), None);
        for label in ["docs2", "pr-1--docs"] {
            assert_eq!(mine.read(&channel(label), &token), None, "{label}");
        }
        let (_, mac) = token.split_once('.').unwrap();
        for forged in [
            "12".to_owned(),
            "12.".to_owned(),
            format!("13.{mac}"),
            format!("012.{mac}"),
            format!("12.{mac}="),
            format!("12.{}", &mac[..mac.len() - 2]),
            format!("{}.{mac}", u64::MAX),
            mac.to_owned(),
            String::new(),
        ] {
            assert_eq!(mine.read(&docs, &forged), None, "{forged}");
        }
    }

    #[test]
    fn token_needs_a_secret() {
        for secret in [None, Some("")] {
            assert_eq!(DeployTokens::of(secret).token(&channel("docs"), 1), None);
        }
    }
}
