//! Who belongs to the cluster: founding, nodes, the join token, agents.

use super::{agents, away, drain};
use crate::command::Rejection;
use crate::event::Event;
use crate::model::{Agent, Cluster, Node, NodeId, Sealed, SealedToken, State};

pub(super) fn found(
    state: &mut State,
    cluster: &Cluster,
    founder: &Node,
) -> Result<Vec<Event>, Rejection> {
    if state.cluster.is_some() {
        return Err(Rejection::AlreadyFounded);
    }
    state.cluster = Some(cluster.clone());
    state.nodes.insert(founder.id.clone(), founder.clone());
    Ok(vec![
        Event::ClusterFounded { cluster_id: cluster.id.clone() },
        Event::NodeAdmitted { node_id: founder.id.clone() },
    ])
}

pub(super) fn admit(state: &mut State, node: &Node) -> Result<Vec<Event>, Rejection> {
    // Whoever knows the present secret was given it after the removal.
    state.removed.remove(&node.id);
    match state.nodes.get_mut(&node.id) {
        // The key cannot differ (the id is its hash), and the first admission is the one to tell.
        Some(known) if known.name == node.name && known.role == node.role => return Ok(Vec::new()),
        Some(known) => {
            known.name = node.name.clone();
            known.role = node.role;
        }
        None => {
            state.nodes.insert(node.id.clone(), node.clone());
        }
    }
    Ok(vec![Event::NodeAdmitted { node_id: node.id.clone() }])
}

pub(super) fn rotate_token(
    state: &mut State,
    digest: &str,
    sealed: Option<&SealedToken>,
) -> Result<Vec<Event>, Rejection> {
    let key = state.data_key.as_ref().map(|key| key.id.as_str());
    if sealed.is_some_and(|sealed| key != Some(sealed.key_id.as_str())) {
        return Err(Rejection::OtherDataKey);
    }
    let cluster = state.cluster.as_mut().ok_or(Rejection::NotFounded)?;
    cluster.join_secret_sha256 = digest.to_string();
    cluster.join_token = sealed.map(|sealed| sealed.token.clone());
    Ok(vec![Event::TokenRotated])
}

/// Keep the sealed means to admit nodes.
pub(super) fn keep_authority(
    state: &mut State,
    key_id: &str,
    authority: &Sealed,
    join_token: &Sealed,
) -> Result<Vec<Event>, Rejection> {
    if state.data_key.as_ref().is_none_or(|known| known.id != key_id) {
        return Err(Rejection::OtherDataKey);
    }
    let cluster = state.cluster.as_mut().ok_or(Rejection::NotFounded)?;
    cluster.authority = Some(authority.clone());
    cluster.join_token = Some(join_token.clone());
    Ok(Vec::new())
}

pub(super) fn register_agent(state: &mut State, agent: &Agent) -> Result<Vec<Event>, Rejection> {
    if !state.nodes.contains_key(&NodeId(agent.id.0.clone())) {
        return Err(Rejection::NotAdmitted(agent.id.clone()));
    }
    let was_here = state.agents.get(&agent.id).is_none_or(|known| known.reachable);
    let known = Agent { reachable: was_here, ..agent.clone() };
    let earlier = state.agents.insert(agent.id.clone(), known);
    if earlier.is_none() {
        drain::arrive(state, &agent.id);
    }
    if earlier.is_some_and(|earlier| earlier.attributes != agent.attributes) {
        agents::judge_places(state, &agent.id);
    }
    let mut events = vec![Event::AgentRegistered { agent_id: agent.id.clone() }];
    events.extend(away::set_reachable(state, &agent.id, true)?);
    Ok(events)
}
