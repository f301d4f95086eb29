//! Answers of a node that reaches no master: they are its own, and are told apart from the cluster's.

use crate::client::{Client, ClientError};
use anyhow::Error;
use http::header::WARNING;
use http::{HeaderMap, Method, StatusCode};

/// Set by a node on what it says by itself.
const STALE_HEADER: &str = "x-bramble-stale";

/// Why an answer may not be what the cluster would say; `None` if it is the cluster's.
pub fn reason(headers: &HeaderMap) -> Option<String> {
    headers.get(STALE_HEADER)?;
    let warning = headers.get(WARNING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // `110 - "words"`, as RFC 7234 writes it.
    let words = warning.split('"').nth(1).unwrap_or("no master answers this node");
    Some(format!("{words}; this may be out of date"))
}

/// Tell it beside the answer, where it is in nobody's way who reads that by a program.
pub fn warn(reason: &str) {
    eprintln!("bramble: warning: {reason}");
}

/// Add to a refusal of a verb, for want of a master, what the node can tell all the same.
pub async fn with_hint(client: &Client, error: Error) -> Error {
    let (status, message) = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused { status, message })
            if *status == StatusCode::SERVICE_UNAVAILABLE =>
        {
            (*status, message.clone())
        }
        _ => return error,
    };
    match client.exchange(Method::GET, "/v2/tasks", b"").await {
        Ok((headers, _)) if reason(&headers).is_some() => {
            let message =
                format!("{message}; `bramble ps` shows the tasks that this node knows of");
            ClientError::Refused { status, message }.into()
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_a_node_says_by_itself_is_marked() {
        let mut headers = HeaderMap::new();
        let warning = "110 - \"no master answers: these are the tasks of this node alone\"";
        headers.insert(WARNING, HeaderValue::from_static(warning));
        assert_eq!(reason(&headers), None, "the cluster's, whatever else it says");
        headers.insert(STALE_HEADER, HeaderValue::from_static("true"));
        let said = reason(&headers).expect("stale");
        assert!(said.starts_with("no master answers: these are the tasks of this node"), "{said}");
        assert!(said.ends_with("out of date"), "{said}");
        headers.remove(WARNING);
        assert!(reason(&headers).is_some_and(|said| said.contains("no master answers")));
    }
}
