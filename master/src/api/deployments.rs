//! `/v2/deployments` (Marathon's contract, section 2.4).

use super::change;
use super::dispatch::Call;
use super::error::ApiError;
use super::groups;
use super::reply::{self, Reply};
use crate::normalize::group::GroupWork;
use bramble_core::command::{AppChange, Command, GroupChange};
use bramble_core::model::{AppId, Deployment, DeploymentId, GroupId, GroupRecord, State};
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
    let work = call
        .api()
        .store
        .read(|state| state.deployments.get(&id).map(|d| undo(state, d)))
        .ok_or_else(|| ApiError::DeploymentUnknown(id.clone()))?;
    if call.query.flag("force", false) {
        change::commit(call.api(), Command::CancelDeployment { id }).await?;
        return Ok(reply::empty(StatusCode::ACCEPTED));
    }
    let started = match work.groups.is_empty() {
        true => change::apps(call.api(), work.apps, true).await?,
        false => groups::deploy(call.api(), &GroupId::root(), work, true, Some(id)).await?,
    };
    Ok(change::result(StatusCode::OK, &started))
}

/// What restores the apps and groups a deployment touches as they were before it, and no others.
fn undo(state: &State, deployment: &Deployment) -> GroupWork {
    let restore = |id: AppId| {
        let exists = state.apps.contains_key(&id);
        match (deployment.original.apps.get(&id), exists) {
            (Some(app), true) => Some(AppChange::Update(app.clone())),
            (Some(app), false) => Some(AppChange::Create(app.clone())),
            (None, true) => Some(AppChange::Remove(id)),
            (None, false) => None,
        }
    };
    let mut apps: Vec<AppChange> = deployment.affected().into_iter().filter_map(restore).collect();
    let new = |app: &AppId| !deployment.original.apps.contains_key(app) && deployment.touches(app);
    let mut gone: Vec<GroupId> = Vec::new();
    for id in deployment.target.groups.keys() {
        // A group that came with the deployment goes with it, unless others use it by now.
        let came = !deployment.original.groups.contains_key(id) && state.groups.contains_key(id);
        let apart = !gone.iter().any(|above| id.0.starts_with(&above.prefix()));
        let prefix = id.prefix();
        let inner = state.groups.keys().filter(|group| group.0.starts_with(&prefix));
        let mut inner = inner.map(|group| deployment.target.groups.contains_key(group));
        if came && apart && inner.all(|own| own) && state.apps_below(id).all(|(app, _)| new(app)) {
            gone.push(id.clone());
        }
    }
    apps.retain(|change| match change {
        AppChange::Remove(app) => !gone.iter().any(|group| app.0.starts_with(&group.prefix())),
        _ => true,
    });
    let put = |(id, record): (&GroupId, &GroupRecord)| GroupChange::Put {
        id: id.clone(),
        dependencies: record.dependencies.clone(),
    };
    let restored = deployment.original.groups.iter().map(put);
    let groups = gone.iter().cloned().map(GroupChange::Remove).chain(restored).collect();
    GroupWork { groups, apps }
}
