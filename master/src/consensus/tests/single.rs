//! One voter without peers.

use super::*;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_founder_leads_and_commits() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    assert!(voter.is_leader());
    assert_eq!(voter.leadership().borrow().leader, Some(node_id(1)));
    assert!(!voter.found().await.expect("asks"), "founded twice");

    let mut events = store.events();
    let first = propose(&voter, put("a", 1)).await.expect("commits");
    assert_eq!(first.events, [Event::NodeAdmitted { node_id: NodeId::new("a") }]);
    assert_eq!(store.read(|state| state.applied_index), first.index);
    let published = events.recv().await.expect("published");
    assert_eq!((published.index, published.events), (first.index, first.events));

    let refused = Command::RotateToken { join_secret_sha256: String::new(), sealed: None };
    let error = propose(&voter, refused).await.expect_err("refused");
    assert!(matches!(error, ProposeError::Rejected(Rejection::AlreadyFounded)), "{error}");
    assert_eq!(store.read(|state| state.applied_index), first.index + 1);
    assert_eq!(names(&store), ["a"]);
    voter.shutdown().await;
}

#[tokio::test]
async fn cluster_time_never_goes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    propose(&voter, put("a", 1)).await.expect("commits");
    let wall = store.read(|state| state.now);
    assert!(wall > Time(1_500_000_000_000), "{wall:?}");
    let ahead = wall.plus_ms(1_000_000);
    store.write(|state| {
        state.now = ahead;
        ((), Vec::new())
    });
    propose(&voter, put("b", 1)).await.expect("commits");
    let admitted = store.read(|state| state.nodes[&NodeId::new("b")].admitted_at);
    let passed = u64::try_from(PATIENCE.as_millis()).expect("short");
    assert!(ahead <= admitted && admitted < ahead.plus_ms(passed), "{admitted:?}");
    voter.shutdown().await;
}

#[tokio::test]
async fn one_that_abdicates_steps_down_and_leads_again_in_a_later_term() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    propose(&voter, put("a", 1)).await.expect("commits");
    let mut leadership = voter.leadership();
    for name in ["b", "c"] {
        let before = leadership.borrow_and_update().term;
        voter.abdicate().await.expect("steps down");
        let anew = leadership.wait_for(|seen| seen.here && seen.term > before);
        tokio::time::timeout(PATIENCE, anew).await.expect("in time").expect("raft runs");
        propose(&voter, put(name, 1)).await.expect("commits");
    }
    assert_eq!(names(&store), ["a", "b", "c"]);
    voter.shutdown().await;
    let error = voter.abdicate().await.expect_err("nobody leads");
    assert!(matches!(error, AbdicateError::NotLeading), "{error}");
    let (again, store) = single(config(dir.path(), 1)).await;
    assert_eq!(names(&store), ["a", "b", "c"]);
    again.shutdown().await;
}

#[tokio::test]
async fn a_node_without_a_log_knows_no_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, _store) =
        Consensus::open_with(config(dir.path(), 1), Arc::new(NoPeers), APPLY).await.expect("opens");
    let error = voter.wait_for_leader(Duration::from_millis(1)).await.expect_err("no leader");
    assert!(matches!(error, ConsensusError::NoLeader(_)), "{error}");
    assert!(!voter.is_leader());
    let error = propose(&voter, put("a", 1)).await.expect_err("nobody leads");
    assert!(matches!(error, ProposeError::NotLeader), "{error}");
    voter.shutdown().await;
    let error = propose(&voter, put("a", 1)).await.expect_err("shut down");
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, _store) = single(config(dir.path(), 1)).await;
    let second = Consensus::open_with(config(dir.path(), 1), Arc::new(NoPeers), APPLY).await;
    let error = second.err().expect("held");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert!(matches!(error, ConsensusError::Lock(LockError::Held { .. })), "{error}");
    voter.shutdown().await;
    single(config(dir.path(), 1)).await.0.shutdown().await;
}

#[tokio::test]
async fn what_waits_together_shares_a_sync() {
    const COMMANDS: usize = 200;
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    let disk = voter.disk();
    let before = disk.syncs.load(Ordering::SeqCst);
    let waiting: Vec<_> = (0..COMMANDS)
        .map(|n| {
            let voter = voter.clone();
            tokio::spawn(async move { propose(&voter, put(&format!("{n:03}"), 10)).await })
        })
        .collect();
    let mut indexes = std::collections::BTreeSet::new();
    for task in waiting {
        indexes.insert(task.await.expect("ends").expect("commits").index);
    }
    assert_eq!(names(&store).len(), COMMANDS);
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert_eq!(syncs, indexes.len() as u64, "one sync per entry");
    // The test's runtime has one thread: all commands are queued before the second entry.
    assert!(indexes.len() < 5, "{} entries", indexes.len());
    drop(disk);
    voter.shutdown().await;
}

#[tokio::test]
async fn an_entry_has_a_limit_in_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    let waiting: Vec<_> = (0..6)
        .map(|n| {
            let voter = voter.clone();
            tokio::spawn(async move { propose(&voter, put(&format!("{n}"), 300_000)).await })
        })
        .collect();
    let mut indexes = std::collections::BTreeSet::new();
    for task in waiting {
        indexes.insert(task.await.expect("ends").expect("commits").index);
    }
    assert_eq!(indexes.len(), 6, "two of them are over the limit");
    assert_eq!(names(&store).len(), 6);
    voter.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_voter_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, _store) = single(config(dir.path(), 1)).await;
    propose(&voter, put("a", 1)).await.expect("commits");
    let disk = voter.disk();
    let modified = || {
        let file = dir.path().join("log/db");
        std::fs::metadata(file).expect("there").modified().expect("a time")
    };
    let before = (disk.syncs.load(Ordering::SeqCst), modified());
    // Virtual: hundreds of ticks pass.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((disk.syncs.load(Ordering::SeqCst), modified()), before);
    assert!(voter.is_leader());
    drop(disk);
    voter.shutdown().await;
}

#[tokio::test]
async fn an_oversized_command_is_refused_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    let error = propose(&voter, put("big", 5_000_000)).await.expect_err("too big");
    assert!(error.to_string().contains("over the limit"), "{error}");
    propose(&voter, put("a", 1_000_000)).await.expect("commits");
    assert_eq!(names(&store), ["a"]);
    voter.shutdown().await;
}
