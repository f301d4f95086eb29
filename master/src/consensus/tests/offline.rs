//! Voters made from a backup, and sole survivors.

use super::cluster::{Mesh, MeshLink};
use super::*;
use bramble_core::model::{Agent, AgentId, Cluster, Resources};
use std::collections::BTreeSet;

const HALF_A_DAY_MS: u64 = 12 * 3600 * 1000;

fn master(n: u64) -> Node {
    let (id, name) = (node_id(n), format!("pi-{n}"));
    Node { id, name, role: NodeRole::Full, public_key: vec![1], admitted_at: Time(0) }
}

fn founding() -> Command {
    let cluster = Cluster {
        id: "c1".into(),
        ca_certificate: vec![1],
        join_secret_sha256: "x".into(),
        founded_at: Time(0),
        authority: None,
        join_token: None,
        previous: Vec::new(),
        rotation_due: false,
    };
    Command::Found { cluster, founder: master(1) }
}

fn registered(n: u64) -> Command {
    let agent = Agent {
        id: node_id(n).agent(),
        name: format!("pi-{n}"),
        total: Resources::default(),
        ports: Vec::new(),
        attributes: BTreeMap::new(),
        reachable: true,
    };
    Command::RegisterAgent { agent }
}

async fn opened(config: ConsensusConfig, link: Arc<dyn PeerLink>) -> (Arc<Consensus>, Arc<Store>) {
    Consensus::open(config, link).await.expect("opens")
}

