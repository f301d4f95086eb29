//! What the agent can tell of its tasks by itself, with no master to ask.

use super::{Performer, Reconciler};
use crate::clock;
use bramble_core::model::{Assignment, ContainerStatus, TaskState};
use std::sync::Arc;
use std::time::Duration;

/// A task of this agent, as its ledger has it.
#[derive(Clone, Debug)]
pub struct OwnTask {
    pub assignment: Arc<Assignment>,
    pub state: TaskState,
    pub healthy: Option<bool>,
    pub ip: Option<String>,
    /// `None` where it does not run, or began to in an earlier boot.
    pub running_for: Option<Duration>,
    /// Of a pod; empty for an app.
    pub containers: Vec<ContainerStatus>,
}

impl<P: Performer> Reconciler<P> {
    /// Everything assigned, in the order of the task ids.
    pub(super) fn own_tasks(&self) -> Vec<OwnTask> {
        let now_ms = clock::uptime_ms();
        let told = self.book.assignments.iter().map(|(id, assignment)| {
            let facts = self.book.facts.get(id);
            let since = facts.filter(|f| f.boot_id == self.book.boot_id());
            let since_ms = since.and_then(|f| f.running_since_ms);
            OwnTask {
                assignment: assignment.clone(),
                state: facts.map_or(TaskState::Staging, |f| f.state),
                healthy: facts.and_then(|f| f.healthy),
                ip: facts.and_then(|f| f.ip.clone()),
                running_for: since_ms.map(|ms| Duration::from_millis(now_ms.saturating_sub(ms))),
                containers: facts.map(|f| f.containers.clone()).unwrap_or_default(),
            }
        });
        told.collect()
    }
}
