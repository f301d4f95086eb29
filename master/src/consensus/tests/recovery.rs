//! What a restart or a crash finds again.

use super::*;

const BIG: usize = 300_000;

#[tokio::test]
async fn a_restart_finds_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    for n in 0..20 {
        propose(&voter, put(&format!("{n:02}"), 100)).await.expect("commits");
    }
    let before = store.read(State::clone);
    voter.shutdown().await;

    let (voter, store) = single(config(dir.path(), 1)).await;
    assert_eq!(store.read(|state| state.nodes.clone()), before.nodes);
    assert!(store.read(|state| state.applied_index) >= before.applied_index);
    propose(&voter, put("after", 1)).await.expect("commits");
    voter.shutdown().await;
}

#[tokio::test]
async fn a_crash_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, _store) = single(config(&dir.path().join("live"), 1)).await;
    for n in 0..30 {
        let bytes = if n % 10 == 0 { BIG } else { 50 };
        propose(&voter, put(&format!("{n:02}"), bytes)).await.expect("commits");
        if n % 6 != 0 {
            continue;
        }
        let copy = dir.path().join(format!("crash-{n}"));
        copy_dir(&dir.path().join("live"), &copy);
        let (crashed, store) = single(config(&copy, 1)).await;
        let expected: Vec<_> = (0..=n).map(|n| format!("{n:02}")).collect();
        assert_eq!(names(&store), expected);
        propose(&crashed, put("after", 1)).await.expect("goes on");
        crashed.shutdown().await;
    }
    voter.shutdown().await;
}

/// The end of the file is cut at many places, as if the last writes had come through in part.
#[tokio::test]
async fn a_torn_tail_costs_only_what_was_torn() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = dir.path().join("live");
    let (voter, _store) = single(config(&live, 1)).await;
    let length = || std::fs::metadata(live.join("log/db")).expect("there").len();
    let mut lengths = Vec::new();
    for n in 0..12 {
        propose(&voter, put(&format!("{n:02}"), 700)).await.expect("commits");
        lengths.push(length());
    }
    for (cut, garbage) in (lengths[3]..lengths[11]).step_by(977).zip([false, true].iter().cycle()) {
        let copy = dir.path().join("crash");
        let _ = std::fs::remove_dir_all(&copy);
        copy_dir(&live, &copy);
        let file = std::fs::File::options().write(true).open(copy.join("log/db")).expect("opens");
        file.set_len(cut).expect("cuts");
        if *garbage {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&[0xa5; 200], cut - 200.min(cut - lengths[3])).expect("writes");
        }
        let whole = cut - if *garbage { 200.min(cut - lengths[3]) } else { 0 };
        let certain = lengths.iter().filter(|l| **l <= whole).count();
        let (crashed, store) = single(config(&copy, 1)).await;
        let found = names(&store);
        assert!(found.len() >= certain, "cut at {cut}: {} of {certain}", found.len());
        let prefix: Vec<_> = (0..found.len()).map(|n| format!("{n:02}")).collect();
        assert_eq!(found, prefix, "cut at {cut}");
        crashed.shutdown().await;
    }
    voter.shutdown().await;
}

#[tokio::test]
async fn big_entries_stay_in_the_synced_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    for (n, bytes) in [10, 5_000, 33_000, BIG, 2_000_000].into_iter().cycle().take(25).enumerate() {
        propose(&voter, put(&format!("{n:02}"), bytes)).await.expect("commits");
    }
    let blobs = || std::fs::read_dir(dir.path().join("log/blobs")).expect("lists").count();
    assert_eq!(blobs(), 0);
    let before = store.read(|state| state.nodes.clone());
    voter.shutdown().await;
    let (voter, store) = single(config(dir.path(), 1)).await;
    assert_eq!(store.read(|state| state.nodes.clone()), before);
    assert_eq!(blobs(), 0);
    voter.shutdown().await;
}

/// Snapshots every 50 entries, 240 entries: several of each, and a purged log.
async fn with_snapshots(dir: &Path) -> Vec<String> {
    let mut config = config(dir, 1);
    config.snapshot_every = 50;
    let (voter, store) = single(config).await;
    for n in 0..240 {
        let committed = propose(&voter, put(&format!("{n:03}"), 20)).await.expect("commits");
        // A step every 60, so that each snapshot is a different one.
        if n % 60 == 59 {
            let least = committed.index - 55;
            until(&voter, "a snapshot", |m| m.snapshot.is_some_and(|s| s.index > least)).await;
        }
    }
    until(&voter, "a purged log", |m| m.purged.is_some_and(|p| p.index > 50)).await;
    let names = names(&store);
    voter.shutdown().await;
    names
}

fn snapshot_files(dir: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(dir.join("snapshots")).expect("lists");
    let mut files: Vec<_> = listed.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn snapshots_and_log_give_the_state_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = with_snapshots(dir.path()).await;
    assert_eq!(before.len(), 240);
    assert_eq!(snapshot_files(dir.path()).len(), 2);
    let (voter, store) = single(config(dir.path(), 1)).await;
    assert_eq!(names(&store), before);
    voter.shutdown().await;
}

#[tokio::test]
async fn the_older_snapshot_replaces_an_unreadable_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = with_snapshots(dir.path()).await;
    let files = snapshot_files(dir.path());
    let mut bytes = std::fs::read(&files[1]).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[1], bytes).expect("writes");
    std::fs::write(dir.path().join("snapshots/9.unfinished"), "x").expect("writes");

    let (voter, store) = single(config(dir.path(), 1)).await;
    assert_eq!(names(&store), before);
    let left: Vec<_> = snapshot_files(dir.path());
    assert_eq!(left[0], files[0]);
    assert!(left[1].to_string_lossy().ends_with(".cbor.unreadable"), "{left:?}");
    assert_eq!(left.len(), 2);
    voter.shutdown().await;
}

#[tokio::test]
async fn a_log_whose_beginning_is_lost_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    with_snapshots(dir.path()).await;
    for file in snapshot_files(dir.path()) {
        std::fs::remove_file(file).expect("removes");
    }
    let opened = Consensus::open_with(config(dir.path(), 1), Arc::new(NoPeers), APPLY).await;
    let error = opened.err().expect("refused");
    assert!(matches!(error, ConsensusError::SnapshotMissing { snapshot: None, .. }), "{error}");
}
