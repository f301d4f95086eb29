//! Who belongs to the cluster: masters, the removal of nodes, another join token.

use super::agents::Live;
use crate::administration::Administration;
use crate::api::change::within;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::model::AgentId;
use bramble_protocol::native::Token;
use http::StatusCode;
use std::sync::Arc;

/// A master that was heard within this time is there.
const PRESENT_SECONDS: u64 = 5;

/// `GET masters`.
pub(in crate::api) fn masters(call: &Call) -> Result<Reply, ApiError> {
    let roster = call.api().roster.as_ref().ok_or(ApiError::NoLeader)?;
    let answer = call.api().store.read(|state| roster.views(state));
    Ok(reply::json(StatusCode::OK, &answer))
}

fn administration(call: &Call) -> Result<&Arc<Administration>, ApiError> {
    call.api().administration.as_ref().ok_or(ApiError::NoLeader)
}

/// `DELETE nodes/{node}`.
pub(in crate::api) async fn remove_node(call: &Call, name: &str) -> Result<Reply, ApiError> {
    // It goes on when nobody waits for it any more: a leader that is to go gives its vote away in
    // between, and must not be left without.
    let (administration, name) = (administration(call)?.clone(), name.to_string());
    let removing = tokio::spawn(async move { administration.remove(&name).await });
    let removed = within(removing).await?.map_err(|_| ApiError::NoLeader)?;
    match removed.map_err(ApiError::from) {
        Ok(removed) => Ok(reply::json(StatusCode::OK, &removed)),
        Err(ApiError::Ambiguous { name, candidates, .. }) => {
            let away = away(call, &candidates);
            Err(ApiError::Ambiguous { name, candidates, away })
        }
        Err(error) => Err(error),
    }
}

/// Which of several nodes neither have a session with this leader nor were lately heard as masters.
fn away(call: &Call, ids: &[String]) -> Vec<String> {
    let live = Live::of(call);
    let roster = call.api().roster.as_ref();
    let masters = call.api().store.read(|state| roster.map(|roster| roster.views(state)));
    let answers = |id: &String| {
        masters.iter().flatten().filter(|master| master.id == *id).any(|master| {
            master.answers || master.heard_seconds_ago.is_some_and(|ago| ago < PRESENT_SECONDS)
        })
    };
    let here = |id: &String| live.is_connected(&AgentId::new(id.as_str())) || answers(id);
    ids.iter().filter(|id| !here(id)).cloned().collect()
}

/// `POST token/rotate`. Whoever may not see the token may not replace it.
pub(in crate::api) async fn rotate_token(call: &Call) -> Result<Reply, ApiError> {
    if !call.peer.is_local() {
        return Err(ApiError::NodeOnly);
    }
    let token = within(administration(call)?.rotate_token()).await??;
    Ok(reply::json(StatusCode::OK, &Token { token }))
}
