//! Agents leave and return, and what that means for their tasks.

use super::{drain, instances};
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{AgentId, InstanceId, State};

/// An agent is away from now on, or here again.
pub(super) fn set_reachable(
    state: &mut State,
    agent_id: &AgentId,
    reachable: bool,
) -> Result<Vec<Event>, Rejection> {
    let agent =
        state.agents.get_mut(agent_id).ok_or_else(|| Rejection::AgentUnknown(agent_id.clone()))?;
    // A state from before absences were counted has one that is away since nobody knows when.
    let counted = state.away.contains_key(agent_id);
    if agent.reachable == reachable && counted != reachable {
        return Ok(Vec::new());
    }
    agent.reachable = reachable;
    let mut events = vec![Event::AgentReachable { agent_id: agent_id.clone(), reachable }];
    if reachable {
        state.away.remove(agent_id);
        drain::arrive(state, agent_id);
    } else {
        state.away.insert(agent_id.clone(), state.now);
        state.arrived.remove(agent_id);
    }
    for id in state.ids_on(agent_id) {
        if reachable {
            state.inactive.remove(&id);
        }
        if let Some(instance) = state.instances.get(&id) {
            let instance = Box::new(instance.clone());
            events.push(Event::TaskReachable { instance, reachable });
        }
    }
    Ok(events)
}

/// Count instances no more that have been away for as long as their apps bear. One whose agent
/// has returned meanwhile is passed over.
pub(super) fn deactivate(state: &mut State, ids: &[InstanceId]) -> Vec<Event> {
    for id in ids {
        let Some(instance) = state.instances.get(id) else { continue };
        let patience = state.patience(instance);
        if patience.and_then(|p| p.inactive).is_some_and(|at| at <= state.now) {
            state.inactive.insert(id.clone());
        }
    }
    Vec::new()
}

/// Forget instances that have been away for longer than their apps bear. Their agents, should
/// they return, are told of no such tasks, and stop them.
pub(super) fn expunge(state: &mut State, ids: &[InstanceId]) -> Vec<Event> {
    let mut events = Vec::new();
    for id in ids {
        let Some(instance) = state.instances.get(id) else { continue };
        let patience = state.patience(instance);
        if patience.and_then(|p| p.expunge).is_some_and(|at| at <= state.now) {
            instances::remove(state, id, &mut events);
        }
    }
    events
}
