//! Agents are emptied and opened again, and tasks are told to move just to even out.
//!
//! Only notes are made here, of agents and at tasks; who moves when is the deployer's to say.

use super::agents;
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{AgentId, Drain, Goal, State, TaskId};

/// Why a task moves with whose place nothing is wrong.
pub(super) const MOVES_TO_EVEN_OUT: &str = "another agent has more room";

/// Give an agent no tasks any more, and let those it has move away.
pub(super) fn drain(state: &mut State, agent_id: &AgentId) -> Result<Vec<Event>, Rejection> {
    if !state.agents.contains_key(agent_id) {
        return Err(Rejection::AgentUnknown(agent_id.clone()));
    }
    if state.is_draining(agent_id) {
        return Ok(Vec::new());
    }
    state.draining.insert(agent_id.clone(), Drain { since: state.now });
    state.arrived.remove(agent_id);
    agents::judge_places(state, agent_id);
    Ok(vec![Event::AgentDraining { agent_id: agent_id.clone(), draining: true }])
}

/// Open a drained agent again.
pub(super) fn undrain(state: &mut State, agent_id: &AgentId) -> Result<Vec<Event>, Rejection> {
    if !state.agents.contains_key(agent_id) {
        return Err(Rejection::AgentUnknown(agent_id.clone()));
    }
    if state.draining.remove(agent_id).is_none() {
        return Ok(Vec::new());
    }
    agents::judge_places(state, agent_id);
    if state.agents.get(agent_id).is_some_and(|agent| agent.reachable) {
        arrive(state, agent_id);
    }
    Ok(vec![Event::AgentDraining { agent_id: agent_id.clone(), draining: false }])
}

/// An agent is new, back, or open again: it may have much more room than the others.
pub(super) fn arrive(state: &mut State, agent_id: &AgentId) {
    if !state.is_draining(agent_id) {
        state.arrived.insert(agent_id.clone(), state.now);
    }
}

/// Let a task move that may as well stay.
pub(super) fn rebalance(state: &mut State, task_id: &TaskId) -> Vec<Event> {
    // Also where nothing comes of it: else the same would be proposed again at once.
    state.rebalanced_at = state.now;
    let now = state.now;
    let instance = task_id.instance().and_then(|id| state.instances.get_mut(&id));
    let wanted = instance.filter(|instance| instance.goal == Goal::Running);
    let task = wanted.and_then(|instance| instance.task.as_mut());
    if let Some(task) = task.filter(|task| task.id == *task_id && task.misplaced.is_none()) {
        task.rebalanced = Some(now);
        task.misplaced = Some(MOVES_TO_EVEN_OUT.into());
    }
    Vec::new()
}

/// Let tasks stay that were to move just to even out.
pub(super) fn end_rebalance(state: &mut State, task_ids: &[TaskId]) -> Vec<Event> {
    for task_id in task_ids {
        let instance = task_id.instance().and_then(|id| state.instances.get_mut(&id));
        let task = instance.and_then(|instance| instance.task.as_mut());
        let Some(task) = task.filter(|task| task.id == *task_id) else { continue };
        if task.rebalanced.take().is_some() {
            let agent_id = task.agent_id.clone();
            agents::judge_places(state, &agent_id);
        }
    }
    Vec::new()
}
