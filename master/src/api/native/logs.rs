//! Logs of a task, relayed from its agent as they come.

use super::name::find;
use super::{open, stream_permit};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::limits::RELAY_BYTES;
use crate::api::reply::{self, Reply};
use crate::streams::AgentStream;
use axum::body::Body;
use bramble_core::model::TaskId;
use bramble_protocol::message::StreamRequest;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use std::io;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// `GET tasks/{name}/logs?stderr=&follow=&tail=`.
pub(super) async fn logs(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let permit = stream_permit(&call.shared)?;
    let stream = match call.api().store.read(|state| find(state, name)) {
        Ok(found) => open(&call.shared, &found.agent_id, request(call, found.task_id)).await?,
        Err(unknown) => of_the_past(call, name).await.ok_or(unknown)?,
    };
    let relay = Relay { stream, stop: call.shared.shutdown.clone(), _permit: permit };
    let body = Body::from_stream(futures_util::stream::unfold(relay, next));
    let mut answer = reply::typed(StatusCode::OK, "text/plain; charset=utf-8", body);
    // A task's output is a stranger's text: no browser shall guess that it is a page.
    answer
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

fn request(call: &Call, task_id: TaskId) -> StreamRequest {
    StreamRequest::Logs {
        task_id,
        stderr: call.query.flag("stderr", false),
        follow: call.query.flag("follow", false),
        tail_lines: call.query.number("tail"),
    }
}

/// The log of a task that has ended: the cluster has forgotten it, but the agent that ran it keeps
/// its output for a while. `None` when `name` is no whole task id or no agent knows it.
async fn of_the_past(call: &Call, name: &str) -> Option<AgentStream> {
    let task_id = TaskId::new(name);
    task_id.instance()?;
    for agent in call.api().streams.connected() {
        if let Ok(stream) = open(&call.shared, &agent, request(call, task_id.clone())).await {
            return Some(stream);
        }
    }
    None
}

/// Dropped with the response body: both quinn halves then tell the agent that nobody reads.
struct Relay {
    stream: AgentStream,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

async fn next(mut relay: Relay) -> Option<(Result<Bytes, io::Error>, Relay)> {
    let chunk = tokio::select! {
        () = relay.stop.cancelled() => return None,
        chunk = relay.stream.receive.read_chunk(RELAY_BYTES, true) => chunk,
    };
    match chunk {
        Ok(chunk) => chunk.map(|chunk| (Ok(chunk.bytes), relay)),
        // The connection is aborted rather than ended, so that the reader knows it is not all.
        Err(error) => Some((Err(io::Error::other(error)), relay)),
    }
}
