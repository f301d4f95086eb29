//! openraft's state machine: the only caller of `core::machine::apply`, the only writer of the
//! store. Persists nothing but snapshots; what came after the last one is applied again at start.

use super::blocking::{self, SnapshotFile};
use super::snapshot::{Contents, SnapshotError, Snapshots};
use super::types::{
    Batch, Entry, LogId, Outcomes, SnapshotMeta, StorageError, StorageIoError, StoredMembership,
    TypeConfig,
};
use crate::store::Store;
use bramble_core::command::{self, Rejection};
use bramble_core::event::Event;
use bramble_core::model::State;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend};
use std::io::SeekFrom;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// The signature of `core::machine::apply`.
pub(super) type Apply = fn(&mut State, &command::Entry) -> Result<Vec<Event>, Rejection>;

/// A handle; clones share the position. One raft at a time applies through it.
#[derive(Clone)]
pub(super) struct StateMachine {
    store: Arc<Store>,
    snapshots: Arc<Snapshots>,
    apply: Apply,
    position: Arc<Mutex<Position>>,
}

/// How far the store is.
#[derive(Clone, Default)]
pub(super) struct Position {
    pub last_applied: Option<LogId>,
    pub membership: StoredMembership,
}

impl StateMachine {
    /// Continue from the position of the snapshot that `store` was filled from.
    pub fn new(
        store: Arc<Store>,
        snapshots: Arc<Snapshots>,
        apply: Apply,
        position: Position,
    ) -> Self {
        Self { store, snapshots, apply, position: Arc::new(Mutex::new(position)) }
    }

    /// State and position that belong together, also while entries are applied: what the state
    /// is ahead of a position read first is corrected by its own index.
    pub fn contents(&self) -> Contents {
        let Position { last_applied, membership } = self.position().clone();
        let state = self.store.read(State::clone);
        let last_applied = last_applied
            .map(|id| LogId { index: id.index.max(state.applied_index), leader_id: id.leader_id });
        Contents { last_applied, membership, state }
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Apply the commands of one entry as one change of the store.
    ///
    /// Whoever waits for the store to reach this index must see all of them, and a rejected or
    /// an empty entry moves the index as well.
    fn apply_batch(&self, index: u64, batch: Batch) -> Outcomes {
        self.store.write(|state| {
            let mut all = Vec::new();
            let mut outcomes = Vec::with_capacity(batch.0.len());
            for proposal in batch.0 {
                let entry = command::Entry { index, now: proposal.now, command: proposal.command };
                let outcome = (self.apply)(state, &entry);
                if let Ok(events) = &outcome {
                    all.extend_from_slice(events);
                }
                outcomes.push(outcome);
            }
            state.applied_index = index;
            (Outcomes(outcomes), all)
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let position = self.position().clone();
        Ok((position.last_applied, position.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let batch = match entry.payload {
                EntryPayload::Normal(batch) => batch,
                EntryPayload::Blank => Batch::default(),
                EntryPayload::Membership(membership) => {
                    self.position().membership =
                        StoredMembership::new(Some(entry.log_id), membership);
                    Batch::default()
                }
            };
            answers.push(self.apply_batch(entry.log_id.index, batch));
            self.position().last_applied = Some(entry.log_id);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // No entry is applied while this runs; the copy lets encoding and writing go on beside
        // later entries.
        let contents = self.contents();
        Builder {
            meta: contents.meta(),
            contents: Some(contents),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let file = self.snapshots.create_received().map_err(|e| writing(None, &e))?;
        Ok(Box::new(SnapshotFile::from_std(file)))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        mut snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        let read = async {
            snapshot.seek(SeekFrom::Start(0)).await?;
            snapshot.read_to_end(&mut bytes).await
        };
        read.await.map_err(|e| {
            StorageIoError::read_snapshot(Some(meta.signature()), AnyError::new(&e))
        })?;
        let contents = Contents::decode(&bytes).map_err(|e| {
            StorageIoError::read_snapshot(Some(meta.signature()), AnyError::new(&e))
        })?;
        self.snapshots
            .write(meta, &bytes)
            .and_then(|()| self.snapshots.remove_received())
            .map_err(|e| writing(Some(meta), &e))?;
        *self.position() =
            Position { last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        self.store.write(|state| {
            *state = contents.state;
            ((), Vec::new())
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let Some((meta, path)) = self.snapshots.newest() else {
            return Ok(None);
        };
        let file = SnapshotFile::open(&path).await.map_err(|e| {
            StorageIoError::read_snapshot(Some(meta.signature()), AnyError::new(&e))
        })?;
        Ok(Some(Snapshot { meta, snapshot: Box::new(file) }))
    }
}

/// Writes one snapshot while entries go on being applied.
pub(super) struct Builder {
    meta: SnapshotMeta,
    contents: Option<Contents>,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (meta, snapshots) = (self.meta.clone(), self.snapshots.clone());
        if let Some(contents) = self.contents.take() {
            let written = blocking::run(move || {
                let bytes = contents.encode()?;
                drop(contents);
                snapshots.write(&meta, &bytes)
            });
            written
                .await
                .map_err(|e| StorageIoError::write_snapshot(None, AnyError::new(&e)))?
                .map_err(|e| writing(Some(&self.meta), &e))?;
        }
        let opened = match self.snapshots.newest() {
            Some((_, path)) => SnapshotFile::open(path).await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let file = opened.map_err(|e| {
            StorageIoError::read_snapshot(Some(self.meta.signature()), AnyError::new(&e))
        })?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(file) })
    }
}

fn writing(meta: Option<&SnapshotMeta>, error: &SnapshotError) -> StorageError {
    StorageIoError::write_snapshot(meta.map(SnapshotMeta::signature), AnyError::new(error)).into()
}
