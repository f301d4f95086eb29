//! Going back: a deployment is taken back by another one, which restores what it changed and
//! nothing else (Marathon's contract, section 8).

use super::apps::{self, Request, Unlocks};
use crate::command::{AppChange, GroupChange, Rejection};
use crate::deploy;
use crate::event::Event;
use crate::model::{
    App, AppId, Deployment, DeploymentId, GroupId, GroupRecord, RolloutKind, State, Undo,
    UndoReason,
};

/// Take back deployment `id` by a new one, `deployment_id`.
pub(super) fn roll_back(
    state: &mut State,
    id: &DeploymentId,
    deployment_id: &DeploymentId,
    reason: &UndoReason,
) -> Result<Vec<Event>, Rejection> {
    let deployment =
        state.deployments.get(id).ok_or_else(|| Rejection::DeploymentUnknown(id.clone()))?;
    let staged = || deployment.rollouts.values().any(|r| r.kind != RolloutKind::Rolling);
    match reason {
        UndoReason::Withdrawn if !staged() => return Err(Rejection::NotStaged(id.clone())),
        // Between the look and this moment it may have become healthy.
        UndoReason::Overdue { .. } if deploy::overdue(deployment, state, state.now).is_none() => {
            return Err(Rejection::NotOverdue(id.clone()));
        }
        _ => {}
    }
    let (apps, groups) = undo(state, deployment);
    let undoes = Undo { id: id.clone(), reason: reason.clone() };
    let unlocks = Unlocks { replaces: Some(id), unchanged: false };
    let regroups = !groups.is_empty();
    let request = Request {
        deployment_id,
        groups: &groups,
        apps: &apps,
        force: true,
        unlocks,
        undoes: Some(undoes),
    };
    let (version, mut events) = apps::deploy_change(state, &request)?;
    if regroups {
        events.insert(0, Event::GroupChanged { group_id: GroupId::root(), version });
    }
    Ok(events)
}

/// What restores the apps and groups a deployment touches as they were before it, and no others.
fn undo(state: &State, deployment: &Deployment) -> (Vec<AppChange>, Vec<GroupChange>) {
    let restore = |id: AppId| {
        let exists = state.apps.contains_key(&id);
        match (earlier(state, deployment, &id), exists) {
            (Some(app), true) => Some(AppChange::Update(app)),
            (Some(app), false) => Some(AppChange::Create(app)),
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
    (apps, groups)
}

/// An app before the deployment; of one on trial its stable version, which is older where the
/// deployment replaced another trial.
fn earlier(state: &State, deployment: &Deployment, id: &AppId) -> Option<App> {
    let stable = || {
        let rollout = deployment.rollouts.get(id)?;
        let app = state.apps.get(id)?.at_version(rollout.stable)?;
        Some(App { instances: rollout.stable_instances, ..app.clone() })
    };
    stable().or_else(|| deployment.original.apps.get(id).cloned())
}
