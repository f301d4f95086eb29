//! Brings what runs on this machine towards what the cluster assigned to it.
//!
//! One task owns all of it: assignments, what is seen of each task, the numbers of reports. It
//! takes events one by one, so that nothing here needs a lock. It never talks to a master: sets
//! come in through [`Reconciling`], reports go out through the [`Outbox`].

mod adopt;
mod alone;
mod book;
mod devices;
mod ending;
mod follow;
mod given_up;
mod handle;
mod life;
mod outbox;
mod performer;
mod pod;
mod takeover;
mod tell;
mod watching;

pub use alone::CUT_OFF;
pub use book::Held;
pub use devices::UNPLUGGED;
pub use ending::Terminal;
pub use follow::{Follow, follow};
pub use handle::{Reconciling, Roster};
pub use outbox::{Outbox, key_of};
pub use performer::{Container, Ending, Found, Performer, Progress, Refusal};
pub use pod::{Ends, Part, Pod, Whole, assemble, member, owners};
pub use tell::OwnTask;

use crate::ledger::{Change, Contents, Ledger, LedgerError};
use alone::Standing;
use book::{Book, News, Report};
use bramble_core::converge::{Action, Seen, Wanted, converge};
use bramble_core::model::{
    Assignment, ContainerStatus, ProbeReport, SizeReport, TaskId, TaskState, Time, VolumeId,
};
use bramble_protocol::message::{AssignmentSet, StatusKey};
use bramble_protocol::net::SealError;
use given_up::GivenUp;
use life::{Gates, Life, Order, Origin, Reins, running_news};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Events waiting for the reconciler; beyond it whoever has news waits.
const EVENTS_MAX: usize = 1024;
/// Told of tasks that `bramble down` stopped: their apps do not wait before the next launch.
pub const WENT_DOWN: &str = "node went down";
/// Told of tasks their health checks ended.
pub const UNHEALTHY: &str = "health check failed";

#[derive(Debug, Error)]
pub enum ReconcileError {
    #[error("the assignments could not be made durable")]
    Ledger(#[source] LedgerError),
    #[error("the secrets of an assignment set")]
    Seal(#[source] SealError),
    #[error("the reconciler is gone")]
    Gone,
}

/// What became of an assignment set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// On disk and being acted on.
    Taken,
    /// Refused: the leader that sent it is behind.
    Older,
    /// A complete set is needed.
    Gap,
}

pub(crate) enum Event {
    Assignments {
        set: AssignmentSet,
        reply: oneshot::Sender<Result<Followed, ReconcileError>>,
    },
    Acknowledged(Vec<StatusKey>),
    /// A session with a leader began, or ended.
    Led(bool),
    /// Until when tasks may run that need a lease.
    Lease(u64),
    Task(TaskId, TaskNews),
    /// Somebody asks for all tasks.
    Tell(oneshot::Sender<Vec<OwnTask>>),
    StopAll {
        done: oneshot::Sender<()>,
    },
    /// All volumes that the cluster gave up.
    GivenUp(BTreeSet<VolumeId>),
    VolumesRemoved(BTreeSet<VolumeId>),
    /// Keys of all devices that are here.
    Devices(BTreeSet<String>),
}

pub(crate) enum TaskNews {
    Progress(String),
    Starting,
    /// It runs, with the size of this version of its app.
    Running {
        ip: Option<String>,
        version: Time,
    },
    Resized(SizeReport),
    /// A probe turned.
    Probed {
        healthy: Option<bool>,
        probes: ProbeReport,
    },
    /// Containers of a pod turned; all of them as they are now.
    Containers {
        containers: Vec<ContainerStatus>,
        healthy: Option<bool>,
        probes: ProbeReport,
    },
    Unhealthy {
        /// Which of a pod's.
        container: Option<String>,
    },
    Ended {
        terminal: Terminal,
        durable: oneshot::Sender<()>,
    },
    Cleaned,
}

/// See the module.
pub struct Reconciler<P: Performer> {
    performer: Arc<P>,
    ledger: Ledger,
    book: Book,
    roster: Arc<Roster>,
    outbox: Arc<Outbox>,
    held: watch::Sender<Held>,
    gates: Arc<Gates>,
    reins: BTreeMap<TaskId, Reins>,
    lives: JoinSet<()>,
    sweeping: Option<tokio::task::AbortHandle>,
    given_up: GivenUp,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// Set by `bramble down`: nothing is started any more.
    down: bool,
    all_ended: Vec<oneshot::Sender<()>>,
    /// Tasks whose end is not yet on disk, or whose traces are not yet removed.
    leaving: BTreeSet<TaskId>,
    standing: Standing,
}

impl<P: Performer> Reconciler<P> {
    /// Take over from an earlier life: adopt what lives, report what ended, clean what is dead.
    pub async fn recover(
        performer: Arc<P>,
        ledger: Ledger,
        contents: Contents,
        boot_id: String,
    ) -> (Self, Reconciling) {
        let book = Book::new(&contents, boot_id);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (held, held_watch) = watch::channel(book.held());
        let (given_up, removed) = GivenUp::new();
        let mut reconciler = Self {
            performer,
            ledger,
            book,
            roster: Arc::default(),
            outbox: Arc::new(Outbox::new(contents.statuses)),
            held,
            gates: Arc::new(Gates::new()),
            reins: BTreeMap::new(),
            lives: JoinSet::new(),
            sweeping: None,
            given_up,
            events,
            sender: sender.clone(),
            down: false,
            all_ended: Vec::new(),
            leaving: BTreeSet::new(),
            standing: Standing::new(),
        };
        reconciler.take_over().await;
        let handle = Reconciling {
            events: sender,
            outbox: Arc::clone(&reconciler.outbox),
            held: held_watch,
            roster: Arc::clone(&reconciler.roster),
            removed,
        };
        (reconciler, handle)
    }

