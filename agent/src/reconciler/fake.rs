//! A machine and an agent on it for tests: does what a test says, remembers what it was told.

use super::*;
use bramble_core::model::{TaskSpec, TaskStatus};
use bramble_protocol::executor::ExitRecord;
use std::future::Future;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Longest wait for something that must happen; nothing depends on how long it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A machine that does what a test tells it to.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) state: Mutex<MachineState>,
    pub(crate) changed: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct MachineState {
    /// Containers by task: whether started, and the ending a test gave.
    pub(crate) containers: BTreeMap<TaskId, FakeLife>,
    pub(crate) log: Vec<String>,
    pub(crate) creating: usize,
    pub(crate) creating_most: usize,
    pub(crate) hold_fetch: bool,
    /// As `hold_fetch`, for tasks with an image only.
    pub(crate) hold_images: bool,
    pub(crate) hold_create: bool,
    pub(crate) refuse: Option<Refusal>,
    pub(crate) refuse_start: Option<TaskId>,
    /// Tasks in which a command was run.
    pub(crate) probed: BTreeSet<TaskId>,
    pub(crate) refuse_resize: Option<Refusal>,
    pub(crate) found: Vec<(TaskId, &'static str)>,
    /// Until when each container may run.
    pub(crate) leases: BTreeMap<TaskId, u64>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeLife {
    pub(crate) ending: Option<Ending>,
}

impl Machine {
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut MachineState) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    pub(crate) fn note(&self, what: &str, id: &TaskId) {
        self.with(|state| state.log.push(format!("{what} {id}")));
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.with(|state| state.log.clone())
    }

    pub(crate) async fn until(&self, mut ready: impl FnMut(&MachineState) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            if ready(&self.state.lock().unwrap()) {
                return;
            }
            changed.changed().await.unwrap();
        }
    }

    pub(crate) fn exit(&self, id: &str, ending: Ending) {
        self.with(|state| {
            state.containers.entry(TaskId::new(id)).or_default().ending = Some(ending);
        });
    }
}

pub(crate) struct FakeContainer {
    machine: Arc<Machine>,
    id: TaskId,
}

impl Container for FakeContainer {
    async fn start(&self) -> Result<(), Refusal> {
        self.machine.note("start", &self.id);
        match self.machine.with(|state| state.refuse_start.as_ref() == Some(&self.id)) {
            true => Err(Refusal::failed("no such program")),
            false => Ok(()),
        }
    }

    async fn resize(&self, spec: &TaskSpec) -> Result<(), Refusal> {
        let bytes = spec.mem_limit_bytes.unwrap_or_default();
        self.machine.note(&format!("resize({bytes})"), &self.id);
        match self.machine.with(|state| state.refuse_resize.clone()) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    async fn renew(&self, until_ms: u64) {
        self.machine.with(|state| state.leases.insert(self.id.clone(), until_ms));
    }

    async fn stop(&self, grace_ms: u64) {
        self.machine.note(&format!("stop({grace_ms})"), &self.id);
        self.machine.exit(self.id.as_str(), Ending::Exited(exited(143, true)));
    }

    async fn wait(&self) -> Ending {
        self.machine.until(|state| state.containers[&self.id].ending.is_some()).await;
        self.machine.with(|state| state.containers[&self.id].ending.clone()).unwrap()
    }

    fn ip(&self) -> Option<String> {
        Some("172.30.0.2".into())
    }
}

pub(crate) struct Fake(Arc<Machine>);

impl Fake {
    async fn create_one(&self, id: &TaskId) -> Result<FakeContainer, Refusal> {
        let id = id.clone();
        self.0.with(|state| {
            state.creating += 1;
            state.creating_most = state.creating_most.max(state.creating);
        });
        self.0.until(|state| !state.hold_create).await;
        self.0.note("create", &id);
        self.0.with(|state| {
            state.creating -= 1;
            state.containers.insert(id.clone(), FakeLife::default());
        });
        match self.0.with(|state| state.refuse.clone()) {
            Some(refusal) => Err(refusal),
            None => Ok(FakeContainer { machine: Arc::clone(&self.0), id }),
        }
    }
}

impl Performer for Fake {
    type Image = ();
    type Container = Whole<FakeContainer>;

