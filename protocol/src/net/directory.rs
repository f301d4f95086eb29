//! Where nodes are, as far as this one has seen: node ids and the addresses they were observed at.
//!
//! Soft state that any handshake may correct: nothing here is believed before the node behind an
//! address has proven its key. It must never be written into the replicated log.

use crate::message::Sighting;
use bramble_core::model::{NodeId, NodeRole};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Addresses kept per node; the one seen longest ago is forgotten first.
const ADDRESSES_MAX: usize = 8;
/// Addresses of unknown nodes (given by the user, or from an earlier life).
const SEEDS_MAX: usize = 16;
/// Nodes kept. A cluster is far smaller; this only bounds what strangers may announce.
const NODES_MAX: usize = 4096;

/// The address book of this node.
#[derive(Debug)]
pub struct Directory {
    book: Mutex<Book>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Book {
    nodes: BTreeMap<NodeId, Entry>,
    seeds: VecDeque<SocketAddr>,
    /// Nodes that were removed from the cluster: nothing is noted of them.
    refused: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Entry {
    role: NodeRole,
    addresses: VecDeque<SocketAddr>,
}

impl Book {
    fn takes(&self, node_id: &NodeId) -> bool {
        let room = self.nodes.contains_key(node_id) || self.nodes.len() < NODES_MAX;
        room && !self.refused.contains(node_id)
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self { book: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Directory {
    /// Note that a node was seen at an address: it will be tried first.
    pub fn note(&self, node_id: &NodeId, role: NodeRole, address: SocketAddr) {
        let mut book = self.book();
        if !book.takes(node_id) {
            return;
        }
        let entry = book
            .nodes
            .entry(node_id.clone())
            .or_insert_with(|| Entry { role, addresses: VecDeque::new() });
        let same_role = std::mem::replace(&mut entry.role, role) == role;
        if put_first(&mut entry.addresses, address, ADDRESSES_MAX) || !same_role {
            drop(book);
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Note addresses heard from another node: they are tried after what was seen here.
    pub fn hear(&self, sighting: &Sighting) {
        let mut book = self.book();
        if !book.takes(&sighting.node_id) {
            return;
        }
        let entry = book
            .nodes
            .entry(sighting.node_id.clone())
            .or_insert_with(|| Entry { role: sighting.role, addresses: VecDeque::new() });
        let mut news = false;
        for address in &sighting.addresses {
            if !entry.addresses.contains(address) {
                // Hearsay has the last places only: it must not push out what was seen.
                entry.addresses.truncate(ADDRESSES_MAX - 1);
                entry.addresses.push_back(*address);
                news = true;
            }
        }
        drop(book);
        if news {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Note an address whose node is not known: any node may be there.
    pub fn seed(&self, address: SocketAddr) {
        if put_first(&mut self.book().seeds, address, SEEDS_MAX) {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Forget a node, as one that left the cluster.
    pub fn forget(&self, node_id: &NodeId) {
        if self.book().nodes.remove(node_id).is_some() {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Know nothing of these nodes, which were removed from the cluster, and learn nothing of them.
    /// The whole list: one that is missing is welcome again.
    pub fn refuse(&self, removed: BTreeSet<NodeId>) {
        let mut book = self.book();
        let before = book.nodes.len();
        book.nodes.retain(|id, _| !removed.contains(id));
        let fewer = book.nodes.len() < before;
        book.refused = removed;
        drop(book);
        if fewer {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Whether a node was removed from the cluster, as far as this one was told.
    pub fn refuses(&self, node_id: &NodeId) -> bool {
        self.book().refused.contains(node_id)
    }

    /// Where to try a node: where it was seen, then addresses of which nothing is known.
    pub fn addresses(&self, node_id: &NodeId) -> Vec<SocketAddr> {
        let book = self.book();
        let seen = book.nodes.get(node_id).into_iter().flat_map(|entry| &entry.addresses);
        let mut all: Vec<SocketAddr> = seen.copied().collect();
        all.extend(
            book.seeds.iter().filter(|seed| !all.contains(seed)).copied().collect::<Vec<_>>(),
        );
        all
    }

    /// Where a node was seen, or heard to be, without addresses of which nothing is known.
    pub fn addresses_seen(&self, node_id: &NodeId) -> Vec<SocketAddr> {
        let book = self.book();
        book.nodes.get(node_id).into_iter().flat_map(|entry| &entry.addresses).copied().collect()
    }

    /// Where masters may be: each node's latest address first, then their others, then seeds.
    pub fn masters(&self) -> Vec<(Option<NodeId>, SocketAddr)> {
        let book = self.book();
        let mut all: Vec<(Option<NodeId>, SocketAddr)> = Vec::new();
        for turn in 0..ADDRESSES_MAX {
            for (node_id, entry) in &book.nodes {
                let at = entry.addresses.get(turn).filter(|_| entry.role != NodeRole::Agent);
                all.extend(at.map(|address| (Some(node_id.clone()), *address)));
            }
        }
        let seeds = book.seeds.iter().filter(|seed| !all.iter().any(|(_, a)| a == *seed));
        all.extend(seeds.map(|seed| (None, *seed)).collect::<Vec<_>>());
        all
    }

    /// Every node that was seen, in the order of their ids.
    pub fn sightings(&self) -> Vec<Sighting> {
        let book = self.book();
        let sighting = |(node_id, entry): (&NodeId, &Entry)| Sighting {
            node_id: node_id.clone(),
            role: entry.role,
            addresses: entry.addresses.iter().copied().collect(),
        };
        book.nodes.iter().map(sighting).collect()
    }

    /// What is worth telling other nodes: all but addresses that mean something here only.
    pub fn gossip(&self) -> Vec<Sighting> {
        let mut all = self.sightings();
        for sighting in &mut all {
            sighting.addresses.retain(|address| !is_of_this_machine(address));
        }
        all.retain(|sighting| !sighting.addresses.is_empty());
        all
    }

    /// The masters among [`Directory::gossip`].
    pub fn gossip_of_masters(&self) -> Vec<Sighting> {
        let mut all = self.gossip();
        all.retain(|sighting| sighting.role != NodeRole::Agent);
        all
    }

    /// A level trigger: moves when an address, a node or a seed comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_this_machine(address: &SocketAddr) -> bool {
    // The scope of a link-local address is the number of an interface of this machine.
    let link_local = matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
    address.ip().is_loopback() || link_local
}

/// Put `address` first; whether the list is another than before.
fn put_first(list: &mut VecDeque<SocketAddr>, address: SocketAddr, most: usize) -> bool {
    if list.front() == Some(&address) {
        return false;
    }
    list.retain(|known| *known != address);
    list.push_front(address);
    list.truncate(most);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name)
    }

    #[test]
    fn what_was_seen_last_is_tried_first_and_seeds_last() {
        let book = Directory::default();
        book.seed(at(1));
        book.note(&node("a"), NodeRole::Full, at(2));
        book.note(&node("a"), NodeRole::Full, at(3));
        book.note(&node("a"), NodeRole::Full, at(2));
        assert_eq!(book.addresses(&node("a")), [at(2), at(3), at(1)]);
        assert_eq!(book.addresses(&node("b")), [at(1)]);
        book.forget(&node("a"));
        assert_eq!(book.addresses(&node("a")), [at(1)]);
    }

    #[test]
    fn nothing_is_learnt_of_removed_nodes_until_they_are_welcome_again() {
        let book = Directory::default();
        book.note(&node("a"), NodeRole::Full, at(1));
        book.refuse([node("a")].into());
        let heard =
            Sighting { node_id: node("a"), role: NodeRole::Full, addresses: vec![at(2), at(3)] };
        book.note(&node("a"), NodeRole::Full, at(1));
        book.hear(&heard);
        assert!(book.refuses(&node("a")) && book.sightings().is_empty());
        book.refuse([].into());
        book.hear(&heard);
        assert_eq!(book.addresses(&node("a")), [at(2), at(3)]);
    }

    #[test]
    fn masters_come_one_address_each_before_second_ones() {
        let book = Directory::default();
        book.note(&node("a"), NodeRole::Full, at(1));
        book.note(&node("a"), NodeRole::Full, at(2));
        book.note(&node("b"), NodeRole::Master, at(3));
        book.note(&node("c"), NodeRole::Agent, at(4));
        book.seed(at(2));
        book.seed(at(5));
        let ports: Vec<u16> = book.masters().iter().map(|(_, a)| a.port()).collect();
        assert_eq!(ports, [2, 3, 1, 5]);
    }

    #[test]
    fn hearsay_comes_after_what_was_seen_and_everything_is_bounded() {
        let book = Directory::default();
        let mut changes = book.changes();
        book.note(&node("a"), NodeRole::Full, at(1));
        assert!(changes.has_changed().expect("it lives"));
        changes.mark_unchanged();
        book.note(&node("a"), NodeRole::Full, at(1));
        assert!(!changes.has_changed().expect("it lives"), "nothing new");
        let heard = |addresses: Vec<SocketAddr>| Sighting {
            node_id: node("a"),
            role: NodeRole::Full,
            addresses,
        };
        book.hear(&heard((100..200).map(at).collect()));
        let all = book.addresses(&node("a"));
        assert_eq!((all.len(), all[0]), (ADDRESSES_MAX, at(1)));
        for port in 1000..1100 {
            book.note(&node("a"), NodeRole::Full, at(port));
        }
        assert_eq!(book.addresses(&node("a")).len(), ADDRESSES_MAX);
    }
}
