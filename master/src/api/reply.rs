//! Building answers, and the headers that every answer carries (Marathon's contract, section 1.1).

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

pub(crate) type Reply = Response<Body>;

pub(crate) const DEPLOYMENT_HEADER: HeaderName = HeaderName::from_static("marathon-deployment-id");
const LEADER_HEADER: HeaderName = HeaderName::from_static("x-marathon-leader");

/// Answer with `value` as JSON, without a trailing newline.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(status, "application/json", bytes),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            typed(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{\"message\":\"\"}")
        }
    }
}

/// Answer with a body of the given content type.
pub(crate) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// Add what every answer carries. `leader` is the URL of this node while it leads.
pub(crate) fn decorate(headers: &mut HeaderMap, leader: Option<&str>) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::EXPIRES, "0"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let Some(leader) = leader.and_then(|leader| HeaderValue::from_str(leader).ok()) else {
        return;
    };
    headers.insert(LEADER_HEADER, leader);
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block"));
}