    fn seal(
        &self,
        set: &mut AssignmentSet,
        _: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> Result<(), SealError> {
        set.secrets.clear();
        Ok(())
    }

    async fn fetch(&self, task: &Assignment, progress: Progress<'_>) -> Result<(), Refusal> {
        if let Some(image) = &task.spec.image {
            progress(format!("pulling {}", image.reference));
        }
        let has_image = task.spec.image.is_some();
        self.0.until(|state| !(state.hold_fetch || has_image && state.hold_images)).await;
        Ok(())
    }

    async fn create(&self, task: &Assignment, (): ()) -> Result<Whole<FakeContainer>, Refusal> {
        if task.spec.pod.is_empty() {
            return Ok(Whole::One(self.create_one(&task.task_id).await?));
        }
        let mut parts = Vec::new();
        for container in &task.spec.pod {
            parts.push(Part::Live(self.create_one(&container.task_id).await?));
        }
        Ok(Whole::Pod(Pod::new(task, parts)))
    }

    async fn release(&self, id: &TaskId) {
        self.0.note("release", id);
    }

    async fn clean(&self, id: &TaskId) {
        self.0.note("clean", id);
    }

    async fn recover(
        &self,
        assignments: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> BTreeMap<TaskId, Found<Whole<FakeContainer>>> {
        let found = self.0.with(|state| std::mem::take(&mut state.found));
        let found = found.into_iter().map(|(id, kind)| {
            self.0.with(|state| state.containers.insert(id.clone(), FakeLife::default()));
            let container = FakeContainer { machine: Arc::clone(&self.0), id: id.clone() };
            let found = match kind {
                "created" => Found::Created(container),
                "running" => Found::Running(container),
                "exited" => Found::Ended(Ending::Exited(exited(1, false))),
                "finished" => Found::Ended(Ending::Exited(exited(0, false))),
                _ => Found::Dead,
            };
            (id, found)
        });
        assemble(assignments, found.collect())
    }

    async fn sweep(&self, _: BTreeSet<TaskId>) {}

    async fn remove_volumes(&self, ids: BTreeSet<VolumeId>) -> BTreeSet<VolumeId> {
        let (stuck, gone): (BTreeSet<_>, BTreeSet<_>) =
            ids.into_iter().partition(|id| id.as_str().starts_with("stuck"));
        for id in stuck.iter().chain(&gone) {
            self.0.note("remove", &TaskId::new(id.as_str()));
        }
        gone
    }

    async fn run_inside(&self, id: &TaskId, line: &str) -> Result<i32, Refusal> {
        self.0.with(|state| state.probed.insert(id.clone()));
        Ok(i32::from(line == "false"))
    }
}

pub(crate) fn exited(code: i32, stopped: bool) -> ExitRecord {
    ExitRecord { code, oom: false, stopped, failure: None, lease_over: false }
}

/// An agent on a machine, over a ledger in `directory`.
pub(crate) struct Agent {
    pub(crate) handle: Reconciling,
    pub(crate) machine: Arc<Machine>,
    leave: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    pub(crate) generation: u64,
}

impl Agent {
    /// An agent with a session: masters decide.
    pub(crate) async fn start(directory: &Path, machine: &Arc<Machine>, boot_id: &str) -> Agent {
        let agent = Self::start_alone(directory, machine, boot_id).await;
        agent.handle.led(true).await;
        agent
    }

    /// An agent that has found no master yet.
    pub(crate) async fn start_alone(
        directory: &Path,
        machine: &Arc<Machine>,
        boot_id: &str,
    ) -> Agent {
        let (ledger, contents) = Ledger::open(directory).unwrap();
        let fake = Arc::new(Fake(Arc::clone(machine)));
        let generation = contents.generation;
        let (reconciler, handle) =
            Reconciler::recover(fake, ledger, contents, boot_id.into()).await;
        let leave = CancellationToken::new();
        let running = tokio::spawn(reconciler.run(leave.clone()));
        Agent { handle, machine: Arc::clone(machine), leave, running, generation }
    }

    /// The agent's process ends; its containers do not.
    pub(crate) async fn leave(self) {
        self.leave.cancel();
        self.running.await.unwrap();
    }

    pub(crate) async fn assign(&mut self, put: Vec<Assignment>) {
        self.generation += 1;
        let set = AssignmentSet { generation: self.generation, put, ..AssignmentSet::default() };
        assert_eq!(self.handle.follow(set).await.unwrap(), Followed::Taken);
    }

    /// Wait until everything said so far was heard: events are taken in order.
    pub(crate) async fn settle(&self) {
        let set = AssignmentSet::default();
        assert_eq!(self.handle.follow(set).await.unwrap(), Followed::Older);
    }

    /// Every status that waits for a master.
    pub(crate) fn waiting(&self) -> Vec<TaskStatus> {
        self.handle.outbox.take_unsent(&mut BTreeSet::new())
    }

    pub(crate) async fn until(
        &self,
        mut ready: impl FnMut(&[TaskStatus]) -> bool,
    ) -> Vec<TaskStatus> {
        let mut changed = self.handle.outbox.watch();
        let waiting = async {
            loop {
                let waiting = self.waiting();
                if ready(&waiting) {
                    return waiting;
                }
                changed.changed().await.unwrap();
            }
        };
        within(waiting).await
    }

    pub(crate) async fn until_state(&self, id: &str, state: TaskState) -> TaskStatus {
        let is = |s: &TaskStatus| s.task_id.as_str() == id && s.state == state;
        let found = self.until(|waiting| waiting.iter().any(is)).await;
        found.into_iter().find(is).unwrap()
    }

    pub(crate) async fn until_logged(&self, line: &str) {
        within(self.machine.until(|state| state.log.iter().any(|l| l == line))).await;
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}
