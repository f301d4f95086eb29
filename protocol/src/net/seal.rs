//! Sealing: what is written to disk or into the log so that only a key's holder can read it.
//!
//! ChaCha20-Poly1305, because a Raspberry Pi before the fifth has no AES instructions. A sealed
//! value is bound to a context (what it is, whose it is): moved elsewhere it does not open.

use super::identity::NodeKey;
use crate::secret::Secret;
use bramble_core::model::Sealed;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::num::NonZeroU32;
use thiserror::Error;

/// First byte of what is sealed: the form of the rest (nonce, ciphertext, tag).
const FORM: u8 = 1;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Keeps keys derived from a node's key apart from all other uses of it.
const NODE_KEY_SALT: &[u8] = b"bramble sealing by node key, 1";

#[derive(Debug, Error)]
pub enum SealError {
    #[error("sealing: the system gave no randomness")]
    Randomness,
    #[error("sealing {bytes} bytes failed")]
    Seal { bytes: usize },
    #[error("a key of {bytes} bytes is none")]
    Key { bytes: usize },
    #[error("{bytes} sealed bytes do not open: another key, or damaged")]
    Open { bytes: usize },
}

/// A key that seals and opens.
pub struct SealingKey(LessSafeKey);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(hidden)")
    }
}

impl SealingKey {
    /// Draw the bytes of a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw() -> Result<Secret, SealError> {
        let mut bytes = vec![0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Randomness)?;
        Ok(Secret::new(bytes))
    }

    /// Make a key usable.
    ///
    /// # Errors
    /// When the bytes are not as many as a key has.
    pub fn new(key: &Secret) -> Result<SealingKey, SealError> {
        let bytes = key.expose().len();
        UnboundKey::new(&CHACHA20_POLY1305, key.expose())
            .map(|key| SealingKey(LessSafeKey::new(key)))
            .map_err(|_| SealError::Key { bytes })
    }

    /// Derive the key of a passphrase (PBKDF2-HMAC-SHA256). Slow on purpose: each round is one a
    /// guesser has to pay for too.
    pub fn of_passphrase(passphrase: &Secret, salt: &[u8], rounds: NonZeroU32) -> SealingKey {
        let mut bytes = vec![0; KEY_BYTES];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, passphrase.expose(), &mut bytes);
        SealingKey::new(&Secret::new(bytes)).expect("a key has as many bytes as were derived")
    }

    /// Seal `plain` for `context`, under a nonce drawn at random: with 96 bits of it, billions of
    /// values could be sealed before two would share one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, context: &[&str], plain: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Randomness)?;
        let mut body = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound(context)),
                &mut body,
            )
            .map_err(|_| SealError::Seal { bytes: plain.len() })?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
        sealed.push(FORM);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(Sealed(sealed))
    }

    /// Open what was sealed for the same context.
    ///
    /// # Errors
    /// When it was sealed with another key or for another context, or is damaged.
    pub fn open(&self, context: &[&str], sealed: &Sealed) -> Result<Secret, SealError> {
        let failed = || SealError::Open { bytes: sealed.0.len() };
        let Some((&FORM, rest)) = sealed.0.split_first() else { return Err(failed()) };
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut body = body.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(bound(context)), &mut body)
            .map_err(|_| failed())?
            .len();
        body.truncate(plain);
        Ok(Secret::new(body))
    }
}

/// Parts of a context, none of which can run into the next.
fn bound(context: &[&str]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in context {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part.as_bytes());
    }
    all
}

impl NodeKey {
    /// Derive this node's key for one purpose (HKDF, RFC 5869). It follows from the private key,
    /// and is stored nowhere.
    pub fn sealing_key(&self, purpose: &'static str) -> SealingKey {
        let derived = Salt::new(HKDF_SHA256, NODE_KEY_SALT).extract(self.pkcs8());
        let info = [purpose.as_bytes()];
        let key = derived
            .expand(&info, &CHACHA20_POLY1305)
            .expect("a key is shorter than HKDF's longest output");
        SealingKey(LessSafeKey::new(UnboundKey::from(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_context_only() {
        let key = SealingKey::new(&SealingKey::draw().expect("draws")).expect("a key");
        let other = SealingKey::new(&SealingKey::draw().expect("draws")).expect("a key");
        let sealed = key.seal(&["secret", "db"], b"open sesame").expect("seals");
        assert!(!sealed.0.windows(4).any(|part| part == b"open"), "not in the clear");
        let opened = key.open(&["secret", "db"], &sealed).expect("opens");
        assert_eq!(opened.expose(), b"open sesame");
        assert!(other.open(&["secret", "db"], &sealed).is_err(), "another key");
        for context in [&["secret", "bd"][..], &["secretdb"], &["secret", "d", "b"], &[]] {
            assert!(key.open(context, &sealed).is_err(), "{context:?}");
        }
        let again = key.seal(&["secret", "db"], b"open sesame").expect("seals");
        assert_ne!(again, sealed, "another nonce");
        for at in [0, 5, sealed.0.len() - 1] {
            let mut bent = sealed.clone();
            bent.0[at] ^= 1;
            assert!(key.open(&["secret", "db"], &bent).is_err(), "byte {at}");
        }
        for short in [0, 1, 12, 20] {
            assert!(key.open(&["secret", "db"], &Sealed(sealed.0[..short].to_vec())).is_err());
        }
        assert!(SealingKey::new(&Secret::new(vec![1; 31])).is_err());
    }

    #[test]
    fn a_passphrase_opens_with_its_salt_and_rounds_only() {
        let word = |text: &str| Secret::new(text.as_bytes().to_vec());
        let rounds = |n| NonZeroU32::new(n).expect("some");
        let sealed = SealingKey::of_passphrase(&word("a"), b"salt", rounds(3))
            .seal(&[], b"x")
            .expect("seals");
        let open = |text, salt: &[u8], n| {
            SealingKey::of_passphrase(&word(text), salt, rounds(n)).open(&[], &sealed).is_ok()
        };
        assert!(open("a", b"salt", 3));
        assert!(!open("b", b"salt", 3) && !open("a", b"tlas", 3) && !open("a", b"salt", 4));
    }

    #[test]
    fn a_node_has_one_key_for_each_purpose() {
        let (node, other) = (NodeKey::generate().expect("key"), NodeKey::generate().expect("key"));
        let sealed = node.sealing_key("a").seal(&[], b"x").expect("seals");
        assert_eq!(node.sealing_key("a").open(&[], &sealed).expect("opens").expose(), b"x");
        assert!(node.sealing_key("b").open(&[], &sealed).is_err());
        assert!(other.sealing_key("a").open(&[], &sealed).is_err());
    }
}
