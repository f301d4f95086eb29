//! What can go wrong with a pull, told by whose fault it is.
//!
//! Owns translating the HTTP client's errors. Says of each whether trying again can help.

use crate::oci::credentials::CredentialsError;
use crate::oci::model::{DOCUMENT_BYTES_MAX, DocumentError};
use crate::oci::reference::ImageReference;
use crate::oci::store::{Stopped, StoreError};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use std::error::Error;
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
    #[error(
        "image {reference}: registry {registry} limits the rate of requests (status 429{message})"
    )]
    Limited { reference: String, registry: String, message: String },
    #[error("image {reference}: registry {registry} cannot be reached")]
    Unreachable {
        reference: String,
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error(
        "image {reference}: this machine does not know the CA of registry {registry}'s \
         certificate: add it to the CA certificates of the system, or start the node with \
         SSL_CERT_FILE naming a file that has it"
    )]
    UnknownCa {
        reference: String,
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error("image {reference}: the certificate of registry {registry} is refused")]
    Certificate {
        reference: String,
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error(
        "image {reference}: registry {registry} does not speak https: if plain http is meant, \
         name it in --insecure-registries of the node"
    )]
    NotHttps {
        reference: String,
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    /// Also what signed manifests come to: their digest is not that of their bytes.
    #[error(
        "image {reference}: the manifest at registry {registry} is not what its digest says; if \
         it is of the old kind (schema 1, pushed by a Docker before 1.10), push the image again"
    )]
    ManifestDigest {
        reference: String,
        registry: String,
        #[source]
        source: DigestError,
    },
    #[error("image {reference}: registry {registry} answers with status {status}{message}")]
    Status { reference: String, registry: String, status: u16, message: String },
    #[error("image {reference}: registry {registry} answers something else than expected")]
    Protocol {
        reference: String,
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
        "image {reference}: preparing to talk to registry {registry} (https needs the CA \
         certificates of the system)"
    )]
    Client {
        reference: String,
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

impl From<Stopped> for PullError {
    fn from(_: Stopped) -> PullError {
        PullError::Stopped
    }
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
        let (reference, registry) = (image.to_string(), image.registry().to_owned());
        match error {
            OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
                PullError::of_connection(error, reference, registry)
            }
            OciDistributionError::DigestError(source) => {
                PullError::ManifestDigest { reference, registry, source }
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
                    return PullError::Protocol { reference, registry, source: error };
                };
                match status_of(&first.code) {
                    Some(status) => PullError::of_status(status, first.message.clone(), image),
                    None => PullError::Protocol { reference, registry, source: error },
                }
            }
            source => PullError::Protocol { reference, registry, source },
        }
    }

    /// Tells what TLS refuses, for which there is a remedy, from a network that may be back soon.
    fn of_connection(source: OciDistributionError, reference: String, registry: String) -> Self {
        use rustls::{CertificateError, Error as Tls, InvalidMessage};
        match find_in_chain::<Tls>(&source) {
            Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                PullError::UnknownCa { reference, registry, source }
            }
            Some(Tls::InvalidCertificate(_)) => {
                PullError::Certificate { reference, registry, source }
            }
            Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                PullError::NotHttps { reference, registry, source }
            }
            _ => PullError::Unreachable { reference, registry, source },
        }
    }

    fn of_status(status: u16, message: String, image: &ImageReference) -> PullError {
        let (reference, registry) = (image.to_string(), image.registry().to_owned());
        let message = one_line(&message);
        match status {
            404 => PullError::NotFound { reference, registry, status },
            401 | 403 => PullError::Denied { reference, registry, status, message },
            429 => PullError::Limited { reference, registry, message },
            status => PullError::Status { reference, registry, status, message },
        }
    }
}

/// Finds the cause of one type.
fn find_in_chain<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` of an IO error leaves out the very error that it wraps.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
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
