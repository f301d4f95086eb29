//! The content store: blobs, unpacked layers and the index of images under one directory.
//!
//! ```text
//! lock                   held (flock) while a process has the store open
//! images.json            reference -> image; replaced by rename, with fsync
//! blobs/sha256/<hex>     manifests, configs and layers as they came: kept, so that other nodes
//!                        can fetch from this one what they can verify by the same digest
//! partial/<hex>          a blob on its way from another node, continued at its length
//! layers/<hex>/          one layer unpacked, named by its diff id, shared between images
//! */<hex>.pending        marks content no image of the index is known to need yet
//! tmp/                   everything unfinished; emptied when the store is opened
//! ```
//!
//! Owns the order of writes: content is verified in `tmp/`, marked as pending, renamed into place,
//! and only then named by the index. So a crash leaves temporary or pending files, which the next
//! open removes. Layers an image no longer needs are left alone: containers may stand on them.

mod bench;
mod index;
mod partial;
mod parts;
mod session;

pub(crate) use bench::{Bench, Stopped, blocking};
pub use index::{Image, Layer};
pub(crate) use partial::Partial;
pub use parts::{Blob, LayerPart, Parts};
pub(crate) use session::{BlobWriter, Session, Staged};

use super::budget::{Budget, BudgetError};
use super::digest::Digest;
use super::reference::ImageReference;
use index::Index;
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

const INDEX_FILE: &str = "images.json";
const PENDING: &str = "pending";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("image store {0} is in use by another process")]
    InUse(PathBuf),
    #[error("disk is full: no space left to write {0}")]
    DiskFull(PathBuf),
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("index of images {path} is damaged; move it away to begin with no images")]
    Index {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("index of images {path} has version {version}, which this program does not know")]
    IndexVersion { path: PathBuf, version: u32 },
    #[error("{what} has digest {actual}, not {expected} as promised")]
    DigestMismatch { what: String, expected: Digest, actual: Digest },
    #[error("{what} has {actual} bytes, not {expected} as promised")]
    SizeMismatch { what: String, expected: u64, actual: u64 },
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error("unpacking layer {diff_id}")]
    Unpack {
        diff_id: Digest,
        #[source]
        source: super::unpack::UnpackError,
    },
    #[error("decompressing layer {diff_id}")]
    Decompress {
        diff_id: Digest,
        #[source]
        source: io::Error,
    },
}

/// Wraps an IO error with what was done; a full disk gets its own variant.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull(path),
        _ => StoreError::Io { operation, path, source },
    }
}

/// A thing of the store that images share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Blob(Digest),
    Layer(Digest),
}

type LayerLock = tokio::sync::Mutex<()>;

/// The images of one machine. One per directory and process.
pub struct Store {
    root: PathBuf,
    state: Mutex<State>,
    /// One per layer being brought in, so that two loads do not unpack it twice.
    layer_locks: Mutex<HashMap<Digest, Weak<LayerLock>>>,
    next_session: AtomicU64,
    limit_bytes: Option<u64>,
    _lock: File,
}

struct State {
    index: Index,
    /// How many unfinished loads need an object.
    claims: HashMap<Object, usize>,
}

impl Store {
    /// Opens the store, making it if it is not there, and removes what a crash left behind.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open.
    pub fn open(root: &Path) -> Result<Arc<Store>, StoreError> {
        Store::open_limited(root, None)
    }