    /// Start nothing, from the beginning (a `bramble down` without a running agent).
    pub fn start_nothing(&mut self) {
        self.down = true;
    }

    /// Reconcile until told to leave. Containers run on without the agent.
    pub async fn run(mut self, leave: CancellationToken) {
        self.converge();
        loop {
            let pause = self.pause();
            let alone = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leave.cancelled() => break,
                () = alone => self.act_alone(),
                Some(event) = self.events.recv() => self.handle(event).await,
                Some(ended) = self.lives.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task's life ended early");
                    }
                }
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Assignments { set, reply } => {
                let result = self.take_set(set).await;
                // The session may have ended meanwhile; what was taken stands.
                let _ = reply.send(result);
            }
            Event::Acknowledged(keys) => {
                self.outbox.remove(&keys);
                let gone = self.book.acknowledge(keys);
                self.keep(gone.into_iter().map(Change::RemoveStatus).collect());
            }
            Event::Led(led) => self.led(led),
            Event::Lease(until_ms) => self.renew(until_ms),
            Event::Task(id, news) => self.hear(&id, news),
            // Whoever asked may have left.
            Event::Tell(reply) => drop(reply.send(self.own_tasks())),
            Event::GivenUp(ids) => self.give_up(ids),
            Event::VolumesRemoved(gone) => self.volumes_removed(gone),
            Event::Devices(here) => self.end_unplugged(&here),
            Event::StopAll { done } => {
                self.down = true;
                self.all_ended.push(done);
                self.stop_everything();
            }
        }
    }

    async fn take_set(&mut self, mut set: AssignmentSet) -> Result<Followed, ReconcileError> {
        let sealed = self.performer.seal(&mut set, &self.book.assignments);
        sealed.map_err(ReconcileError::Seal)?;
        let generation = set.generation;
        let (put, remove) = match follow(self.book.generation, &self.book.assignments, set) {
            Follow::Older => return Ok(Followed::Older),
            Follow::Gap => return Ok(Followed::Gap),
            Follow::Change { put, remove } => (put, remove),
        };
        let changes = self.book.changes_of(generation, &put, &remove);
        self.ledger.write(changes).await.map_err(ReconcileError::Ledger)?;
        for assignment in &put {
            self.resize(assignment);
        }
        self.book.take(generation, put, &remove);
        self.publish_held();
        self.converge();
        self.remove_volumes();
        Ok(Followed::Taken)
    }

    fn hear(&mut self, id: &TaskId, news: TaskNews) {
        let plain = News::default();
        match news {
            TaskNews::Progress(message) => {
                self.report(id, TaskState::Staging, News { message, ..plain }, || {});
            }
            TaskNews::Starting => self.report(id, TaskState::Starting, plain, || {}),
            TaskNews::Running { ip, version } => {
                let size = Some(SizeReport { version, refused: None });
                self.report(id, TaskState::Running, running_news(ip, size), || {});
                if self.roster.seen(id) == Some(Seen::Starting) {
                    self.roster.set(id, Seen::Running);
                }
            }
            TaskNews::Resized(size) => {
                let news = News { size: Some(size), ..plain };
                self.report(id, TaskState::Running, news, || {});
            }
            TaskNews::Probed { healthy, probes } => {
                let news = News { healthy, probes: Some(probes), ..plain };
                self.report(id, TaskState::Running, news, || {});
            }
            TaskNews::Containers { containers, healthy, probes } => {
                let ended = containers.iter().filter(|c| c.state.is_terminal());
                self.roster.end_containers(id, ended.map(|container| container.name.as_str()));
                if self.book.turned(id, &containers, healthy) {
                    let news = News { containers, healthy, probes: Some(probes), ..plain };
                    self.report(id, TaskState::Running, news, || {});
                }
            }
            TaskNews::Unhealthy { container } => self.stop_unhealthy(id, container),
            TaskNews::Ended { terminal, durable } => {
                self.leaving.insert(id.clone());
                self.end(id, terminal, durable);
                self.converge();
                self.sweep();
            }
            TaskNews::Cleaned => {
                self.leaving.remove(id);
                self.tell_when_all_ended();
            }
        }
    }

    fn stop_unhealthy(&mut self, id: &TaskId, container: Option<String>) {
        let Some(assignment) = self.book.assignments.get(id) else { return };
        let grace_ms = assignment.spec.kill_grace_ms;
        let reason = match container {
            None => UNHEALTHY.to_string(),
            Some(name) => format!("container {name}: {UNHEALTHY}"),
        };
        self.stop(id, Order { grace_ms, reason: Some(reason) });
    }

    /// The last report of a task; `durable` hears when it is on disk.
    fn end(&mut self, id: &TaskId, terminal: Terminal, durable: oneshot::Sender<()>) {
        let Terminal { state, message, exit_code, containers } = terminal;
        let news = News { message, exit_code, containers, ..News::default() };
        // The asker is gone only together with the agent.
        self.report(id, state, news, move || {
            let _ = durable.send(());
        });
        self.note_end(id);
        self.reins.remove(id);
        self.roster.set(id, Seen::Ended);
    }

    /// Number a report and hand it on: to the ledger, then to the outbox, then to `durable`.
    fn report(
        &mut self,
        id: &TaskId,
        state: TaskState,
        news: News,
        durable: impl FnOnce() + Send + 'static,
    ) {
        let Some(report) = self.book.report(id, state, news) else { return };
        self.write(report, durable);
    }

    /// Hand a report on.
    fn write(&mut self, report: Report, durable: impl FnOnce() + Send + 'static) {
        let id = report.status.task_id.clone();
        tracing::info!(
            task_id = %id,
            state = report.status.state.as_str(),
            message = report.status.message,
            healthy = report.status.healthy,
            "task"
        );
        let outbox = Arc::clone(&self.outbox);
        let kept = self.ledger.keep(report.changes, move || {
            outbox.put(&report.superseded, report.status);
            durable();
        });
        if let Err(error) = kept {
            tracing::error!(task_id = %id, error = &error as &dyn std::error::Error, "report lost");
        }
    }

    fn keep(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.keep_then(changes, || {});
        }
    }

    fn keep_then(&self, changes: Vec<Change>, durable: impl FnOnce() + Send + 'static) {
        if let Err(error) = self.ledger.keep(changes, durable) {
            tracing::error!(error = &error as &dyn std::error::Error, "ledger is gone");
        }
    }

    fn converge(&mut self) {
        let wanted = self
            .book
            .assignments
            .iter()
            .map(|(id, a)| {
                let wanted = Wanted { run: a.run, kill_grace_ms: a.spec.kill_grace_ms };
                (id.clone(), wanted)
            })
            .collect();
        for action in converge(&wanted, &self.roster.snapshot()) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(_) if self.down => {}
            Action::Start(id) => {
                if let Some(assignment) = self.book.assignments.get(&id).cloned() {
                    self.begin(assignment, Origin::Fresh, Seen::Starting);
                }
            }
            Action::Stop { task_id, grace_ms } => {
                self.stop(&task_id, Order { grace_ms, reason: None });
            }
            Action::ReportNeverStarted(id) => {
                // Nobody waits for it to be on disk: nothing of it needs cleaning.
                let (durable, _) = oneshot::channel();
                self.end(&id, Terminal::killed("stopped before it ran"), durable);
            }
            Action::Forget(id) => self.forget(&id),
        }
    }

    fn begin(&mut self, assignment: Arc<Assignment>, origin: Origin<P::Container>, seen: Seen) {
        let id = assignment.task_id.clone();
        let ran = self.book.facts.get(&id).is_some_and(|facts| facts.ran);
        let fresh = matches!(origin, Origin::Fresh);
        let assignment = if ran && fresh { alone::at_hand(assignment) } else { assignment };
        let (orders, heard) = watch::channel(None);
        let (assign, assigned) = watch::channel(Arc::clone(&assignment));
        let life = Life {
            performer: Arc::clone(&self.performer),
            assignment,
            orders: heard,
            assigned,
            events: self.sender.clone(),
            gates: Arc::clone(&self.gates),
            lease: self.standing.lease.subscribe(),
        };
        self.reins.insert(id.clone(), Reins { orders, assigned: assign });
        self.roster.set(&id, seen);
        self.roster.set_containers(&life.assignment);
        self.lives.spawn(life.live(origin));
    }

    /// Hand an assignment that is on disk to the life it belongs to, where its size has changed.
    fn resize(&self, assignment: &Arc<Assignment>) {
        let Some(reins) = self.reins.get(&assignment.task_id) else { return };
        reins.assigned.send_if_modified(|held| {
            let changed = held.app_version != assignment.app_version;
            if changed {
                *held = Arc::clone(assignment);
            }
            changed
        });
    }

    fn stop(&mut self, id: &TaskId, order: Order) {
        let Some(reins) = self.reins.get(id) else { return };
        reins.orders.send_replace(Some(order.clone()));
        self.roster.set(id, Seen::Stopping);
        if let Some(reason) = order.reason {
            let changes = self.book.note_stop(id, &reason);
            self.keep(changes);
        }
    }

    fn stop_everything(&mut self) {
        for (id, seen) in self.roster.snapshot() {
            if matches!(seen, Seen::Starting | Seen::Running) {
                let assignment = self.book.assignments.get(&id);
                let grace_ms = assignment.map_or(0, |a| a.spec.kill_grace_ms);
                self.stop(&id, Order { grace_ms, reason: Some(WENT_DOWN.into()) });
            }
        }
        self.tell_when_all_ended();
    }

    fn tell_when_all_ended(&mut self) {
        let over = self.roster.snapshot().values().all(|seen| *seen == Seen::Ended);
        if self.down && over && self.leaving.is_empty() {
            for done in self.all_ended.drain(..) {
                // Whoever asked may have given up waiting.
                let _ = done.send(());
            }
        }
    }

    fn forget(&mut self, id: &TaskId) {
        self.roster.remove(id);
        self.standing.forget(id);
        let (keys, changes) = self.book.forget(id);
        let outbox = Arc::clone(&self.outbox);
        // By way of the ledger: a report on its way to the outbox must not come after this.
        self.keep_then(changes, move || outbox.remove(&keys));
    }

    fn publish_held(&self) {
        let held = self.book.held();
        self.held.send_if_modified(|old| {
            let modified = *old != held;
            *old = held;
            modified
        });
    }

    /// Have old sandboxes removed, one sweep at a time.
    fn sweep(&mut self) {
        if self.sweeping.as_ref().is_some_and(|sweep| !sweep.is_finished()) {
            return;
        }
        let mut keep = self.book.assigned_ids();
        keep.extend(self.roster.living_ids());
        let performer = Arc::clone(&self.performer);
        self.sweeping = Some(self.lives.spawn(async move { performer.sweep(keep).await }));
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
#[path = "reconciler/tests.rs"]
mod tests;
