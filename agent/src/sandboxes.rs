//! Directories of tasks on the data disk: sandboxes, which outlive their tasks for a while so that
//! logs can still be read, and work directories, which do not.
//!
//! Owns their names and when old ones go. Never touches what a living task uses.

use bramble_core::model::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;

/// Sandboxes of ended tasks that are kept at most.
pub const KEPT_MAX: usize = 50;
/// Bytes in sandboxes of ended tasks that are kept at most.
pub const KEPT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest time a sandbox is kept after its last change.
pub const KEPT_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// An age beyond this says that the wall clock jumped, not that a sandbox is old: then only the
/// bounds in number and bytes count.
const AGE_BELIEVED_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// A sandbox made this recently may belong to a task that is not in the list of those to keep yet.
const YOUNG: Duration = Duration::from_secs(60);
/// Only root looks in from outside; the task gets its own sandbox by a mount.
const MODE_CLOSED: u32 = 0o700;
/// The task's user must reach what is in its sandbox.
const MODE_SANDBOX: u32 = 0o755;
/// The containers of a pod may run as different users; who is not of the pod cannot come near.
const MODE_SHARED: u32 = 0o777;

#[derive(Debug, Error)]
pub enum SandboxError {
    #[error("task id '{0}' cannot name a directory")]
    Name(TaskId),
    #[error("volume '{0}' cannot name a directory")]
    Volume(String),
    #[error("creating {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("removing {}", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("listing {}", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Debug)]
pub struct Sandboxes {
    sandboxes: PathBuf,
    work: PathBuf,
    /// When this process made one, by a clock that never jumps; forgotten when no longer young.
    made: Arc<Mutex<BTreeMap<TaskId, Instant>>>,
}

impl Sandboxes {
    /// Make the parents under `data_dir`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(data_dir: &Path) -> Result<Self, SandboxError> {
        let (sandboxes, work) = (data_dir.join("sandboxes"), data_dir.join("work"));
        create(&sandboxes, MODE_CLOSED)?;
        create(&work, MODE_CLOSED)?;
        Ok(Self { sandboxes, work, made: Arc::default() })
    }

    /// Where a task's sandbox is, whether it exists or not.
    ///
    /// # Errors
    /// When the id is no file name: ids come over the network.
    pub fn sandbox(&self, id: &TaskId) -> Result<PathBuf, SandboxError> {
        Ok(self.sandboxes.join(file_name(id)?))
    }

    /// Make a task's sandbox and work directory; gives both.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(&self, id: &TaskId) -> Result<(PathBuf, PathBuf), SandboxError> {
        let name = file_name(id)?;
        let (sandbox, work) = (self.sandboxes.join(name), self.work.join(name));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Instant::now());
        create(&sandbox, MODE_SANDBOX)?;
        create(&work, MODE_CLOSED)?;
        Ok((sandbox, work))
    }

    /// Make a directory that the containers of a pod share, empty, in the pod's own sandbox.
    ///
    /// # Errors
    /// When the name is none, or the disk refuses.
    pub fn create_shared(&self, pod: &TaskId, volume: &str) -> Result<PathBuf, SandboxError> {
        if !is_file_name(volume) {
            return Err(SandboxError::Volume(volume.to_string()));
        }
        let path = self.sandbox(pod)?.join(volume);
        remove(&path)?;
        create(&path, MODE_SANDBOX)?;
        // By itself, since the creation's mode is cut by our umask.
        let mode = std::fs::Permissions::from_mode(MODE_SHARED);
        std::fs::set_permissions(&path, mode)
            .map_err(|source| SandboxError::Create { path: path.clone(), source })?;
        Ok(path)
    }

    /// Remove a task's work directory; none is fine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_work(&self, id: &TaskId) -> Result<(), SandboxError> {
        remove(&self.work.join(file_name(id)?))
    }

    /// Remove sandboxes of ended tasks that are too many, too large or too old, oldest first.
    ///
    /// # Errors
    /// When the parent cannot be listed; a sandbox that cannot be removed is tried next time.
    pub fn sweep(&self, keep: &BTreeSet<TaskId>) -> Result<(), SandboxError> {
        self.sweep_at(keep, SystemTime::now(), Instant::now())
    }

    fn sweep_at(
        &self,
        keep: &BTreeSet<TaskId>,
        now: SystemTime,
        at: Instant,
    ) -> Result<(), SandboxError> {
        let mut ended = self.ended(keep, at)?;
        ended.sort_by_key(|(_, changed)| std::cmp::Reverse(*changed));
        let mut bytes = 0u64;
        for (count, (path, changed)) in ended.into_iter().enumerate() {
            // A clock that went back makes ages negative: those are no reason to remove.
            let age = now.duration_since(changed).unwrap_or_default();
            let old = age > KEPT_AGE_MAX && age < AGE_BELIEVED_MAX;
            bytes = bytes.saturating_add(bytes_in(&path));
            if count < KEPT_MAX && bytes <= KEPT_BYTES_MAX && !old {
                continue;
            }
            tracing::debug!(path = %path.display(), "removing an old sandbox");
            if let Err(error) = remove(&path) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a sandbox stays");
            }
        }
        Ok(())
    }

    /// Sandboxes nobody keeps and that are not young, with the time of their last change.
    fn ended(
        &self,
        keep: &BTreeSet<TaskId>,
        at: Instant,
    ) -> Result<Vec<(PathBuf, SystemTime)>, SandboxError> {
        let young = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.retain(|_, made| at.saturating_duration_since(*made) < YOUNG);
            made.clone()
        };
        let kept = |name: TaskId| keep.contains(&name) || young.contains_key(&name);
        let listing = |source| SandboxError::List { path: self.sandboxes.clone(), source };
        let mut ended = Vec::new();
        for entry in std::fs::read_dir(&self.sandboxes).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            if !entry.file_name().to_str().is_some_and(|name| kept(TaskId::new(name))) {
                let path = entry.path();
                let changed = last_change(&path);
                ended.push((path, changed));
            }
        }
        Ok(ended)
    }
}

