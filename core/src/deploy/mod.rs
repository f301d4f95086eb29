//! Deployments: what to do for a change ([`plan`]), and what comes next ([`advance`], [`keep`]).
//!
//! Everything is computed from the state alone, each time anew: a wake-up says "look again", and
//! a new leader needs no hand-over. Nothing here changes a state.

mod asked;
mod away;
mod crowd;
mod drain;
mod keep;
mod layers;
mod moving;
mod plan;
mod progress;
mod rebalance;
mod resize;
mod restart;
mod review;
mod scale;
mod select;
mod staged;
mod stuck;
mod upgrade;

pub(crate) use asked::duration_ms;
pub use asked::{Asked, BadLabel, asked};
pub use away::{absences, next_absence};
pub use drain::{Left, Stay, left};
pub use keep::keep;
pub use layers::is_cyclic;
pub use plan::{plan, plan_with_restarts};
pub use progress::{Progress, Set, Stage, progress};
pub use rebalance::{
    REBALANCE_AFTER_MS, REBALANCE_FOR_MS, REBALANCE_MOVE_MS, REBALANCE_MOVES_MAX,
    REBALANCE_PAUSE_MS, end_rebalance, next_rebalance, rebalance,
};
pub use review::{give_up, next_deadline};
pub(crate) use review::{overdue, review};
pub use stuck::{LAUNCH_TIMEOUT_MS, next_stuck, stuck};

use crate::command::Command;
use crate::machine::{addable_current, addable_stable};
use crate::model::{ActionKind, AppId, Deployment, DeploymentAction, InstanceId, State, Time};
use crowd::Crowd;
use std::collections::BTreeSet;

/// Instances named by one command at most: keeps a log entry within one stored value.
pub const INSTANCES_PER_COMMAND_MAX: usize = 200;

/// Instances that one app is given at one look: a count of millions, mistyped, must not become
/// one command that fills the memory. The next look adds more.
pub const INSTANCES_ADDED_MAX: u32 = 1000;

/// Where new ids come from; the leader's is random, a test's counts.
pub trait IdSource {
    /// Give a new UUID text.
    fn uuid(&mut self) -> String;
}

/// What to propose next for a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    pub commands: Vec<Command>,
    pub status: Status,
}

/// Where the present step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There are commands to propose.
    Acting,
    /// Nothing to do until something changes in the cluster.
    Waiting,
    /// The step is complete; the command moves to the next, or ends the deployment.
    StepDone,
}

/// What one app needs next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Moves {
    add: u32,
    /// Of the version that is kept up while another is on trial.
    add_stable: u32,
    stop: Vec<InstanceId>,
    /// Running ones that take the new size as they are.
    resize: Vec<InstanceId>,
    done: bool,
}

/// Compute what a deployment needs next.
///
/// Asked again after its commands were applied and before anything else changed, it gives nothing
/// new. `now` is kept for what will depend on time; today only the state decides.
pub fn advance(
    deployment: &Deployment,
    state: &State,
    _now: Time,
    ids: &mut dyn IdSource,
) -> Advance {
    let mut commands = Vec::new();
    let mut done = true;
    for action in deployment.current_actions() {
        let moves = moves(deployment, state, action);
        done &= moves.done;
        commands.extend(to_commands(state, &action.app_id, moves, ids));
    }
    commands.extend(keep_finished(deployment, state, ids));
    if !review(deployment, state).is_empty() {
        commands.push(Command::ReviewRollouts { id: deployment.id.clone() });
    }
    if !commands.is_empty() {
        return Advance { commands, status: Status::Acting };
    }
    if !done {
        return Advance { commands, status: Status::Waiting };
    }
    let id = deployment.id.clone();
    let from_step = deployment.current_step;
    Advance {
        commands: vec![Command::AdvanceDeployment { id, from_step }],
        status: Status::StepDone,
    }
}

fn moves(deployment: &Deployment, state: &State, action: &DeploymentAction) -> Moves {
    let crowd = Crowd::of(state, &action.app_id);
    let Some(record) = state.apps.get(&action.app_id) else {
        // Removed, or about to be: all of it stops.
        return crowd.stop_all();
    };
    let app = &record.app;
    let rollout = deployment.rollouts.get(&action.app_id).filter(|rollout| rollout.is_held());
    match action.kind {
        ActionKind::Start => Moves { done: true, ..Moves::default() },
        ActionKind::Stop => crowd.stop_all(),
        ActionKind::Scale => {
            let before = deployment.original.apps.get(&action.app_id).map_or(0, |a| a.instances);
            scale::moves(state, app, &crowd, app.instances > before)
        }
        ActionKind::Restart => match rollout {
            Some(rollout) => staged::moves(record, rollout, &crowd),
            None => {
                resize::moves(state, app, &crowd).unwrap_or_else(|| restart::moves(app, &crowd))
            }
        },
    }
}

/// Apps whose step is behind keep their count while later steps are under way: no one else does,
/// as [`keep`] leaves apps of a deployment alone.
fn keep_finished(deployment: &Deployment, state: &State, ids: &mut dyn IdSource) -> Vec<Command> {
    let behind = deployment.plan.steps.iter().take(deployment.current_step as usize);
    // Sets, because a step may hold a thousand apps and this is asked at every look.
    let to_come = deployment.plan.steps.iter().skip(deployment.current_step as usize);
    let to_come: BTreeSet<&AppId> = to_come.flat_map(|s| &s.actions).map(|a| &a.app_id).collect();
    let mut commands = Vec::new();
    for action in behind.flat_map(|s| &s.actions) {
        let id = &action.app_id;
        // A new app's Start is behind long before its Scale.
        if to_come.contains(id) {
            continue;
        }
        commands.extend(to_commands(state, id, keep::behind(state, id), ids));
    }
    commands
}

/// Stops come first: what they free at once may be what the new ones need.
fn to_commands(
    state: &State,
    app_id: &AppId,
    moves: Moves,
    ids: &mut dyn IdSource,
) -> Vec<Command> {
    let mut commands: Vec<Command> = moves
        .stop
        .chunks(INSTANCES_PER_COMMAND_MAX)
        .map(|ids| Command::Decommission { ids: ids.to_vec() })
        .collect();
    commands.extend(
        moves
            .resize
            .chunks(INSTANCES_PER_COMMAND_MAX)
            .map(|ids| Command::Resize { app_id: app_id.clone(), ids: ids.to_vec() }),
    );
    let mut some = |count: u32| -> Vec<InstanceId> {
        let count = count.min(INSTANCES_ADDED_MAX);
        (0..count).map(|_| InstanceId::compose(app_id, &ids.uuid())).collect()
    };
    // What would not be added now must not be asked for: the answer would be to ask again.
    let add = |count: u32, addable: fn(&State, &AppId) -> u32| match count {
        0 => 0,
        _ => count.min(addable(state, app_id)),
    };
    let new = some(add(moves.add, addable_current));
    let stable = some(add(moves.add_stable, addable_stable));
    commands.extend(
        new.chunks(INSTANCES_PER_COMMAND_MAX)
            .map(|ids| Command::AddInstances { app_id: app_id.clone(), ids: ids.to_vec() }),
    );
    commands.extend(
        stable
            .chunks(INSTANCES_PER_COMMAND_MAX)
            .map(|ids| Command::AddStable { app_id: app_id.clone(), ids: ids.to_vec() }),
    );
    commands
}

#[cfg(test)]
mod tests;
