//! `release.toml`: what a slot holds, and the digests of its files.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

#[derive(Debug, Error)]
#[error("release.toml: {0}")]
pub struct ReleaseError(String);

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: String,
    /// `pi`, `arm64-uefi` or `x86`: a slot is written to its own kind only.
    pub board: String,
    /// SHA-256 of each file beside it, by name, in hexadecimal.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

impl Release {
    /// # Errors
    /// It is not TOML, or lacks a version or a board.
    pub fn parse(text: &str) -> Result<Release, ReleaseError> {
        toml::from_str(text).map_err(|error| ReleaseError(error.message().into()))
    }

    /// Write it as [`Release::parse`] reads it.
    pub fn render(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.escape_default());
        let mut text = format!("version = {}\n", quoted(&self.version));
        text += &format!("board = {}\n\n[files]\n", quoted(&self.board));
        for (name, digest) in &self.files {
            text += &format!("{} = {}\n", quoted(name), quoted(digest));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let files = [("vmlinuz".to_string(), "ab".repeat(32))].into();
        let release = Release { version: "0.1.0-2026.11.28".into(), board: "x86".into(), files };
        assert_eq!(Release::parse(&release.render()).unwrap(), release);
        let bare = Release::parse("version='1'\nboard='pi'\nlater='x'").unwrap();
        assert!(bare.files.is_empty());
        for bad in ["", "version = 1\nboard = 'pi'", "version = '1'", "{"] {
            assert!(Release::parse(bad).is_err(), "{bad}");
        }
    }
}
