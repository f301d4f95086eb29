//! openraft's log and vote over the store. Owns what must be on the disk before openraft goes on.
//!
//! The vote is synced before `save_vote` returns, an append before its callback is called. The
//! marker of the last committed entry only rides along with the next append: a stale one costs a
//! moment at the start, a sync of its own would cost every write.

use super::disk::{Changes, Disk, DiskError};
use super::record::{
    self, COMMITTED_KEY, ENTRIES_BEGIN, ENTRIES_END, PURGED_KEY, RecordError, VOTE_KEY,
};
use super::types::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote};
use bramble_protocol::codec::{self, CodecError};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogReader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Keys removed in one batch by a purge: bounds its memory.
const PURGE_KEYS_MAX: usize = 512;
/// Stored bytes of entries read at once for a follower; one entry is always read.
const READ_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Error)]
pub enum LogError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("encoding a marker")]
    EncodeMarker(#[source] CodecError),
    #[error("decoding a marker")]
    DecodeMarker(#[source] CodecError),
}

/// A handle; clones share the log.
#[derive(Clone)]
pub(super) struct LogStore {
    disk: Arc<Disk>,
    /// To be written with the next append.
    committed: Arc<Mutex<Option<LogId>>>,
    /// Bytes appended since the log was opened.
    appended_bytes: Arc<AtomicU64>,
}

impl LogStore {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk, committed: Arc::default(), appended_bytes: Arc::default() }
    }

    /// Counts the bytes of every append, for the compaction policy.
    pub fn appended_bytes(&self) -> Arc<AtomicU64> {
        self.appended_bytes.clone()
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Result<Option<LogId>, LogError> {
        self.marker(PURGED_KEY)
    }

    fn marker<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, LogError> {
        match self.disk.get(key)? {
            Some(bytes) => codec::from_bytes(&bytes).map(Some).map_err(LogError::DecodeMarker),
            None => Ok(None),
        }
    }

    fn last(&self) -> Result<Option<LogId>, LogError> {
        let Some(last) = self.disk.scan(ENTRIES_BEGIN, ENTRIES_END).next_back() else {
            return Ok(None);
        };
        let index = record::index_of(&last?.0)?;
        Ok(self.read(index, Bound::Included(index), usize::MAX)?.first().map(|e| e.log_id))
    }

    /// The last entry there is, or that was purged.
    pub fn last_log_id(&self) -> Result<Option<LogId>, LogError> {
        // A purge cut short by a crash leaves entries that its marker already disowned.
        Ok(self.last()?.max(self.purged()?))
    }

    fn state(&self) -> Result<LogState<TypeConfig>, LogError> {
        let (last_purged_log_id, last_log_id) = (self.purged()?, self.last_log_id()?);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    /// Entries from `start` to `end` until they take more than `budget` bytes.
    fn read(&self, start: u64, end: Bound<u64>, budget: usize) -> Result<Vec<Entry>, LogError> {
        let to = match end {
            Bound::Included(end) => end.checked_add(1),
            Bound::Excluded(end) => Some(end),
            Bound::Unbounded => None,
        };
        let to = to.map_or(ENTRIES_END.to_vec(), |end| record::key(end, 0).to_vec());
        let from = record::key(start, 0);
        if from.as_slice() >= to.as_slice() {
            return Ok(Vec::new());
        }
        let (mut entries, mut parts, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut current = None;
        for pair in self.disk.scan(&from, &to) {
            let (key, value) = pair?;
            let index = record::index_of(&key)?;
            if let Some(before) = current.filter(|c| *c != index) {
                entries.push(record::decode(before, &parts)?);
                parts.clear();
                if bytes > budget {
                    return Ok(entries);
                }
            }
            current = Some(index);
            bytes += value.len();
            parts.push(value);
        }
        if let Some(index) = current {
            entries.push(record::decode(index, &parts)?);
        }
        Ok(entries)
    }

    fn write_entries(&self, entries: impl Iterator<Item = Entry>) -> Result<(), LogError> {
        let mut changes = Changes::default();
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committed) = committed {
            put_marker(&mut changes, COMMITTED_KEY, &committed)?;
        }
        let mut bytes = 0;
        for entry in entries {
            for (part, value) in (0..).zip(record::encode(&entry)?) {
                bytes += value.len() as u64;
                changes.put(&record::key(entry.log_id.index, part), value);
            }
        }
        self.disk.write(changes)?;
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn remove_from(&self, index: u64) -> Result<(), LogError> {
        let mut changes = Changes::default();
        for pair in self.disk.scan(&record::key(index, 0), ENTRIES_END) {
            changes.remove(&pair?.0);
        }
        self.disk.write(changes)?;
        Ok(self.disk.sync().await?)
    }

    /// The marker goes first, with the first keys: it alone decides what is purged, the rest is
    /// tidying that may stop anywhere.
    async fn remove_upto(&self, upto: LogId) -> Result<(), LogError> {
        let mut changes = Changes::default();
        put_marker(&mut changes, PURGED_KEY, &upto)?;
        let to = record::key(upto.index, u16::MAX);
        let mut pending = 0;
        for pair in self.disk.scan(ENTRIES_BEGIN, &to) {
            changes.remove(&pair?.0);
            pending += 1;
            if pending == PURGE_KEYS_MAX {
                self.disk.write(std::mem::take(&mut changes))?;
                pending = 0;
                tokio::task::yield_now().await;
            }
        }
        self.disk.write(changes)?;
        Ok(self.disk.sync().await?)
    }

    async fn write_marker<T: Serialize>(&self, key: &[u8], value: &T) -> Result<(), LogError> {
        let mut changes = Changes::default();
        put_marker(&mut changes, key, value)?;
        self.disk.write(changes)?;
        Ok(self.disk.sync().await?)
    }
}

fn put_marker<T: Serialize>(changes: &mut Changes, key: &[u8], value: &T) -> Result<(), LogError> {
    changes.put(key, codec::to_bytes(value).map_err(LogError::EncodeMarker)?);
    Ok(())
}

fn reading(error: LogError) -> StorageError {
    StorageIoError::read_logs(AnyError::new(&error)).into()
}

fn writing(error: LogError) -> StorageError {
    StorageIoError::write_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        self.read(start, range.end_bound().cloned(), usize::MAX).map_err(reading)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, Bound::Excluded(end), READ_BYTES_MAX).map_err(reading)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.state().map_err(reading)
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write_marker(VOTE_KEY, vote)
            .await
            .map_err(|e| StorageIoError::write_vote(AnyError::new(&e)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.marker(VOTE_KEY).map_err(|e| StorageIoError::read_vote(AnyError::new(&e)).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let pending = *self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        match pending {
            Some(committed) => Ok(Some(committed)),
            None => self.marker(COMMITTED_KEY).map_err(reading),
        }
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // openraft stops on this error; the callback may be dropped then.
        self.write_entries(entries.into_iter()).map_err(writing)?;
        self.disk.sync_then(|result| callback.log_io_completed(result.map_err(DiskError::into_io)));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.remove_from(log_id.index).await.map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.remove_upto(log_id).await.map_err(writing)
    }
}
