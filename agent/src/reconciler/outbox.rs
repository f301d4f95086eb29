//! Statuses that are on disk and not yet acknowledged: what a session has to send.

use bramble_core::model::TaskStatus;
use bramble_protocol::message::StatusKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Statuses in one frame at most.
const FRAME_STATUSES_MAX: usize = 256;

/// Written by the reconciler as the ledger reports durability, read by the session.
pub struct Outbox {
    statuses: Mutex<BTreeMap<StatusKey, TaskStatus>>,
    changed: watch::Sender<()>,
}

impl Outbox {
    /// Start with what the ledger still held.
    pub fn new(statuses: BTreeMap<StatusKey, TaskStatus>) -> Self {
        Self { statuses: Mutex::new(statuses), changed: watch::Sender::new(()) }
    }

    /// A level trigger: something was put in.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Statuses not among `sent`, in the order of their sequence within a task, marked as sent.
    pub fn take_unsent(&self, sent: &mut BTreeSet<StatusKey>) -> Vec<TaskStatus> {
        let statuses = self.lock();
        sent.retain(|key| statuses.contains_key(key));
        let unsent: Vec<TaskStatus> = statuses
            .iter()
            .filter(|(key, _)| !sent.contains(key))
            .take(FRAME_STATUSES_MAX)
            .map(|(_, status)| status.clone())
            .collect();
        sent.extend(unsent.iter().map(key_of));
        unsent
    }

    /// Whether nothing waits for a master.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn put(&self, superseded: &[StatusKey], status: TaskStatus) {
        {
            let mut statuses = self.lock();
            for key in superseded {
                statuses.remove(key);
            }
            statuses.insert(key_of(&status), status);
        }
        self.changed.send_replace(());
    }

    pub(super) fn remove(&self, keys: &[StatusKey]) {
        let mut statuses = self.lock();
        for key in keys {
            statuses.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StatusKey, TaskStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a status.
pub fn key_of(status: &TaskStatus) -> StatusKey {
    StatusKey { task_id: status.task_id.clone(), sequence: status.sequence }
}
