//! gzip for clients that ask for it (Marathon's contract, section 1).
//!
//! Only whole answers in memory of a kind that shrinks: never a stream, whose parts would wait in
//! the compressor until there is enough of them.

use super::accept;
use super::limits::{GZIP_BYTES_MAX, GZIP_BYTES_MIN};
use super::reply::Reply;
use axum::body::{Body, HttpBody};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use std::io::Write;

/// Compress the answer to a request with these headers, where that is asked for and worth it.
pub(crate) async fn gzip(request: &HeaderMap, answer: Reply) -> Reply {
    let Some(bytes) = answer.body().size_hint().exact() else { return answer };
    if !(GZIP_BYTES_MIN..=GZIP_BYTES_MAX).contains(&bytes) || !shrinks(answer.headers()) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if !wanted(request) {
        return Reply::from_parts(parts, body);
    }
    // A body with a known size is in memory; reading it neither waits nor fails.
    let plain = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "an answer in memory could not be read");
            return Reply::from_parts(parts, Body::empty());
        }
    };
    let compressing = plain.clone();
    let packed = tokio::task::spawn_blocking(move || pack(&compressing)).await;
    let Ok(Ok(packed)) = packed else { return Reply::from_parts(parts, Body::from(plain)) };
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(CONTENT_LENGTH);
    Reply::from_parts(parts, Body::from(packed))
}

fn pack(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

fn shrinks(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    [accept::JSON, accept::TEXT, accept::HTML].contains(&kind)
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
}

/// Whether `Accept-Encoding` names gzip, or anything, with a weight above none.
fn wanted(request: &HeaderMap) -> bool {
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let taken = weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0));
        match name.as_str() {
            "gzip" | "x-gzip" => return taken,
            "*" => any = taken,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_wanted_by_name() {
        let rows = [
            ("", false),
            ("gzip", true),
            ("deflate, GZIP", true),
            ("gzip;q=0.5", true),
            ("gzip;q=0, *", false),
            ("*", true),
            ("*;q=0", false),
            ("identity", false),
            ("gzip;q=nonsense", false),
        ];
        for (text, want) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
            assert_eq!(wanted(&headers), want, "{text}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }
}
