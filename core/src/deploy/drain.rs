//! What is left on an agent that is drained, and what each task waits for.

use super::crowd::Crowd;
use super::keep::held_by;
use super::moving::movers;
use crate::model::{AgentId, App, AppId, DeploymentId, Goal, Instance, InstanceId, State, Task};
use crate::place::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left<'a> {
    pub instance: &'a Instance,
    pub task: &'a Task,
    pub stay: Stay,
}

/// Why a task is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Nothing asks it to go: its agent is not drained.
    Open,
    /// It is told to stop.
    Stopping,
    /// It goes as soon as the bounds of its app allow.
    Going,
    /// Its agent is away: when it counts as gone is for its app's `unreachableStrategy` to say.
    Away,
    /// Its data is there.
    Data,
    /// Its device is there: it goes where that is plugged in.
    Device,
    /// Its app is being changed; then it goes.
    Deployments(Vec<DeploymentId>),
    /// What speaks against it on every other agent.
    NoRoom(Vec<(AgentId, Vec<Reason>)>),
}

impl Stay {
    /// Whether the task goes by itself, with nothing changed by anybody.
    pub fn goes(&self) -> bool {
        matches!(self, Stay::Stopping | Stay::Going)
    }
}

/// Say of every task on an agent why it is there, in the order of instances.
pub fn left<'a>(state: &'a State, agent_id: &'a AgentId) -> Vec<Left<'a>> {
    let tasks: Vec<(&Instance, &Task)> = state.tasks_on(agent_id).collect();
    let movable = |i: &Instance| state.is_draining(agent_id) && i.goal == Goal::Running;
    let some = tasks.iter().any(|(i, _)| movable(i));
    let verdicts = if some { verdicts(state) } else { BTreeMap::new() };
    let stay = |instance: &Instance, task: &Task| {
        if instance.goal != Goal::Running {
            return Stay::Stopping;
        }
        if !movable(instance) {
            return Stay::Open;
        }
        let data = state.app_of(instance).is_some_and(App::is_resident);
        if data || instance.reservation.is_some() {
            return Stay::Data;
        }
        if state.is_away(task) {
            return Stay::Away;
        }
        if state.app_of(instance).is_some_and(App::wants_devices) {
            return Stay::Device;
        }
        let held: Vec<DeploymentId> =
            held_by(state, &instance.app_id).map(|d| d.id.clone()).collect();
        if !held.is_empty() {
            return Stay::Deployments(held);
        }
        verdicts.get(&instance.id).cloned().unwrap_or(Stay::Going)
    };
    tasks.into_iter().map(|(i, task)| Left { instance: i, task, stay: stay(i, task) }).collect()
}

/// What becomes of the tasks that have to move, all of them in the deployer's order: one that finds
/// room may take it from the next.
fn verdicts(state: &State) -> BTreeMap<InstanceId, Stay> {
    let apps: BTreeSet<&AppId> = state.misplaced().map(|(id, _)| id).collect();
    let mut paper = None;
    let mut verdicts = BTreeMap::new();
    for id in apps {
        let crowd = Crowd::of(state, id);
        if held_by(state, id).next().is_some() {
            continue;
        }
        let Some(app) = crowd.app else { continue };
        let Some(movers) = movers(state, app, &crowd, &mut paper) else { continue };
        for instance in movers.staying {
            verdicts.insert(instance.id.clone(), Stay::NoRoom(movers.in_the_way.clone()));
        }
    }
    verdicts
}
