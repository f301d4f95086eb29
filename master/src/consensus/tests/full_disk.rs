//! Disks that are full, read-only, or fail.

use super::*;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io::Write;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn below_the_reserve_only_proposals_fail() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, _store) = single(config(dir.path(), 1)).await;
    voter.shutdown().await;
    let mut config = config(dir.path(), 1);
    config.disk_reserve_bytes = u64::MAX;
    let (voter, _store) = single(config).await;
    let error = propose(&voter, put("a", 1)).await.expect_err("no room");
    assert!(matches!(&error, ProposeError::Unavailable(why) if why.contains("full")), "{error}");
    assert!(voter.is_leader());
    assert_eq!(voter.failure(), None);
    voter.shutdown().await;
}

#[tokio::test]
async fn a_failed_sync_is_never_acknowledged_and_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let (voter, store) = single(config(dir.path(), 1)).await;
    propose(&voter, put("a", 1)).await.expect("commits");
    voter.disk().fail_syncs.store(true, Ordering::SeqCst);
    let error = propose(&voter, put("b", 1)).await.expect_err("not durable");
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    let reason = tokio::time::timeout(PATIENCE, voter.failed()).await.expect("reported");
    assert!(reason.contains("Logs"), "{reason}");
    assert_eq!(names(&store), ["a"]);
    assert!(!voter.is_leader());

    // A disk that works again is not trusted by this process any more.
    voter.disk().fail_syncs.store(false, Ordering::SeqCst);
    let error = propose(&voter, put("c", 1)).await.expect_err("stopped");
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    let error = voter.wait_for_leader(PATIENCE).await.expect_err("stopped");
    assert!(matches!(error, ConsensusError::Failed(_)), "{error}");
    let copy = dir.path().join("copy");
    copy_dir(&dir.path().join("log"), &copy.join("log"));
    voter.shutdown().await;

    // Restarted, everything acknowledged is there; the other one may be or not.
    let (voter, store) = single(config(&copy, 1)).await;
    assert_eq!(names(&store)[0], "a");
    propose(&voter, put("c", 1)).await.expect("commits");
    voter.shutdown().await;
}

/// A small file system of its own, unmounted with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, where mounting is not allowed; a failure when `CI=true`.
    fn mount(megabytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let options = format!("size={megabytes}m");
        let mounted = mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        );
        if let Err(errno) = mounted {
            let ci = std::env::var("CI").is_ok_and(|v| v == "true");
            assert!(!ci, "a full disk needs a tmpfs of its own: {errno}");
            eprintln!("SKIPPED: a full disk needs a tmpfs of its own, which needs root: {errno}");
            return None;
        }
        Some(Self(dir))
    }

    /// Take all space; freed by removing the file.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).expect("creates");
        let mut chunk = 1024 * 1024;
        while chunk > 0 {
            if file.write_all(&vec![1; chunk]).is_err() {
                chunk /= 2;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).expect("unmounts");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut config = config(&disk.0.path().join("raft"), 1);
    config.disk_reserve_bytes = 4 * 1024 * 1024;
    let (voter, store) = single(config).await;
    propose(&voter, put("a", 1000)).await.expect("commits");
    let filler = disk.fill();
    let error = propose(&voter, put("b", 1000)).await.expect_err("full");
    assert!(matches!(&error, ProposeError::Unavailable(why) if why.contains("full")), "{error}");
    assert_eq!(names(&store), ["a"]);
    assert!(voter.is_leader());
    std::fs::remove_file(filler).expect("frees");
    propose(&voter, put("b", 1000)).await.expect("commits again");
    assert_eq!(names(&store), ["a", "b"]);
    voter.shutdown().await;
}

/// Without the early look (reserve 0 and a file system that fills under the write) raft stops;
/// what was acknowledged is found again once there is room.
#[tokio::test]
async fn a_disk_that_fills_under_a_write_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let dir = disk.0.path().join("raft");
    let (voter, _store) = single(config(&dir, 1)).await;
    propose(&voter, put("00", 1000)).await.expect("commits");
    let filler = disk.fill();
    let file = std::fs::File::options().write(true).open(&filler).expect("opens");
    let length = file.metadata().expect("there").len();
    file.set_len(length - 600_000).expect("leaves a little room");
    // Open, it would keep its space after it is removed.
    drop(file);
    let mut acknowledged = 1;
    let error = loop {
        match propose(&voter, put(&format!("{acknowledged:02}"), 50_000)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    let again = propose(&voter, put("later", 50_000)).await.expect_err("still full");
    assert!(matches!(again, ProposeError::Unavailable(_)), "{again}");
    let stopped = voter.failure().is_some();
    voter.shutdown().await;
    drop(voter);

    std::fs::remove_file(filler).expect("frees");
    let copy = disk.0.path().join("copy");
    copy_dir(&dir.join("log"), &copy.join("log"));
    let (voter, store) = single(config(&copy, 1)).await;
    let expected: Vec<_> = (0..acknowledged).map(|n| format!("{n:02}")).collect();
    let found = names(&store);
    assert_eq!(found[..acknowledged], expected, "stopped: {stopped}");
    propose(&voter, put("zz", 1)).await.expect("commits again");
    voter.shutdown().await;
}

#[tokio::test]
async fn a_read_only_disk_is_named() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let dir = disk.0.path().join("raft");
    let (voter, _store) = single(config(&dir, 1)).await;
    propose(&voter, put("a", 1)).await.expect("commits");
    voter.shutdown().await;
    drop(voter);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    // sled's own threads close its file a moment after the last handle is gone.
    let closed = async {
        loop {
            match mount(None::<&str>, disk.0.path(), None::<&str>, flags, None::<&str>) {
                Err(Errno::EBUSY) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("closed").expect("remounts");
    let opened = Consensus::open_with(config(&dir, 1), Arc::new(NoPeers), APPLY).await;
    let error = opened.err().expect("read-only");
    let mut texts = vec![error.to_string()];
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    assert!(texts.join(": ").contains("Read-only file system"), "{texts:?}");
}
