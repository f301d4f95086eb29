//! Nodes that are put out, and the keys that are replaced because one of them knew them.

use super::instances;
use super::membership::rotate_token;
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{
    Instance, InstanceId, NewKeys, NodeId, NodeRole, PREVIOUS_MAX, REMOVED_MAX, Removed,
    SealedToken, State,
};

/// Put a node out: its membership, its copy of the data key, its agent with all that ran there.
pub(super) fn remove_node(
    state: &mut State,
    node_id: &NodeId,
    digest: &str,
    sealed: Option<&SealedToken>,
) -> Result<Vec<Event>, Rejection> {
    let agent_id = node_id.agent();
    let node = state.nodes.get(node_id);
    // A restored cluster knows agents that were never admitted to it.
    let name = node.map(|n| &n.name).or(state.agents.get(&agent_id).map(|agent| &agent.name));
    let Some(name) = name.cloned() else {
        return Err(Rejection::NodeUnknown(node_id.clone()));
    };
    let is_master = node.is_some_and(|node| node.role != NodeRole::Agent);
    let masters = state.nodes.values().filter(|other| other.role != NodeRole::Agent);
    if is_master && masters.count() < 2 {
        return Err(Rejection::LastMaster(node_id.clone()));
    }
    let mut events = rotate_token(state, digest, sealed)?;
    state.nodes.remove(node_id);
    let removed = Removed { name: name.clone(), master: is_master, at: state.now };
    state.removed.insert(node_id.clone(), removed);
    forget_oldest(state);
    if let Some(key) = &mut state.data_key {
        key.copies.remove(node_id);
    }
    if let Some(cluster) = state.cluster.as_mut().filter(|_| is_master) {
        cluster.rotation_due = true;
    }
    events.push(Event::NodeRemoved { node_id: node_id.clone(), name });
    let theirs = |i: &&Instance| {
        let placed = i.task.as_ref().is_some_and(|task| task.agent_id == agent_id);
        placed || i.reservation.as_ref().is_some_and(|r| r.agent_id == agent_id)
    };
    let ids: Vec<InstanceId> =
        state.instances.values().filter(theirs).map(|i| i.id.clone()).collect();
    for id in ids {
        instances::remove(state, &id, &mut events);
    }
    state.agents.remove(&agent_id);
    state.away.remove(&agent_id);
    state.agent_settings.remove(&agent_id);
    state.draining.remove(&agent_id);
    state.arrived.remove(&agent_id);
    // Nobody is left to remove the data.
    state.given_up.remove(&agent_id);
    Ok(events)
}

fn forget_oldest(state: &mut State) {
    while state.removed.len() > REMOVED_MAX as usize {
        let oldest = state.removed.iter().min_by_key(|(id, removed)| (removed.at, (*id).clone()));
        let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { return };
        state.removed.remove(&oldest);
    }
}

/// Replace the CA, the data key and the join secret.
pub(super) fn replace_keys(state: &mut State, keys: &NewKeys) -> Result<Vec<Event>, Rejection> {
    if state.data_key.as_ref().is_none_or(|known| known.id != keys.replaces) {
        return Err(Rejection::OtherDataKey);
    }
    let same = state.secrets.len() == keys.secrets.len()
        && state.secrets.iter().all(|(name, record)| {
            keys.secrets.get(name).is_some_and(|(version, _)| *version == record.version)
        });
    if !same {
        return Err(Rejection::SecretsChanged);
    }
    let cluster = state.cluster.as_mut().ok_or(Rejection::NotFounded)?;
    let earlier = std::mem::replace(&mut cluster.ca_certificate, keys.ca_certificate.clone());
    cluster.previous.push(earlier);
    if cluster.previous.len() > PREVIOUS_MAX as usize {
        cluster.previous.remove(0);
    }
    cluster.authority = Some(keys.authority.clone());
    cluster.join_token = Some(keys.join_token.clone());
    cluster.join_secret_sha256 = keys.join_secret_sha256.clone();
    cluster.rotation_due = false;
    for (name, (_, value)) in &keys.secrets {
        if let Some(record) = state.secrets.get_mut(name) {
            // The same value: neither its version nor its times change.
            record.value = value.clone();
        }
    }
    let mut data_key = keys.data_key.clone();
    data_key.copies.retain(|id, _| state.nodes.contains_key(id));
    state.data_key = Some(data_key);
    Ok(vec![Event::KeysReplaced, Event::TokenRotated])
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
