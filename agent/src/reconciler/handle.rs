//! What others hold of a reconciler: its handle, and what is seen of each task.

use super::book::Held;
use super::outbox::Outbox;
use super::{Event, Followed, ReconcileError};
use bramble_core::converge::Seen;
use bramble_core::model::{TaskId, VolumeId};
use bramble_protocol::message::{AssignmentSet, StatusKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

/// What is seen of each task, for streams that need to know whether a task lives.
#[derive(Default)]
pub struct Roster(RwLock<BTreeMap<TaskId, Seen>>);

impl Roster {
    /// What is seen of a task; `None` when nothing is.
    pub fn seen(&self, id: &TaskId) -> Option<Seen> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Count the tasks that have not ended.
    pub fn living(&self) -> usize {
        self.snapshot().values().filter(|seen| **seen != Seen::Ended).count()
    }

    pub(super) fn snapshot(&self) -> BTreeMap<TaskId, Seen> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, id: &TaskId, seen: Seen) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), seen);
    }

    pub(super) fn remove(&self, id: &TaskId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The handle of a reconciler.
#[derive(Clone)]
pub struct Reconciling {
    pub(super) events: mpsc::Sender<Event>,
    pub outbox: Arc<Outbox>,
    pub held: watch::Receiver<Held>,
    pub roster: Arc<Roster>,
    /// Volumes given up whose data is gone.
    pub removed: watch::Receiver<BTreeSet<VolumeId>>,
}

impl Reconciling {
    /// Take an assignment set; resolves once it is on disk (or refused).
    ///
    /// # Errors
    /// When the disk does not take it: then nothing changed.
    pub async fn follow(&self, set: AssignmentSet) -> Result<Followed, ReconcileError> {
        let (reply, result) = oneshot::channel();
        let event = Event::Assignments { set, reply };
        self.events.send(event).await.map_err(|_| ReconcileError::Gone)?;
        result.await.map_err(|_| ReconcileError::Gone)?
    }

    /// The master has committed these reports.
    pub async fn acknowledge(&self, keys: Vec<StatusKey>) {
        // Without a reconciler the next life of the agent sends them again.
        let _ = self.events.send(Event::Acknowledged(keys)).await;
    }

    /// The cluster gave these volumes up, and no others.
    pub async fn give_up(&self, ids: BTreeSet<VolumeId>) {
        // Without a reconciler the next session orders it again.
        let _ = self.events.send(Event::GivenUp(ids)).await;
    }

    /// Stop every task with its grace and start no more; resolves when all have ended and their
    /// ends are on disk. The assignments stay: the cluster replaces the tasks.
    ///
    /// # Errors
    /// When the reconciler is gone.
    pub async fn stop_all(&self) -> Result<(), ReconcileError> {
        let (done, all_ended) = oneshot::channel();
        self.events.send(Event::StopAll { done }).await.map_err(|_| ReconcileError::Gone)?;
        all_ended.await.map_err(|_| ReconcileError::Gone)
    }
}
