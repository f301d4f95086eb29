//! What can go wrong with a pull, told by whose fault it is.
//!
//! Owns translating the HTTP client's errors. Says of each whether trying again can help.

use crate::oci::credentials::CredentialsError;
use crate::oci::model::{DOCUMENT_BYTES_MAX, DocumentError};
use crate::oci::reference::ImageReference;
use crate::oci::store::StoreError;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use std::io;

/// Characters of a registry's own message that are passed on.
const MESSAGE_LENGTH_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("image {reference} does not exist at registry {registry} (status {status})")]
    NotFound { reference: String, registry: String, status: u16 },
    #[error(
        "registry {registry} does not give out image {reference} (status {status}{message}): it \
         does not exist, or needs other credentials"
    )]
    Denied { reference: String, registry: String, status: u16, message: String },
    #[error("registry {registry} limits the rate of requests (status 429{message})")]
    Limited { registry: String, message: String },
    #[error("registry {registry} cannot be reached")]
    Unreachable {
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error("registry {registry} answers with status {status}{message}")]
    Status { registry: String, status: u16, message: String },
    #[error("registry {registry} answers something else than expected")]
    Protocol {
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error("transfer of {what} broke off")]
    Transfer {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "preparing to talk to registry {registry} (https needs the CA certificates of the system)"
    )]
    Client {
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error(
        "configuration of image {reference} has {bytes} bytes; the most is {DOCUMENT_BYTES_MAX}"
    )]
    ConfigTooLong { reference: String, bytes: u64 },
    #[error("image {reference}")]
    Document {
        reference: String,
        #[source]
        source: DocumentError,
    },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("pull was stopped, since the program ends")]
    Stopped,
}

impl PullError {
    /// Tells whether the registry could not be asked, as opposed to having said no.
    pub fn is_transient(&self) -> bool {
        match self {
            PullError::Unreachable { .. }
            | PullError::Transfer { .. }
            | PullError::Limited { .. } => true,
            PullError::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    pub(super) fn of(error: OciDistributionError, image: &ImageReference) -> PullError {
        let registry = image.registry().to_owned();
        match error {
            OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
                PullError::Unreachable { registry, source: error }
            }
            OciDistributionError::UnauthorizedError { .. } => {
                PullError::of_status(401, String::new(), image)
            }
            OciDistributionError::AuthenticationFailure(message) => {
                PullError::of_status(401, message, image)
            }
            OciDistributionError::ServerError { code, message, .. } => {
                PullError::of_status(code, message, image)
            }
            OciDistributionError::RegistryError { ref envelope, .. } => {
                let Some(first) = envelope.errors.first() else {
                    return PullError::Protocol { registry, source: error };
                };
                match status_of(&first.code) {
                    Some(status) => PullError::of_status(status, first.message.clone(), image),
                    None => PullError::Protocol { registry, source: error },
                }
            }
            source => PullError::Protocol { registry, source },
        }
    }

    fn of_status(status: u16, message: String, image: &ImageReference) -> PullError {
        let (reference, registry) = (image.to_string(), image.registry().to_owned());
        let message = one_line(&message);
        match status {
            404 => PullError::NotFound { reference, registry, status },
            401 | 403 => PullError::Denied { reference, registry, status, message },
            429 => PullError::Limited { registry, message },
            status => PullError::Status { registry, status, message },
        }
    }
}

/// The client keeps the registry's code and drops the status it came with.
fn status_of(code: &OciErrorCode) -> Option<u16> {
    match code {
        OciErrorCode::ManifestUnknown
        | OciErrorCode::NameUnknown
        | OciErrorCode::NotFound
        | OciErrorCode::BlobUnknown
        | OciErrorCode::ManifestBlobUnknown => Some(404),
        OciErrorCode::NameInvalid | OciErrorCode::TagInvalid => Some(400),
        OciErrorCode::Unauthorized => Some(401),
        OciErrorCode::Denied => Some(403),
        OciErrorCode::Toomanyrequests => Some(429),
        _ => None,
    }
}

/// A registry's message may be a page of HTML.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    match words.join(" ") {
        line if line.is_empty() => line,
        line => format!(": {}", line.chars().take(MESSAGE_LENGTH_MAX).collect::<String>()),
    }
}
