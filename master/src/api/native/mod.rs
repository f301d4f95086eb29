//! bramble's own endpoints, `/v1/bramble/*`.

mod agents;
mod backup;
mod deployments;
mod drain;
mod exec;
mod images;
mod logs;
mod members;
mod name;
mod os;
mod outlook;
mod secrets;
mod status;
mod volumes;

pub(super) use agents::{change as change_agent, list as agents, one as agent};
pub(super) use backup::backup;
pub(super) use deployments::{deployments, promote, withdraw};
pub(super) use drain::{change as set_drain, one as drain};
pub(super) use members::{masters, remove_node, rotate_token};
pub(super) use outlook::{dry_run, why};
pub(super) use secrets::{list as secrets, put as put_secret, remove as remove_secret};
pub(super) use status::{status, token};
pub(super) use volumes::remove as remove_volume;

use super::dispatch::{Call, Content, Shared};
use super::error::ApiError;
use super::limits::AGENT_TIME_MAX;
use super::reply::Reply;
use super::route::Route;
use crate::streams::{AgentStream, StreamError};
use bramble_core::model::AgentId;
use bramble_protocol::message::StreamRequest;
use bramble_protocol::net::read_frame;
use http::Method;
use serde::de::DeserializeOwned;
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
        (Route::Volumes, Method::GET) => volumes::list(call).await,
        (Route::Images, Method::POST) => images::load(call, content.body).await,
        (Route::Os, Method::GET) => os::list(call).await,
        (Route::AgentOs(name), Method::GET) => os::one(call, &name).await,
        (Route::AgentOs(name), Method::POST) => os::stage(call, &name, content.body).await,
        (Route::OsTry(name), Method::POST) => os::try_spare(call, &name).await,
        (Route::OsConfirm(name), Method::POST) => os::confirm(call, &name).await,
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

/// Ask an agent what it answers in one frame.
async fn ask<T: DeserializeOwned>(
    shared: &Shared,
    agent: &AgentId,
    request: StreamRequest,
) -> Result<T, ApiError> {
    let mut stream = open(shared, agent, request).await?;
    let failed = |reason: String| ApiError::Stream(StreamError::Failed(reason));
    tokio::time::timeout(AGENT_TIME_MAX, read_frame(&mut stream.receive))
        .await
        .map_err(|_| ApiError::AgentTimeout)?
        .map_err(|error| failed(error.to_string()))?
        .ok_or_else(|| failed("the agent said nothing".into()))
}

/// Count one more open stream, if one more is allowed.
fn stream_permit(shared: &Shared) -> Result<OwnedSemaphorePermit, ApiError> {
    shared.streams.clone().try_acquire_owned().map_err(|_| ApiError::TooManyStreams)
}
