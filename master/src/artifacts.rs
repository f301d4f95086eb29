//! Files that clients put on this node for tasks to fetch (`--artifact-store`).
//!
//! Owns `<data>/artifacts`: `files` as they are named, and `incoming` for what is still arriving.
//! A file appears whole or not at all. It is this node's alone: no other master has a copy.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use tokio::io::AsyncWriteExt;

/// Largest file in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of all files together.
pub const ARTIFACTS_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What a file counts for at least, so that empty ones are bounded too.
const FILE_BYTES_MIN: u64 = 4096;
/// Bytes of a whole path, and of one part of it.
const PATH_BYTES_MAX: usize = 1024;
const PART_BYTES_MAX: usize = 200;

#[derive(Debug, Error)]
pub enum ArtifactError {
    #[error(
        "'{0}' cannot name an artifact: use parts of up to {PART_BYTES_MAX} bytes between single \
         slashes, none of which starts with a dot"
    )]
    Path(String),
    #[error("an artifact may have {ARTIFACT_BYTES_MAX} bytes at most")]
    TooLarge,
    #[error("the artifacts of this node have {ARTIFACTS_BYTES_MAX} bytes already; delete some")]
    Full,
    #[error("Artifact '{0}' does not exist")]
    Unknown(ArtifactPath),
    #[error("'{0}' is or lies below another artifact")]
    Taken(ArtifactPath),
    #[error("{doing} an artifact")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ArtifactError {
    move |source| ArtifactError::Io { doing, source }
}

/// A path below the store that cannot lead out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactPath(String);

impl ArtifactPath {
    /// Read a relative path.
    ///
    /// # Errors
    /// [`ArtifactError::Path`] for one with `..`, hidden, empty or overlong parts.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= PART_BYTES_MAX
                && !part.starts_with('.')
                && !part.contains(['\\', '\0'])
                && !part.chars().any(char::is_control)
        };
        if text.len() > PATH_BYTES_MAX || !text.split('/').all(good) {
            return Err(ArtifactError::Path(text.chars().take(PART_BYTES_MAX).collect()));
        }
        Ok(Self(text.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files of one node.
#[derive(Debug)]
pub struct Artifacts {
    files: PathBuf,
    incoming: PathBuf,
    /// Bytes counted, those of files still arriving included.
    used: AtomicU64,
    next: AtomicU64,
    /// Held while directories come and go.
    tree: Mutex<()>,
}

impl Artifacts {
    /// Open the store in `dir`, made if it is not there; what was cut off while arriving is gone.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let (files, incoming) = (dir.join("files"), dir.join("incoming"));
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&incoming)?,
        }
        fs::create_dir_all(&files)?;
        let used = AtomicU64::new(counted_below(&files)?);
        Ok(Self { files, incoming, used, next: AtomicU64::new(0), tree: Mutex::new(()) })
    }

    /// Begin to take a file.
    ///
    /// # Errors
    /// There is no room left, or none on the disk.
    pub async fn begin(self: &Arc<Self>) -> Result<Incoming, ArtifactError> {
        self.reserve(FILE_BYTES_MIN)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        let mut incoming =
            Incoming { store: self.clone(), path, file: None, bytes: 0, kept: false };
        let file = tokio::fs::File::create(&incoming.path).await;
        incoming.file = Some(file.map_err(io_error("creating"))?);
        Ok(incoming)
    }

    /// Open a file, and say how long it is.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn read(&self, path: &ArtifactPath) -> Result<(tokio::fs::File, u64), ArtifactError> {
        let unknown = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ArtifactError::Unknown(path.clone())
            }
            _ => ArtifactError::Io { doing: "opening", source: error },
        };
        let file = tokio::fs::File::open(self.place(path)).await.map_err(unknown)?;
        let about = file.metadata().await.map_err(io_error("reading"))?;
        match about.is_file() {
            true => Ok((file, about.len())),
            false => Err(ArtifactError::Unknown(path.clone())),
        }
    }

    /// Remove a file, and the directories that are empty then.
    ///
    /// # Errors
    /// There is none, or it cannot be removed.
    pub fn remove(&self, path: &ArtifactPath) -> Result<(), ArtifactError> {
        let _tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.place(path);
        let length = existing(&place).ok_or_else(|| ArtifactError::Unknown(path.clone()))?;
        fs::remove_file(&place).map_err(io_error("removing"))?;
        self.release(counted(length));
        let above = place.ancestors().skip(1).take_while(|above| *above != self.files);
        for directory in above {
            // Not empty: somebody else's.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn place(&self, path: &ArtifactPath) -> PathBuf {
        self.files.join(path.as_str())
    }

    fn reserve(&self, bytes: u64) -> Result<(), ArtifactError> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > ARTIFACTS_BYTES_MAX {
            self.release(bytes);
            return Err(ArtifactError::Full);
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Put an arrived file at its path; gives whether one was there before.
    fn keep(&self, from: &Path, path: &ArtifactPath) -> Result<bool, ArtifactError> {
        let _tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.place(path);
        let parent = place.parent().unwrap_or(&self.files);
        let taken = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty => ArtifactError::Taken(path.clone()),
            _ => ArtifactError::Io { doing: "keeping", source: error },
        };
        fs::create_dir_all(parent).map_err(taken)?;
        let replaced = existing(&place);
        fs::rename(from, &place).map_err(taken)?;
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("keeping"))?;
        self.release(replaced.map_or(0, counted));
        Ok(replaced.is_some())
    }
}

