//! Content digests: the only name by which content is trusted.
//!
//! Owns parsing of `sha256:<hex>` and readers that hash what passes. Never touches files.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

/// Hexadecimal digits of a SHA-256.
const HEX_LENGTH: usize = 64;

/// Names content by its SHA-256 (OCI image-spec, descriptor, "Digests").
///
/// Only SHA-256 is accepted: no registry in use serves anything else by default, and a single
/// algorithm makes the digest usable as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("digest {0:?} is not of the form sha256:<64 hexadecimal digits>")]
    Malformed(String),
    #[error("digest {0:?} uses an algorithm other than sha256")]
    Algorithm(String),
}

impl Digest {
    /// Computes the digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(hex::encode(Sha256::digest(bytes)))
    }

    pub(crate) fn from_hasher(hasher: Sha256) -> Digest {
        Digest(hex::encode(hasher.finalize()))
    }

    /// The 64 lower-case hexadecimal digits, safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Accepts the bare digits, as archives use them for file names.
    pub(crate) fn from_hex(digits: &str) -> Option<Digest> {
        let valid = digits.len() == HEX_LENGTH
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Digest(digits.to_owned()))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        match text.split_once(':') {
            Some(("sha256", digits)) => {
                Digest::from_hex(digits).ok_or_else(|| DigestError::Malformed(text.to_owned()))
            }
            Some(("sha384" | "sha512", _)) => Err(DigestError::Algorithm(text.to_owned())),
            _ => Err(DigestError::Malformed(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Digest, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes and counts all that is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        HashingReader { inner, hasher: Sha256::new(), bytes: 0 }
    }

    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::from_hasher(self.hasher), self.bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_sha256() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for bad in ["", "sha256:", "sha256:zz", "md5:00", "../../etc/passwd", "sha256:../x"] {
            assert!(matches!(bad.parse::<Digest>(), Err(DigestError::Malformed(_))), "{bad}");
        }
        assert!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>().is_err());
        assert!(matches!("sha512:00".parse::<Digest>(), Err(DigestError::Algorithm(_))));
    }

    #[test]
    fn hashes_what_passes() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), (Digest::of(b"hello"), 5));
    }
}
