//! Tasks that do not come to start (Marathon's `task_launch_timeout`).

use super::INSTANCES_PER_COMMAND_MAX;
use crate::command::Command;
use crate::model::{Goal, Instance, InstanceId, State, TaskState, Time};

/// Milliseconds that a task may take to start after the last word of its agent. Marathon counts
/// from the launch; there, an image that takes longer to pull is never pulled to its end.
pub const LAUNCH_TIMEOUT_MS: u64 = 300_000;

/// Stop tasks of which nothing was heard for too long; their instances are replaced, and as with
/// every kill without a delay.
pub fn stuck(state: &State, now: Time) -> Vec<Command> {
    let late = on_their_way(state).filter(|(_, until)| *until <= now);
    let ids: Vec<InstanceId> = late.map(|(instance, _)| instance.id.clone()).collect();
    let commands = ids.chunks(INSTANCES_PER_COMMAND_MAX);
    commands.map(|ids| Command::Decommission { ids: ids.to_vec() }).collect()
}

/// When the next task will have taken too long; nothing else tells the deployer to look.
pub fn next_stuck(state: &State) -> Option<Time> {
    on_their_way(state).map(|(_, until)| until).min()
}

fn on_their_way(state: &State) -> impl Iterator<Item = (&Instance, Time)> {
    let wanted = state.instances.values().filter(|i| i.goal == Goal::Running);
    wanted.filter_map(|instance| {
        let task = instance.task.as_ref()?;
        let starts = matches!(task.state, TaskState::Staging | TaskState::Starting);
        let heard = task.staged_at.max(instance.since);
        starts.then(|| (instance, heard.plus_ms(LAUNCH_TIMEOUT_MS)))
    })
}
