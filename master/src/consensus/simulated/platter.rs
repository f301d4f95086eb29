//! A disk in memory that forgets at a crash what was not synced.

use super::super::disk::VALUE_BYTES_MAX;
use super::super::record::{self, ENTRIES_BEGIN, ENTRIES_END, VOTE_KEY};
use super::super::types::Vote;
use bramble_protocol::codec;
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest sync in milliseconds; each takes its own time.
const SYNC_MS_MAX: u64 = 12;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// Keys with their new values; `None` removes one.
type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Outlives the voter that writes on it.
#[derive(Default)]
pub struct Platter {
    content: Mutex<Content>,
    votes_unsynced: bool,
}

#[derive(Default)]
struct Content {
    /// What a reader sees.
    now: Map,
    /// What outlives a crash.
    durable: Map,
    /// What lies between both, oldest first.
    unsynced: Vec<Changes>,
    /// Batches synced since the beginning, to find the place in `unsynced` again.
    synced: usize,
}

impl Platter {
    /// An empty one; with `votes_unsynced` it has the bug that a vote is answered unsynced.
    pub fn new(votes_unsynced: bool) -> Self {
        Self { votes_unsynced, ..Self::default() }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in super::super) fn write(&self, changes: Changes) {
        let mut content = self.content();
        apply(&mut content.now, &changes);
        content.unsynced.push(changes);
    }

    pub(in super::super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.content().now.get(key).cloned()
    }

    pub(in super::super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> std::vec::IntoIter<(Vec<u8>, Vec<u8>)> {
        let content = self.content();
        let range = content.now.range(from.to_vec()..to.to_vec());
        range.map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>().into_iter()
    }

    /// Call `done` once everything written before would survive a crash.
    pub(in super::super) fn sync_then(self: &Arc<Self>, done: Box<dyn FnOnce() + Send>) {
        let upto = {
            let content = self.content();
            if self.votes_unsynced && content.unsynced.iter().all(is_vote) {
                drop(content);
                return done();
            }
            content.synced + content.unsynced.len()
        };
        let platter = self.clone();
        let pause = Duration::from_millis(rand::rng().random_range(0..=SYNC_MS_MAX));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            platter.content().sync(upto);
            done();
        });
    }

    /// The vote as it lies there, synced or not: its term, and the Raft id of whom it is for.
    pub fn vote(&self) -> Option<(u64, u64)> {
        let bytes = self.get(VOTE_KEY)?;
        let vote: Vote = codec::from_bytes(&bytes).ok()?;
        let leader = vote.leader_id();
        Some((leader.term, leader.node_id))
    }

    /// Lose power: of what was not synced, the first `kept` batches happen to be there.
    pub fn crash(&self, kept: usize) {
        let mut content = self.content();
        let upto = content.synced + kept.min(content.unsynced.len());
        content.sync(upto);
        content.unsynced.clear();
        content.now = content.durable.clone();
    }

    /// The entries of the log after `index` as they lie there, in order.
    ///
    /// # Panics
    /// When the log cannot be read, which is a bug of whoever wrote it.
    pub fn raw_entries_after(&self, index: u64) -> Vec<(u64, Vec<u8>)> {
        let from = record::key(index, u16::MAX).to_vec();
        let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
        for (key, value) in self.scan(from.as_slice().max(ENTRIES_BEGIN), ENTRIES_END) {
            let index = record::index_of(&key).expect("a key of the log");
            match entries.last_mut() {
                Some((last, bytes)) if *last == index => bytes.extend(value),
                _ => entries.push((index, value)),
            }
        }
        entries
    }

    /// Term and leader that wrote an entry, given as it lies in a log.
    ///
    /// # Panics
    /// As [`Platter::raw_entries_after`].
    pub fn author(index: u64, bytes: Vec<u8>) -> (u64, u64) {
        let parts: Vec<Vec<u8>> = bytes.chunks(VALUE_BYTES_MAX).map(<[u8]>::to_vec).collect();
        let entry = record::decode(index, &parts).expect("an entry of the log");
        (entry.log_id.leader_id.term, entry.log_id.leader_id.node_id)
    }
}

impl Content {
    fn sync(&mut self, upto: usize) {
        let count = upto.saturating_sub(self.synced).min(self.unsynced.len());
        for changes in self.unsynced.drain(..count) {
            apply(&mut self.durable, &changes);
        }
        self.synced += count;
    }
}

fn is_vote(changes: &Changes) -> bool {
    changes.iter().all(|(key, _)| key == VOTE_KEY)
}

fn apply(map: &mut Map, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}
