//! The thread that owns the database: gathers writes, one batch and one fsync for all of them.

use super::LedgerError;
use super::record::{Change, Contents, Reader, Written, encode, part_key};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that share one fsync at most.
const GROUP_MAX: usize = 256;
/// Pause before writes that must not be lost are tried again after the disk refused them.
const RETRY: Duration = Duration::from_secs(1);
/// sled's page cache in bytes: the ledger is read once, at start.
const CACHE_BYTES: u64 = 256 * 1024;

pub(super) enum Request {
    Try { changes: Vec<Change>, done: oneshot::Sender<Result<(), Arc<LedgerError>>> },
    Must { changes: Vec<Change>, durable: Box<dyn FnOnce() + Send> },
}

type Kept = (Vec<Change>, Box<dyn FnOnce() + Send>);

/// The last word on each key of a batch; `None` removes it.
type Gathered = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The open database and the second descriptor through which it is synced.
struct Store {
    db: sled::Db,
    data: File,
}

pub(super) struct Writer {
    directory: PathBuf,
    /// `None` after a failed write: sled refuses everything then, until it is opened again.
    store: Option<Store>,
    /// Writes that must not be lost and are not durable yet, in order.
    kept: Vec<Kept>,
}

impl Writer {
    pub(super) fn open(directory: &Path) -> Result<Self, LedgerError> {
        let store = Store::open(directory)?;
        Ok(Self { directory: directory.to_path_buf(), store: Some(store), kept: Vec::new() })
    }

    pub(super) fn read(&self) -> Result<Contents, LedgerError> {
        let store = self.store.as_ref().ok_or(LedgerError::Closed)?;
        let mut reader = Reader::default();
        for entry in store.db.iter() {
            let (key, value) = entry.map_err(LedgerError::Read)?;
            reader.take(&key, &value)?;
        }
        reader.finish()
    }

    /// Serve requests until every handle is gone.
    pub(super) fn serve(mut self, requests: &Receiver<Request>) {
        loop {
            let first = if self.kept.is_empty() {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(RETRY)
            };
            let mut group = match first {
                Ok(request) => vec![request],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while group.len() < GROUP_MAX {
                let Ok(request) = requests.try_recv() else { break };
                group.push(request);
            }
            self.commit(group);
        }
        if !self.kept.is_empty() {
            // Last chance before the process goes.
            self.commit(Vec::new());
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let mut waiting = Vec::new();
        let mut tried = Vec::new();
        for request in group {
            match request {
                Request::Must { changes, durable } => self.kept.push((changes, durable)),
                Request::Try { changes, done } => {
                    tried.extend(changes);
                    waiting.push(done);
                }
            }
        }
        let changes = self.kept.iter().flat_map(|(changes, _)| changes).chain(&tried);
        let result = match self.store.as_ref() {
            Some(store) => store.write(changes),
            None => Store::open(&self.directory).and_then(|store| {
                let result = store.write(changes);
                self.store = Some(store);
                result
            }),
        };
        match result {
            Ok(()) => {
                for (_, durable) in self.kept.drain(..) {
                    durable();
                }
                for done in waiting {
                    // The asker may have given up; the write stands.
                    let _ = done.send(Ok(()));
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "ledger write failed");
                self.store = None;
                let error = Arc::new(error);
                for done in waiting {
                    let _ = done.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

impl Store {
    fn open(directory: &Path) -> Result<Self, LedgerError> {
        let db = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            // Its own periodic flush would be one more thread; every write here is flushed.
            .flush_every_ms(None)
            .open()
            .map_err(|source| LedgerError::Open { path: directory.to_path_buf(), source })?;
        let path = directory.join("db");
        let data = File::open(&path)
            .map_err(|source| LedgerError::OpenForSync { path: path.clone(), source })?;
        // The file's own name must survive too; its parent is synced once, here.
        let store = Self { db, data };
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| LedgerError::Sync { path: directory.to_path_buf(), source })?;
        Ok(store)
    }

    fn write<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), LedgerError> {
        let mut gathered = Gathered::new();
        let mut count = 0;
        for change in changes {
            count += 1;
            match encode(change)? {
                Written::Plain { key, value } => {
                    gathered.insert(key.to_vec(), Some(value));
                }
                Written::Remove { prefix } => self.remove(&mut gathered, &prefix)?,
                Written::Put { prefix, parts } => {
                    // Parts of a longer record that stood here must not be read as its end.
                    self.remove(&mut gathered, &prefix)?;
                    for (part, value) in (0u16..).zip(parts) {
                        gathered.insert(part_key(&prefix, part), Some(value));
                    }
                }
            }
        }
        let mut batch = sled::Batch::default();
        for (key, value) in gathered {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let failed = |source| LedgerError::Write { changes: count, source };
        self.db.apply_batch(batch).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        // sled's flush is sync_file_range alone, which survives no power cut.
        self.data
            .sync_data()
            .map_err(|source| LedgerError::Sync { path: PathBuf::from("db"), source })
    }

    /// Remove every part of a record, on disk and among the writes gathered so far.
    fn remove(&self, gathered: &mut Gathered, prefix: &[u8]) -> Result<(), LedgerError> {
        let here = gathered.range_mut(prefix.to_vec()..);
        for (_, value) in here.take_while(|(key, _)| key.starts_with(prefix)) {
            *value = None;
        }
        for key in self.db.scan_prefix(prefix).keys() {
            gathered.insert(key.map_err(LedgerError::Read)?.to_vec(), None);
        }
        Ok(())
    }
}
