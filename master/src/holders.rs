//! Who holds which image: the leader's memory of what agents told on their sessions.
//!
//! Soft state beside the log, as offers are: it ends with a session and is told anew on the next.
//! Wrong, it costs an agent a question to a node that says no.

use bramble_core::model::AgentId;
use bramble_protocol::message::{HELD_IMAGES_MAX, HeldImage};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holders named in one answer. Who asks tries them one after the other.
const HOLDERS_TOLD_MAX: usize = 16;

/// Images by agent.
#[derive(Debug, Default)]
pub struct HolderBook {
    held: Mutex<BTreeMap<AgentId, Vec<HeldImage>>>,
}

impl HolderBook {
    fn held(&self) -> MutexGuard<'_, BTreeMap<AgentId, Vec<HeldImage>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replace what an agent holds.
    pub fn put(&self, agent_id: &AgentId, mut images: Vec<HeldImage>) {
        images.truncate(HELD_IMAGES_MAX);
        self.held().insert(agent_id.clone(), images);
    }

    /// An agent's session ended.
    pub fn close(&self, agent_id: &AgentId) {
        self.held().remove(agent_id);
    }

    /// Name agents that hold an image, besides the one that asks: those whose image came last
    /// first, and among equals another order for everyone who asks.
    pub fn of(&self, reference: &str, digest: Option<&str>, asking: &AgentId) -> Vec<AgentId> {
        let is_it = |image: &HeldImage| {
            image.reference == reference
                || digest.is_some_and(|digest| image.digests.iter().any(|known| known == digest))
        };
        let held = self.held();
        let mut found: Vec<(u64, &AgentId)> = held
            .iter()
            .filter(|(agent_id, _)| *agent_id != asking)
            .filter_map(|(agent_id, images)| {
                let latest = images.iter().filter(|image| is_it(image));
                latest.map(|image| image.created_unix_s).max().map(|at| (at, agent_id))
            })
            .collect();
        // Begin after the one that asks, so that not all go to the same.
        let turn = found.partition_point(|(_, agent_id)| *agent_id < asking);
        found.rotate_left(turn);
        found.sort_by_key(|(at, _)| Reverse(*at));
        found.into_iter().take(HOLDERS_TOLD_MAX).map(|(_, agent_id)| agent_id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str, digest: &str, created_unix_s: u64) -> HeldImage {
        HeldImage { reference: reference.into(), digests: vec![digest.into()], created_unix_s }
    }

    fn of(book: &HolderBook, reference: &str, digest: Option<&str>, asking: &str) -> Vec<String> {
        let found = book.of(reference, digest, &AgentId::new(asking));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_latest_image_of_a_name_is_named_first_and_equals_in_turn() {
        let book = HolderBook::default();
        for (agent, created) in [("a", 5), ("b", 7), ("c", 5), ("d", 5)] {
            book.put(&AgentId::new(agent), vec![image("x:1", "sha256:1", created)]);
        }
        assert_eq!(of(&book, "x:1", None, "z"), ["b", "a", "c", "d"]);
        assert_eq!(of(&book, "x:1", None, "c"), ["b", "d", "a"]);
        assert_eq!(of(&book, "x@sha256:1", Some("sha256:1"), "b"), ["c", "d", "a"]);
        assert!(of(&book, "x:2", Some("sha256:2"), "a").is_empty());
        book.put(&AgentId::new("b"), vec![]);
        book.close(&AgentId::new("d"));
        assert_eq!(of(&book, "x:1", None, "z"), ["a", "c"]);
    }

    #[test]
    fn what_is_kept_and_told_is_bounded() {
        let book = HolderBook::default();
        let many = |n: usize| image(&format!("x:{n}"), "sha256:1", 1);
        book.put(&AgentId::new("a"), (0..HELD_IMAGES_MAX + 5).map(many).collect());
        assert_eq!(book.held()[&AgentId::new("a")].len(), HELD_IMAGES_MAX);
        for n in 0..HOLDERS_TOLD_MAX + 5 {
            book.put(&AgentId::new(format!("n{n}")), vec![many(0)]);
        }
        assert_eq!(of(&book, "x:0", None, "z").len(), HOLDERS_TOLD_MAX);
    }
}
