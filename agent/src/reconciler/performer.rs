//! What the reconciler can have done to the machine, as traits: the real thing is libcontainer,
//! images and networks, a test brings its own.

use super::pod::Ends;
use bramble_core::model::{Assignment, TaskId, TaskSpec, TaskState, VolumeId};
use bramble_protocol::executor::ExitRecord;
use bramble_protocol::message::AssignmentSet;
use bramble_protocol::net::SealError;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Why a task could not be brought up: its end, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// [`TaskState::Failed`] where another try may help, [`TaskState::Error`] where it cannot.
    pub state: TaskState,
    pub message: String,
}

impl Refusal {
    /// The task failed; its app waits as after any failure.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { state: TaskState::Failed, message: message.into() }
    }

    /// The task asks for what this node does not give.
    pub fn error(message: impl Into<String>) -> Self {
        Self { state: TaskState::Error, message: message.into() }
    }

    /// The same of a whole pod, whose container it was about.
    pub fn of_container(self, name: &str) -> Self {
        Self { message: format!("container {name}: {}", self.message), ..self }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(ExitRecord),
    /// Its executor is gone without a word; nothing of the container runs any more.
    ExecutorDied,
    /// Every container of a pod has ended.
    Pod(Ends),
}

/// What an earlier life of the agent left behind of one task.
#[derive(Debug)]
pub enum Found<C> {
    /// Waits to be started.
    Created(C),
    Running(C),
    Ended(Ending),
    /// Without an executor: nothing of it runs, but its traces may still be there.
    Dead,
}

/// Tells the user what a fetch is at.
pub type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// One container, from created to ended.
pub trait Container: Send + Sync + 'static {
    /// Let it run.
    fn start(&self) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Give it the limits of `spec` while it runs; those that hold already are no work.
    fn resize(&self, spec: &TaskSpec) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Let it run until this moment (CLOCK_BOOTTIME, milliseconds) where it needs a lease; it ends
    /// by itself then, whatever becomes of the agent.
    fn renew(&self, until_ms: u64) -> impl Future<Output = ()> + Send;

    /// SIGTERM, then SIGKILL after the grace. A shorter grace replaces a longer one. What became
    /// of it is told by [`Container::wait`] alone.
    fn stop(&self, grace_ms: u64) -> impl Future<Output = ()> + Send;

    /// Resolve when it has ended. May be dropped and called again.
    fn wait(&self) -> impl Future<Output = Ending> + Send;

    /// Its own address, on networks that have one.
    fn ip(&self) -> Option<String>;

    /// Follow the containers of a pod; an app has none.
    fn ends(&self) -> Option<watch::Receiver<Ends>> {
        None
    }
}

/// Everything the reconciler does to the machine.
pub trait Performer: Send + Sync + 'static {
    type Image: Send;
    type Container: Container;

    /// Seal the secrets that came with a set, before anything of it is written. Tasks that are
    /// `held` keep the values they have.
    fn seal(
        &self,
        set: &mut AssignmentSet,
        held: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> Result<(), SealError>;

    /// Bring what the task needs from elsewhere (its image). May be dropped at any point.
    fn fetch(
        &self,
        assignment: &Assignment,
        progress: Progress<'_>,
    ) -> impl Future<Output = Result<Self::Image, Refusal>> + Send;

    /// Make sandbox, container and network; it does not run yet. Leaves nothing behind when it
    /// fails. Never dropped before it resolves.
    fn create(
        &self,
        assignment: &Assignment,
        image: Self::Image,
    ) -> impl Future<Output = Result<Self::Container, Refusal>> + Send;

    /// Give back what an ended task no longer needs (its network, its ports).
    fn release(&self, task_id: &TaskId) -> impl Future<Output = ()> + Send;

    /// Remove every trace but the sandbox, also how it ended: that is in the ledger by now. Of a
    /// pod it is asked once for each container, and last for the pod itself.
    fn clean(&self, task_id: &TaskId) -> impl Future<Output = ()> + Send;

    /// Find what runs or ended while no agent looked, containers of one pod as one; drop networks
    /// that belong to none of it.
    fn recover(
        &self,
        assignments: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> impl Future<Output = BTreeMap<TaskId, Found<Self::Container>>> + Send;

    /// Drop sandboxes of ended tasks that are old, many or large; never those of `keep`.
    fn sweep(&self, keep: BTreeSet<TaskId>) -> impl Future<Output = ()> + Send;

    /// Remove volumes with their data; gives those that are gone.
    fn remove_volumes(
        &self,
        ids: BTreeSet<VolumeId>,
    ) -> impl Future<Output = BTreeSet<VolumeId>> + Send;

    /// Run a shell line inside the task (a COMMAND check); gives its exit code.
    fn run_inside(
        &self,
        task_id: &TaskId,
        line: &str,
    ) -> impl Future<Output = Result<i32, Refusal>> + Send;
}
