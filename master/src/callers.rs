//! Who speaks to this master: the standing links of every node, with the process behind each.
//!
//! Each process of bramble draws a number at its start, its *life*. A restart is a new life at the
//! same place, or one whose forerunner answers no more; a second life beside one that answers is a
//! cloned disk, and must not speak for the node: two voters with one key would vote twice.

use bramble_core::model::NodeId;
use bramble_protocol::native::CloneView;
use bramble_protocol::net::Farewell;
use bytes::Bytes;
use quinn::Connection;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Links remembered per node; more than a node has purposes for one.
const LINKS_MAX: usize = 16;
/// Longest wait for a sign of the earlier process.
const SIGN_MAX: Duration = Duration::from_secs(1);
/// Pause between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a verdict on a second life holds without another look.
const VERDICT_HOLDS: Duration = Duration::from_secs(2);
/// How long a clone that is not heard of any more is shown.
const SHOWN: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Default)]
pub struct Callers {
    links: Mutex<BTreeMap<NodeId, Vec<Caller>>>,
    clones: Mutex<BTreeMap<NodeId, Clone>>,
}

struct Caller {
    connection: Connection,
    /// 0: not told, or not proven yet.
    life: u64,
}

/// The latest second life of a node.
#[derive(Clone, Copy, Debug)]
struct Clone {
    life: u64,
    first: SocketAddr,
    second: SocketAddr,
    at: Instant,
}

impl Callers {
    /// Remember a link that a node dialled.
    pub fn enter(&self, node: &NodeId, connection: &Connection) {
        let mut links = self.links();
        let known = links.entry(node.clone()).or_default();
        known.retain(|caller| caller.connection.close_reason().is_none());
        if known.len() < LINKS_MAX {
            known.push(Caller { connection: connection.clone(), life: 0 });
        }
    }

    /// End every link of a node.
    pub fn end(&self, node: &NodeId, farewell: Farewell) {
        let ended = self.links().remove(node).unwrap_or_default();
        ended.iter().for_each(|caller| farewell.close(&caller.connection));
    }

    /// Whether the process behind a link may speak for its node. It may once no other one does.
    pub async fn is_the_one(&self, node: &NodeId, life: u64, link: &Connection) -> bool {
        if life == 0 {
            return true;
        }
        let others = self.others(node, life, link);
        if others.is_empty() {
            return true;
        }
        let clone = self.clones().get(node).copied();
        if clone.is_some_and(|seen| seen.life == life && seen.at.elapsed() < VERDICT_HOLDS) {
            return false;
        }
        let Some(first) = answering(&others).await else {
            // It died unnoticed: nothing of it shall stand in the way again.
            others.iter().for_each(|gone| gone.close(1u32.into(), b"another process took over"));
            return self.others(node, life, link).is_empty();
        };
        let second = link.remote_address();
        let seen = Clone { life, first, second, at: Instant::now() };
        let before = self.clones().insert(node.clone(), seen);
        if before.is_none_or(|before| before.life != life) {
            tracing::error!(node_id = %node, %first, %second,
                "two machines run with one node's key (a cloned disk?): the second is refused; \
                give it a new identity with `bramble reset-identity` there");
        }
        false
    }

    /// Links of other lives of a node at other places; where there are none, this life is noted
    /// as the node's.
    fn others(&self, node: &NodeId, life: u64, link: &Connection) -> Vec<Connection> {
        let mut links = self.links();
        let known = links.entry(node.clone()).or_default();
        known.retain(|caller| caller.connection.close_reason().is_none());
        // A node has one port: whoever speaks from there has taken the place of the earlier.
        let here = link.remote_address();
        let other = |caller: &&Caller| {
            caller.life != 0 && caller.life != life && caller.connection.remote_address() != here
        };
        let others: Vec<Connection> =
            known.iter().filter(other).map(|caller| caller.connection.clone()).collect();
        if !others.is_empty() {
            return others;
        }
        let id = link.stable_id();
        if let Some(caller) = known.iter_mut().find(|c| c.connection.stable_id() == id) {
            caller.life = life;
        } else if known.len() < LINKS_MAX {
            known.push(Caller { connection: link.clone(), life });
        }
        others
    }

    /// Second lives that were seen of late.
    pub fn cloned(&self, name: impl Fn(&NodeId) -> String) -> Vec<CloneView> {
        let mut clones = self.clones();
        clones.retain(|_, seen| seen.at.elapsed() < SHOWN);
        let view = |(id, seen): (&NodeId, &Clone)| CloneView {
            id: id.to_string(),
            name: name(id),
            address: seen.first.to_string(),
            refused: seen.second.to_string(),
            seconds_ago: seen.at.elapsed().as_secs(),
        };
        clones.iter().map(view).collect()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<Caller>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clones(&self) -> MutexGuard<'_, BTreeMap<NodeId, Clone>> {
        self.clones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a process still answers on one of these links. QUIC acknowledges a datagram whether or
/// not anybody reads it, so that the other side needs to do nothing for this.
async fn answering(links: &[Connection]) -> Option<SocketAddr> {
    let received = |link: &Connection| link.stats().udp_rx.datagrams;
    let before: Vec<u64> = links.iter().map(received).collect();
    let until = Instant::now() + SIGN_MAX;
    while Instant::now() < until {
        for (link, before) in links.iter().zip(&before) {
            if link.close_reason().is_none() && received(link) > *before {
                return Some(link.remote_address());
            }
            // One that cannot be sent says the same as one without an answer.
            let _ = link.send_datagram(Bytes::from_static(b"?"));
        }
        if links.iter().all(|link| link.close_reason().is_some()) {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
