//! What is said of removed nodes that still dial: once per node and minute. Each of them has links
//! for several purposes, and tries them all for as long as nobody there reads its log.

use bramble_core::model::NodeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause before the same node is named again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// When each node was last named.
#[derive(Default)]
pub(crate) struct TurnedAway(Mutex<BTreeMap<NodeId, Instant>>);

impl TurnedAway {
    /// Whether to name `node` at `now`; counts as having done so.
    pub(crate) fn is_news(&self, node: &NodeId, now: Instant) -> bool {
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
        let (named, begin) = (TurnedAway::default(), Instant::now());
        let at =
            |id: &str, after| named.is_news(&NodeId::new(id), begin + Duration::from_secs(after));
        assert!(at("a", 0) && !at("a", 1) && at("b", 1));
        assert!(!at("a", 59) && at("a", 60) && !at("b", 60));
    }
}
