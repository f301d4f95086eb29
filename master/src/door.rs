//! Who may have a link with this master: members, and whom they certified. Removed nodes are told
//! that they are, and named in the log once per minute each: they have links for several purposes,
//! and try them all for as long as nobody there reads its log.

use crate::consensus::Consensus;
use crate::store::Store;
use bramble_core::model::NodeId;
use bramble_protocol::net::{Farewell, Link, issued_by};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause before the same node is named again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Door {
    store: Arc<Store>,
    consensus: Arc<Consensus>,
    named: Named,
}

impl Door {
    pub(crate) fn new(store: Arc<Store>, consensus: Arc<Consensus>) -> Self {
        Self { store, consensus, named: Named::default() }
    }

    /// Whether the link may stay. One that may not has been ended, with the reason.
    pub(crate) fn lets_in(&self, link: &Link, node: &NodeId) -> bool {
        if self.store.read(|state| state.removed.contains_key(node)) {
            self.turn_out(link, node);
            return false;
        }
        let certified = self.is_certified(link, node);
        if !certified {
            let reason = b"this node's certificate is of an earlier CA, and it is no member";
            link.connection.close(1u32.into(), reason);
        }
        certified
    }

    /// Whoever knew the key of an earlier CA could certify strangers with it, so that a certificate
    /// of one is good for members only.
    fn is_certified(&self, link: &Link, node: &NodeId) -> bool {
        let (ca, is_member) = self.store.read(|state| {
            let ca = state.cluster.as_ref().filter(|cluster| !cluster.previous.is_empty());
            (ca.map(|cluster| cluster.ca_certificate.clone()), state.nodes.contains_key(node))
        });
        is_member || ca.is_none_or(|ca| issued_by(&link.connection, &ca))
    }

    /// Only the leader's word is final: this master may not have heard that a node is back.
    fn turn_out(&self, link: &Link, node_id: &NodeId) {
        if self.named.is_news(node_id, Instant::now()) {
            let address = link.connection.remote_address();
            tracing::warn!(%node_id, %address, "a removed node is turned away");
        }
        match self.consensus.is_leader() {
            true => Farewell::Removed.close(&link.connection),
            false => Farewell::turn_away(&link.connection),
        }
    }
}

/// When each node was last named.
#[derive(Default)]
struct Named(Mutex<BTreeMap<NodeId, Instant>>);

impl Named {
    /// Whether to name `node` at `now`; counts as having done so.
    fn is_news(&self, node: &NodeId, now: Instant) -> bool {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, at| now.duration_since(*at) < SAY_AGAIN);
        match named.contains_key(node) {
            true => false,
            false => named.insert(node.clone(), now).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_once_a_minute() {
        let (named, begin) = (Named::default(), Instant::now());
        let at =
            |id: &str, after| named.is_news(&NodeId::new(id), begin + Duration::from_secs(after));
        assert!(at("a", 0) && !at("a", 1) && at("b", 1));
        assert!(!at("a", 59) && at("a", 60) && !at("b", 60));
    }
}
