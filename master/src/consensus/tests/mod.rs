//! Tests of the voter as a whole. Owns what they share: names, a state machine, a voter in a
//! directory.

mod cluster;
mod conformance;
mod full_disk;
mod golden;
mod kill;
mod offline;
mod recovery;
mod single;

use super::state_machine::Apply;
use super::*;
use crate::propose::{Committed, ProposeError};
use bramble_core::command::{self, Rejection};
use bramble_core::event::Event;
use bramble_core::model::{Node, NodeRole, Time};
use std::path::Path;

/// Longer than anything takes on a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The node id whose Raft id is `n`.
pub fn node_id(n: u64) -> NodeId {
    NodeId::new(format!("{n:016x}{}", "0".repeat(48)))
}

/// A command that puts `name` with `bytes` of load into the state.
pub fn put(name: &str, bytes: usize) -> Command {
    Command::AdmitNode {
        node: Node {
            id: NodeId::new(name),
            name: "x".repeat(bytes),
            role: NodeRole::Agent,
            public_key: Vec::new(),
            admitted_at: Time(0),
        },
    }
}

/// The smallest machine that keeps, rejects and tells.
pub const APPLY: Apply = |state, entry: &command::Entry| {
    let Command::AdmitNode { node } = &entry.command else {
        return Err(Rejection::AlreadyFounded);
    };
    let node = Node { admitted_at: entry.now, ..node.clone() };
    state.now = entry.now;
    state.nodes.insert(node.id.clone(), node.clone());
    Ok(vec![Event::NodeAdmitted { node_id: node.id }])
};

/// The names in the state, in order.
pub fn names(store: &Store) -> Vec<String> {
    store.read(|state| state.nodes.keys().map(|id| id.0.clone()).collect())
}

/// A config whose disk is never too full.
pub fn config(dir: &Path, n: u64) -> ConsensusConfig {
    let mut config = ConsensusConfig::new(dir, node_id(n));
    config.disk_reserve_bytes = 0;
    config
}

/// A voter that is alone and leads.
pub async fn single(config: ConsensusConfig) -> (Arc<Consensus>, Arc<Store>) {
    let (voter, store) =
        Consensus::open_with(config, Arc::new(NoPeers), APPLY).await.expect("opens");
    voter.found().await.expect("founds");
    voter.wait_for_leader(PATIENCE).await.expect("leads");
    (voter, store)
}

pub async fn propose(voter: &Consensus, command: Command) -> Result<Committed, ProposeError> {
    tokio::time::timeout(PATIENCE, voter.propose(command)).await.expect("an answer")
}

/// Wait until the voter's metrics satisfy `ready`.
pub async fn until(voter: &Consensus, what: &str, ready: impl FnMut(&types::Metrics) -> bool) {
    let mut metrics = voter.engine_raft().metrics();
    let ready = metrics.wait_for(ready);
    let seen = tokio::time::timeout(PATIENCE, ready).await;
    seen.unwrap_or_else(|_| panic!("{what}")).expect("raft runs");
}

/// Copy a directory as a crash would leave it: no shutdown, whatever is in the files now.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}
