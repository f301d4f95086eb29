//! The machine under an agent: containers that live on when the agent dies, and end with the
//! machine. Owns what really runs, which the invariants compare with what the cluster believes.

use crate::fate;
use bramble_agent::reconciler::{Container, Ending, Found, Performer, Progress, Refusal};
use bramble_core::model::{Assignment, Resources, TaskCommand, TaskId, TaskSpec, VolumeId};
use bramble_protocol::executor::ExitRecord;
use bramble_protocol::message::AssignmentSet;
use bramble_protocol::net::SealError;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Longest fetch and creation of a task, in milliseconds.
const FETCH_MS_MAX: u64 = 200;
const CREATE_MS_MAX: u64 = 40;
/// Longest a container takes to end when asked, in milliseconds.
const STOP_MS_MAX: u64 = 300;
/// Of a hundred containers, so many cannot be made.
const REFUSED_PERCENT: u32 = 2;

/// One container of a task.
#[derive(Clone, Debug)]
pub struct Process {
    pub app_id: String,
    pub resources: Resources,
    started: bool,
    /// When it ends, and how.
    ends: Option<(Duration, ExitRecord)>,
    ended: Option<ExitRecord>,
    lasts: Option<Duration>,
    /// It ends then, where it needs a lease.
    lease_ends: Option<Duration>,
}

impl Process {
    pub fn lives(&self) -> bool {
        self.ended.is_none()
    }
}

/// A handle; clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    processes: Mutex<BTreeMap<TaskId, Process>>,
    /// Counts boots: each has a name of its own.
    boots: Mutex<u32>,
    changed: watch::Sender<u64>,
}

impl Machine {
    pub fn new() -> Self {
        let (processes, boots) = (Mutex::default(), Mutex::new(1));
        Self(Arc::new(Inner { processes, boots, changed: watch::Sender::new(0) }))
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<TaskId, Process>> {
        self.0.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boots(&self) -> MutexGuard<'_, u32> {
        self.0.boots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn boot_id(&self) -> String {
        format!("boot-{}", *self.boots())
    }

    /// The power went: nothing runs any more.
    pub fn reboot(&self) {
        *self.boots() += 1;
        self.processes().clear();
    }

    /// What lives, by task.
    pub fn living(&self) -> BTreeMap<TaskId, Process> {
        let processes = self.processes();
        processes.iter().filter(|(_, b)| b.lives()).map(|(id, b)| (id.clone(), b.clone())).collect()
    }

    /// Let end what is due.
    pub fn advance(&self, now: Duration) {
        let mut moved = false;
        for b in self.processes().values_mut().filter(|b| b.lives()) {
            if b.lease_ends.is_some_and(|due| due <= now) {
                b.ended = Some(ExitRecord { lease_over: true, ..exit(143, true) });
                moved = true;
            }
            if let Some((_, exit)) = b.ends.as_ref().filter(|(due, _)| *due <= now) {
                b.ended = Some(exit.clone());
                moved = true;
            }
        }
        if moved {
            self.0.changed.send_modify(|n| *n += 1);
        }
    }
}

/// A container of the machine.
pub struct Held {
    machine: Machine,
    id: TaskId,
}

fn exit(code: i32, stopped: bool) -> ExitRecord {
    ExitRecord { code, oom: false, stopped, failure: None, lease_over: false }
}

impl Container for Held {
    async fn start(&self) -> Result<(), Refusal> {
        let mut processes = self.machine.processes();
        let Some(b) = processes.get_mut(&self.id) else {
            return Err(Refusal::failed("it is gone"));
        };
        b.started = true;
        if let (Some(lasts), None) = (b.lasts, &b.ends) {
            b.ends = Some((fate::now() + lasts, exit(1, false)));
        }
        Ok(())
    }

    async fn resize(&self, spec: &TaskSpec) -> Result<(), Refusal> {
        if let Some(b) = self.machine.processes().get_mut(&self.id) {
            b.resources = spec.resources;
        }
        Ok(())
    }

    async fn renew(&self, until_ms: u64) {
        let until = fate::since_begin(until_ms);
        if let Some(process) = self.machine.processes().get_mut(&self.id) {
            process.lease_ends = Some(until);
        }
    }

    async fn stop(&self, grace_ms: u64) {
        let takes = rand::rng().random_range(0..=STOP_MS_MAX.min(grace_ms));
        let due = fate::now() + Duration::from_millis(takes);
        if let Some(b) = self.machine.processes().get_mut(&self.id)
            && b.ends.as_ref().is_none_or(|(before, _)| *before > due)
        {
            b.ends = Some((due, exit(143, true)));
        }
    }

    async fn wait(&self) -> Ending {
        let mut changed = self.machine.0.changed.subscribe();
        loop {
            match self.machine.processes().get(&self.id) {
                None => return Ending::ExecutorDied,
                Some(b) => {
                    if let Some(exit) = &b.ended {
                        return Ending::Exited(exit.clone());
                    }
                }
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn ip(&self) -> Option<String> {
        None
    }
}

/// How long a task of this command runs by itself: `run MILLISECONDS`; for ever otherwise.
fn lasts(command: &TaskCommand) -> Option<Duration> {
    let TaskCommand::Shell(line) = command else { return None };
    let ms = line.strip_prefix("run ")?.split(' ').next()?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

impl Performer for Machine {
    type Image = ();
    type Container = Held;

    fn seal(
        &self,
        set: &mut AssignmentSet,
        _: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> Result<(), SealError> {
        set.secrets.clear();
        Ok(())
    }

    async fn fetch(&self, _: &Assignment, _: Progress<'_>) -> Result<(), Refusal> {
        let takes = rand::rng().random_range(0..=FETCH_MS_MAX);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        Ok(())
    }

    async fn create(&self, task: &Assignment, (): ()) -> Result<Held, Refusal> {
        let takes = rand::rng().random_range(0..=CREATE_MS_MAX);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        if rand::rng().random_ratio(REFUSED_PERCENT, 100) {
            return Err(Refusal::failed("no such program"));
        }
        let made = Process {
            app_id: task.app_id.as_str().to_string(),
            resources: task.spec.resources,
            started: false,
            ends: None,
            ended: None,
            lasts: lasts(&task.spec.command),
            lease_ends: None,
        };
        self.processes().insert(task.task_id.clone(), made);
        Ok(Held { machine: self.clone(), id: task.task_id.clone() })
    }

    async fn release(&self, _: &TaskId) {}

    async fn clean(&self, id: &TaskId) {
        self.processes().remove(id);
    }

    async fn recover(
        &self,
        _: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> BTreeMap<TaskId, Found<Held>> {
        let found = |(id, b): (&TaskId, &Process)| {
            let held = Held { machine: self.clone(), id: id.clone() };
            let found = match &b.ended {
                Some(exit) => Found::Ended(Ending::Exited(exit.clone())),
                None if b.started => Found::Running(held),
                None => Found::Created(held),
            };
            (id.clone(), found)
        };
        self.processes().iter().map(found).collect()
    }

    async fn sweep(&self, _: BTreeSet<TaskId>) {}

    async fn remove_volumes(&self, ids: BTreeSet<VolumeId>) -> BTreeSet<VolumeId> {
        ids
    }

    async fn run_inside(&self, _: &TaskId, _: &str) -> Result<i32, Refusal> {
        Ok(0)
    }
}
