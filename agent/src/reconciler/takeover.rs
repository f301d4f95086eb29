//! The reconciler's first act: what an earlier life of the agent left is adopted, reported or
//! removed, before anything new happens.

use super::adopt::{Recovery, recovery};
use super::life::{Order, Origin, running_news};
use super::{Container, Performer, Reconciler, Terminal};
use crate::checks::Resumed;
use bramble_core::converge::Seen;
use bramble_core::model::{TaskId, TaskState};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::oneshot;

impl<P: Performer> Reconciler<P> {
    pub(super) async fn take_over(&mut self) {
        let mut found = self.performer.recover(&self.book.assignments).await;
        let ids: BTreeSet<TaskId> = found
            .keys()
            .chain(self.book.assignments.keys())
            .chain(self.book.facts.keys())
            .cloned()
            .collect();
        for id in ids {
            let assignment = self.book.assignments.get(&id).cloned();
            let facts = self.book.facts.get(&id);
            let was_found = found.remove(&id);
            let traces = was_found.is_some();
            match recovery(assignment.as_deref(), facts, was_found, self.book.boot_id()) {
                Recovery::AdoptCreated(container) => self.adopt(&id, Origin::Created(container)),
                Recovery::AdoptRunning(container) => self.adopt_running(&id, container),
                Recovery::Report(terminal) => self.report_unwatched(&id, terminal).await,
                Recovery::Anew if traces => self.remove_traces(&id).await,
                Recovery::Anew => {}
                Recovery::Ended => {
                    self.remove_traces(&id).await;
                    self.roster.set(&id, Seen::Ended);
                }
                Recovery::Clean => {
                    self.remove_traces(&id).await;
                    self.forget(&id);
                }
                Recovery::Discard(container) => self.discard(&id, container),
            }
        }
    }

    fn adopt_running(&mut self, id: &TaskId, container: P::Container) {
        let facts = self.book.facts.get(id);
        let resumed = Resumed {
            healthy: facts.and_then(|facts| facts.healthy),
            probes: facts.and_then(|facts| facts.probes.clone()),
            running_since_ms: facts
                .and_then(|facts| facts.running_since_ms)
                .unwrap_or_else(crate::clock::uptime_ms),
        };
        let sized = facts.and_then(|facts| facts.size.as_ref()).map(|size| size.version);
        if facts.is_none_or(|facts| facts.state != TaskState::Running) {
            self.report(id, TaskState::Running, running_news(container.ip(), None), || {});
        }
        tracing::info!(task_id = %id, "adopted a running task");
        self.adopt(id, Origin::Running(container, resumed, sized));
    }

    fn adopt(&mut self, id: &TaskId, origin: Origin<P::Container>) {
        let Some(assignment) = self.book.assignments.get(id).cloned() else { return };
        let seen =
            if matches!(origin, Origin::Created(_)) { Seen::Starting } else { Seen::Running };
        let grace_ms = assignment.spec.kill_grace_ms;
        self.begin(assignment, origin, seen);
        let stopping = self.book.facts.get(id).and_then(|facts| facts.stop_reason.clone());
        if let Some(reason) = stopping {
            self.stop(id, Order { grace_ms, reason: Some(reason) });
        }
    }

    /// Tell the end of a task that ended unwatched, then remove what it left.
    async fn report_unwatched(&mut self, id: &TaskId, terminal: Terminal) {
        self.performer.release(id).await;
        let (durable, told) = oneshot::channel();
        self.end(id, terminal, durable);
        if told.await.is_ok() {
            self.clean(id).await;
        }
    }

    async fn remove_traces(&self, id: &TaskId) {
        self.performer.release(id).await;
        self.clean(id).await;
    }

    async fn clean(&self, id: &TaskId) {
        for id in self.book.traces_of(id) {
            self.performer.clean(&id).await;
        }
    }

    /// Stop a container that belongs to nobody.
    fn discard(&mut self, id: &TaskId, container: P::Container) {
        tracing::warn!(task_id = %id, "stopping a container nobody assigned");
        let (performer, id) = (Arc::clone(&self.performer), id.clone());
        let traces = self.book.traces_of(&id);
        self.forget(&id);
        self.lives.spawn(async move {
            container.stop(0).await;
            container.wait().await;
            performer.release(&id).await;
            for trace in &traces {
                performer.clean(trace).await;
            }
        });
    }
}
