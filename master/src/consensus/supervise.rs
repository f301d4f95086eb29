//! Watches raft: who leads, whether it failed, when to take a snapshot and purge the log.
//!
//! Owns the compaction policy, and tells the clock whose time counts. Changes nothing of the state.

use super::snapshot::Snapshots;
use super::space;
use super::types::{LogId, Metrics, Raft};
use crate::store::Store;
use bramble_core::model::NodeId;
use openraft::ServerState;
use openraft::error::Fatal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Log bytes after which a snapshot is taken before it is due by entries.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A leader that a quorum has not answered for so long leads nobody, though raft would let it lead
/// on until it hears of another. Milliseconds.
const QUORUM_SILENT_MAX_MS: u64 = 2_000;

/// Who leads, as far as this master knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This master leads, and its store holds everything committed before it did.
    pub here: bool,
}

pub(super) struct Supervisor {
    pub raft: Raft,
    pub store: Arc<Store>,
    pub leadership: watch::Sender<Leadership>,
    pub failure: watch::Sender<Option<String>>,
    pub snapshots: Arc<Snapshots>,
    pub appended_bytes: Arc<AtomicU64>,
    pub snapshot_every: u64,
    pub dir: PathBuf,
    pub reserve_bytes: u64,
}

/// What the loop remembers between two looks.
#[derive(Default)]
struct Memory {
    /// Term of our leadership, and the log index our store has to reach before we use it.
    own_term: Option<(u64, Option<u64>)>,
    /// Position and log bytes at the last snapshot asked for.
    asked: Option<LogId>,
    bytes_before: u64,
    purged: Option<u64>,
}

impl Supervisor {
    /// Watch until raft stops.
    pub async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut memory = Memory::default();
        loop {
            let seen = metrics.borrow_and_update().clone();
            if let Err(fatal) = &seen.running_state {
                self.stopped(Some(fatal));
                return;
            }
            let now = memory.leadership(&seen);
            // First: whoever sees that this master leads may ask it the time.
            self.set_clock(&seen, &now);
            self.publish(now);
            self.compact(&seen, &mut memory).await;
            if metrics.changed().await.is_err() {
                // The last word of a raft that stops is its running state; none means a panic.
                let fatal = metrics.borrow().running_state.clone().err();
                self.stopped(fatal.as_ref());
                return;
            }
        }
    }

    /// Begin to give the time, or take it from who leads. That raft calls itself leader is not
    /// enough: restarted, it does for a moment if it led last, and others may lead since.
    fn set_clock(&self, seen: &Metrics, now: &Leadership) {
        let known = self.leadership.borrow().clone();
        if now.here && !(known.here && known.term == now.term) {
            self.store.clock().lead();
        } else if seen.state != ServerState::Leader
            && seen.current_leader.is_some_and(|leader| leader != seen.id)
        {
            self.store.clock().follow(self.store.read(|state| state.now));
        }
    }

    fn publish(&self, now: Leadership) {
        self.leadership.send_if_modified(|known| {
            if *known == now {
                return false;
            }
            let leader = now.leader.as_ref().map(NodeId::as_str).unwrap_or_default();
            tracing::info!(term = now.term, leader, here = now.here, "leadership changed");
            *known = now;
            true
        });
    }

    fn stopped(&self, fatal: Option<&Fatal<u64>>) {
        let reason = match fatal {
            Some(Fatal::Stopped) => None,
            Some(fatal) => Some(fatal.to_string()),
            None => Some("raft panicked".to_string()),
        };
        self.leadership.send_modify(|known| {
            known.leader = None;
            known.here = false;
        });
        if let Some(reason) = reason {
            tracing::error!(reason, "raft stopped; this master must be restarted");
            self.failure.send_replace(Some(reason));
        }
    }

    async fn compact(&self, seen: &Metrics, memory: &mut Memory) {
        if self.snapshot_is_due(seen, memory) {
            match space::check(&self.dir, self.reserve_bytes) {
                Ok(()) => {
                    memory.asked = seen.last_applied;
                    memory.bytes_before = self.appended_bytes.load(Ordering::Relaxed);
                    // It only fails when raft stopped, which the loop sees next.
                    let _ = self.raft.trigger().snapshot().await;
                }
                Err(error) => {
                    // Asked again with a later entry: a snapshot can wait, a failed one stops
                    // raft.
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a due snapshot waits for room"
                    );
                }
            }
        }
        if let Some(upto) = self.snapshots.purgeable().filter(|u| memory.purged != Some(*u)) {
            memory.purged = Some(upto);
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    fn snapshot_is_due(&self, seen: &Metrics, memory: &Memory) -> bool {
        let Some(applied) = seen.last_applied else { return false };
        // One is under way, or has just been installed.
        if memory.asked > seen.snapshot || Some(applied) <= seen.snapshot {
            return false;
        }
        let next = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
        let entries = next(Some(applied)).saturating_sub(next(seen.snapshot));
        let bytes = self.appended_bytes.load(Ordering::Relaxed) - memory.bytes_before;
        entries >= self.snapshot_every || bytes >= LOG_BYTES_MAX
    }
}

impl Memory {
    fn leadership(&mut self, seen: &Metrics) -> Leadership {
        let term = seen.current_term;
        if is_deserted(seen) {
            return Leadership { term, leader: None, here: false };
        }
        let here = if seen.state == ServerState::Leader {
            let target = match self.own_term {
                Some((own, target)) if own == term => target,
                _ => seen.last_log_index,
            };
            self.own_term = Some((term, target));
            seen.last_applied.map(|id| id.index) >= target
        } else {
            self.own_term = None;
            false
        };
        let leader = seen.current_leader.and_then(|id| {
            seen.membership_config.nodes().find(|(n, _)| **n == id).map(|(_, peer)| peer.id.clone())
        });
        Leadership { term, leader, here }
    }
}

/// Whether raft takes this master for the leader of voters that do not answer it.
fn is_deserted(seen: &Metrics) -> bool {
    let silent = seen.millis_since_quorum_ack.is_some_and(|ms| ms > QUORUM_SILENT_MAX_MS);
    let others = seen.membership_config.voter_ids().any(|voter| voter != seen.id);
    seen.state == ServerState::Leader && silent && others
}
