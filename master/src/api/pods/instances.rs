//! Ending single instances of a pod; the keep loop replaces them.

use super::read::unknown;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{body, change};
use axum::body::Body;
use bramble_core::command::Command;
use bramble_core::model::{AppId, InstanceId};
use bramble_protocol::rest::parse;
use bramble_protocol::rest::pod::{InstanceJson, instance};
use http::StatusCode;

/// `DELETE /v2/pods/{id}::instances/{instance}`; with `wipe` its volumes are given up, too.
pub(crate) async fn kill_one(call: &Call, id: &AppId, name: &str) -> Result<Reply, ApiError> {
    let mut shown = end(call, id, &[name.to_string()]).await?;
    match shown.pop() {
        Some(shown) => Ok(reply::json(StatusCode::OK, &shown)),
        None => Err(ApiError::InstanceUnknown(name.to_string())),
    }
}

/// `DELETE /v2/pods/{id}::instances` with a list of ids; those that are not known are passed over.
pub(crate) async fn kill_many(call: &Call, id: &AppId, body: Body) -> Result<Reply, ApiError> {
    let value = body::json(&call.headers, body).await?;
    let names = parse::instance_ids(&value).map_err(|details| ApiError::WrongType { details })?;
    Ok(reply::json(StatusCode::OK, &end(call, id, &names).await?))
}

/// End the named instances of a pod, and show them as they were.
async fn end(call: &Call, id: &AppId, names: &[String]) -> Result<Vec<InstanceJson>, ApiError> {
    let shown: Vec<InstanceJson> = call.api().store.read(|state| {
        let record = state.pod(id).ok_or_else(|| unknown(id))?;
        let own = state.instances_of(id).filter(|i| names.contains(&i.id.0));
        let shown = own.map(|i| instance(state, state.app_of(i).unwrap_or(&record.app), i));
        Ok::<_, ApiError>(shown.collect())
    })?;
    let ids: Vec<InstanceId> = shown.iter().map(|i| InstanceId::new(&*i.instance_id)).collect();
    if !ids.is_empty() {
        let command = if call.query.flag("wipe", false) {
            tracing::info!(instances = ?ids, "a request gives up instances and their volumes");
            Command::Wipe { ids }
        } else {
            Command::Decommission { ids }
        };
        change::commit(call.api(), command).await?;
    }
    Ok(shown)
}
