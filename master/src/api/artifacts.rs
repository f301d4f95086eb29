//! `/v2/artifacts` (Marathon's contract, section 2.6): files for tasks to fetch.
//!
//! HTTP and multipart only; what is kept, where and how much, is decided in `crate::artifacts`.

use super::body;
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use crate::artifacts::{ARTIFACT_BYTES_MAX, ArtifactPath, Artifacts};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use multer::{Constraints, Field, Multipart, SizeLimit};
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use tokio_util::io::ReaderStream;

/// Bytes of a multipart body besides the file in it.
const OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

fn store(call: &Call) -> Result<&Arc<Artifacts>, ApiError> {
    call.shared.artifacts.as_ref().ok_or(ApiError::NoArtifactStore)
}

/// `POST /v2/artifacts`, and `POST` or `PUT` with a path: the multipart field `file`.
pub(crate) async fn put(call: &Call, path: String, body: Body) -> Result<Reply, ApiError> {
    let store = store(call)?;
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(multipart)?;
    let limit = SizeLimit::new().whole_stream(ARTIFACT_BYTES_MAX + OVERHEAD_BYTES_MAX);
    let constraints = Constraints::new().size_limit(limit);
    let mut parts = Multipart::with_constraints(pieces(body), boundary, constraints);
    let mut field = file(&mut parts).await?;
    let named = field.file_name().map(str::to_string).filter(|_| path.is_empty());
    let path = ArtifactPath::parse(&named.unwrap_or(path))?;
    let mut incoming = store.begin().await?;
    while let Some(chunk) = field.chunk().await.map_err(multipart)? {
        incoming.write(&chunk).await?;
    }
    let location = location(call, &path);
    let replaced = incoming.keep(path).await?;
    let status = if replaced { StatusCode::OK } else { StatusCode::CREATED };
    let mut answer = reply::empty(status);
    if let Ok(location) = HeaderValue::try_from(location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

async fn file<'a>(parts: &mut Multipart<'a>) -> Result<Field<'a>, ApiError> {
    while let Some(field) = parts.next_field().await.map_err(multipart)? {
        if field.name() == Some("file") {
            return Ok(field);
        }
    }
    Err(ApiError::Multipart("there is no such field".into()))
}

fn multipart(error: multer::Error) -> ApiError {
    match error {
        multer::Error::NoMultipart | multer::Error::NoBoundary => ApiError::MediaType,
        multer::Error::StreamSizeExceeded { .. } => {
            crate::artifacts::ArtifactError::TooLarge.into()
        }
        other => ApiError::Multipart(other.to_string()),
    }
}

/// The body piece by piece; it ends with the first that does not come.
fn pieces(body: Body) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match body::next(&mut body).await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
            Ok(None) => None,
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    })
}

/// The artifact's URL, by the name under which the client knows this node.
fn location(call: &Call, path: &ArtifactPath) -> String {
    let mut url = format!("http://{}/v2/artifacts/", call.host());
    for byte in path.as_str().bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
    url
}

/// `GET /v2/artifacts/{path}`.
pub(crate) async fn get(call: &Call, path: &str) -> Result<Reply, ApiError> {
    let store = store(call)?;
    let streams = call.shared.streams.clone();
    let permit = streams.try_acquire_owned().map_err(|_| ApiError::TooManyStreams)?;
    let (file, length) = store.read(&ArtifactPath::parse(path)?).await?;
    let chunks = ReaderStream::new(file);
    let chunks = futures_util::StreamExt::map(chunks, move |chunk| {
        let _open = &permit;
        chunk
    });
    let mut answer =
        reply::typed(StatusCode::OK, "application/octet-stream", Body::from_stream(chunks));
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(answer)
}

/// `DELETE /v2/artifacts/{path}`.
pub(crate) async fn delete(call: &Call, path: &str) -> Result<Reply, ApiError> {
    let (store, path) = (store(call)?.clone(), ArtifactPath::parse(path)?);
    let removed = tokio::task::spawn_blocking(move || store.remove(&path)).await;
    removed.map_err(|error| crate::artifacts::ArtifactError::Io {
        doing: "removing",
        source: io::Error::other(error),
    })??;
    Ok(reply::empty(StatusCode::OK))
}
