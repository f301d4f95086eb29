//! The one place that knows sled: an ordered, atomic, durable map of small values.
//!
//! Two facts about sled 0.34 shape it. Its `flush` ends in `sync_file_range`, which survives the
//! process but not a power cut, so each flush is followed by `fdatasync` on a second descriptor.
//! And a page over a quarter of a segment (128 KiB) leaves the log for a file of its own that is
//! never synced. A leaf holds up to 17 values before it splits, so it is the leaf, not the value,
//! that has to stay below: hence [`VALUE_BYTES_MAX`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use thiserror::Error;
use tokio::sync::oneshot;

/// Largest value in bytes: 17 of them with their keys are 75 KB, far from sled's 128 KiB.
pub(super) const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Pages sled keeps in memory, in bytes. The log is read back at once or at the next start only.
const CACHE_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Error)]
pub enum DiskError {
    #[error("opening the store in {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error("opening {path} to sync it")]
    OpenToSync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading from the store")]
    Read(#[source] sled::Error),
    #[error("writing to the store")]
    Write(#[source] sled::Error),
    #[error("flushing the store")]
    Flush(#[source] sled::Error),
    #[error("syncing the store")]
    Sync(#[source] io::Error),
    #[error("a value of {bytes} bytes is over the limit of {VALUE_BYTES_MAX}")]
    ValueTooLarge { bytes: usize },
    /// What failed once stays failed until a restart: after a failed fsync nobody knows what the
    /// disk holds, and a later success would say nothing about the lost pages.
    #[error("the store failed earlier")]
    FailedEarlier(#[source] Arc<DiskError>),
    #[error("the store was closed before it synced")]
    Closed,
}

impl DiskError {
    /// As the io error openraft's callbacks want.
    pub fn into_io(self: Arc<Self>) -> io::Error {
        io::Error::other(SharedDiskError(self))
    }
}

/// A [`DiskError`] told to several waiters.
#[derive(Debug, Error)]
#[error(transparent)]
struct SharedDiskError(Arc<DiskError>);

/// Changes that take effect together or not at all, also across a crash.
#[derive(Default)]
pub(super) struct Changes {
    /// Keys with their new values, in order; `None` removes one.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    too_large: Option<usize>,
}

impl Changes {
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        if value.len() > VALUE_BYTES_MAX {
            self.too_large = Some(value.len());
        }
        self.changes.push((key.to_vec(), Some(value)));
    }

    pub fn remove(&mut self, key: &[u8]) {
        self.changes.push((key.to_vec(), None));
    }

    fn into_batch(self) -> sled::Batch {
        let mut batch = sled::Batch::default();
        for (key, value) in self.changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch
    }
}

type Synced = Box<dyn FnOnce(Result<(), Arc<DiskError>>) + Send>;

/// Who waits for the next sync, and whether a thread is at it.
#[derive(Default)]
struct Waiting {
    calls: Vec<Synced>,
    syncing: bool,
}

/// What the map lies on.
enum Medium {
    Sled {
        db: sled::Db,
        /// Second descriptor of sled's file.
        file: File,
    },
    #[cfg(feature = "simulation")]
    Memory(Arc<super::simulated::Platter>),
}

pub(super) struct Disk {
    medium: Medium,
    waiting: Mutex<Waiting>,
    failed: OnceLock<Arc<DiskError>>,
    #[cfg(test)]
    pub fail_syncs: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    pub syncs: std::sync::atomic::AtomicU64,
}

impl Disk {
    /// Open or create the store in `dir`.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        #[cfg(feature = "simulation")]
        if let Some(platter) = super::simulated::platter(dir) {
            return Ok(Self::on(Medium::Memory(platter)));
        }
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::LowSpace)
            // Nothing is written behind our back: an idle voter writes nothing.
            .flush_every_ms(None)
            .open()
            .map_err(|source| DiskError::Open { path: dir.to_path_buf(), source })?;
        db.flush().map_err(DiskError::Flush)?;
        let opened = |path: PathBuf| {
            File::open(&path).map_err(|source| DiskError::OpenToSync { path, source })
        };
        let file = opened(dir.join("db"))?;
        // The names of sled's files must outlive a power cut as well as their bytes.
        for path in [dir.join("conf"), dir.to_path_buf()] {
            opened(path)?.sync_all().map_err(DiskError::Sync)?;
        }
        file.sync_data().map_err(DiskError::Sync)?;
        Ok(Self::on(Medium::Sled { db, file }))
    }

    fn on(medium: Medium) -> Self {
        Self {
            medium,
            waiting: Mutex::default(),
            failed: OnceLock::new(),
            #[cfg(test)]
            fail_syncs: Default::default(),
            #[cfg(test)]
            syncs: Default::default(),
        }
    }

    /// Apply `changes`. They are readable at once and durable after the next sync.
    pub fn write(&self, changes: Changes) -> Result<(), DiskError> {
        self.check()?;
        if let Some(bytes) = changes.too_large {
            return Err(DiskError::ValueTooLarge { bytes });
        }
        match &self.medium {
            Medium::Sled { db, .. } => db.apply_batch(changes.into_batch()).map_err(|e| {
                let error = Arc::new(DiskError::Write(e));
                DiskError::FailedEarlier(self.failed.get_or_init(|| error).clone())
            }),
            #[cfg(feature = "simulation")]
            Medium::Memory(platter) => {
                platter.write(changes.changes);
                Ok(())
            }
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        self.check()?;
        match &self.medium {
            Medium::Sled { db, .. } => {
                Ok(db.get(key).map_err(DiskError::Read)?.map(|v| v.to_vec()))
            }
            #[cfg(feature = "simulation")]
            Medium::Memory(platter) => Ok(platter.get(key)),
        }
    }

    /// Keys and values from `from` up to but not including `to`, in key order.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), DiskError>> + use<> {
        match &self.medium {
            Medium::Sled { db, .. } => {
                let pairs = db
                    .range(from..to)
                    .map(|kv| kv.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(DiskError::Read));
                #[cfg(feature = "simulation")]
                let pairs = super::simulated::Pairs::Real(pairs);
                pairs
            }
            #[cfg(feature = "simulation")]
            Medium::Memory(platter) => super::simulated::Pairs::Memory(platter.scan(from, to)),
        }
    }

    /// Call `done` once everything written before is on the disk, or with the reason it is not.
    ///
    /// Calls that come while a sync is under way share the next one.
    pub fn sync_then(
        self: &Arc<Self>,
        done: impl FnOnce(Result<(), Arc<DiskError>>) + Send + 'static,
    ) {
        #[cfg(feature = "simulation")]
        if let Medium::Memory(platter) = &self.medium {
            return platter.sync_then(Box::new(move || done(Ok(()))));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.calls.push(Box::new(done));
        if !waiting.syncing {
            waiting.syncing = true;
            let disk = self.clone();
            tokio::task::spawn_blocking(move || disk.serve_waiting());
        }
    }

    /// Wait until everything written before is on the disk.
    pub async fn sync(self: &Arc<Self>) -> Result<(), DiskError> {
        let (sender, receiver) = oneshot::channel();
        // A waiter that went away needs no answer.
        self.sync_then(move |result| drop(sender.send(result)));
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(DiskError::FailedEarlier(error)),
            Err(_) => Err(DiskError::Closed),
        }
    }

    fn serve_waiting(&self) {
        loop {
            let calls = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.calls.is_empty() {
                    waiting.syncing = false;
                    return;
                }
                std::mem::take(&mut waiting.calls)
            };
            let result = match self.failed.get() {
                Some(error) => Err(error.clone()),
                None => self
                    .flush_and_sync()
                    .map_err(|e| self.failed.get_or_init(|| Arc::new(e)).clone()),
            };
            for done in calls {
                done(result.clone());
            }
        }
    }

    fn flush_and_sync(&self) -> Result<(), DiskError> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            self.syncs.fetch_add(1, Ordering::SeqCst);
            if self.fail_syncs.load(Ordering::SeqCst) {
                return Err(DiskError::Sync(io::Error::from(io::ErrorKind::StorageFull)));
            }
        }
        match &self.medium {
            Medium::Sled { db, file } => {
                db.flush().map_err(DiskError::Flush)?;
                file.sync_data().map_err(DiskError::Sync)
            }
            #[cfg(feature = "simulation")]
            Medium::Memory(_) => Ok(()),
        }
    }

    fn check(&self) -> Result<(), DiskError> {
        match self.failed.get() {
            Some(error) => Err(DiskError::FailedEarlier(error.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.failed.get().is_some() {
            // sled's own drop would fsync once more and panic if that fails: leak it instead.
            match &self.medium {
                Medium::Sled { db, .. } => std::mem::forget(db.clone()),
                #[cfg(feature = "simulation")]
                Medium::Memory(_) => {}
            }
        }
    }
}

/// Make the entries of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Create `dir` and make its name durable.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}
