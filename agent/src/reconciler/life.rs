//! One task, from its assignment to its end: fetch, create, start, watch, tell.
//!
//! ```text
//! fetch (bounded) -> create + start (bounded) -> run, checks -> ended -> release -> told -> clean
//! ```
//!
//! A life decides nothing about whether it should live: orders come from the reconciler, and
//! everything that happens goes back there as news.

use super::book::News;
use super::ending::{Terminal, judge};
use super::performer::{Container, Performer, Refusal};
use super::pod::task_ids;
use super::watching::Watch;
use super::{Event, TaskNews};
use crate::checks::Resumed;
use bramble_core::lease::may_begin;
use bramble_core::model::{Assignment, SizeReport, TaskId, TaskSpec, Time};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Tasks whose container is being made at the same time. More would only share the same cores:
/// one start is about 30 ms of CPU.
pub(super) const STARTS_MAX: usize = 8;
/// Tasks whose image is being fetched at the same time: bandwidth and disk are shared anyway.
const FETCHES_MAX: usize = 8;
/// Probes of health checks under way at the same time.
const PROBES_MAX: usize = 64;
/// Progress of a fetch is told at most this often; each telling is a Raft entry.
const PROGRESS_PAUSE: Duration = Duration::from_secs(5);

/// What bounds the work of all tasks together.
pub(super) struct Gates {
    starts: Semaphore,
    fetches: Semaphore,
    pub(super) probes: Arc<Semaphore>,
}

impl Gates {
    pub(super) fn new() -> Self {
        Self {
            starts: Semaphore::new(STARTS_MAX),
            fetches: Semaphore::new(FETCHES_MAX),
            probes: Arc::new(Semaphore::new(PROBES_MAX)),
        }
    }
}

/// The order to stop; there is no other order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub grace_ms: u64,
    /// Told at the end instead of the exit code, where it is worth telling.
    pub reason: Option<String>,
}

/// What the reconciler holds of a life.
pub(super) struct Reins {
    pub orders: watch::Sender<Option<Order>>,
    /// Its assignment as it is now. Only the size of a task that runs ever changes.
    pub assigned: watch::Sender<Arc<Assignment>>,
}

/// Where a life begins.
pub(super) enum Origin<C> {
    Fresh,
    Created(C),
    /// With the version of the size that was last told of.
    Running(C, Resumed, Option<Time>),
}

pub(super) struct Life<P: Performer> {
    pub performer: Arc<P>,
    pub assignment: Arc<Assignment>,
    pub orders: watch::Receiver<Option<Order>>,
    pub assigned: watch::Receiver<Arc<Assignment>>,
    pub events: mpsc::Sender<Event>,
    pub gates: Arc<Gates>,
    /// Until when it may run, should it need a lease.
    pub lease: watch::Receiver<u64>,
}

impl<P: Performer> Life<P> {
    /// Live the task to its end and until its end is on disk.
    pub(super) async fn live(self, origin: Origin<P::Container>) {
        let terminal = self.to_the_end(origin).await;
        let id = self.id();
        // Ports and addresses first: the cluster may give them away once it knows of the end.
        self.performer.release(id).await;
        let (durable, told) = oneshot::channel();
        self.tell(TaskNews::Ended { terminal, durable }).await;
        // The record of the exit goes only when the ledger has it. An error: the agent goes down,
        // and its next life finds the record.
        if told.await.is_ok() {
            for id in task_ids(&self.assignment) {
                self.performer.clean(id).await;
            }
            self.tell(TaskNews::Cleaned).await;
        }
    }

    async fn to_the_end(&self, origin: Origin<P::Container>) -> Terminal {
        match origin {
            Origin::Running(container, resumed, sized) => {
                // The last change of its size may have been written down and no further.
                self.run(container, resumed, sized, true).await
            }
            Origin::Created(container) => {
                if !self.may_begin().await {
                    container.stop(0).await;
                    container.wait().await;
                    return self.never_ran();
                }
                let Ok(permit) = self.gates.starts.acquire().await else {
                    return self.never_ran();
                };
                self.start(container, permit).await
            }
            Origin::Fresh => match self.fetch().await {
                Err(terminal) => terminal,
                Ok(image) => self.create(image).await,
            },
        }
    }