/// A cluster of masters 1, 2 and 3 and an agent, whose directories are in `dir`; all are stopped.
/// Gives the last index that a quorum of 1 and 2 took, which 3 may not know.
async fn three_that_stopped(dir: &Path) -> u64 {
    let mesh = Arc::new(Mesh::default());
    let mut voters = Vec::new();
    for n in [1, 2, 3] {
        let mut config = config(&dir.join(n.to_string()), n);
        config.profile = Some(Profile::Fast);
        let link = MeshLink { mesh: mesh.clone(), from: node_id(n) };
        let voter = opened(config, Arc::new(link)).await.0;
        mesh.set(n, Some(voter.clone()));
        voters.push(voter);
    }
    let leader = &voters[0];
    leader.found().await.expect("founds");
    leader.wait_for_leader(PATIENCE).await.expect("leads");
    for n in [2, 3] {
        let peer = Peer { id: node_id(n) };
        leader.engine_raft().add_learner(n, peer, true).await.expect("a learner");
    }
    let all = BTreeSet::from([1, 2, 3]);
    leader.engine_raft().change_membership(all, false).await.expect("three voters");
    let commands = [
        founding(),
        Command::AdmitNode { node: master(2) },
        Command::AdmitNode { node: master(3) },
        put("an agent", 1),
        registered(1),
        registered(2),
        registered(3),
    ];
    let mut last = 0;
    for command in commands {
        last = propose(leader, command).await.expect("commits").index;
    }
    for (n, voter) in voters.iter().enumerate() {
        let known = |m: &types::Metrics| m.last_applied.is_some_and(|id| id.index >= last);
        until(voter, &format!("{n} knows all"), known).await;
    }
    for (n, voter) in (1..).zip(&voters) {
        mesh.set(n, None);
        voter.shutdown().await;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_survivor_leads_with_all_it_knew() {
    let dir = tempfile::tempdir().expect("a directory");
    let last = three_that_stopped(dir.path()).await;
    let config = config(&dir.path().join("2"), 2);
    let recovery = recover(&config, Time(0)).await.expect("recovers");
    let names: Vec<_> = recovery.removed.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["pi-1", "pi-3"]);
    assert!(recovery.last_index >= last);

    let (voter, store) = opened(config.clone(), Arc::new(NoPeers)).await;
    voter.wait_for_leader(PATIENCE).await.expect("leads alone");
    let nodes: Vec<_> = store.read(|state| state.nodes.keys().cloned().collect());
    assert_eq!(nodes, [node_id(2), NodeId::new("an agent")]);
    let away: Vec<AgentId> = store.read(|state| state.away.keys().cloned().collect());
    assert_eq!(away, [node_id(1).agent(), node_id(3).agent()]);
    let after = propose(&voter, put("later", 1)).await.expect("commits");
    assert!(after.index > last + 1_000_000, "agents would refuse {}", after.index);
    voter.shutdown().await;
    // A later start finds the same.
    let (voter, store) = opened(config.clone(), Arc::new(NoPeers)).await;
    voter.wait_for_leader(PATIENCE).await.expect("leads alone");
    assert!(store.read(|state| state.nodes.contains_key(&NodeId::new("later"))));
    voter.shutdown().await;
    let again = recover(&config, Time(0)).await.expect_err("alone");
    assert!(matches!(again, ConsensusError::AloneAlready), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_can_join_a_survivor() {
    let dir = tempfile::tempdir().expect("a directory");
    three_that_stopped(dir.path()).await;
    let mesh = Arc::new(Mesh::default());
    let mut config = config(&dir.path().join("1"), 1);
    recover(&config, Time(0)).await.expect("recovers");
    config.profile = Some(Profile::Fast);
    let link = Arc::new(MeshLink { mesh: mesh.clone(), from: node_id(1) });
    let (survivor, _store) = opened(config.clone(), link).await;
    mesh.set(1, Some(survivor.clone()));
    survivor.wait_for_leader(PATIENCE).await.expect("leads alone");
    // One of the lost masters, wiped: the log it is sent begins with the survivor's snapshot.
    config.dir = dir.path().join("wiped");
    config.node = node_id(4);
    config.founds = false;
    let link = Arc::new(MeshLink { mesh: mesh.clone(), from: node_id(4) });
    let (other, store) = opened(config, link).await;
    mesh.set(4, Some(other.clone()));
    let raft = survivor.engine_raft();
    raft.add_learner(4, Peer { id: node_id(4) }, true).await.expect("a learner");
    raft.change_membership(BTreeSet::from([1, 4]), false).await.expect("two voters");
    let last = propose(&survivor, put("together", 1)).await.expect("commits").index;
    until(&other, "the other knows", |m| m.last_applied.is_some_and(|id| id.index >= last)).await;
    assert!(store.read(|state| state.nodes.contains_key(&NodeId::new("together"))));
    for voter in [survivor, other] {
        voter.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_fails_can_be_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    three_that_stopped(dir.path()).await;
    let at = dir.path().join("3");
    let config = config(&at, 3);
    // A file is where the snapshots' directory has to be.
    let blocked = at.join("snapshots");
    std::fs::remove_dir_all(&blocked).expect("removes");
    std::fs::write(&blocked, b"").expect("writes");
    recover(&config, Time(0)).await.expect_err("no place for the snapshot");
    std::fs::remove_file(&blocked).expect("removes");
    let recovery = recover(&config, Time(0)).await.expect("recovers");
    assert_eq!(recovery.removed.len(), 2);
}

#[tokio::test]
async fn what_is_no_master_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let empty = recover(&config(dir.path(), 1), Time(0)).await.expect_err("empty");
    assert!(matches!(empty, ConsensusError::Empty { .. }), "{empty}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0, "nothing is made");
    let (voter, _store) = opened(config(dir.path(), 1), Arc::new(NoPeers)).await;
    voter.found().await.expect("founds");
    voter.wait_for_leader(PATIENCE).await.expect("leads");
    propose(&voter, founding()).await.expect("commits");
    let running = recover(&config(dir.path(), 1), Time(0)).await.expect_err("runs");
    assert!(matches!(running, ConsensusError::Lock(_)), "{running}");
    voter.shutdown().await;
    let other = recover(&config(dir.path(), 2), Time(0)).await.expect_err("another's log");
    assert!(matches!(other, ConsensusError::NotAMaster(_)), "{other}");
    let alone = recover(&config(dir.path(), 1), Time(0)).await.expect_err("alone");
    assert!(matches!(alone, ConsensusError::AloneAlready), "{alone}");
}

#[tokio::test]
async fn an_image_grows_into_another_voter() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old, _store) = opened(config(&dir.path().join("old"), 1), Arc::new(NoPeers)).await;
    old.found().await.expect("founds");
    old.wait_for_leader(PATIENCE).await.expect("leads");
    for command in [founding(), put("kept", 1), registered(1)] {
        propose(&old, command).await.expect("commits");
    }
    let image = old.image().expect("an image");
    let mut seen = 0;
    for n in 0..20 {
        seen = propose(&old, put(&format!("lost-{n}"), 1)).await.expect("commits").index;
    }
    old.shutdown().await;

    // Twice from one image: the second begins after all that the first did.
    for (life, name) in [(1, "first"), (2, "second")] {
        let at = dir.path().join(name);
        let image = Image::decode(&image).expect("decodes");
        let clock = Time(life * HALF_A_DAY_MS + 1_700_000_000_000);
        let enter = |state: &mut State| {
            state.nodes.insert(node_id(7), master(7));
        };
        let removed = plant(&at, &node_id(7), image, clock, enter).await.expect("plants");
        assert_eq!(removed, [(node_id(1), "pi-1".to_string())]);
        let (voter, store) = opened(config(&at, 7), Arc::new(NoPeers)).await;
        assert!(!voter.found().await.expect("asks"), "there is a log");
        voter.wait_for_leader(PATIENCE).await.expect("leads alone");
        let nodes: Vec<_> = store.read(|state| state.nodes.keys().cloned().collect());
        assert_eq!(nodes, [node_id(7), NodeId::new("kept")]);
        assert!(store.read(|state| state.away.contains_key(&node_id(1).agent())));
        for n in 0..20 {
            let index = propose(&voter, put(&format!("{n}"), 1)).await.expect("commits").index;
            assert!(index > seen, "{index} is not after {seen}");
            seen = index;
        }
        voter.shutdown().await;
        let image = Image::decode(&image_of_nothing()).expect("decodes");
        let again = plant(&at, &node_id(7), image, clock, |_| {}).await;
        assert!(matches!(again, Err(ConsensusError::NotEmpty { .. })));
    }
}

fn image_of_nothing() -> Vec<u8> {
    let contents = Contents {
        last_applied: None,
        membership: types::StoredMembership::default(),
        state: State::default(),
    };
    contents.encode().expect("encodes")
}
