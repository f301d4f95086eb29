//! The join token: what a new node needs to find the right cluster and be let in.
//!
//! `BRAMBLE-1-<ca hash>-<secret>`: 64 hex digits of the CA certificate's SHA-256, then 32 hex
//! digits of secret and 8 of checksum. It is typed by people, so each mistake has its own message.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const PREFIX: &str = "BRAMBLE-1-";
const SECRET_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const CA_SHORT_BYTES: usize = 6;
const CA_HEX: usize = 64;
const SECRET_HEX: usize = (SECRET_BYTES + CHECKSUM_BYTES) * 2;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("a join token starts with {PREFIX}")]
    Prefix,
    #[error("this token is of version {0:?}; this bramble understands version 1: upgrade it")]
    Version(String),
    #[error("the token is cut short or too long: its {part} has {got} characters, not {want}")]
    Length { part: &'static str, got: usize, want: usize },
    #[error("the token's {part} may hold only 0-9 and a-f, not {found:?}")]
    Character { part: &'static str, found: char },
    #[error("the token is mistyped: its checksum does not match; copy it again")]
    Checksum,
    #[error("making a token: the system gave no randomness")]
    Randomness,
}

/// A join token.
#[derive(Clone)]
pub struct JoinToken {
    /// SHA-256 of the cluster's CA certificate (DER).
    pub ca_sha256: [u8; 32],
    /// Who knows it may join.
    pub secret: [u8; SECRET_BYTES],
}

impl JoinToken {
    /// Make a token with a new secret for the cluster of this CA certificate (DER).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn mint(ca_der: &[u8]) -> Result<JoinToken, TokenError> {
        let mut secret = [0; SECRET_BYTES];
        OsRng.try_fill_bytes(&mut secret).map_err(|_| TokenError::Randomness)?;
        Ok(JoinToken { ca_sha256: Sha256::digest(ca_der).into(), secret })
    }

    /// Whether it names the CA of this certificate (DER). A token of the same cluster names another
    /// one once the CA was replaced.
    pub fn names_ca(&self, ca_der: &[u8]) -> bool {
        self.ca_sha256 == <[u8; 32]>::from(Sha256::digest(ca_der))
    }

    /// The start of the hash of its CA, as [`short_ca`] gives it.
    pub fn ca_short(&self) -> String {
        short(&self.ca_sha256)
    }

    /// Lower-case hex SHA-256 of the secret: what the cluster stores.
    pub fn secret_sha256(&self) -> String {
        secret_digest(&self.secret)
    }

    /// Whether the stored digest is that of this token's secret, in constant time.
    pub fn matches(&self, secret_sha256: &str) -> bool {
        same(self.secret_sha256().as_bytes(), secret_sha256.as_bytes())
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let digest =
            Sha256::new().chain_update(self.ca_sha256).chain_update(self.secret).finalize();
        let mut sum = [0; CHECKSUM_BYTES];
        sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
        sum
    }
}

/// The start of the hash of a CA certificate (DER): enough to tell two apart, and no secret.
pub fn short_ca(ca_der: &[u8]) -> String {
    short(&Sha256::digest(ca_der))
}

fn short(digest: &[u8]) -> String {
    hex::encode(&digest[..CA_SHORT_BYTES])
}

/// The digest of a secret as it is stored and compared.
pub(super) fn secret_digest(secret: &[u8]) -> String {
    hex::encode(Sha256::digest(secret))
}

/// Compare without telling by time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |seen, (x, y)| std::hint::black_box(seen | (x ^ y)));
    a.len() == b.len() && difference == 0
}

impl PartialEq for JoinToken {
    fn eq(&self, other: &JoinToken) -> bool {
        same(&self.ca_sha256, &other.ca_sha256) & same(&self.secret, &other.secret)
    }
}

impl Eq for JoinToken {}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, secret) = (hex::encode(self.ca_sha256), hex::encode(self.secret));
        write!(f, "{PREFIX}{ca}-{secret}{}", hex::encode(self.checksum()))
    }
}

