//! Between deployments: keep what was deployed.

use super::crowd::Crowd;
use super::select::stands_well;
use super::{IdSource, Moves, moving, scale, to_commands};
use crate::command::Command;
use crate::model::{AppId, Deployment, Goal, Instance, State};
use crate::place::Paper;
use std::collections::{BTreeMap, BTreeSet};

/// Keep the instance count of every app that no deployment touches, and move its tasks from where
/// they may not be any more. Instances told to stop do not count; what is left of removed apps is
/// stopped.
///
/// Tasks also move of apps whose steps of a deployment are behind: another app of it may wait for a
/// user's word, or for ever.
pub fn keep(state: &State, ids: &mut dyn IdSource) -> Vec<Command> {
    let touched = touched(state);
    // One pass over all instances finds the few apps to look at closely.
    let mut wanted: BTreeMap<&AppId, u32> = BTreeMap::new();
    let active = |i: &&Instance| i.goal == Goal::Running && !state.is_inactive(&i.id);
    for instance in state.instances.values().filter(active) {
        *wanted.entry(&instance.app_id).or_default() += 1;
    }
    let misplaced: BTreeSet<&AppId> = state.misplaced().map(|(id, _)| id).collect();
    let have = |id: &AppId| wanted.get(id).copied().unwrap_or_default();
    let free = |id: &AppId| {
        !touched.contains(id) || (misplaced.contains(id) && held_by(state, id).next().is_none())
    };
    let off =
        state.apps.iter().filter(|(id, r)| have(id) != r.app.instances || misplaced.contains(id));
    let off = off.map(|(id, _)| id);
    let mut paper = None;
    off.chain(state.leaving.keys())
        .filter(|id| free(id))
        .flat_map(|id| to_commands(id, moves(state, id, &mut paper), ids))
        .collect()
}

fn touched(state: &State) -> BTreeSet<&AppId> {
    let deployments = state.deployments.values();
    deployments.flat_map(|d| d.original.apps.keys().chain(d.target.apps.keys())).collect()
}

/// Deployments that touch an app and are not through with it.
pub(super) fn held_by<'a>(
    state: &'a State,
    app_id: &'a AppId,
) -> impl Iterator<Item = &'a Deployment> {
    state.deployments_touching(app_id).filter(move |deployment| {
        let to_come = deployment.plan.steps.iter().skip(deployment.current_step as usize);
        to_come.flat_map(|step| &step.actions).any(|action| action.app_id == *app_id)
    })
}

/// What an app needs to have its count while later steps of its deployment are under way. Where
/// one of its tasks has to move, [`keep`] sees to both.
pub(super) fn behind(state: &State, app_id: &AppId) -> Moves {
    let crowd = Crowd::of(state, app_id);
    let moves = |i: &Instance| i.goal == Goal::Running && !stands_well(i);
    match crowd.app {
        Some(_) if state.instances_of(app_id).any(moves) => Moves::default(),
        Some(app) => scale::to_count(state, app, &crowd),
        None => crowd.stop_all(),
    }
}

fn moves<'a>(state: &'a State, app_id: &'a AppId, paper: &mut Option<Paper<'a>>) -> Moves {
    let crowd = Crowd::of(state, app_id);
    match crowd.app {
        Some(app) => moving::moves(state, app, &crowd, paper)
            .unwrap_or_else(|| scale::to_count(state, app, &crowd)),
        None => crowd.stop_all(),
    }
}
