//! Create, change, restart and remove apps: one deployment for each command.

use super::deployments::DEPLOYMENTS_MAX;
use super::draft::{Draft, draft};
use super::{groups, instances, rollouts, scope, service_ports};
use crate::command::{AppChange, GroupChange, Rejection};
use crate::deploy;
use crate::event::Event;
use crate::model::{
    APP_VERSIONS_MAX, App, AppId, AppRecord, Deployment, DeploymentId, Goal, Group, InstanceId,
    LaunchDelay, Plan, State, Time, Undo,
};
use std::collections::{BTreeMap, BTreeSet};

/// What one command asks for.
pub(super) struct Request<'a> {
    pub deployment_id: &'a DeploymentId,
    pub groups: &'a [GroupChange],
    pub apps: &'a [AppChange],
    pub force: bool,
    pub unlocks: Unlocks<'a>,
    /// The deployment that this takes back. Its apps get their configurations back, not new ones:
    /// tasks that still have them stay.
    pub undoes: Option<Undo>,
}

/// Deployments that a change ends, besides those that a forced one finds in its way.
#[derive(Clone, Copy)]
pub(super) struct Unlocks<'a> {
    /// The one that is taken back, forced or not.
    pub replaces: Option<&'a DeploymentId>,
    /// Forced, those of all apps named, not only of those that change: who rolls a deployment
    /// back wants it gone also where nothing had changed yet.
    pub unchanged: bool,
}

pub(super) fn change(
    state: &mut State,
    deployment_id: &DeploymentId,
    changes: &[AppChange],
    force: bool,
) -> Result<Vec<Event>, Rejection> {
    let unlocks = Unlocks { replaces: None, unchanged: true };
    let request =
        Request { deployment_id, groups: &[], apps: changes, force, unlocks, undoes: None };
    deploy_change(state, &request).map(|(_, events)| events)
}

/// Make all changes of a request as one deployment; gives its version too.
pub(super) fn deploy_change(
    state: &mut State,
    request: &Request<'_>,
) -> Result<(Time, Vec<Event>), Rejection> {
    let id = request.deployment_id;
    let draft = settled(state, request.groups, request.apps, request.undoes.is_some())?;
    let changed = draft.changed(state);
    let replaces = request.unlocks.replaces.filter(|id| state.deployments.contains_key(id));
    let mut locks = state.locked_by(&changed);
    locks.retain(|id| Some(id) != replaces);
    if !request.force && !locks.is_empty() {
        return Err(Rejection::Locked(locks));
    }
    if request.force && request.unlocks.unchanged {
        locks = state.locked_by(draft.apps.keys());
        locks.retain(|id| Some(id) != replaces);
    }
    locks.extend(replaces.cloned());
    if state.deployments.contains_key(id) {
        return Err(Rejection::Locked(vec![id.clone()]));
    }
    if state.deployments.len() - locks.len() >= DEPLOYMENTS_MAX as usize {
        return Err(Rejection::DeploymentsFull { max: DEPLOYMENTS_MAX });
    }
    let deployment = deployment(state, id, &draft, request.undoes.clone())?;
    // From here on nothing can fail.
    let mut events = Vec::new();
    for id in locks {
        if let Some(deployment) = state.deployments.remove(&id) {
            events.push(ended(id, deployment, request.undoes.as_ref()));
        }
    }
    groups::remember(state, &draft, &changed);
    groups::put(state, draft.groups);
    let touched: Vec<AppId> = draft.apps.keys().cloned().collect();
    for (id, app) in draft.apps {
        match app {
            Some(app) => put(state, app, &mut events),
            None => remove(state, &id, &mut events),
        }
    }
    let version = deployment.version;
    events.push(Event::DeploymentStarted {
        id: id.clone(),
        version,
        deployment: Box::new(deployment.clone()),
    });
    if deployment.plan.steps.is_empty() {
        let deployment = Box::new(deployment);
        events.push(Event::DeploymentFinished { id: id.clone(), deployment });
    } else {
        state.deployments.insert(id.clone(), deployment);
    }
    // Only now is it known which version a trial would go back to.
    touched.iter().for_each(|id| prune_versions(state, id));
    Ok((version, events))
}

fn ended(id: DeploymentId, deployment: Deployment, undoes: Option<&Undo>) -> Event {
    let deployment = Box::new(deployment);
    match undoes.filter(|undo| undo.id == id) {
        Some(undo) => Event::DeploymentUndone { id, deployment, reason: undo.reason.clone() },
        None => Event::DeploymentCancelled { id, deployment },
    }
}

/// The draft of a command with its service ports and versions.
fn settled(
    state: &State,
    groups: &[GroupChange],
    apps: &[AppChange],
    restores: bool,
) -> Result<Draft, Rejection> {
    let mut draft = draft(state, groups, apps)?;
    service_ports::assign(state, &mut draft.apps)?;
    draft.set_versions(state, restores);
    groups::stamp(state, &mut draft);
    Ok(draft)
}

