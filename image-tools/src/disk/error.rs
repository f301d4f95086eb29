//! What can go wrong while an image is made or written.

use super::fat::FatError;
use super::mbr::MbrError;
use std::io;
use std::path::Path;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DiskError {
    #[error("{doing}: {cause}")]
    Io { doing: String, cause: io::Error },
    #[error("{doing}: {cause}")]
    Fat { doing: String, cause: FatError },
    #[error("{0} has no partition table of a bramble image: {1}")]
    Mbr(String, MbrError),
    #[error(
        "{program} is not installed (package {package}; `cross/prerequisites.sh image` installs all)"
    )]
    NoTool { program: String, package: &'static str },
    #[error("{program} failed: {said}")]
    Tool { program: String, said: String },
    /// What was asked for cannot be, and why.
    #[error("{0}")]
    Refused(String),
}

/// Says what was being done when it failed.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DiskError>;
}

impl<T> Doing<T> for Result<T, io::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DiskError> {
        self.map_err(|cause| DiskError::Io { doing: what(), cause })
    }
}

impl<T> Doing<T> for Result<T, FatError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DiskError> {
        self.map_err(|cause| DiskError::Fat { doing: what(), cause })
    }
}

/// `reading PATH`, and so on, as what was being done.
pub fn at<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce() -> String + 'a {
    move || format!("{verb} {}", path.display())
}
