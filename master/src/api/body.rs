//! Reading request bodies: bounded in bytes and in silence, never buffered beyond the bound.

use super::accept;
use super::error::ApiError;
use super::limits::{BODY_BYTES_MAX, BODY_IDLE_MAX, DISCARD_BYTES_MAX, DISCARD_TIME_MAX};
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use serde_json::Value;

/// Read a whole body of at most [`BODY_BYTES_MAX`].
///
/// # Errors
/// 413 when it is longer, 408 when it stalls, 400 when the connection ends inside it.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, ApiError> {
    let too_large = ApiError::BodyTooLarge { limit: BODY_BYTES_MAX };
    let announced: Option<u64> =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        // A client that asked first (curl does, above 1 MiB) never sends it.
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(too_large);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = next(&mut body).await? {
        if bytes.len() + chunk.len() > BODY_BYTES_MAX {
            drop(bytes);
            discard(body).await;
            return Err(too_large);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Read a whole body as JSON.
///
/// # Errors
/// As [`read`]; 415 for a body that says it is something else; 400 when it is no JSON, or JSON
/// that is neither an object nor an array.
pub(crate) async fn json(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    accept::body_is_json(headers)?;
    let bytes = read(headers, body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::NoJson { details: "the request has no body".into() });
    }
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::BrokenJson { details: error.to_string() })?;
    match value {
        Value::Object(_) | Value::Array(_) => Ok(value),
        other => {
            let details = format!("{other} is neither an object nor an array");
            Err(ApiError::NoJson { details })
        }
    }
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout(BODY_IDLE_MAX, body.frame())
            .await
            .map_err(|_| ApiError::BodyTimeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(ApiError::BodyCut),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Read and drop what a client still sends, within bounds.
pub(crate) async fn discard(mut body: Body) {
    let drain = async {
        let mut dropped = 0;
        while let Ok(Some(chunk)) = next(&mut body).await {
            dropped += chunk.len();
            if dropped > DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_bodies_are_refused_without_being_kept() {
        let pieces = futures_util::stream::iter(
            (0..200).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 16]))),
        );
        let error = read(&HeaderMap::new(), Body::from_stream(pieces)).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { limit: BODY_BYTES_MAX }));
        let whole = read(&HeaderMap::new(), Body::from("abc")).await.unwrap();
        assert_eq!(whole, b"abc");
    }

    #[tokio::test]
    async fn a_body_cut_off_is_an_error() {
        let pieces = futures_util::stream::iter([
            Ok(Bytes::from_static(b"ab")),
            Err(std::io::Error::other("gone")),
        ]);
        let error = read(&HeaderMap::new(), Body::from_stream(pieces)).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyCut));
    }
}