/// A file on its way. Dropped before it is kept, nothing of it is left.
pub struct Incoming {
    store: Arc<Artifacts>,
    path: PathBuf,
    file: Option<tokio::fs::File>,
    bytes: u64,
    kept: bool,
}

impl Incoming {
    /// Add to the file.
    ///
    /// # Errors
    /// It is too large, the store is full, or the disk refuses.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), ArtifactError> {
        let after = self.bytes + chunk.len() as u64;
        if after > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge);
        }
        self.store.reserve(counted(after) - counted(self.bytes))?;
        self.bytes = after;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(chunk).await.map_err(io_error("writing"))
    }

    /// Make it an artifact; gives whether it replaced one.
    ///
    /// # Errors
    /// The path is taken by something else, or the disk refuses.
    pub async fn keep(mut self, path: ArtifactPath) -> Result<bool, ArtifactError> {
        if let Some(mut file) = self.file.take() {
            file.flush().await.map_err(io_error("writing"))?;
            file.sync_all().await.map_err(io_error("writing"))?;
        }
        let (store, from) = (self.store.clone(), self.path.clone());
        let kept = tokio::task::spawn_blocking(move || store.keep(&from, &path)).await;
        let kept = kept.map_err(|error| ArtifactError::Io {
            doing: "keeping",
            source: io::Error::other(error),
        })?;
        self.kept = kept.is_ok();
        kept
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            self.store.release(counted(self.bytes));
            // It is swept at the next start at the latest.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn counted(length: u64) -> u64 {
    length.max(FILE_BYTES_MIN)
}

/// Length of the file there, if one is.
fn existing(place: &Path) -> Option<u64> {
    fs::metadata(place).ok().filter(fs::Metadata::is_file).map(|about| about.len())
}

fn counted_below(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata()? {
                about if about.is_dir() => left.push(entry.path()),
                about => sum += counted(about.len()),
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ArtifactPath {
        ArtifactPath::parse(text).unwrap()
    }

    async fn put(store: &Arc<Artifacts>, at: &str, bytes: &[u8]) -> Result<bool, ArtifactError> {
        let mut incoming = store.begin().await?;
        incoming.write(bytes).await?;
        incoming.keep(path(at)).await
    }

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "a/b.tgz", "a b/ü", "x..y"] {
            assert!(ArtifactPath::parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(PART_BYTES_MAX + 1);
        let deep = "x/".repeat(PATH_BYTES_MAX) + "x";
        for bad in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a\\b", "a\nb", "a\0", &long, &deep]
        {
            assert!(matches!(ArtifactPath::parse(bad), Err(ArtifactError::Path(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn files_come_whole_are_replaced_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Artifacts::open(dir.path()).unwrap());
        assert!(!put(&store, "a/b/c.txt", b"one").await.unwrap());
        assert!(put(&store, "a/b/c.txt", &[7; 10_000]).await.unwrap());
        assert_eq!(store.read(&path("a/b/c.txt")).await.unwrap().1, 10_000);
        assert_eq!(store.used.load(Ordering::Relaxed), 10_000);
        for taken in ["a", "a/b", "a/b/c.txt/d"] {
            let error = put(&store, taken, b"x").await.unwrap_err();
            assert!(matches!(error, ArtifactError::Taken(_)), "{taken}: {error}");
            let unknown = store.read(&path(taken)).await.unwrap_err();
            assert!(matches!(unknown, ArtifactError::Unknown(_)), "{taken}: {unknown}");
        }
        let mut cut = store.begin().await.unwrap();
        cut.write(b"half").await.unwrap();
        drop(cut);
        assert_eq!(store.used.load(Ordering::Relaxed), 10_000);
        let again = Arc::new(Artifacts::open(dir.path()).unwrap());
        assert_eq!(again.used.load(Ordering::Relaxed), 10_000);
        again.remove(&path("a/b/c.txt")).unwrap();
        assert!(matches!(again.remove(&path("a/b/c.txt")), Err(ArtifactError::Unknown(_))));
        assert_eq!(again.used.load(Ordering::Relaxed), 0);
        for left in [&again.files, &again.incoming] {
            assert_eq!(fs::read_dir(left).unwrap().count(), 0, "{}", left.display());
        }
    }

    #[tokio::test]
    async fn room_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Artifacts::open(dir.path()).unwrap());
        store.used.store(ARTIFACTS_BYTES_MAX - 2 * FILE_BYTES_MIN, Ordering::Relaxed);
        let mut incoming = store.begin().await.unwrap();
        incoming.write(&[0; 2 * FILE_BYTES_MIN as usize]).await.unwrap();
        assert!(matches!(incoming.write(b"x").await, Err(ArtifactError::Full)));
        assert!(matches!(store.begin().await, Err(ArtifactError::Full)));
        drop(incoming);
        store.begin().await.unwrap();
        let mut large = store.begin().await.unwrap();
        large.bytes = ARTIFACT_BYTES_MAX;
        store.used.store(large.bytes, Ordering::Relaxed);
        assert!(matches!(large.write(b"x").await, Err(ArtifactError::TooLarge)));
    }
}