/// The steps that these changes would take, without making any (Marathon's `dryRun`).
///
/// # Errors
/// The changes would be refused; locks do not count, as nothing is started.
pub fn preview(
    state: &State,
    groups: &[GroupChange],
    apps: &[AppChange],
) -> Result<Plan, Rejection> {
    let draft = settled(state, groups, apps, false)?;
    Ok(deployment(state, &DeploymentId::new(""), &draft, None)?.plan)
}

/// The deployment that brings the tasks in line with the draft. It is planned over all apps that
/// dependencies may lead through, and holds only those that it acts on.
fn deployment(
    state: &State,
    id: &DeploymentId,
    draft: &Draft,
    undoes: Option<Undo>,
) -> Result<Deployment, Rejection> {
    let (plan, original, target) = planned(scope::of(state, draft), draft)?;
    debug_assert_eq!(
        Ok((&plan, &original, &target)),
        planned(state.root(), draft).as_ref().map(|(plan, from, to)| (plan, from, to)),
        "what was left out changes nothing"
    );
    let (id, version, rollouts) = (id.clone(), draft.version, BTreeMap::new());
    let mut deployment =
        Deployment { id, version, plan, current_step: 0, original, target, rollouts, undoes };
    // The way back is never on trial itself: it could only lead round in circles.
    if deployment.undoes.is_none() {
        deployment.rollouts = rollouts::of(state, &deployment);
    }
    rollouts::enter_step(&mut deployment, state.now);
    Ok(deployment)
}

/// The steps from a group to what a draft makes of it, and of both what is acted on.
fn planned(mut original: Group, draft: &Draft) -> Result<(Plan, Group, Group), Rejection> {
    let mut target = original.clone();
    overlay(&mut target.apps, &draft.apps);
    overlay(&mut target.groups, &draft.groups);
    // A cycle that was there before is not this change's doing, and must not block it.
    if deploy::is_cyclic(&target) && !deploy::is_cyclic(&original) {
        return Err(Rejection::DependencyCycle);
    }
    let plan = deploy::plan_with_restarts(&original, &target, &draft.restarts);
    let touched: BTreeSet<&AppId> =
        plan.steps.iter().flat_map(|s| &s.actions).map(|a| &a.app_id).collect();
    let regrouped = groups::differing(&original, &target);
    let only_touched = |group: &mut Group| {
        group.apps.retain(|app_id, _| touched.contains(app_id));
        group.groups.retain(|group_id, _| regrouped.contains(group_id));
    };
    only_touched(&mut original);
    only_touched(&mut target);
    Ok((plan, original, target))
}

fn overlay<K: Ord + Clone, V: Clone>(now: &mut BTreeMap<K, V>, drafted: &BTreeMap<K, Option<V>>) {
    for (key, value) in drafted {
        match value {
            Some(value) => now.insert(key.clone(), value.clone()),
            None => now.remove(key),
        };
    }
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
    let (mut added_checks, mut removed_checks) = (Vec::new(), 0);
    if app.last_config_change != record.app.last_config_change {
        record.delay = LaunchDelay::default();
        added_checks.clone_from(&app.health_checks);
        removed_checks = checks_of(&record.app);
    }
    let earlier = std::mem::replace(&mut record.app, app);
    record.versions.push(earlier);
    events.push(Event::AppChanged { app_id: id, version, added_checks, removed_checks });
}

fn create(state: &mut State, app: App, events: &mut Vec<Event>) {
    let (id, version) = (app.id.clone(), app.version);
    let added_checks = app.health_checks.clone();
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
            .filter(|i| i.goal != Goal::Decommissioned)
            .map(|i| i.id.clone())
            .collect();
        events.extend(instances::decommission(state, &ids));
    }
    state.apps.insert(id.clone(), record);
    events.push(Event::AppChanged { app_id: id, version, added_checks, removed_checks: 0 });
}

/// Take an app out of the group; its instances remain known until they have stopped.
fn remove(state: &mut State, id: &AppId, events: &mut Vec<Event>) {
    let Some(record) = state.apps.remove(id) else { return };
    let removed_checks = checks_of(&record.app);
    events.push(Event::AppRemoved { app_id: id.clone(), removed_checks });
    if state.instances_of(id).next().is_some() {
        state.leaving.insert(id.clone(), record);
    } else {
        events.push(Event::AppTerminated { app_id: id.clone() });
    }
}

fn checks_of(app: &App) -> u32 {
    u32::try_from(app.health_checks.len()).unwrap_or(u32::MAX)
}

fn used_versions(state: &State, id: &AppId) -> BTreeSet<Time> {
    let trials = state.deployments.values().filter_map(|deployment| deployment.rollouts.get(id));
    let run = state.instances_of(id).flat_map(|i| [i.version, i.assigned_version()]);
    run.chain(trials.map(|rollout| rollout.stable)).collect()
}

/// Keep the latest versions, any that an instance runs, and those that a trial may go back to.
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
