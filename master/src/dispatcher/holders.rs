//! Where an agent finds the nodes that hold an image: as their sessions are seen from here.

use super::Dispatcher;
use bramble_core::model::{AgentId, NodeId};
use bramble_protocol::message::Sighting;
use std::net::SocketAddr;

/// The holders of an image that have a session, for the agent that asks.
pub(super) fn of(
    dispatcher: &Dispatcher,
    asking: &AgentId,
    reference: &str,
    digest: Option<&str>,
) -> Vec<Sighting> {
    let agents = dispatcher.holders.of(reference, digest, asking);
    let seen_at = |agent_id: &AgentId| {
        let sessions = dispatcher.sessions();
        let connection = sessions.get(agent_id).and_then(|session| session.line.connection());
        connection.map(|connection| canonical(connection.remote_address()))
    };
    let near = seen_at(asking).is_some_and(|address| address.ip().is_loopback());
    let located: Vec<(NodeId, SocketAddr)> = agents
        .iter()
        .filter_map(|agent_id| Some((NodeId::new(agent_id.as_str()), seen_at(agent_id)?)))
        .collect();
    dispatcher.store.read(|state| {
        let holder = |(node_id, address): (NodeId, SocketAddr)| {
            let role = state.nodes.get(&node_id)?.role;
            // What is loopback from here leads elsewhere from there.
            let useful = near || !address.ip().is_loopback();
            let addresses = useful.then_some(address).into_iter().collect();
            Some(Sighting { node_id, role, addresses })
        };
        located.into_iter().filter_map(holder).collect()
    })
}

/// An IPv4 address as such, where a socket of both kinds saw it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
