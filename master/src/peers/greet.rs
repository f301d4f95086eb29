//! Making itself known: a master tells the others that it is there, so that each observes the
//! other's address and hears of those it has not seen.
//!
//! Where multicast works this only confirms; where it does not, it is how a master that joined
//! by a typed address comes to be found by the leader.

use super::Peers;
use super::message::{PeerReply, PeerRequest};
use crate::consensus::Leadership;
use bramble_core::model::NodeId;
use bramble_protocol::net::{Alpn, Endpoint};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest wait for one master's answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Pause between two rounds: without a leader, and with one that was told.
const PAUSE_LEADERLESS: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(30);
/// Changes of addresses come in bursts.
const SETTLE: Duration = Duration::from_millis(200);

impl Peers {
    /// Greet the other masters whenever an address or the leader changes, and now and then.
    pub async fn greet(
        &self,
        endpoint: Arc<Endpoint>,
        mut leadership: watch::Receiver<Leadership>,
        stop: CancellationToken,
    ) {
        let mut addresses = self.links.directory().changes();
        loop {
            addresses.mark_unchanged();
            let led = leadership.borrow_and_update().leader.is_some();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round(&endpoint) => {}
            }
            // One that the cluster does not want need not ask often.
            let wanted = endpoint.verdict().borrow().is_none();
            let pause = if led || !wanted { PAUSE } else { PAUSE_LEADERLESS };
            let news = async {
                tokio::select! {
                    _ = addresses.changed() => {}
                    _ = leadership.changed() => {}
                }
                tokio::time::sleep(SETTLE).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = news => {}
            }
        }
    }

    async fn round(&self, endpoint: &Endpoint) {
        let places = self.links.directory().masters();
        let known: BTreeSet<NodeId> =
            places.iter().filter_map(|(id, _)| id.clone()).filter(|id| *id != self.own).collect();
        let seeds = places.iter().filter(|(id, _)| id.is_none()).map(|(_, address)| *address);
        let strangers = join_all(seeds.map(|address| self.meet(endpoint, address)));
        tokio::join!(join_all(known.iter().map(|id| self.hello(id))), strangers);
    }

    /// Find out who is at an address of which nothing is known.
    async fn meet(&self, endpoint: &Endpoint, address: SocketAddr) {
        let dialled = endpoint.connect(address, Alpn::Raft, None);
        let Ok(Ok(link)) = tokio::time::timeout(ANSWER_MAX, dialled).await else { return };
        let Some(peer) = link.peer else { return };
        link.connection.close(0u32.into(), b"now known");
        if peer.node_id != self.own {
            self.links.directory().note(&peer.node_id, peer.role, address);
            self.hello(&peer.node_id).await;
        }
    }

    async fn hello(&self, node: &NodeId) {
        let directory = self.links.directory();
        let request = PeerRequest::Greet { sightings: directory.gossip() };
        match tokio::time::timeout(ANSWER_MAX, self.ask(node, &request)).await {
            Ok(Ok(PeerReply::Greeted { sightings, .. })) => {
                let others = sightings.iter().filter(|seen| seen.node_id != self.own);
                others.for_each(|seen| directory.hear(seen));
            }
            Ok(Ok(_)) => tracing::debug!(node_id = %node, "a master did not greet back"),
            Ok(Err(error)) => tracing::debug!(node_id = %node, %error, "a master is not reached"),
            Err(_) => tracing::debug!(node_id = %node, "a master does not answer in time"),
        }
    }
}
