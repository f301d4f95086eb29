//! Instances whose agents are away: when they count no more, and when they are forgotten.

use super::INSTANCES_PER_COMMAND_MAX;
use crate::command::Command;
use crate::model::{AgentId, App, InstanceId, State, Time};

/// What the absence of agents asks for at `now`. An instance that must not run twice is forgotten
/// only once the leader itself has waited for its lease to be over, by a clock that nobody sets:
/// `waited` says for which agents it has.
pub fn absences(state: &State, now: Time, waited: &dyn Fn(&AgentId) -> bool) -> Vec<Command> {
    let (mut inactive, mut gone) = (Vec::new(), Vec::new());
    for (instance, patience) in state.absent() {
        let id = instance.id.clone();
        if patience.expunge.is_some_and(|at| at <= now) {
            let leased = state.app_of(instance).is_some_and(App::is_single_instance);
            let agent = instance.task.as_ref().map(|task| &task.agent_id);
            if !leased || agent.is_none_or(waited) {
                gone.push(id);
            }
        } else if patience.inactive.is_some_and(|at| at <= now) && !state.is_inactive(&id) {
            inactive.push(id);
        }
    }
    let chunks = |ids: Vec<InstanceId>, command: fn(Vec<InstanceId>) -> Command| {
        let chunks = ids.chunks(INSTANCES_PER_COMMAND_MAX).map(<[InstanceId]>::to_vec);
        chunks.map(command).collect::<Vec<_>>()
    };
    let mut commands = chunks(inactive, |ids| Command::Deactivate { ids });
    commands.extend(chunks(gone, |ids| Command::Expunge { ids }));
    commands
}

/// When the absence of agents asks for something next, after `now`.
pub fn next_absence(state: &State, now: Time) -> Option<Time> {
    let moments = state.absent().flat_map(|(_, patience)| [patience.inactive, patience.expunge]);
    moments.flatten().filter(|at| *at > now).min()
}
