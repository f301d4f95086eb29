//! An update file: a header that says what it is, then the beginning of a slot's FAT file system.
//!
//! Only the beginning: what lies behind the last cluster in use is free, and free clusters may
//! hold anything. So a slot of 112 MiB travels as what it really holds.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The header's size: the file system starts here. Bytes.
pub const HEADER_BYTES: usize = 4096;
const MAGIC: &str = "# bramble node update 1\n";

#[derive(Debug, Error)]
pub enum UpdateError {
    #[error("not a bramble update file (`bramble-image build` writes one beside the image)")]
    Magic,
    #[error("the update file's header is damaged: {0}")]
    Header(String),
    #[error("the update file's header does not fit")]
    Large,
}

/// What an update file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: String,
    pub board: String,
    /// Bytes that follow the header.
    pub length: u64,
    /// Bytes of the whole file system; a slot must have as many.
    pub filesystem: u64,
    /// SHA-256 of what follows the header, in hexadecimal.
    pub sha256: String,
}

impl Header {
    /// Read the first [`HEADER_BYTES`] of a file.
    ///
    /// # Errors
    /// It is no update file, or one of a form this program does not know.
    pub fn parse(bytes: &[u8]) -> Result<Header, UpdateError> {
        let text = bytes.get(..HEADER_BYTES).ok_or(UpdateError::Magic)?;
        let text = text.strip_prefix(MAGIC.as_bytes()).ok_or(UpdateError::Magic)?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let bad = |text: &str| UpdateError::Header(text.into());
        let text = std::str::from_utf8(&text[..end]).map_err(|_| bad("it is no text"))?;
        let header: Header = toml::from_str(text).map_err(|error| bad(error.message()))?;
        let digest =
            header.sha256.len() == 64 && header.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digest || header.length == 0 || header.length > header.filesystem {
            return Err(bad("its numbers contradict each other"));
        }
        Ok(header)
    }

    /// Write it as [`Header::parse`] reads it.
    ///
    /// # Errors
    /// Its texts are too long.
    pub fn render(&self) -> Result<Vec<u8>, UpdateError> {
        let quoted = |text: &str| format!("\"{}\"", text.escape_default());
        let text = format!(
            "{MAGIC}version = {}\nboard = {}\nlength = {}\nfilesystem = {}\nsha256 = {}\n",
            quoted(&self.version),
            quoted(&self.board),
            self.length,
            self.filesystem,
            quoted(&self.sha256),
        );
        let mut bytes = text.into_bytes();
        if bytes.len() > HEADER_BYTES {
            return Err(UpdateError::Large);
        }
        bytes.resize(HEADER_BYTES, 0);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: "1".into(),
            board: "x86".into(),
            length: 512,
            filesystem: 1024,
            sha256: "ab".repeat(32),
        }
    }

    #[test]
    fn a_header_is_read_as_written() {
        let bytes = header().render().unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::parse(&bytes).unwrap(), header());
        assert!(Header { version: "v".repeat(5000), ..header() }.render().is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let good = header().render().unwrap();
        assert!(matches!(Header::parse(&good[..100]), Err(UpdateError::Magic)));
        assert!(matches!(Header::parse(&[0; HEADER_BYTES]), Err(UpdateError::Magic)));
        for (from, to) in [("length = 512", "length = 0  "), ("abab", "xbab"), ("= 512", "= 9999")]
        {
            let text = String::from_utf8(good.clone()).unwrap().replacen(from, to, 1);
            let bytes = &text.as_bytes()[..HEADER_BYTES];
            assert!(matches!(Header::parse(bytes), Err(UpdateError::Header(_))), "{to}");
        }
    }
}
