//! The images that machines run from: what each runs, and a new one for its spare slot.
//!
//! In which order machines are updated is the client's: it sees each come back before the next.

use super::agents::find;
use super::{ask, images};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::streams::StreamError;
use axum::body::Body;
use bramble_core::model::AgentId;
use bramble_protocol::message::{OsReply, OsRequest, OsSlots, StreamRequest};
use bramble_protocol::native::OsView;
use futures_util::future::join_all;
use http::StatusCode;

/// `GET os`: every agent's machine; of one that tells nothing, why.
pub(super) async fn list(call: &Call) -> Result<Reply, ApiError> {
    let agents: Vec<(AgentId, String)> = call.api().store.read(|state| {
        state.agents.values().map(|agent| (agent.id.clone(), agent.name.clone())).collect()
    });
    let views = join_all(agents.into_iter().map(|(id, host)| async move {
        let slots = slots(call, &id).await;
        let (slots, message) = match slots {
            Ok(slots) => (Some(slots), None),
            Err(error) => (None, Some(error.to_string())),
        };
        OsView { agent_id: id.to_string(), host, slots, message }
    }));
    Ok(reply::json(StatusCode::OK, &views.await))
}

/// `GET agents/{agent}/os`.
pub(super) async fn one(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let (id, host) = named(call, name)?;
    let slots = Some(slots(call, &id).await?);
    let view = OsView { agent_id: id.to_string(), host, slots, message: None };
    Ok(reply::json(StatusCode::OK, &view))
}

/// `POST agents/{agent}/os`: an update file for the spare slot. Progress as for images.
pub(super) async fn stage(call: &Call, name: &str, file: Body) -> Result<Reply, ApiError> {
    let (id, _) = named(call, name)?;
    // Asked first: who has no slots says so before it is sent a hundred megabytes.
    slots(call, &id).await?;
    tracing::info!(agent_id = %id, "an agent is sent an update of its image");
    images::upload(call, vec![id], StreamRequest::StageOs, file).await
}

/// `POST agents/{agent}/os/try?alone=`.
pub(super) async fn try_spare(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let alone = call.query.flag("alone", false);
    tell(call, name, OsRequest::Try { alone }).await
}

/// `POST agents/{agent}/os/confirm`.
pub(super) async fn confirm(call: &Call, name: &str) -> Result<Reply, ApiError> {
    tell(call, name, OsRequest::Confirm).await
}

async fn tell(call: &Call, name: &str, request: OsRequest) -> Result<Reply, ApiError> {
    let (id, host) = named(call, name)?;
    tracing::info!(agent_id = %id, ?request, "an agent's machine is told");
    match ask(&call.shared, &id, StreamRequest::Os(request)).await? {
        OsReply::Refused(reason) => Err(refused(reason)),
        OsReply::Slots(slots) => {
            let view = OsView { agent_id: id.to_string(), host, slots: Some(slots), message: None };
            Ok(reply::json(StatusCode::OK, &view))
        }
        OsReply::Done => {
            let view = OsView { agent_id: id.to_string(), host, slots: None, message: None };
            Ok(reply::json(StatusCode::OK, &view))
        }
    }
}

async fn slots(call: &Call, agent: &AgentId) -> Result<OsSlots, ApiError> {
    match ask(&call.shared, agent, StreamRequest::Os(OsRequest::Slots)).await? {
        OsReply::Slots(slots) => Ok(slots),
        OsReply::Refused(reason) => Err(refused(reason)),
        OsReply::Done => Err(refused("the agent answered something else".into())),
    }
}

fn refused(reason: String) -> ApiError {
    ApiError::Stream(StreamError::Failed(reason))
}

fn named(call: &Call, name: &str) -> Result<(AgentId, String), ApiError> {
    call.api().store.read(|state| find(state, name).map(|a| (a.id.clone(), a.name.clone())))
}
