//! Masters that have turned this agent away because they heard that its node was removed.
//!
//! Only the leader's word is final. An agent that dialled the same one of its followers again and
//! again, because that answers first, would never hear it: the others come first from then on.

use bramble_core::model::NodeId;
use bramble_protocol::net::Farewell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pause before the same is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubters {
    masters: BTreeSet<NodeId>,
    said: Option<Instant>,
}

impl Doubters {
    pub(super) fn contains(&self, master: Option<&NodeId>) -> bool {
        master.is_some_and(|master| self.masters.contains(master))
    }

    /// Note who it was, and tell the log where nobody else is there to ask.
    pub(super) fn heard(&mut self, master: NodeId) {
        if self.is_news(master, Instant::now()) {
            tracing::error!(
                "no leader answers, and the masters that do say: {}",
                Farewell::Removed.told()
            );
        }
    }

    /// Whether it is worth a line: one that was asked last has said it once more.
    fn is_news(&mut self, master: NodeId, now: Instant) -> bool {
        if self.masters.insert(master) {
            return false;
        }
        let due = self.said.is_none_or(|said| now.duration_since(said) >= SAY_AGAIN);
        if due {
            self.said = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_word_is_told_and_then_once_a_minute() {
        let mut doubters = Doubters::default();
        let (one, other, begin) = (NodeId::new("one"), NodeId::new("other"), Instant::now());
        let mut news =
            |id: &NodeId, after| doubters.is_news(id.clone(), begin + Duration::from_secs(after));
        assert!(!news(&one, 0) && !news(&other, 0));
        assert!(news(&one, 1));
        assert!(!news(&other, 2) && !news(&one, 60));
        assert!(news(&other, 61));
        assert!(doubters.contains(Some(&one)) && !doubters.contains(None));
        assert!(!doubters.contains(Some(&NodeId::new("third"))));
    }
}
