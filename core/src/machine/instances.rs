//! Instances come and go.

use crate::command::Rejection;
use crate::event::Event;
use crate::model::{AppId, Goal, Instance, InstanceId, State};
use std::collections::BTreeSet;

/// Add waiting instances, at most as many as the app's current configuration still lacks.
///
/// The deployer counts before it proposes; between the two a user may have scaled down. So the
/// bound is enforced here, where nothing can come between, and surplus ids stay unused.
pub(super) fn add(
    state: &mut State,
    app_id: &AppId,
    ids: &[InstanceId],
) -> Result<Vec<Event>, Rejection> {
    let record = state.apps.get(app_id).ok_or_else(|| Rejection::AppUnknown(app_id.clone()))?;
    let mut seen = BTreeSet::new();
    if let Some(taken) = ids.iter().find(|id| state.instances.contains_key(id) || !seen.insert(*id))
    {
        return Err(Rejection::InstanceExists(taken.clone()));
    }
    let prefix = InstanceId::prefix(app_id);
    if let Some(id) = ids.iter().find(|id| !id.0.starts_with(&prefix)) {
        return Err(Rejection::InstanceMisnamed(id.clone(), app_id.clone()));
    }
    let (version, config) = (record.app.version, record.app.last_config_change);
    let current = state
        .instances_of(app_id)
        .filter(|i| i.goal == Goal::Running && i.assigned_version() >= config)
        // Its replacement comes before it goes.
        .filter(|i| i.task.as_ref().is_none_or(|task| task.misplaced.is_none()))
        .count();
    let room = (record.app.instances as usize).saturating_sub(current);
    let mut events = Vec::new();
    for id in ids.iter().take(room) {
        let instance = Instance {
            id: id.clone(),
            app_id: app_id.clone(),
            version,
            goal: Goal::Running,
            since: state.now,
            incarnation: 1,
            task: None,
        };
        state.instances.insert(id.clone(), instance);
        let (instance_id, app_id) = (id.clone(), app_id.clone());
        events.push(Event::InstanceAdded { instance_id, app_id, version });
    }
    Ok(events)
}

/// Set the goal of instances to decommissioned; one without a task is gone at once. Ids that are
/// not known any more are passed over: their end was wanted anyway.
pub(super) fn decommission(state: &mut State, ids: &[InstanceId]) -> Vec<Event> {
    let mut events = Vec::new();
    for id in ids {
        let Some(instance) = state.instances.get_mut(id) else { continue };
        if instance.goal == Goal::Decommissioned {
            continue;
        }
        instance.goal = Goal::Decommissioned;
        events.push(Event::InstanceDecommissioned {
            instance_id: id.clone(),
            app_id: instance.app_id.clone(),
        });
        if instance.task.is_none() {
            remove(state, id, &mut events);
        }
    }
    events
}

/// Forget an instance, and its app when that was leaving and this was its last.
pub(super) fn remove(state: &mut State, id: &InstanceId, events: &mut Vec<Event>) {
    let Some(instance) = state.instances.remove(id) else { return };
    let app_id = instance.app_id;
    events.push(Event::InstanceRemoved { instance_id: id.clone(), app_id: app_id.clone() });
    if state.leaving.contains_key(&app_id) && state.instances_of(&app_id).next().is_none() {
        state.leaving.remove(&app_id);
        events.push(Event::AppTerminated { app_id });
    }
}
