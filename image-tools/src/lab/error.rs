//! What can go wrong in a lab.

use crate::disk::DiskError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LabError {
    /// Something in the machines' file that cannot be meant.
    #[error("{place}: {text}")]
    Config { place: String, text: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was asked for cannot be, and why.
    #[error("{0}")]
    Refused(String),
    /// Machines that did not come to answer.
    #[error("{0}")]
    Silent(String),
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    pub fn refused(text: impl Into<String>) -> LabError {
        LabError::Refused(text.into())
    }
}
