//! A value in the clear, on its way from the one who opened it to the one who needs it.
//!
//! It can be written only by the codec, between processes that may know it. It must never be part
//! of what is stored or shown.

use bramble_core::model::bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Largest value of a secret in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Bytes that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value itself. Whoever asks for it answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    /// Shows nothing, not even the size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Drop for Secret {
    /// Leave less of it in freed memory; copies that libraries made are out of reach.
    fn drop(&mut self) {
        self.0.fill(0);
        // Else the compiler may see that nobody reads the zeros.
        std::hint::black_box(&self.0);
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes(deserializer).map(Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_secret_travels_as_bytes_and_is_not_shown() {
        let secret = Secret::new(vec![200; 1000]);
        let encoded = codec::to_bytes(&secret).expect("encodes");
        assert!(encoded.len() < 1010, "{} bytes", encoded.len());
        assert_eq!(codec::from_bytes::<Secret>(&encoded).expect("decodes"), secret);
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(hidden))");
    }
}