fn file_name(id: &TaskId) -> Result<&str, SandboxError> {
    let name = id.as_str();
    if is_file_name(name) { Ok(name) } else { Err(SandboxError::Name(id.clone())) }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn create(path: &Path, mode: u32) -> Result<(), SandboxError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| SandboxError::Create { path: path.to_path_buf(), source })
}

/// Remove a tree without following links in it.
fn remove(path: &Path) -> Result<(), SandboxError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::Remove { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// The directory's own time is not enough: a log that grows does not change it.
fn last_change(path: &Path) -> SystemTime {
    ["", "stdout", "stderr"]
        .into_iter()
        .filter_map(|name| std::fs::symlink_metadata(path.join(name)).ok()?.modified().ok())
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Bytes of the files in a tree. What vanishes while looking counts as nothing.
pub(crate) fn bytes_in(path: &Path) -> u64 {
    let mut bytes = 0u64;
    let mut directories = vec![path.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => directories.push(entry.path()),
                Ok(found) => bytes = bytes.saturating_add(blocks(&found)),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Bytes really taken: a sparse file may claim terabytes.
fn blocks(found: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    found.blocks().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn id(text: &str) -> TaskId {
        TaskId::new(text)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn hostile_ids_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::open(data.path()).unwrap();
        for bad in ["", ".", "..", "../x", "a/b", "a\0b"] {
            assert!(matches!(sandboxes.sandbox(&id(bad)), Err(SandboxError::Name(_))), "{bad:?}");
            assert!(sandboxes.create(&id(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn work_goes_at_once_and_the_sandbox_stays() {
        let data = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::open(data.path()).unwrap();
        let (sandbox, work) = sandboxes.create(&id("a")).unwrap();
        fs::write(work.join("upper"), "x").unwrap();
        sandboxes.remove_work(&id("a")).unwrap();
        sandboxes.remove_work(&id("a")).unwrap();
        assert!(sandbox.exists() && !work.exists());
        assert_eq!(sandboxes.sandbox(&id("a")).unwrap(), sandbox);
    }

    #[test]
    fn shared_directories_are_empty_open_and_the_pods() {
        let data = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::open(data.path()).unwrap();
        let shared = sandboxes.create_shared(&id("pod"), "html").unwrap();
        assert_eq!(shared, data.path().join("sandboxes/pod/html"));
        assert_eq!(fs::metadata(&shared).unwrap().permissions().mode() & 0o7777, MODE_SHARED);
        fs::write(shared.join("index"), "x").unwrap();
        sandboxes.create_shared(&id("pod"), "html").unwrap();
        assert_eq!(names(&shared), [""; 0], "an earlier try leaves nothing");
        for bad in ["", ".", "..", "../x", "a/b"] {
            let refused = sandboxes.create_shared(&id("pod"), bad);
            assert!(matches!(refused, Err(SandboxError::Volume(_))), "{bad:?}");
        }
    }

    #[test]
    fn old_and_surplus_sandboxes_go_but_never_kept_or_young_ones() {
        let data = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::open(data.path()).unwrap();
        for n in 0..KEPT_MAX + 10 {
            sandboxes.create(&id(&format!("t{n:03}"))).unwrap();
        }
        let keep = BTreeSet::from([id("t000")]);
        let all = names(&data.path().join("sandboxes"));
        let (now, at) = (SystemTime::now(), Instant::now());
        let year = Duration::from_secs(365 * 24 * 3600);
        for jump in [now, now + year * 73, now - year * 30] {
            sandboxes.sweep_at(&keep, jump, at).unwrap();
            assert_eq!(names(&data.path().join("sandboxes")), all, "all are young");
        }

        let later = at + YOUNG * 2;
        sandboxes.sweep_at(&keep, now - year * 30, later).unwrap();
        let left = names(&data.path().join("sandboxes"));
        assert_eq!(left.len(), KEPT_MAX + 1);
        assert!(left.contains(&"t000".to_string()));

        sandboxes.sweep_at(&keep, now + year * 73, later).unwrap();
        assert_eq!(names(&data.path().join("sandboxes")), left, "a jump is no age");
        sandboxes.sweep_at(&keep, now + KEPT_AGE_MAX * 2, later).unwrap();
        assert_eq!(names(&data.path().join("sandboxes")), ["t000"]);
    }
}
