//! What is done to the directory of a voter that does not run: made from a backup, or made the
//! only voter of a cluster whose other masters are lost.
//!
//! Both write one snapshot in which this node is the only voter, at an index far ahead: agents
//! refuse assignments older than what they were last told, and what they were told may be newer
//! than what is known here. openraft drops the log before that snapshot at the next start. The
//! snapshot's file appears at once or not at all, and comes last: until then all is as before.

use super::disk::{self, Disk};
use super::error::ConsensusError;
use super::lock::DirLock;
use super::log_store::LogStore;
use super::snapshot::{Contents, Snapshots};
use super::types::{LogId, Peer, RaftId, StorageError, StoredMembership, Vote, raft_id};
use super::{ConsensusConfig, Stores, open_stores};
use bramble_core::command::{self, Command};
use bramble_core::machine;
use bramble_core::model::{AgentId, Node, NodeId, NodeRole, State, Time};
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{CommittedLeaderId, Membership, RaftLogReader};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// How far the index jumps at least: more entries than a master writes in its life.
const LEAP: u64 = 1_000_000_000_000;
/// Indexes per millisecond of the clock: no log grows as fast. So a backup that is restored a
/// second time begins after all that followed from the first.
const INDEXES_PER_MS: u64 = 1000;
/// Log entries applied at once.
const ENTRIES_AT_ONCE: u64 = 64;

/// The cluster's state as a backup has it.
pub struct Image(Contents);

impl Image {
    /// Read what [`super::Consensus::image`] gave.
    ///
    /// # Errors
    /// [`ConsensusError::Image`]: it is damaged, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConsensusError> {
        Contents::decode(bytes).map(Self).map_err(ConsensusError::Image)
    }

    pub fn state(&self) -> &State {
        &self.0.state
    }
}

/// What [`recover`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Masters that do not belong to the cluster any more, with their names.
    pub removed: Vec<(NodeId, String)>,
    /// The last entry known here.
    pub last_index: u64,
    /// Cluster time of the last change known here.
    pub last_change: Time,
}

/// Make `dir` the directory of `node`, the only voter over the state of `image`. `edit` makes the
/// node a member; other masters are removed. Gives them.
///
/// # Errors
/// [`ConsensusError::NotEmpty`] when there is a log; what writing met otherwise.
pub async fn plant(
    dir: &Path,
    node: &NodeId,
    image: Image,
    clock: Time,
    edit: impl FnOnce(&mut State),
) -> Result<Vec<(NodeId, String)>, ConsensusError> {
    let id = raft_id(node)?;
    disk::create_dir(dir)
        .map_err(|source| ConsensusError::CreateDir { path: dir.to_path_buf(), source })?;
    let _lock = DirLock::take(dir)?;
    if dir.join("log").exists() || dir.join("snapshots").exists() {
        return Err(ConsensusError::NotEmpty { dir: dir.to_path_buf() });
    }
    let disk = Disk::open(&dir.join("log")).map_err(ConsensusError::OpenLog)?;
    let log = LogStore::new(Arc::new(disk));
    let (snapshots, _) =
        Snapshots::open(&dir.join("snapshots")).map_err(ConsensusError::OpenSnapshots)?;
    let Contents { last_applied, mut state, .. } = image.0;
    edit(&mut state);
    let term = last_applied.map_or(0, |id| id.leader_id.term) + 1;
    settle(log, &snapshots, state, (id, node), term, clock).await
}

