//! An agent is silent: is it gone, or is it only this master that does not hear it?
//!
//! Other agents are asked to look for it from where they are. One slow or cut link is then no
//! death, and a machine that lost its power is one within seconds.

use super::Dispatcher;
use bramble_core::model::{AgentId, NodeId};
use bramble_protocol::message::{Sighting, StreamRequest};
use bramble_protocol::net::{Probed, probe, read_frame};
use futures_util::future::join_all;
use std::time::Duration;

/// Agents asked to look.
const NEIGHBOURS_MAX: usize = 3;
/// Longest wait for a neighbour: its own look takes about a second.
const NEIGHBOUR_MAX: Duration = Duration::from_millis(1500);

/// What is to be believed of a silent agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody sees it, or at least its machine: its tasks go on.
    Lives,
    /// Others looked for it, and nobody sees it.
    Gone,
    /// Nobody else could look; this master itself sees nothing.
    UnseenFromHere,
}

/// Weigh what this master (`own`) and neighbours saw.
pub(super) fn weigh(own: Probed, neighbours: &[Probed]) -> Verdict {
    let lives = |seen: &Probed| matches!(seen, Probed::Here | Probed::MachineOnly);
    if lives(&own) || neighbours.iter().any(lives) {
        return Verdict::Lives;
    }
    match neighbours.contains(&Probed::Silent) {
        true => Verdict::Gone,
        false => Verdict::UnseenFromHere,
    }
}

impl Dispatcher {
    /// Look for an agent from here and from where others are.
    pub(super) async fn inquire(&self, agent_id: &AgentId) -> Verdict {
        let node_id = NodeId::new(agent_id.as_str());
        let seen = self.directory.sightings().into_iter().find(|s| s.node_id == node_id);
        let own = async {
            let addresses = seen.as_ref().map(|s| s.addresses.clone()).unwrap_or_default();
            match &self.endpoint {
                Some(endpoint) => probe(endpoint, &node_id, &addresses).await,
                None => Probed::Unknown,
            }
        };
        let told = self.directory.gossip().into_iter().find(|s| s.node_id == node_id);
        let neighbours = match &told {
            Some(sighting) => self.neighbours(agent_id, sighting),
            None => Vec::new(),
        };
        let asked = neighbours.into_iter().map(|neighbour| self.ask(neighbour, told.as_ref()));
        let (own, neighbours) = tokio::join!(own, join_all(asked));
        let verdict = weigh(own, &neighbours);
        tracing::info!(%agent_id, ?own, ?neighbours, ?verdict, "a silent agent was looked for");
        verdict
    }

    /// Agents with sessions that are not on the silent one's machine, nor on this one.
    fn neighbours(&self, silent: &AgentId, sighting: &Sighting) -> Vec<AgentId> {
        let elsewhere = |id: &AgentId| {
            let node_id = NodeId::new(id.as_str());
            let own = self.own.as_ref().is_some_and(|own| *own == node_id);
            let addresses = self.directory.addresses(&node_id);
            let same = addresses.first().is_some_and(|a| {
                sighting.addresses.first().is_some_and(|silent| silent.ip() == a.ip())
            });
            id != silent && !own && !same
        };
        let sessions = self.sessions();
        sessions.keys().filter(|id| elsewhere(id)).take(NEIGHBOURS_MAX).cloned().collect()
    }

    async fn ask(&self, neighbour: AgentId, sighting: Option<&Sighting>) -> Probed {
        let Some(sighting) = sighting.cloned() else { return Probed::Unknown };
        let looked = async {
            let mut stream =
                self.open_stream(neighbour, StreamRequest::Probe(sighting)).await.ok()?;
            read_frame::<Probed>(&mut stream.receive).await.ok().flatten()
        };
        // A neighbour that does not answer says nothing about the other.
        let looked = tokio::time::timeout(NEIGHBOUR_MAX, looked).await;
        looked.ok().flatten().unwrap_or(Probed::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_sees_it_is_enough_and_nobody_to_ask_is_no_proof() {
        use Probed::*;
        let rows = [
            (Silent, vec![Silent, Silent], Verdict::Gone),
            (Silent, vec![Silent, Unknown], Verdict::Gone),
            (Silent, vec![Silent, Here], Verdict::Lives),
            (Silent, vec![MachineOnly], Verdict::Lives),
            (Here, vec![Silent], Verdict::Lives),
            (MachineOnly, vec![], Verdict::Lives),
            (Silent, vec![], Verdict::UnseenFromHere),
            (Silent, vec![Unknown], Verdict::UnseenFromHere),
            (Unknown, vec![], Verdict::UnseenFromHere),
        ];
        for (own, neighbours, want) in rows {
            assert_eq!(weigh(own, &neighbours), want, "{own:?} {neighbours:?}");
        }
    }
}
