//! bramble's own endpoints, `/v1/bramble/*`.

mod agents;
mod deployments;
mod exec;
mod images;
mod logs;
mod name;
mod outlook;
mod secrets;
mod status;

pub(super) use agents::{change as change_agent, list as agents, one as agent};
pub(super) use deployments::{deployments, promote, withdraw};
pub(super) use outlook::{dry_run, why};
pub(super) use secrets::{list as secrets, put as put_secret, remove as remove_secret};
pub(super) use status::{status, token};

use super::dispatch::{Call, Content, Shared};
use super::error::ApiError;
use super::limits::AGENT_TIME_MAX;
use super::reply::Reply;
use super::route::Route;
use crate::streams::AgentStream;
use bramble_core::model::AgentId;
use bramble_protocol::message::StreamRequest;
use http::Method;
use tokio::sync::OwnedSemaphorePermit;

/// Answer the endpoints that relay to agents.
pub(super) async fn streams(
    target: Route,
    call: &Call,
    content: Content,
) -> Result<Reply, ApiError> {
    match (target, call.method.clone()) {
        (Route::Logs(name), Method::GET) => logs::logs(call, &name).await,
        (Route::Exec(name), Method::POST) => exec::exec(call, &name, content.upgrade).await,
        (Route::Images, Method::GET) => images::list(call).await,
        (Route::Images, Method::POST) => images::load(call, content.body).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// Ask an agent for a stream, within a time.
async fn open(
    shared: &Shared,
    agent: &AgentId,
    request: StreamRequest,
) -> Result<AgentStream, ApiError> {
    tokio::time::timeout(AGENT_TIME_MAX, shared.api.streams.open(agent, request))
        .await
        .map_err(|_| ApiError::AgentTimeout)?
        .map_err(ApiError::Stream)
}

/// Count one more open stream, if one more is allowed.
fn stream_permit(shared: &Shared) -> Result<OwnedSemaphorePermit, ApiError> {
    shared.streams.clone().try_acquire_owned().map_err(|_| ApiError::TooManyStreams)
}