    async fn fetch(&self) -> Result<P::Image, Terminal> {
        let told: Mutex<Option<Instant>> = Mutex::new(None);
        let progress = |text: String| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none_or(|at| at.elapsed() >= PROGRESS_PAUSE) {
                *told = Some(Instant::now());
                let task_id = self.id().clone();
                // Lost when the reconciler is behind: the next one says more anyway.
                let _ = self.events.try_send(Event::Task(task_id, TaskNews::Progress(text)));
            }
        };
        let work = async {
            // The gates are never closed. A command task has nothing to fetch and does not wait
            // behind pulls from a registry that does not answer.
            let _permit = match has_image(&self.assignment.spec) {
                true => Some(self.gates.fetches.acquire().await),
                false => None,
            };
            self.performer.fetch(&self.assignment, &progress).await
        };
        tokio::select! {
            biased;
            () = self.ordered() => Err(self.never_ran()),
            fetched = work => fetched.map_err(Terminal::from),
        }
    }

    /// Wait until the task may begin to run, at once unless it needs a lease; false when it shall
    /// stop instead.
    async fn may_begin(&self) -> bool {
        if !self.assignment.spec.alone.leased {
            return true;
        }
        let mut lease = self.lease.clone();
        let holds = |until: &u64| may_begin(*until, crate::clock::uptime_ms());
        tokio::select! {
            biased;
            () = self.ordered() => false,
            // The reconciler holds the other end for as long as this life.
            held = lease.wait_for(holds) => held.is_ok(),
        }
    }

    /// Let a container run, under the lease where it needs one.
    async fn let_run(&self, container: &P::Container) -> Result<(), Refusal> {
        if self.assignment.spec.alone.leased {
            let until_ms = *self.lease.borrow();
            container.renew(until_ms).await;
        }
        container.start().await
    }

    async fn create(&self, image: P::Image) -> Terminal {
        if !self.may_begin().await {
            return self.never_ran();
        }
        let permit = tokio::select! {
            biased;
            () = self.ordered() => return self.never_ran(),
            permit = self.gates.starts.acquire() => permit,
        };
        self.tell(TaskNews::Starting).await;
        let container = match self.performer.create(&self.assignment, image).await {
            Ok(container) => container,
            Err(refusal) if self.order().is_none() => return refusal.into(),
            Err(_) => return self.never_ran(),
        };
        if self.order().is_some() {
            container.stop(0).await;
            container.wait().await;
            return self.never_ran();
        }
        if let Err(refusal) = self.let_run(&container).await {
            return self.failed_to_start(container, refusal).await;
        }
        drop(permit);
        self.running(container).await
    }

    /// Start a container an earlier life of the agent had created. The permit is for the start
    /// only: kept for the container's life, it would keep others from ever starting.
    async fn start(&self, container: P::Container, permit: SemaphorePermit<'_>) -> Terminal {
        let started = self.let_run(&container).await;
        drop(permit);
        match started {
            Ok(()) => self.running(container).await,
            Err(refusal) => self.failed_to_start(container, refusal).await,
        }
    }

    async fn failed_to_start(&self, container: P::Container, refusal: Refusal) -> Terminal {
        container.stop(0).await;
        let ending = container.wait().await;
        let Terminal { containers, .. } =
            judge(&ending, &self.assignment.spec, Some(&refusal.message));
        Terminal { containers, ..refusal.into() }
    }

    async fn running(&self, container: P::Container) -> Terminal {
        let version = self.assignment.app_version;
        self.tell(TaskNews::Running { ip: container.ip(), version }).await;
        let running_since_ms = crate::clock::uptime_ms();
        let resumed = Resumed { healthy: None, probes: None, running_since_ms };
        self.run(container, resumed, Some(version), false).await
    }

    /// Watch a running container to its end. `sized` is the version of the size last told of;
    /// `resize` has it set anew in any case.
    async fn run(
        &self,
        container: P::Container,
        resumed: Resumed,
        mut sized: Option<Time>,
        resize: bool,
    ) -> Terminal {
        let (performer, gate) = (&self.performer, &self.gates.probes);
        let mut watch = Watch::begin(performer, &self.assignment, &container, resumed, gate);
        let mut orders = self.orders.clone();
        orders.mark_changed();
        let mut assigned = self.assigned.clone();
        if resize {
            assigned.mark_changed();
        }
        let mut lease = self.lease.clone();
        lease.mark_changed();
        let leased = self.assignment.spec.alone.leased;
        let mut in_force = Arc::clone(&self.assignment);
        let mut ending = pin!(container.wait());
        let ending = loop {
            tokio::select! {
                ending = &mut ending => break ending,
                Ok(()) = orders.changed() => {
                    let order = orders.borrow_and_update().clone();
                    if let Some(order) = order {
                        watch.end();
                        container.stop(order.grace_ms).await;
                    }
                }
                news = watch.next() => self.tell(news).await,
                Ok(()) = lease.changed(), if leased => {
                    let until_ms = *lease.borrow_and_update();
                    container.renew(until_ms).await;
                }
                Ok(()) = assigned.changed() => {
                    let wanted = assigned.borrow_and_update().clone();
                    if self.resize(&container, &wanted, &mut sized).await {
                        in_force = wanted;
                    }
                }
            }
        };
        let reason = self.order().and_then(|order| order.reason);
        judge(&ending, &in_force.spec, reason.as_deref())
    }

    /// Give a running container the size it is now assigned, and tell of a version not told of
    /// yet. Gives whether it has that size.
    async fn resize(
        &self,
        container: &P::Container,
        wanted: &Assignment,
        sized: &mut Option<Time>,
    ) -> bool {
        if self.order().is_some() {
            return false;
        }
        let refused = container.resize(&wanted.spec).await.err().map(|refusal| refusal.message);
        let (version, done) = (wanted.app_version, refused.is_none());
        if let Some(why) = &refused {
            tracing::warn!(task_id = %self.id(), why, "a task keeps its earlier size");
        }
        if sized.replace(version) != Some(version) {
            self.tell(TaskNews::Resized(SizeReport { version, refused })).await;
        }
        done
    }

    fn never_ran(&self) -> Terminal {
        let reason = self.order().and_then(|order| order.reason);
        Terminal::killed(reason.unwrap_or_else(|| "stopped before it ran".into()))
    }

    fn id(&self) -> &TaskId {
        &self.assignment.task_id
    }

    fn order(&self) -> Option<Order> {
        self.orders.borrow().clone()
    }

    /// Resolve once the task shall stop.
    async fn ordered(&self) {
        let mut orders = self.orders.clone();
        if orders.wait_for(Option::is_some).await.is_err() {
            // Without a reconciler nobody orders anything; this life is about to be dropped.
            std::future::pending::<()>().await;
        }
    }

    async fn tell(&self, news: TaskNews) {
        // Fails only when the reconciler is gone, and with it everybody who would want to know.
        let _ = self.events.send(Event::Task(self.id().clone(), news)).await;
    }
}

/// Whether a task, or a container of it, comes from an image.
fn has_image(spec: &TaskSpec) -> bool {
    spec.image.is_some() || spec.pod.iter().any(|task| task.spec.image.is_some())
}

/// The report of a task that (still) runs.
pub(super) fn running_news(ip: Option<String>, size: Option<SizeReport>) -> News {
    let running_since_ms = Some(crate::clock::uptime_ms());
    News { ip, running_since_ms, size, ..News::default() }
}
