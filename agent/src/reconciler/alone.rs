//! What the reconciler does while no master can be reached: start again what ended, stop what its
//! app does not want to run cut off. The rules are `core::alone`; here is what they are asked
//! about.
//!
//! A task goes on under its own id: the end that nobody has acknowledged is taken back, and the
//! next word of it is that it starts. Whoever heard of the end all the same will drop the task from
//! the agent's assignments, which ends it.

use super::life::{Order, Origin};
use super::{Performer, Reconciler, WENT_DOWN};
use bramble_core::alone::{self, Ended};
use bramble_core::converge::Seen;
use bramble_core::model::{Assignment, LaunchDelay, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Told of tasks that were stopped because their app does not want to run cut off.
pub const CUT_OFF: &str = "stopped: no master could be reached for longer than the app bears";
/// Longest pause between two looks, so that a machine that slept does what became due meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How this agent stands to the masters.
pub(super) struct Standing {
    /// Since when there is no session with a leader; `None` while there is one.
    without_ms: Option<u64>,
    /// What failing tasks wait before they are started again here.
    delays: BTreeMap<TaskId, LaunchDelay>,
    /// Until when tasks may run that need a lease; 0 = none yet.
    pub(super) lease: watch::Sender<u64>,
}

impl Standing {
    /// An agent that begins has no session.
    pub(super) fn new() -> Self {
        let without_ms = Some(crate::clock::uptime_ms());
        Self { without_ms, delays: BTreeMap::new(), lease: watch::Sender::new(0) }
    }

    pub(super) fn forget(&mut self, id: &TaskId) {
        self.delays.remove(id);
    }
}

impl<P: Performer> Reconciler<P> {
    /// A session with a leader began, or ended.
    pub(super) fn led(&mut self, led: bool) {
        let without_ms = &mut self.standing.without_ms;
        match led {
            true => *without_ms = None,
            false => drop(without_ms.get_or_insert_with(crate::clock::uptime_ms)),
        }
    }

    /// Tasks that need a lease may run until this moment.
    pub(super) fn renew(&self, until_ms: u64) {
        self.standing.lease.send_if_modified(|held| {
            let later = *held < until_ms;
            *held = until_ms.max(*held);
            later
        });
    }

    /// Count how long a task that has just ended waits, should it be started again here.
    pub(super) fn note_end(&mut self, id: &TaskId) {
        let (Some(task), Some(facts)) = (self.book.assignments.get(id), self.book.facts.get(id))
        else {
            return;
        };
        let delay = self.standing.delays.entry(id.clone()).or_default();
        let (strategy, now) = (&task.spec.alone.backoff, crate::clock::uptime_ms());
        *delay = alone::delay_after(*delay, facts.state, strategy, now);
    }

    /// How long until [`Reconciler::act_alone`] may have something to do.
    pub(super) fn pause(&self) -> Option<Duration> {
        let without_ms = self.standing.without_ms.filter(|_| !self.down)?;
        let tasks = self.roster.snapshot();
        let due = tasks.iter().filter_map(|(id, seen)| self.due(id, *seen, without_ms)).min()?;
        let left = due.saturating_sub(crate::clock::uptime_ms());
        Some(Duration::from_millis(left).min(LOOK_PAUSE))
    }

    /// Do what is due.
    pub(super) fn act_alone(&mut self) {
        let Some(without_ms) = self.standing.without_ms.filter(|_| !self.down) else { return };
        let now = crate::clock::uptime_ms();
        for (id, seen) in self.roster.snapshot() {
            if self.due(&id, seen, without_ms).is_none_or(|at| at > now) {
                continue;
            }
            match seen {
                Seen::Ended => self.restart(&id),
                _ => {
                    let grace_ms =
                        self.book.assignments.get(&id).map_or(0, |a| a.spec.kill_grace_ms);
                    self.stop(&id, Order { grace_ms, reason: Some(CUT_OFF.into()) });
                }
            }
        }
    }

    /// When something is to be done with a task.
    fn due(&self, id: &TaskId, seen: Seen, without_ms: u64) -> Option<u64> {
        let task = self.book.assignments.get(id)?;
        let policy = &task.spec.alone;
        match seen {
            Seen::Starting | Seen::Running => alone::stop_at(policy, without_ms),
            Seen::Stopping => None,
            // What is left of it is still being removed, under the same name.
            Seen::Ended if self.leaving.contains(id) => None,
            Seen::Ended => alone::restart_at(policy, &self.ended(id, task), without_ms),
        }
    }

    fn ended(&self, id: &TaskId, task: &Assignment) -> Ended {
        let reason = self.book.facts.get(id).and_then(|facts| facts.stop_reason.as_deref());
        Ended {
            wanted: task.run,
            acknowledged: !self.book.has_unheard_end(id),
            on_purpose: matches!(reason, Some(WENT_DOWN | CUT_OFF)),
            not_before_ms: self.standing.delays.get(id).map_or(0, |delay| delay.until.0),
        }
    }

    fn restart(&mut self, id: &TaskId) {
        let Some(task) = self.book.assignments.get(id).cloned() else { return };
        let Some(report) = self.book.take_back(id) else { return };
        tracing::info!(task_id = %id, why = report.status.message, "starting a task again");
        self.write(report, || {});
        self.begin(task, Origin::Fresh, Seen::Starting);
    }
}

/// A task that has run before finds its files in its sandbox, and its image on this machine:
/// nothing is brought from a network that may not be there.
pub(super) fn at_hand(task: Arc<Assignment>) -> Arc<Assignment> {
    let mut again = (*task).clone();
    let containers = again.spec.pod.iter_mut().map(|container| &mut container.spec);
    for spec in containers {
        spec.fetch.clear();
        spec.image.iter_mut().for_each(|image| image.force_pull = false);
    }
    again.spec.fetch.clear();
    again.spec.image.iter_mut().for_each(|image| image.force_pull = false);
    Arc::new(again)
}

#[cfg(test)]
#[path = "alone_tests.rs"]
mod tests;
