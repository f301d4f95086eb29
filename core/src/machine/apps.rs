//! Create, change, restart and remove apps: one deployment for each command.

use super::deployments::DEPLOYMENTS_MAX;
use super::draft::{Draft, draft};
use super::{instances, service_ports};
use crate::command::{AppChange, Rejection};
use crate::deploy;
use crate::event::Event;
use crate::model::{
    APP_VERSIONS_MAX, App, AppId, AppRecord, Deployment, DeploymentId, Goal, Group, InstanceId,
    LaunchDelay, State, Time,
};
use std::collections::BTreeSet;

pub(super) fn change(
    state: &mut State,
    deployment_id: &DeploymentId,
    changes: &[AppChange],
    force: bool,
) -> Result<Vec<Event>, Rejection> {
    let mut draft = draft(state, changes)?;
    let locks = state.locked_by(draft.apps.keys());
    if !force && !locks.is_empty() {
        return Err(Rejection::Locked(locks));
    }
    if state.deployments.contains_key(deployment_id) {
        return Err(Rejection::Locked(vec![deployment_id.clone()]));
    }
    if state.deployments.len() - locks.len() >= DEPLOYMENTS_MAX as usize {
        return Err(Rejection::DeploymentsFull { max: DEPLOYMENTS_MAX });
    }
    service_ports::assign(state, &mut draft.apps)?;
    draft.set_versions(state);
    // From here on nothing can fail.
    let deployment = deployment(state, deployment_id, &draft);
    let mut events = Vec::new();
    for id in locks {
        state.deployments.remove(&id);
        events.push(Event::DeploymentCancelled { id });
    }
    for (id, app) in draft.apps {
        match app {
            Some(app) => put(state, app, &mut events),
            None => remove(state, &id, &mut events),
        }
    }
    events
        .push(Event::DeploymentStarted { id: deployment_id.clone(), version: deployment.version });
    if deployment.plan.steps.is_empty() {
        events.push(Event::DeploymentFinished { id: deployment_id.clone() });
    } else {
        state.deployments.insert(deployment_id.clone(), deployment);
    }
    Ok(events)
}

/// The deployment that brings the tasks in line with the draft. It is planned over all apps, as
/// dependencies may lead through untouched ones, and holds only those that it acts on.
fn deployment(state: &State, id: &DeploymentId, draft: &Draft) -> Deployment {
    let mut original = state.root();
    let mut target = original.clone();
    for (app_id, app) in &draft.apps {
        match app {
            Some(app) => target.apps.insert(app_id.clone(), app.clone()),
            None => target.apps.remove(app_id),
        };
    }
    let plan = deploy::plan_with_restarts(&original, &target, &draft.restarts);
    let touched: BTreeSet<&AppId> =
        plan.steps.iter().flat_map(|s| &s.actions).map(|a| &a.app_id).collect();
    let only_touched = |group: &mut Group| group.apps.retain(|app_id, _| touched.contains(app_id));
    only_touched(&mut original);
    only_touched(&mut target);
    Deployment { id: id.clone(), version: draft.version, plan, current_step: 0, original, target }
}

fn put(state: &mut State, app: App, events: &mut Vec<Event>) {
    let id = app.id.clone();
    let version = app.version;
    let Some(record) = state.apps.get_mut(&id) else {
        return create(state, app, events);
    };
    if record.app == app {
        return;
    }
    if app.last_config_change != record.app.last_config_change {
        record.delay = LaunchDelay::default();
    }
    let earlier = std::mem::replace(&mut record.app, app);
    record.versions.push(earlier);
    prune_versions(state, &id);
    events.push(Event::AppChanged { app_id: id, version });
}

fn create(state: &mut State, app: App, events: &mut Vec<Event>) {
    let (id, version) = (app.id.clone(), app.version);
    let mut record =
        AppRecord { app, versions: Vec::new(), delay: LaunchDelay::default(), last_failure: None };
    if let Some(gone) = state.leaving.remove(&id) {
        // Its last tasks still stop: they keep their definitions, and none of them is mistaken
        // for a task of the new app.
        record.versions = gone.versions;
        record.versions.push(gone.app);
        record.versions.retain({
            let used = used_versions(state, &id);
            move |app| used.contains(&app.version)
        });
        let ids: Vec<InstanceId> = state
            .instances_of(&id)
            .filter(|i| i.goal == Goal::Running)
            .map(|i| i.id.clone())
            .collect();
        events.extend(instances::decommission(state, &ids));
    }
    state.apps.insert(id.clone(), record);
    events.push(Event::AppChanged { app_id: id, version });
}

/// Take an app out of the group; its instances remain known until they have stopped.
fn remove(state: &mut State, id: &AppId, events: &mut Vec<Event>) {
    let Some(record) = state.apps.remove(id) else { return };
    if state.instances_of(id).next().is_some() {
        state.leaving.insert(id.clone(), record);
    }
    events.push(Event::AppRemoved { app_id: id.clone() });
}

fn used_versions(state: &State, id: &AppId) -> BTreeSet<Time> {
    state.instances_of(id).map(|i| i.version).collect()
}

/// Keep the latest versions, and any that an instance runs.
fn prune_versions(state: &mut State, id: &AppId) {
    let used = used_versions(state, id);
    let Some(record) = state.apps.get_mut(id) else { return };
    let surplus = record.versions.len().saturating_sub(APP_VERSIONS_MAX as usize);
    let mut position = 0;
    record.versions.retain(|app| {
        position += 1;
        position > surplus || used.contains(&app.version)
    });
}
