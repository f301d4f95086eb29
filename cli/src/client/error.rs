//! What can go wrong between a verb and the API, and the exit code a script sees for it.

use http::StatusCode;
use serde_json::Value;
use thiserror::Error;

/// The API refused, or what was asked for failed.
pub const EXIT_REFUSED: u8 = 1;
/// The API cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;
/// `--wait` ran out of time.
const EXIT_TIMED_OUT: u8 = 4;
/// `--wait` has come to where only a person can say how to go on: neither done nor failed.
const EXIT_WAITS: u8 = 5;

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{url:?} cannot be used: {reason}")]
    Url { url: String, reason: String },
    #[error("no bramble answers at {target} (is `bramble up` running there?)")]
    Unreachable {
        target: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the connection broke off")]
    Http(#[source] hyper::Error),
    #[error("the request could not be built")]
    Request(#[source] http::Error),
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("not done after {seconds} s: {message}")]
    TimedOut { seconds: u64, message: String },
    #[error("not done yet: {0}")]
    Waits(String),
}

impl ClientError {
    /// Make one line for a person out of a refusal: the message and every field it names.
    pub fn refused(status: StatusCode, body: Value, raw: &[u8]) -> Self {
        let mut message = match body.get("message").and_then(Value::as_str) {
            Some(message) => message.to_string(),
            None => String::from_utf8_lossy(raw).trim().to_string(),
        };
        match body.get("details") {
            Some(Value::String(details)) => message.push_str(&format!(": {details}")),
            Some(Value::Array(details)) => {
                for detail in details {
                    let path = detail.get("path").and_then(Value::as_str).unwrap_or("/");
                    let errors: Vec<&str> = detail
                        .get("errors")
                        .and_then(Value::as_array)
                        .map(|list| list.iter().filter_map(Value::as_str).collect())
                        .unwrap_or_default();
                    message.push_str(&format!("\n  {path}: {}", errors.join("; ")));
                }
            }
            _ => {}
        }
        if message.is_empty() {
            message = status.to_string();
        }
        ClientError::Refused { status, message }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Unreachable { .. } => EXIT_UNREACHABLE,
            ClientError::TimedOut { .. } => EXIT_TIMED_OUT,
            ClientError::Waits(_) => EXIT_WAITS,
            _ => EXIT_REFUSED,
        }
    }

    /// The status, where the API answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            ClientError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
