//! Fetched files kept by URI, for tasks that say `cache`.
//!
//! Owns one directory: a file for each URI, named by its digest, the oldest used going first. Who
//! takes a file gets a link of their own, so that none vanishes under a reader. As in Mesos, a URI
//! in the cache is not asked for again: who changes a file changes its name.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// Bytes kept at most (Mesos' default).
const CACHE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Files kept at most.
const CACHE_FILES_MAX: usize = 1024;

type Turn = Arc<tokio::sync::Mutex<()>>;

pub(super) struct Cache {
    dir: PathBuf,
    bytes_max: u64,
    files_max: usize,
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let cache = Self {
            dir: dir.into(),
            bytes_max: CACHE_BYTES_MAX,
            files_max: CACHE_FILES_MAX,
            turns: Mutex::default(),
        };
        cache.evict();
        Ok(cache)
    }

    /// The turn to ask for a URI: one at a time.
    pub(super) fn turn(&self, uri: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(uri).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Turn::default();
        turns.insert(uri.to_string(), Arc::downgrade(&turn));
        turn
    }

    /// Give the file of a URI the name `to`; false when there is none.
    pub(super) fn get(&self, uri: &str, to: &Path) -> bool {
        let kept = self.path(uri);
        if std::fs::hard_link(&kept, to).is_err() {
            return false;
        }
        // Its age only decides who goes first.
        let _ = File::open(&kept).and_then(|file| file.set_modified(SystemTime::now()));
        true
    }

    /// Keep a file. One that cannot be kept is fetched again next time.
    pub(super) fn put(&self, uri: &str, from: &Path) {
        let kept = self.path(uri);
        let _ = std::fs::remove_file(&kept);
        if let Err(error) = std::fs::hard_link(from, &kept) {
            tracing::warn!(%error, "a fetched file is not cached");
        }
        self.evict();
    }

    fn path(&self, uri: &str) -> PathBuf {
        self.dir.join(hex::encode(Sha256::digest(uri.as_bytes())))
    }

    /// Remove the oldest used until the rest is within bounds.
    fn evict(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let found = entry.metadata().ok()?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        let mut count = files.len();
        for (_, size, path) in files {
            if bytes <= self.bytes_max && count <= self.files_max {
                return;
            }
            if std::fs::remove_file(&path).is_ok() {
                bytes -= size;
                count -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_used_goes_first_and_readers_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(&dir.path().join("cache")).unwrap();
        cache.bytes_max = 10;
        let file = dir.path().join("file");
        let age = |uri: &str, seconds| {
            let at = SystemTime::now() - Duration::from_secs(seconds);
            File::open(cache.path(uri)).unwrap().set_modified(at).unwrap();
        };
        for (uri, seconds) in [("a", 30), ("b", 20)] {
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, "12345").unwrap();
            cache.put(uri, &file);
            age(uri, seconds);
        }
        let taken = dir.path().join("taken");
        assert!(cache.get("a", &taken), "used now: younger than b");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "1").unwrap();
        cache.put("c", &file);
        let there = |uri: &str| cache.path(uri).exists();
        assert_eq!((there("a"), there("b"), there("c")), (true, false, true));
        cache.bytes_max = 0;
        cache.evict();
        assert!(!cache.get("a", &dir.path().join("again")));
        assert_eq!(std::fs::read(&taken).unwrap(), b"12345");
    }

    #[tokio::test]
    async fn one_asks_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let first = cache.turn("u");
        let held = first.lock().await;
        assert!(cache.turn("u").try_lock().is_err());
        assert!(cache.turn("v").try_lock().is_ok());
        drop(held);
        assert!(cache.turn("u").try_lock().is_ok());
    }
}