impl fmt::Debug for JoinToken {
    /// Leaves the secret out, so that no log can leak it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({PREFIX}{}-...)", hex::encode(self.ca_sha256))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let mut parts = text.trim().splitn(4, '-');
        if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case("BRAMBLE")) {
            return Err(TokenError::Prefix);
        }
        match parts.next() {
            Some("1") => {}
            Some(version) => return Err(TokenError::Version(version.to_string())),
            None => return Err(TokenError::Prefix),
        }
        let ca = digits("CA hash", parts.next().unwrap_or_default(), CA_HEX)?;
        let rest = digits("secret", parts.next().unwrap_or_default(), SECRET_HEX)?;
        let mut token = JoinToken { ca_sha256: [0; 32], secret: [0; SECRET_BYTES] };
        token.ca_sha256.copy_from_slice(&ca);
        token.secret.copy_from_slice(&rest[..SECRET_BYTES]);
        if token.checksum() != rest[SECRET_BYTES..] {
            return Err(TokenError::Checksum);
        }
        Ok(token)
    }
}

/// Decode exactly `want` hex digits.
fn digits(part: &'static str, text: &str, want: usize) -> Result<Vec<u8>, TokenError> {
    if let Some(found) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(TokenError::Character { part, found });
    }
    if text.len() != want {
        return Err(TokenError::Length { part, got: text.len(), want });
    }
    // Digits were checked one by one above; only an odd count could still fail, and it is even.
    Ok(hex::decode(text).expect("an even number of hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { ca_sha256: [0xab; 32], secret: [0x5c; SECRET_BYTES] }
    }

    #[test]
    fn tokens_round_trip() {
        let minted = JoinToken::mint(b"a certificate").expect("mints");
        let text = minted.to_string();
        assert_eq!(text.parse(), Ok(minted.clone()));
        assert_eq!(format!("  {}\n", text.to_lowercase()).parse(), Ok(minted.clone()));
        assert_eq!(minted.ca_sha256, <[u8; 32]>::from(Sha256::digest(b"a certificate")));
        assert!(minted.names_ca(b"a certificate") && !minted.names_ca(b"another"));
        assert_eq!(minted.ca_short(), short_ca(b"a certificate"));
        assert!(text.contains(&format!("BRAMBLE-1-{}", minted.ca_short())));
        assert_ne!(JoinToken::mint(b"a certificate").expect("mints"), minted);
        assert!(!format!("{minted:?}").contains(&hex::encode(minted.secret)));
    }

    #[test]
    fn the_format_stays() {
        let text = format!("BRAMBLE-1-{}-{}c09ed6f1", "ab".repeat(32), "5c".repeat(16));
        assert_eq!(token().to_string(), text);
    }

    #[test]
    fn mistakes_are_named() {
        let good = token().to_string();
        let mistyped = good.replace("-ababab", "-abacab");
        let length = |part, got, want| Err(TokenError::Length { part, got, want });
        let cases: [(String, Result<JoinToken, TokenError>); 10] = [
            (String::new(), Err(TokenError::Prefix)),
            ("SWMTKN-1-ab-cd".into(), Err(TokenError::Prefix)),
            ("BRAMBLE".into(), Err(TokenError::Prefix)),
            (good.replace("-1-", "-2-"), Err(TokenError::Version("2".into()))),
            ("BRAMBLE-1-".into(), length("CA hash", 0, CA_HEX)),
            (good[..80].into(), length("secret", 5, SECRET_HEX)),
            (good[..good.len() - 1].into(), length("secret", SECRET_HEX - 1, SECRET_HEX)),
            (format!("{good}0"), length("secret", SECRET_HEX + 1, SECRET_HEX)),
            (mistyped, Err(TokenError::Checksum)),
            (
                good.replace("-ababab", "-abOcab"),
                Err(TokenError::Character { part: "CA hash", found: 'O' }),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<JoinToken>(), want, "{text:?}");
        }
    }

    #[test]
    fn any_single_wrong_digit_is_noticed() {
        let good = token().to_string();
        for at in PREFIX.len()..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = match bytes[at] {
                b'-' => continue,
                b'0' => b'1',
                _ => b'0',
            };
            let bad = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(bad.parse::<JoinToken>(), Err(TokenError::Checksum), "digit {at}");
        }
    }

    #[test]
    fn secrets_match_their_digest_only() {
        let digest = token().secret_sha256();
        assert!(token().matches(&digest));
        for other in ["", &digest[1..], &digest.replace('a', "b"), &format!("{digest}0")] {
            assert!(!token().matches(other), "{other:?}");
        }
    }
}
