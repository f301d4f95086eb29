//! Who belongs to the cluster: masters, the removal of nodes, another join token.

use crate::administration::Administration;
use crate::api::change::within;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_protocol::native::Token;
use http::StatusCode;

/// `GET masters`.
pub(in crate::api) fn masters(call: &Call) -> Result<Reply, ApiError> {
    let roster = call.api().roster.as_ref().ok_or(ApiError::NoLeader)?;
    let answer = call.api().store.read(|state| roster.views(state));
    Ok(reply::json(StatusCode::OK, &answer))
}

fn administration(call: &Call) -> Result<&Administration, ApiError> {
    call.api().administration.as_deref().ok_or(ApiError::NoLeader)
}

/// `DELETE nodes/{node}`.
pub(in crate::api) async fn remove_node(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let removed = within(administration(call)?.remove(name)).await??;
    Ok(reply::json(StatusCode::OK, &removed))
}

/// `POST token/rotate`. Whoever may not see the token may not replace it.
pub(in crate::api) async fn rotate_token(call: &Call) -> Result<Reply, ApiError> {
    if !call.peer.is_local() {
        return Err(ApiError::NodeOnly);
    }
    let token = within(administration(call)?.rotate_token()).await??;
    Ok(reply::json(StatusCode::OK, &Token { token }))
}