/// Make the voter in `config.dir` the only one. Everything in its log is kept, also what no
/// quorum is known to have taken: it may have been acknowledged.
///
/// # Errors
/// It holds no cluster's state, was removed from the cluster, or is alone already; what reading
/// and writing met otherwise, and then all is as before.
pub async fn recover(config: &ConsensusConfig, clock: Time) -> Result<Recovery, ConsensusError> {
    let (dir, node) = (&config.dir, &config.node);
    let id = raft_id(node)?;
    if !dir.join("log").exists() {
        return Err(ConsensusError::Empty { dir: dir.clone() });
    }
    let _lock = DirLock::take(dir)?;
    let Stores { disk, snapshots, mut machine, .. } = open_stores(config, machine::apply)?;
    let mut log = LogStore::new(disk);
    let failed = |error: StorageError| ConsensusError::Storage(Box::new(error));
    let last = log.get_log_state().await.map_err(failed)?.last_log_id;
    let (applied, _) = machine.applied_state().await.map_err(failed)?;
    let mut next = applied.map_or(0, |id| id.index + 1);
    while next <= last.map_or(0, |id| id.index) {
        let entries = log.try_get_log_entries(next..next + ENTRIES_AT_ONCE).await;
        let entries = entries.map_err(failed)?;
        let Some(reached) = entries.last().map(|entry| entry.log_id.index) else { break };
        machine.apply(entries).await.map_err(failed)?;
        next = reached + 1;
    }
    let Contents { last_applied, membership, state } = machine.contents();
    let Some(last_applied) = last_applied.filter(|_| state.cluster.is_some()) else {
        return Err(ConsensusError::Empty { dir: dir.clone() });
    };
    let member = state.nodes.get(node).is_some_and(|node| node.role != NodeRole::Agent);
    if !member || !membership.nodes().any(|(member, _)| *member == id) {
        return Err(ConsensusError::NotAMaster(node.clone()));
    }
    if membership.nodes().count() == 1 {
        return Err(ConsensusError::AloneAlready);
    }
    let vote = log.read_vote().await.map_err(failed)?;
    let voted = vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last_applied.leader_id.term) + 1;
    let (last_index, last_change) = (last_applied.index, state.now);
    let removed = settle(log, &snapshots, state, (id, node), term, clock).await?;
    Ok(Recovery { removed, last_index, last_change })
}

/// Write `state` as what this node alone goes on from.
async fn settle(
    mut log: LogStore,
    snapshots: &Snapshots,
    mut state: State,
    (id, node): (RaftId, &NodeId),
    term: u64,
    clock: Time,
) -> Result<Vec<(NodeId, String)>, ConsensusError> {
    let index = leap(state.applied_index, clock);
    let removed = only_master(&mut state, node, index);
    let log_id = LogId::new(CommittedLeaderId::new(term, id), index);
    let peers = BTreeMap::from([(id, Peer { id: node.clone() })]);
    let membership = Membership::new(vec![BTreeSet::from([id])], peers);
    let contents = Contents {
        last_applied: Some(log_id),
        membership: StoredMembership::new(Some(log_id), membership),
        state,
    };
    let bytes = contents.encode().map_err(ConsensusError::WriteSnapshot)?;
    let vote = log.save_vote(&Vote::new(term, id)).await;
    vote.map_err(|error| ConsensusError::Storage(Box::new(error)))?;
    snapshots.write(&contents.meta(), &bytes).map_err(ConsensusError::WriteSnapshot)?;
    Ok(removed)
}

/// The index to go on from.
fn leap(applied: u64, clock: Time) -> u64 {
    applied.saturating_add(LEAP).max(clock.0.saturating_mul(INDEXES_PER_MS))
}

/// Remove every master but `keep`. What ran on their machines counts as away from now on, and is
/// replaced as its strategy says.
fn only_master(state: &mut State, keep: &NodeId, index: u64) -> Vec<(NodeId, String)> {
    let lost = |node: &Node| node.role != NodeRole::Agent && node.id != *keep;
    let removed: Vec<(NodeId, String)> = state
        .nodes
        .values()
        .filter(|node| lost(node))
        .map(|node| (node.id.clone(), node.name.clone()))
        .collect();
    for (node, _) in &removed {
        state.nodes.remove(node);
        let agent_id: AgentId = node.agent();
        let command = Command::SetReachable { agent_id, reachable: false };
        // One that was a master only is no agent, which is all that can be refused.
        let _ = machine::apply(state, &command::Entry { index, now: state.now, command });
    }
    if let Some(data_key) = &mut state.data_key {
        data_key.copies.retain(|node, _| node == keep);
    }
    state.applied_index = index;
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_leap_over_all_that_agents_may_have_seen() {
        let year = |n: u64| Time(n * 365 * 24 * 3600 * 1000);
        let first = leap(500, year(56));
        assert_eq!(first, year(56).0 * INDEXES_PER_MS);
        // The cluster lived on for a day at a thousand entries a second.
        let seen = first + 24 * 3600 * 1000;
        let second = leap(500, year(56).plus_ms(24 * 3600 * 1000));
        assert!(second > seen);
        assert!(leap(seen, year(0)) > seen, "also where no clock is set");
        assert!(leap(u64::MAX - 1, year(56)) == u64::MAX);
    }
}
