//! What others hold of a reconciler: its handle, and what is seen of each task.

use super::book::Held;
use super::outbox::Outbox;
use super::{Event, Followed, OwnTask, ReconcileError};
use bramble_core::converge::Seen;
use bramble_core::model::{Assignment, TaskId, VolumeId};
use bramble_protocol::message::{AssignmentSet, StatusKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{mpsc, oneshot, watch};

/// What is seen of each task, for streams that need to know whether a task lives.
#[derive(Default)]
pub struct Roster(RwLock<Sight>);

#[derive(Default)]
struct Sight {
    tasks: BTreeMap<TaskId, Seen>,
    /// Containers of pods by their own ids.
    containers: BTreeMap<TaskId, OfPod>,
}

struct OfPod {
    pod: TaskId,
    name: String,
    /// Before the pod as a whole.
    ended: bool,
}

impl Sight {
    fn seen(&self, id: &TaskId) -> Option<Seen> {
        match self.containers.get(id) {
            Some(container) if container.ended => Some(Seen::Ended),
            Some(container) => self.tasks.get(&container.pod).copied(),
            None => self.tasks.get(id).copied(),
        }
    }
}

impl Roster {
    /// What is seen of a task, or of a container of a pod; `None` when nothing is.
    pub fn seen(&self, id: &TaskId) -> Option<Seen> {
        self.read().seen(id)
    }

    /// Count the tasks that have not ended.
    pub fn living(&self) -> usize {
        self.snapshot().values().filter(|seen| **seen != Seen::Ended).count()
    }

    /// Tasks, without the containers of pods.
    pub(super) fn snapshot(&self) -> BTreeMap<TaskId, Seen> {
        self.read().tasks.clone()
    }

    /// Whatever may still write into its sandbox, containers of pods included.
    pub(super) fn living_ids(&self) -> Vec<TaskId> {
        let sight = self.read();
        let all = sight.tasks.keys().chain(sight.containers.keys());
        all.filter(|id| sight.seen(id).is_some_and(|seen| seen != Seen::Ended)).cloned().collect()
    }

    pub(crate) fn set(&self, id: &TaskId, seen: Seen) {
        self.write().tasks.insert(id.clone(), seen);
    }

    /// Make the containers of a pod known; an app has none.
    pub(super) fn set_containers(&self, pod: &Assignment) {
        if pod.spec.pod.is_empty() {
            return;
        }
        let containers = pod.spec.pod.iter().map(|task| {
            let (pod, name) = (pod.task_id.clone(), task.name.clone());
            (task.task_id.clone(), OfPod { pod, name, ended: false })
        });
        self.write().containers.extend(containers);
    }

    /// These containers of a pod have ended.
    pub(super) fn end_containers<'a>(&self, pod: &TaskId, names: impl Iterator<Item = &'a str>) {
        let mut sight = self.write();
        for name in names {
            let mut of_pod = sight.containers.values_mut().filter(|c| c.pod == *pod);
            if let Some(container) = of_pod.find(|container| container.name == name) {
                container.ended = true;
            }
        }
    }

    pub(super) fn remove(&self, id: &TaskId) {
        let mut sight = self.write();
        if sight.tasks.remove(id).is_some() && !sight.containers.is_empty() {
            sight.containers.retain(|_, container| container.pod != *id);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Sight> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sight> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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

    /// Say that a session with a leader began, or that it ended.
    pub async fn led(&self, led: bool) {
        // Without a reconciler nobody acts on it.
        let _ = self.events.send(Event::Led(led)).await;
    }

    /// Tasks that need a lease may run until this moment (CLOCK_BOOTTIME, milliseconds).
    pub async fn renew(&self, until_ms: u64) {
        // As above; the executors keep what they were told.
        let _ = self.events.send(Event::Lease(until_ms)).await;
    }

    /// The cluster gave these volumes up, and no others.
    pub async fn give_up(&self, ids: BTreeSet<VolumeId>) {
        // Without a reconciler the next session orders it again.
        let _ = self.events.send(Event::GivenUp(ids)).await;
    }

    /// These devices are here, and no others: whoever has another one ends.
    pub async fn devices(&self, keys: BTreeSet<String>) {
        // Without a reconciler nothing is started, and the next one is told anew.
        let _ = self.events.send(Event::Devices(keys)).await;
    }

    /// Everything assigned to this agent, in the order of the task ids.
    ///
    /// # Errors
    /// When the reconciler is gone.
    pub async fn tasks(&self) -> Result<Vec<OwnTask>, ReconcileError> {
        let (reply, told) = oneshot::channel();
        self.events.send(Event::Tell(reply)).await.map_err(|_| ReconcileError::Gone)?;
        told.await.map_err(|_| ReconcileError::Gone)
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
