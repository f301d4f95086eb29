//! Three voters over a link in memory that encodes every message.

use super::*;
use crate::proof::Proof;
use bramble_protocol::codec;
use std::collections::BTreeSet;

/// Connects voters; one that is taken out neither hears nor is heard.
#[derive(Default)]
pub(super) struct Mesh {
    voters: Mutex<BTreeMap<NodeId, Arc<Consensus>>>,
}

impl Mesh {
    fn get(&self, node: &NodeId) -> Option<Arc<Consensus>> {
        self.voters.lock().expect("not poisoned").get(node).cloned()
    }

    pub(super) fn set(&self, n: u64, voter: Option<Arc<Consensus>>) {
        let mut voters = self.voters.lock().expect("not poisoned");
        match voter {
            Some(voter) => voters.insert(node_id(n), voter),
            None => voters.remove(&node_id(n)),
        };
    }
}

pub(super) struct MeshLink {
    pub(super) mesh: Arc<Mesh>,
    pub(super) from: NodeId,
}

impl PeerLink for MeshLink {
    fn call<'a>(&'a self, peer: &'a NodeId, request: RaftRequest) -> PeerFuture<'a> {
        Box::pin(async move {
            let frame = codec::to_frame(&request).expect("fits a frame");
            let request = codec::from_bytes(&frame[codec::FRAME_HEAD_BYTES..]).expect("decodes");
            let target = self.mesh.get(peer).filter(|_| self.mesh.get(&self.from).is_some());
            let target = target.ok_or_else(|| PeerError::NoLink(peer.clone()))?;
            let reply = codec::to_bytes(&target.handle(request).await).expect("encodes");
            Ok(codec::from_bytes(&reply).expect("decodes"))
        })
    }
}

struct Voter {
    consensus: Arc<Consensus>,
    store: Arc<Store>,
}

async fn start(mesh: &Arc<Mesh>, dir: &Path, n: u64) -> Voter {
    let mut config = config(&dir.join(n.to_string()), n);
    config.profile = Some(Profile::Fast);
    config.snapshot_every = 20;
    let link = MeshLink { mesh: mesh.clone(), from: node_id(n) };
    let (consensus, store) =
        Consensus::open_with(config, Arc::new(link), APPLY).await.expect("opens");
    mesh.set(n, Some(consensus.clone()));
    Voter { consensus, store }
}

/// Propose at whoever leads, until it is committed.
async fn commit(voters: &[&Voter], command: Command) -> u64 {
    let attempts = async {
        loop {
            for voter in voters.iter().filter(|v| v.consensus.is_leader()) {
                match voter.consensus.propose(command.clone()).await {
                    Ok(committed) => return committed.index,
                    Err(ProposeError::NotLeader) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.expect("a leader commits")
}

async fn reaches(voter: &Voter, index: u64) {
    let mut applied = voter.store.watch();
    let reached = applied.wait_for(|a| *a >= index);
    tokio::time::timeout(PATIENCE, reached).await.expect("catches up").expect("the store lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_survive_their_leader_and_take_it_back_by_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Arc::new(Mesh::default());
    let a = start(&mesh, dir.path(), 1).await;
    let b = start(&mesh, dir.path(), 2).await;
    let c = start(&mesh, dir.path(), 3).await;
    assert!(a.consensus.found().await.expect("founds"));
    a.consensus.wait_for_leader(PATIENCE).await.expect("leads");
    for n in [2, 3] {
        let peer = Peer { id: node_id(n) };
        a.consensus.engine_raft().add_learner(n, peer, true).await.expect("a learner");
    }
    let all = BTreeSet::from([1, 2, 3]);
    a.consensus.engine_raft().change_membership(all, false).await.expect("three voters");

    for n in 0..5 {
        commit(&[&a, &b, &c], put(&format!("before-{n}"), 100)).await;
    }
    let last = commit(&[&a, &b, &c], put("before-last", 2_000_000)).await;
    for voter in [&a, &b, &c] {
        reaches(voter, last).await;
        assert_eq!(names(&voter.store).len(), 6);
    }

    mesh.set(1, None);
    a.consensus.shutdown().await;
    drop(a);
    for n in 0..100 {
        commit(&[&b, &c], put(&format!("without-{n:02}"), 1000)).await;
    }
    for voter in [&b, &c] {
        until(&voter.consensus, "a purged log", |m| m.purged.is_some_and(|p| p.index > last)).await;
    }

    let a = start(&mesh, dir.path(), 1).await;
    let last = commit(&[&a, &b, &c], put("after", 1)).await;
    for voter in [&a, &b, &c] {
        reaches(voter, last).await;
    }
    let expected = b.store.read(|state| state.nodes.clone());
    assert_eq!(expected.len(), 107);
    assert_eq!(a.store.read(|state| state.nodes.clone()), expected);
    assert_eq!(c.store.read(|state| state.nodes.clone()), expected);
    until(&a.consensus, "an installed snapshot", |m| m.snapshot.is_some()).await;
    for voter in [a, b, c] {
        voter.consensus.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_its_quorum_commits_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Arc::new(Mesh::default());
    let a = start(&mesh, dir.path(), 1).await;
    let b = start(&mesh, dir.path(), 2).await;
    a.consensus.found().await.expect("founds");
    a.consensus.wait_for_leader(PATIENCE).await.expect("leads");
    a.consensus
        .engine_raft()
        .add_learner(2, Peer { id: node_id(2) }, true)
        .await
        .expect("a learner");
    let both = BTreeSet::from([1, 2]);
    a.consensus.engine_raft().change_membership(both, false).await.expect("two voters");
    commit(&[&a, &b], put("together", 1)).await;

    let (leader, other, n) = if a.consensus.is_leader() { (&a, &b, 2) } else { (&b, &a, 1) };
    // Beyond doubt, for leases: not while it merely believes it.
    assert!(leader.consensus.prove().await && !other.consensus.prove().await);
    mesh.set(n, None);
    assert!(!leader.consensus.prove().await, "nobody says so");
    let error = propose(&leader.consensus, put("alone", 1)).await.expect_err("no quorum");
    let told = matches!(error, ProposeError::Unavailable(_) | ProposeError::NotLeader);
    assert!(told, "{error}");
    assert_eq!(names(&leader.store), ["together"]);

    mesh.set(n, Some(other.consensus.clone()));
    let last = commit(&[&a, &b], put("again", 1)).await;
    for voter in [&a, &b] {
        reaches(voter, last).await;
    }
    assert_eq!(names(&a.store), names(&b.store));
    for voter in [a, b] {
        voter.consensus.shutdown().await;
    }
}
