//! What users say of agents, and which tasks stand where they may not any more.

use super::drain;
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{AGENT_SETTINGS_MAX, AgentChange, AgentId, Goal, InstanceId, State};
use crate::place;

/// Change the settings of an agent.
pub(super) fn change(
    state: &mut State,
    agent_id: &AgentId,
    change: &AgentChange,
) -> Result<Vec<Event>, Rejection> {
    let Some(agent) = state.agents.get(agent_id) else {
        return Err(Rejection::AgentUnknown(agent_id.clone()));
    };
    let mut settings = state.agent_settings.get(agent_id).cloned().unwrap_or_default();
    for (name, value) in &change.attributes {
        match value {
            // What it does not have itself needs no word to be absent.
            None if !agent.attributes.contains_key(name) => settings.attributes.remove(name),
            value => settings.attributes.insert(name.clone(), value.clone()),
        };
    }
    if let Some(roles) = &change.roles {
        settings.roles.clone_from(roles);
    }
    let most = AGENT_SETTINGS_MAX as usize;
    if settings.attributes.len() > most || settings.roles.len() > most {
        return Err(Rejection::AgentSettingsFull { max: AGENT_SETTINGS_MAX });
    }
    let known = state.agent_settings.get(agent_id);
    if known.cloned().unwrap_or_default() == settings {
        return Ok(Vec::new());
    }
    match settings.attributes.is_empty() && settings.roles.is_empty() {
        true => state.agent_settings.remove(agent_id),
        false => state.agent_settings.insert(agent_id.clone(), settings),
    };
    judge_places(state, agent_id);
    Ok(vec![Event::AgentChanged { agent_id: agent_id.clone() }])
}

/// Note at every task of an agent whether it may still be there: whether the agent is drained, else
/// by what its own version asks of an agent. How tasks stand to each other is not judged again: the one that came later is as
/// little to blame as the one before.
pub(super) fn judge_places(state: &mut State, agent_id: &AgentId) {
    let ids: Vec<InstanceId> = state.tasks_on(agent_id).map(|(i, _)| i.id.clone()).collect();
    if ids.is_empty() {
        return;
    }
    let (attributes, roles) = (state.attributes_of(agent_id), state.roles_of(agent_id));
    let mut judge = place::Judge::new(attributes, roles);
    let draining = state.is_draining(agent_id);
    let verdicts: Vec<(InstanceId, Option<String>)> = ids
        .into_iter()
        .filter_map(|id| {
            // One told to stop has its verdict: whether it counts while it does.
            let instance = state.instances.get(&id).filter(|i| i.goal == Goal::Running)?;
            let task = instance.task.as_ref()?;
            let broken = || judge.broken(state.assigned_app(instance)?, &task.host);
            let drained = draining.then(|| "its agent is drained".to_string());
            let evened = || task.rebalanced.map(|_| drain::MOVES_TO_EVEN_OUT.to_string());
            Some((id, drained.or_else(broken).or_else(evened)))
        })
        .collect();
    for (id, broken) in verdicts {
        if let Some(task) = state.instances.get_mut(&id).and_then(|i| i.task.as_mut()) {
            task.misplaced = broken;
        }
    }
}