    /// Opens the store with a fixed bound on the bytes of one load, in place of the free disk.
    pub(crate) fn open_limited(
        root: &Path,
        limit_bytes: Option<u64>,
    ) -> Result<Arc<Store>, StoreError> {
        for dir in ["blobs/sha256", "layers", "partial", "tmp"] {
            let path = root.join(dir);
            std::fs::create_dir_all(&path).map_err(failed("making directory", &path))?;
        }
        let lock_path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("opening", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::InUse(root.to_owned())),
            Err(error) => return Err(failed("locking", &lock_path)(error.into())),
        }
        let index = Index::read(&root.join(INDEX_FILE))?;
        let store = Store {
            root: root.to_owned(),
            state: Mutex::new(State { index, claims: HashMap::new() }),
            layer_locks: Mutex::new(HashMap::new()),
            next_session: AtomicU64::new(0),
            limit_bytes,
            _lock: lock,
        };
        store.recover()?;
        Ok(Arc::new(store))
    }

    /// Lists all images, by reference.
    pub fn images(&self) -> Vec<Image> {
        self.state().index.images.values().cloned().collect()
    }

    /// Finds an image whose layers are all here.
    ///
    /// A digest matches any image of the same repository that has it, or came out of an index
    /// that has it.
    pub fn find(&self, reference: &ImageReference) -> Option<Image> {
        let image = {
            let state = self.state();
            let by_name = state.index.images.get(&reference.to_string());
            by_name.or_else(|| state.index.by_digest(reference)).cloned()?
        };
        self.layer_dirs(&image).iter().all(|dir| dir.is_dir()).then_some(image)
    }

    /// Tells the directories of an image's layers, topmost first, as overlayfs wants them.
    ///
    /// A layer that occurs twice is named once, at its upper place: overlayfs refuses to stack a
    /// directory on itself, and the upper occurrence already decides all the lower one has.
    pub fn layer_dirs(&self, image: &Image) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for layer in image.layers.iter().rev() {
            let dir = self.path(&Object::Layer(layer.diff_id.clone()));
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        dirs
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, object: &Object) -> PathBuf {
        match object {
            Object::Blob(digest) => self.root.join("blobs/sha256").join(digest.hex()),
            Object::Layer(digest) => self.root.join("layers").join(digest.hex()),
        }
    }

    fn marker(&self, object: &Object) -> PathBuf {
        self.path(object).with_extension(PENDING)
    }

    fn budget(&self) -> Result<Budget, StoreError> {
        match self.limit_bytes {
            Some(limit) => Ok(Budget::new(limit)),
            None => Budget::of_disk(&self.root)
                .map_err(failed("measuring the free space of", &self.root)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The lock of one layer; held from before it is looked for until it is in place.
    pub(crate) fn layer_lock(&self, diff_id: &Digest) -> Arc<LayerLock> {
        let mut locks = self.layer_locks.lock().unwrap_or_else(|p| p.into_inner());
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(LayerLock::new(()));
        locks.insert(diff_id.clone(), Arc::downgrade(&lock));
        lock
    }

    fn claim(&self, object: &Object) {
        *self.state().claims.entry(object.clone()).or_default() += 1;
    }

    /// Gives a claim back; content that nobody else claims or names goes with it.
    fn release(&self, object: &Object) {
        let mut state = self.state();
        if let Some(count) = state.claims.get_mut(object) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        state.claims.remove(object);
        let marker = self.marker(object);
        if state.index.names(object) || !marker.exists() {
            return;
        }
        // The rename is what must happen under the lock; removing a tree takes its time.
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        let grave = self.root.join("tmp").join(format!("{session}-removed"));
        let moved = std::fs::rename(self.path(object), &grave);
        let unmarked = std::fs::remove_file(&marker);
        drop(state);
        let removed = match object {
            Object::Blob(_) => std::fs::remove_file(&grave),
            Object::Layer(_) => std::fs::remove_dir_all(&grave),
        };
        if let Err(error) = moved.and(unmarked).and(removed) {
            let path = self.path(object);
            tracing::warn!(path = %path.display(), %error, "unused content stays until restart");
        }
    }

    /// Puts verified content where its digest says. A no-op when it is already there.
    fn publish(&self, staged: &Path, object: &Object) -> Result<(), StoreError> {
        let _state = self.state();
        let place = self.path(object);
        if place.exists() {
            return Ok(());
        }
        let marker = self.marker(object);
        File::create(&marker).map_err(failed("marking", &marker))?;
        std::fs::rename(staged, &place).map_err(failed("moving into place", &place))
    }

    /// Names images in the index, durably: afterwards they survive a power cut.
    fn commit(&self, images: &[Image], objects: &[Object]) -> Result<(), StoreError> {
        let root = File::open(&self.root).map_err(failed("opening", &self.root))?;
        // One call for thousands of files; a sync of each would take minutes on an SD card.
        rustix::fs::syncfs(&root)
            .map_err(|error| failed("writing out", &self.root)(error.into()))?;
        let mut state = self.state();
        let mut images_now: BTreeMap<String, Image> = state.index.images.clone();
        for image in images {
            images_now.insert(image.reference.clone(), image.clone());
        }
        let next = Index { images: images_now };
        next.write(&self.root.join(INDEX_FILE), &self.root.join("tmp/images.json"))?;
        state.index = next;
        for object in objects {
            // One that stays is removed by the next open, which sees the index.
            let _ = std::fs::remove_file(self.marker(object));
        }
        Ok(())
    }

    /// Removes what is temporary, and what is pending and not named by the index.
    fn recover(&self) -> Result<(), StoreError> {
        self.sweep_partials()?;
        let tmp = self.root.join("tmp");
        for path in children(&tmp)? {
            remove_any(&path)?;
        }
        for (dir, object) in [
            ("blobs/sha256", Object::Blob as fn(Digest) -> Object),
            ("layers", Object::Layer as fn(Digest) -> Object),
        ] {
            for marker in children(&self.root.join(dir))? {
                if marker.extension().is_none_or(|extension| extension != PENDING) {
                    continue;
                }
                let hex = marker.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                if let Some(digest) = Digest::from_hex(hex) {
                    let object = object(digest);
                    if !self.state().index.names(&object) {
                        remove_any(&self.path(&object))?;
                    }
                }
                remove_any(&marker)?;
            }
        }
        Ok(())
    }
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(failed("listing", dir))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(failed("listing", dir))).collect()
}

fn remove_any(path: &Path) -> Result<(), StoreError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(failed("removing", path))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
