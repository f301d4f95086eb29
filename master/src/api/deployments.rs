//! `/v2/deployments` (Marathon's contract, section 2.4).

use super::change;
use super::dispatch::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use bramble_core::command::{AppChange, Command};
use bramble_core::model::{AppId, Deployment, DeploymentId, State};
use bramble_protocol::rest::deployment;
use bramble_protocol::rest::probing::{ReadinessCheckResultJson, readiness_results};
use http::StatusCode;

pub(crate) fn list(call: &Call) -> Result<Reply, ApiError> {
    let all: Vec<_> = call.api().store.read(|state| {
        let readiness = |app_id: &AppId| readiness_of_new_tasks(state, app_id);
        state.deployments.values().map(|d| deployment::deployment(d, &readiness)).collect()
    });
    Ok(reply::json(StatusCode::OK, &all))
}

/// What readiness checks said of the tasks with an app's current configuration.
fn readiness_of_new_tasks(state: &State, app_id: &AppId) -> Vec<ReadinessCheckResultJson> {
    let Some(record) = state.apps.get(app_id) else { return Vec::new() };
    let config = record.app.last_config_change;
    let new = state.instances_of(app_id).filter(|i| i.version >= config);
    new.filter_map(|i| i.task.as_ref()).flat_map(readiness_results).collect()
}

/// Roll back, or with `force=true` only stop.
pub(crate) async fn delete(call: &Call, id: String) -> Result<Reply, ApiError> {
    let id = DeploymentId::new(id);
    let changes = call
        .api()
        .store
        .read(|state| state.deployments.get(&id).map(|d| undo(state, d)))
        .ok_or_else(|| ApiError::DeploymentUnknown(id.clone()))?;
    if call.query.flag("force", false) {
        change::commit(call.api(), Command::CancelDeployment { id }).await?;
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    let started = change::apps(call.api(), changes, true).await?;
    Ok(change::result(StatusCode::OK, &started))
}

/// What restores the apps a deployment touches as they were before it, and no others.
fn undo(state: &State, deployment: &Deployment) -> Vec<AppChange> {
    let restore = |id: AppId| {
        let exists = state.apps.contains_key(&id);
        match (deployment.original.apps.get(&id), exists) {
            (Some(app), true) => Some(AppChange::Update(app.clone())),
            (Some(app), false) => Some(AppChange::Create(app.clone())),
            (None, true) => Some(AppChange::Remove(id)),
            (None, false) => None,
        }
    };
    deployment.affected().into_iter().filter_map(restore).collect()
}
