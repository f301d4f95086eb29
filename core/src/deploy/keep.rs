//! Between deployments: keep what was deployed.

use super::crowd::Crowd;
use super::{IdSource, Moves, moving, scale, to_commands};
use crate::command::Command;
use crate::model::{AppId, Goal, State};
use std::collections::{BTreeMap, BTreeSet};

/// Keep the instance count of every app that no deployment touches, and move its tasks from where
/// they may not be any more. Instances told to stop do not count; what is left of removed apps is
/// stopped.
pub fn keep(state: &State, ids: &mut dyn IdSource) -> Vec<Command> {
    let touched: BTreeSet<&AppId> = state
        .deployments
        .values()
        .flat_map(|d| d.original.apps.keys().chain(d.target.apps.keys()))
        .collect();
    // One pass over all instances finds the few apps to look at closely.
    let mut wanted: BTreeMap<&AppId, u32> = BTreeMap::new();
    let mut misplaced: BTreeSet<&AppId> = BTreeSet::new();
    let active = |i: &&crate::model::Instance| i.goal == Goal::Running && !state.is_inactive(&i.id);
    for instance in state.instances.values().filter(active) {
        *wanted.entry(&instance.app_id).or_default() += 1;
        if instance.task.as_ref().is_some_and(|task| task.misplaced.is_some()) {
            misplaced.insert(&instance.app_id);
        }
    }
    let have = |id: &AppId| wanted.get(id).copied().unwrap_or_default();
    let off =
        state.apps.iter().filter(|(id, r)| have(id) != r.app.instances || misplaced.contains(id));
    let off = off.map(|(id, _)| id);
    off.chain(state.leaving.keys())
        .filter(|id| !touched.contains(id))
        .flat_map(|id| to_commands(id, moves(state, id), ids))
        .collect()
}

/// What one app needs to have its count.
pub(super) fn moves(state: &State, app_id: &AppId) -> Moves {
    let crowd = Crowd::of(state, app_id);
    match crowd.app {
        Some(app) => {
            moving::moves(state, app, &crowd).unwrap_or_else(|| scale::to_count(state, app, &crowd))
        }
        None => crowd.stop_all(),
    }
}
