//! Files on their way: names that vanish with who holds them.
//!
//! Owns one directory, emptied when it is opened. Never holds anything worth keeping.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) type Stop = Arc<AtomicBool>;

pub(super) struct Staging {
    dir: PathBuf,
    next: AtomicU64,
}

/// A path nobody else uses. What is there is removed on drop, if it was not moved away.
pub(super) struct Staged(PathBuf);

impl Staging {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.into(), next: AtomicU64::new(0) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn name(&self) -> Staged {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Staged(self.dir.join(number.to_string()))
    }
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when it was moved into a sandbox; else the next opening removes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tells work on another thread to stop when this is dropped.
#[derive(Default)]
pub(super) struct StopOnDrop(Stop);

impl StopOnDrop {
    pub(super) fn flag(&self) -> Stop {
        Arc::clone(&self.0)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
