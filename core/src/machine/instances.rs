//! Instances come and go, and some rest in between: those whose volumes shall outlive their tasks.

use crate::command::Rejection;
use crate::event::Event;
use crate::model::{
    AgentId, App, AppId, AppRecord, Goal, Instance, InstanceId, Reservation, State, Time, VolumeId,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Add waiting instances, at most as many as the app's current configuration still lacks. Parked
/// ones are woken before new ones are made.
///
/// The deployer counts before it proposes; between the two a user may have scaled down. So the
/// bound is enforced here, where nothing can come between, and surplus ids stay unused.
pub(super) fn add(
    state: &mut State,
    app_id: &AppId,
    ids: &[InstanceId],
) -> Result<Vec<Event>, Rejection> {
    let record = state.apps.get(app_id).ok_or_else(|| Rejection::AppUnknown(app_id.clone()))?;
    let (version, wanted) = current(state, record);
    add_of(state, app_id, version, wanted, ids)
}

/// The current version, and of how many instances. While it is on trial, only so many may try it.
fn current(state: &State, record: &AppRecord) -> (Time, u32) {
    let app = &record.app;
    let wanted = state.held(&app.id).map_or(app.instances, |rollout| rollout.fresh(app.instances));
    (app.version, wanted)
}

/// Add waiting instances of the version that is kept up while another is on trial, at most as many
/// as it lacks; none once the trial is over.
pub(super) fn add_stable(
    state: &mut State,
    app_id: &AppId,
    ids: &[InstanceId],
) -> Result<Vec<Event>, Rejection> {
    if !state.apps.contains_key(app_id) {
        return Err(Rejection::AppUnknown(app_id.clone()));
    }
    let Some(rollout) = state.held(app_id) else { return Ok(Vec::new()) };
    let (version, wanted) = (rollout.stable, rollout.stable_instances);
    add_of(state, app_id, version, wanted, ids)
}

/// Add instances of a version until there are `wanted` of its configuration.
fn add_of(
    state: &mut State,
    app_id: &AppId,
    version: Time,
    wanted: u32,
    ids: &[InstanceId],
) -> Result<Vec<Event>, Rejection> {
    let mut seen = BTreeSet::new();
    if let Some(taken) = ids.iter().find(|id| state.instances.contains_key(id) || !seen.insert(*id))
    {
        return Err(Rejection::InstanceExists(taken.clone()));
    }
    let prefix = InstanceId::prefix(app_id);
    if let Some(id) = ids.iter().find(|id| !id.0.starts_with(&prefix)) {
        return Err(Rejection::InstanceMisnamed(id.clone(), app_id.clone()));
    }
    let (woken, fresh) = addable(state, &state.apps[app_id], version, wanted, ids.len());
    let mut events = Vec::new();
    for id in woken.iter().chain(ids.iter().take(fresh)) {
        let now = state.now;
        let instance = state
            .instances
            .entry(id.clone())
            .or_insert_with(|| Instance::waiting(id.clone(), app_id.clone(), version, now));
        (instance.version, instance.goal, instance.since) = (version, Goal::Running, now);
        let (instance_id, app_id) = (id.clone(), app_id.clone());
        events.push(Event::InstanceAdded { instance_id, app_id, version });
    }
    Ok(events)
}

/// Which parked instances of a version would be woken, and how many new ones added beside them, if
/// `asked` were asked for so that there are `wanted`.
fn addable(
    state: &State,
    record: &AppRecord,
    version: Time,
    wanted: u32,
    asked: usize,
) -> (Vec<InstanceId>, usize) {
    let alike = |i: &&Instance| record.same_config(i.assigned_version(), version);
    // The replacement of one that stands wrong comes before it goes.
    let stays = |i: &&Instance| {
        !state.is_inactive(&i.id) && i.task.as_ref().is_none_or(|task| task.misplaced.is_none())
    };
    let all = state.instances_of(&record.app.id);
    let running = all.filter(|i| i.goal == Goal::Running).filter(stays);
    let room = (wanted as usize).saturating_sub(running.filter(alike).count()).min(asked);
    // A version on trial may have volumes that the one beside it has not.
    let app = record.at_version(version).unwrap_or(&record.app);
    let woken = parked(state, app, room);
    // A change that also shrinks the app shrinks it only once its trial is over.
    let kept = state.held(&record.app.id).map_or(0, |rollout| rollout.stable_instances);
    let most = app.instances.max(record.app.instances).max(kept);
    let fresh = fresh_room(state, app, most).min(room - woken.len());
    (woken, fresh)
}

/// How many instances of an app's current version would be added now.
pub(crate) fn addable_current(state: &State, app_id: &AppId) -> u32 {
    let Some(record) = state.apps.get(app_id) else { return 0 };
    count(state, record, current(state, record))
}

/// How many instances of the version that is kept up beside a trial would be added now.
pub(crate) fn addable_stable(state: &State, app_id: &AppId) -> u32 {
    let Some((record, rollout)) = state.apps.get(app_id).zip(state.held(app_id)) else { return 0 };
    count(state, record, (rollout.stable, rollout.stable_instances))
}

fn count(state: &State, record: &AppRecord, (version, wanted): (Time, u32)) -> u32 {
    let (woken, fresh) = addable(state, record, version, wanted, wanted as usize);
    u32::try_from(woken.len() + fresh).unwrap_or(wanted)
}

/// Parked instances whose volumes an app can use again, at most `count`: those whose agent is
/// here first, among them the last ones parked, whose data is the latest.
fn parked(state: &State, app: &App, count: usize) -> Vec<InstanceId> {
    let fits = |r: &Reservation| r.fits(app);
    let here = |i: &Instance| {
        let agent = i.reservation.as_ref().and_then(|r| state.agents.get(&r.agent_id));
        agent.is_some_and(|agent| agent.reachable)
    };
    let usable = |i: &&Instance| i.is_parked() && i.reservation.as_ref().is_some_and(fits);
    let mut parked: Vec<&Instance> = state.instances_of(&app.id).filter(usable).collect();
    parked.sort_by_key(|i| (!here(i), Reverse(i.since), &i.id));
    parked.into_iter().take(count).map(|i| i.id.clone()).collect()
}

/// How many instances an app may have that never were. One with volumes has at most `most` in
/// all: those that still stop are woken when they have. What runs without volumes, of a version
/// beside this one, holds no place of theirs.
fn fresh_room(state: &State, app: &App, most: u32) -> usize {
    if !app.is_resident() {
        return usize::MAX;
    }
    let record = state.apps.get(&app.id);
    let volumes = |i: &Instance| {
        let own = record.and_then(|record| record.at_version(i.assigned_version()));
        own.is_none_or(App::is_resident)
    };
    let counts = |i: &&Instance| match i.goal {
        Goal::Running => volumes(i),
        Goal::Stopped => i.reservation.as_ref().is_some_and(|r| r.fits(app)),
        Goal::Decommissioned => false,
    };
    let have = state.instances_of(&app.id).filter(counts).count();
    (most as usize).saturating_sub(have)
}

/// Stop instances. One with volumes is kept with them while its app is; another is forgotten once
/// its task has ended. Ids that are not known any more are passed over: their end was wanted
/// anyway.
pub(super) fn decommission(state: &mut State, ids: &[InstanceId]) -> Vec<Event> {
    stop(state, ids, false)
}

/// Stop instances and forget them with their volumes, also those that are parked.
pub(super) fn wipe(state: &mut State, ids: &[InstanceId]) -> Vec<Event> {
    stop(state, ids, true)
}

fn stop(state: &mut State, ids: &[InstanceId], wipe: bool) -> Vec<Event> {
    let mut events = Vec::new();
    for id in ids {
        let Some(instance) = state.instances.get_mut(id) else { continue };
        let parks = !wipe && keeps_volumes(instance, &state.apps);
        let goal = if parks { Goal::Stopped } else { Goal::Decommissioned };
        if instance.goal == Goal::Decommissioned || instance.goal == goal {
            continue;
        }
        instance.goal = goal;
        events.push(Event::InstanceDecommissioned {
            instance_id: id.clone(),
            app_id: instance.app_id.clone(),
        });
        if instance.task.is_none() && !parks {
            remove(state, id, &mut events);
        }
    }
    events
}

fn keeps_volumes(instance: &Instance, apps: &BTreeMap<AppId, AppRecord>) -> bool {
    instance.reservation.is_some() && apps.contains_key(&instance.app_id)
}

/// The last task of an instance that shall not run has ended: park it, or forget it.
pub(super) fn retire(state: &mut State, id: &InstanceId, events: &mut Vec<Event>) {
    match state.instances.get_mut(id) {
        Some(instance)
            if instance.goal != Goal::Decommissioned && keeps_volumes(instance, &state.apps) =>
        {
            instance.goal = Goal::Stopped;
        }
        _ => remove(state, id, events),
    }
}

/// Forget an instance, and its app when that was leaving and this was its last. Its volumes are
/// given up: the one way by which data goes.
pub(super) fn remove(state: &mut State, id: &InstanceId, events: &mut Vec<Event>) {
    let Some(instance) = state.instances.remove(id) else { return };
    state.inactive.remove(id);
    if let Some(reservation) = instance.reservation {
        let given_up = state.given_up.entry(reservation.agent_id).or_default();
        given_up.extend(reservation.volumes.into_iter().map(|v| (v.id, v.size_bytes)));
    }
    let app_id = instance.app_id;
    events.push(Event::InstanceRemoved { instance_id: id.clone(), app_id: app_id.clone() });
    if state.leaving.contains_key(&app_id) && state.instances_of(&app_id).next().is_none() {
        state.leaving.remove(&app_id);
        events.push(Event::AppTerminated { app_id });
    }
}

/// Give up one volume by its name, if no task uses it or shall.
pub(super) fn give_up(
    state: &mut State,
    agent_id: &AgentId,
    id: &VolumeId,
) -> Result<Vec<Event>, Rejection> {
    let owns = |r: &Reservation| r.volumes.iter().any(|volume| volume.id == *id);
    let owner = state.instances.values().find(|i| i.reservation.as_ref().is_some_and(owns));
    match owner.map(|instance| (instance.id.clone(), instance.is_parked())) {
        Some((_, false)) => Err(Rejection::VolumeInUse(id.clone())),
        Some((instance_id, true)) => Ok(wipe(state, &[instance_id])),
        None if !state.agents.contains_key(agent_id) => {
            Err(Rejection::AgentUnknown(agent_id.clone()))
        }
        None => {
            // What it takes on disk was never counted.
            state.given_up.entry(agent_id.clone()).or_default().entry(id.clone()).or_insert(0);
            Ok(Vec::new())
        }
    }
}

/// The data of these volumes is gone; what they took is free again.
pub(super) fn forget_volumes(state: &mut State, agent_id: &AgentId, ids: &[VolumeId]) {
    let Some(given_up) = state.given_up.get_mut(agent_id) else { return };
    given_up.retain(|id, _| !ids.contains(id));
    if given_up.is_empty() {
        state.given_up.remove(agent_id);
    }
}
