//! `/v2/deployments` (Marathon's contract, section 2.4).

use super::change;
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use bramble_core::command::Command;
use bramble_core::model::{AppId, DeploymentId, State, UndoReason};
use bramble_protocol::rest::deployment;
use bramble_protocol::rest::probing::{ReadinessCheckResultJson, readiness_results};
use http::StatusCode;

pub(crate) fn list(call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<_> = call.api().store.read(|state| {
        let readiness = |app_id: &AppId| readiness_of_new_tasks(state, app_id);
        let mut running: Vec<_> = state.deployments.values().collect();
        // Ids are drawn: only by their versions do deployments have an order that means something.
        running.sort_by_key(|deployment| deployment.version);
        running.into_iter().map(|d| deployment::deployment(d, &readiness)).collect()
    });
    Ok(reply::json(StatusCode::OK, &all))
}

/// What readiness checks said of the tasks with an app's current configuration.
fn readiness_of_new_tasks(state: &State, app_id: &AppId) -> Vec<ReadinessCheckResultJson> {
    let Some(record) = state.apps.get(app_id) else { return Vec::new() };
    let new = state.instances_of(app_id).filter(|i| record.is_current(i.version));
    new.filter_map(|i| i.task.as_ref()).flat_map(readiness_results).collect()
}

/// Roll back, or with `force=true` only stop.
pub(crate) async fn delete(call: &Call, id: String) -> Result<Reply, ApiError> {
    let id = DeploymentId::new(id);
    if call.query.flag("force", false) {
        change::commit(call.api(), Command::CancelDeployment { id }).await?;
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    let started = change::roll_back(call.api(), id, UndoReason::Requested).await?;
    Ok(change::result(StatusCode::OK, &started))
}
