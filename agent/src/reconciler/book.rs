//! The reconciler's memory: what the ledger holds, and how each thing told of a task becomes a
//! numbered report. Every change of it comes with the ledger changes that make it last.

use super::pod::{self, carried};
use crate::ledger::{Change, Contents, TaskFacts};
use bramble_core::model::{
    Assignment, ContainerStatus, HeldDevice, ProbeReport, Resources, SizeReport, TaskId, TaskState,
    TaskStatus,
};
use bramble_protocol::message::StatusKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest message of a report, in bytes: registries and kernels can be chatty.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Something new of a task, not yet numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub message: String,
    pub exit_code: Option<i32>,
    /// Replaces what was known; `None` keeps it.
    pub healthy: Option<bool>,
    pub ip: Option<String>,
    pub probes: Option<ProbeReport>,
    pub running_since_ms: Option<u64>,
    /// Of a pod's containers, those there is news of.
    pub containers: Vec<ContainerStatus>,
    pub size: Option<SizeReport>,
}

/// A numbered report, the reports it makes needless, and what the ledger must keep of both.
pub(super) struct Report {
    pub status: TaskStatus,
    pub superseded: Vec<StatusKey>,
    pub changes: Vec<Change>,
}

/// What assignments take of the machine, for offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub generation: u64,
    pub taken: Resources,
    /// Host ports, in no order.
    pub ports: Vec<u16>,
    /// A task among them needs a lease.
    pub leased: bool,
    /// Devices, in no order.
    pub devices: Vec<HeldDevice>,
}

pub(super) struct Book {
    pub generation: u64,
    pub assignments: BTreeMap<TaskId, Arc<Assignment>>,
    pub facts: BTreeMap<TaskId, TaskFacts>,
    /// Reports not yet acknowledged, oldest first.
    unacknowledged: BTreeMap<TaskId, Vec<(u32, TaskState)>>,
    boot_id: String,
}

impl Book {
    pub(super) fn new(contents: &Contents, boot_id: String) -> Self {
        let mut unacknowledged: BTreeMap<TaskId, Vec<(u32, TaskState)>> = BTreeMap::new();
        for (key, status) in &contents.statuses {
            let of_task = unacknowledged.entry(key.task_id.clone()).or_default();
            of_task.push((key.sequence, status.state));
        }
        Self {
            generation: contents.generation,
            assignments: contents.assignments.clone(),
            facts: contents.facts.clone(),
            unacknowledged,
            boot_id,
        }
    }

    pub(super) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What of the machine the assignments take. One that ended counts until the cluster forgets
    /// it, because the master counts the same way.
    pub(super) fn held(&self) -> Held {
        let taken = self
            .assignments
            .values()
            .fold(Resources::default(), |sum, a| sum.plus(&a.spec.resources));
        let ports = self.assignments.values().flat_map(|a| a.spec.host_ports.clone()).collect();
        let leased = self.assignments.values().any(|a| a.spec.alone.leased);
        let devices = self.assignments.values().flat_map(|a| &a.spec.devices);
        let devices = devices.map(|device| device.held.clone()).collect();
        Held { generation: self.generation, taken, ports, leased, devices }
    }

    /// The ledger changes of a new assignment set, before it is taken.
    pub(super) fn changes_of(
        &self,
        generation: u64,
        put: &[Arc<Assignment>],
        remove: &[TaskId],
    ) -> Vec<Change> {
        let mut changes = Vec::with_capacity(put.len() + remove.len() + 1);
        changes.extend(put.iter().cloned().map(Change::PutAssignment));
        changes.extend(remove.iter().cloned().map(Change::RemoveAssignment));
        if generation != self.generation {
            changes.push(Change::Generation(generation));
        }
        changes
    }

    /// Take a new assignment set that is on disk.
    pub(super) fn take(&mut self, generation: u64, put: Vec<Arc<Assignment>>, remove: &[TaskId]) {
        self.generation = generation;
        for assignment in put {
            self.assignments.insert(assignment.task_id.clone(), assignment);
        }
        for id in remove {
            self.assignments.remove(id);
        }
    }

    /// Number a report. `None` when the task's end was already told: nothing follows that.
    pub(super) fn report(&mut self, id: &TaskId, state: TaskState, news: News) -> Option<Report> {
        let facts = self.facts.entry(id.clone()).or_insert_with(|| TaskFacts {
            sequence: 0,
            state: TaskState::Staging,
            healthy: None,
            ip: None,
            running_since_ms: None,
            boot_id: self.boot_id.clone(),
            stop_reason: None,
            probes: None,
            containers: Vec::new(),
            size: None,
            ran: false,
            restarts: 0,
            last_end: String::new(),
        });
        if facts.state.is_terminal() {
            return None;
        }
        facts.sequence += 1;
        facts.state = state;
        facts.ran |= state == TaskState::Running;
        facts.boot_id.clone_from(&self.boot_id);
        facts.healthy = news.healthy.or(facts.healthy);
        facts.probes = news.probes.or(facts.probes.take());
        facts.size = news.size.or(facts.size.take());
        facts.ip = news.ip.or(facts.ip.take());
        facts.running_since_ms = news.running_since_ms.or(facts.running_since_ms);
        let pod = self.assignments.get(id).map_or(&[][..], |task| &task.spec.pod);
        let message = match news.message.is_empty() && !state.is_terminal() {
            true => restarted(facts),
            false => bounded(news.message),
        };
        if state.is_terminal() {
            facts.last_end.clone_from(&message);
        }
        facts.containers = carried(&facts.containers, pod, &news.containers, state, &message);
        for container in &mut facts.containers {
            container.message = bounded(std::mem::take(&mut container.message));
        }
        let status = TaskStatus {
            task_id: id.clone(),
            sequence: facts.sequence,
            state,
            message,
            healthy: facts.healthy,
            ip: facts.ip.clone(),
            exit_code: news.exit_code,
            probes: facts.probes.clone(),
            containers: facts.containers.clone(),
            size: facts.size.clone(),
            restarts: facts.restarts,
        };
        let mut changes = vec![Change::PutFacts(id.clone(), facts.clone())];
        let superseded = self.supersede(&status);
        changes.extend(superseded.iter().cloned().map(Change::RemoveStatus));
        changes.push(Change::PutStatus(status.clone()));
        Some(Report { status, superseded, changes })
    }

    /// Whether the end of a task waits to be heard by a master.
    pub(super) fn has_unheard_end(&self, id: &TaskId) -> bool {
        let of_task = self.unacknowledged.get(id);
        of_task.is_some_and(|all| all.iter().any(|(_, state)| state.is_terminal()))
    }

    /// Take back an end that no master has acknowledged: the task begins again. `None` where there
    /// is none.
    pub(super) fn take_back(&mut self, id: &TaskId) -> Option<Report> {
        if !self.has_unheard_end(id) {
            return None;
        }
        let facts = self.facts.get_mut(id)?;
        facts.state = TaskState::Staging;
        facts.healthy = None;
        facts.ip = None;
        facts.running_since_ms = None;
        facts.stop_reason = None;
        facts.probes = None;
        facts.containers.clear();
        facts.restarts = facts.restarts.saturating_add(1);
        // All there was to say of its earlier run.
        let old = self.unacknowledged.remove(id).unwrap_or_default();
        let key = |(sequence, _)| StatusKey { task_id: id.clone(), sequence };
        let old: Vec<StatusKey> = old.into_iter().map(key).collect();
        let mut report = self.report(id, TaskState::Staging, News::default())?;
        report.changes.extend(old.iter().cloned().map(Change::RemoveStatus));
        report.superseded.extend(old);
        Some(report)
    }

    /// Whether containers of a pod, or their health, are not as they were told last.
    pub(super) fn turned(
        &self,
        id: &TaskId,
        containers: &[ContainerStatus],
        healthy: Option<bool>,
    ) -> bool {
        self.facts.get(id).is_none_or(|facts| {
            let told = &facts.containers;
            let carried = carried(told, &[], containers, facts.state, "");
            carried != *told || healthy.is_some() && healthy != facts.healthy
        })
    }

    /// The ids under which a task leaves traces: its containers' too, where it is a pod.
    pub(super) fn traces_of(&self, id: &TaskId) -> Vec<TaskId> {
        let assignment = self.assignments.get(id);
        assignment.map_or(vec![id.clone()], |task| pod::task_ids(task).cloned().collect())
    }

    /// The ids of everything assigned, containers of pods included.
    pub(super) fn assigned_ids(&self) -> BTreeSet<TaskId> {
        self.assignments.values().flat_map(|task| pod::task_ids(task)).cloned().collect()
    }

    /// Drop reports that a newer one makes needless, so that a long absence of masters leaves a
    /// bounded number. That it ran is kept besides its end: the cluster tells users both.
    fn supersede(&mut self, status: &TaskStatus) -> Vec<StatusKey> {
        let of_task = self.unacknowledged.entry(status.task_id.clone()).or_default();
        let needless = |old: TaskState| old != TaskState::Running || !status.state.is_terminal();
        let (gone, mut kept): (Vec<_>, Vec<_>) =
            of_task.iter().partition(|(_, old)| needless(*old));
        kept.push((status.sequence, status.state));
        *of_task = kept;
        let key = |(sequence, _)| StatusKey { task_id: status.task_id.clone(), sequence };
        gone.into_iter().map(key).collect()
    }

    /// Drop reports the master has committed; gives those that were still held.
    pub(super) fn acknowledge(&mut self, keys: Vec<StatusKey>) -> Vec<StatusKey> {
        let held = |key: &StatusKey| {
            let of_task = self.unacknowledged.get_mut(&key.task_id)?;
            let at = of_task.iter().position(|(sequence, _)| *sequence == key.sequence)?;
            of_task.remove(at);
            if of_task.is_empty() {
                self.unacknowledged.remove(&key.task_id);
            }
            Some(())
        };
        let mut held = held;
        keys.into_iter().filter(|key| held(key).is_some()).collect()
    }

    /// Remember why a task is being stopped.
    pub(super) fn note_stop(&mut self, id: &TaskId, reason: &str) -> Vec<Change> {
        let Some(facts) = self.facts.get_mut(id) else {
            return Vec::new();
        };
        facts.stop_reason = Some(reason.to_string());
        vec![Change::PutFacts(id.clone(), facts.clone())]
    }

    /// Drop all that is known of a task; gives its reports that nobody needs any more.
    pub(super) fn forget(&mut self, id: &TaskId) -> (Vec<StatusKey>, Vec<Change>) {
        self.facts.remove(id);
        let keys: Vec<StatusKey> = self
            .unacknowledged
            .remove(id)
            .into_iter()
            .flatten()
            .map(|(sequence, _)| StatusKey { task_id: id.clone(), sequence })
            .collect();
        let mut changes = vec![Change::RemoveFacts(id.clone())];
        changes.extend(keys.iter().cloned().map(Change::RemoveStatus));
        (keys, changes)
    }
}

/// What there is to say of a task that its agent started again by itself.
fn restarted(facts: &TaskFacts) -> String {
    match facts.restarts {
        0 => String::new(),
        times => bounded(format!(
            "started again here, {times}x, while no master could be reached; it had ended: {}",
            facts.last_end
        )),
    }
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::assignment;
    use TaskState::{Failed, Killed, Running, Staging, Starting};

    fn book() -> Book {
        Book::new(&Contents::default(), "boot".into())
    }

    #[test]
    fn newer_reports_replace_older_ones_but_running_stays_beside_the_end() {
        type Case = (&'static [TaskState], &'static [(u32, TaskState)]);
        let cases: [Case; 5] = [
            (&[Staging, Staging], &[(2, Staging)]),
            (&[Staging, Starting, Running], &[(3, Running)]),
            (&[Starting, Running, Running], &[(3, Running)]),
            (&[Starting, Failed], &[(2, Failed)]),
            (&[Starting, Running, Killed], &[(2, Running), (3, Killed)]),
        ];
        let id = TaskId::new("a");
        for (states, left) in cases {
            let mut book = book();
            for state in states {
                book.report(&id, *state, News::default()).expect("not ended");
            }
            assert_eq!(book.unacknowledged[&id], left, "{states:?}");
        }
    }

    #[test]
    fn nothing_follows_an_end() {
        let (mut book, id) = (book(), TaskId::new("a"));
        assert!(book.report(&id, Killed, News::default()).is_some());
        assert!(book.report(&id, Running, News::default()).is_none());
        assert_eq!(book.facts[&id].state, Killed);
    }

    #[test]
    fn acknowledging_drops_only_what_is_named() {
        let (mut book, id) = (book(), TaskId::new("a"));
        book.report(&id, Running, News::default());
        book.report(&id, Killed, News::default());
        let key = |sequence| StatusKey { task_id: TaskId::new("a"), sequence };
        assert_eq!(book.acknowledge(vec![key(1), key(1), key(9)]), [key(1)]);
        assert_eq!(book.acknowledge(vec![key(2)]), [key(2)]);
        assert!(book.unacknowledged.is_empty());
    }

    #[test]
    fn what_is_known_of_a_task_is_carried_on() {
        let (mut book, id) = (book(), TaskId::new("a"));
        let ip = Some("10.0.0.2".to_string());
        book.report(&id, Running, News { ip: ip.clone(), ..News::default() });
        let healthy = News { healthy: Some(true), ..News::default() };
        let report = book.report(&id, Running, healthy).expect("runs");
        assert_eq!((report.status.ip, report.status.healthy), (ip, Some(true)));
        assert_eq!(report.superseded.len(), 1);
    }

    #[test]
    fn held_adds_up_what_assignments_take() {
        let mut book = book();
        let mut second = assignment("b", false);
        second.spec.host_ports = vec![31_000];
        book.take(3, vec![Arc::new(assignment("a", true)), Arc::new(second)], &[]);
        let held = book.held();
        assert_eq!((held.generation, held.taken.cpus_milli, held.ports), (3, 200, vec![31_000]));
        book.take(4, vec![], &[TaskId::new("b")]);
        assert_eq!(book.held().taken.cpus_milli, 100);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let text = bounded("ä".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(text.len(), MESSAGE_BYTES_MAX);
        assert_eq!(bounded(format!("x{text}")).len(), MESSAGE_BYTES_MAX - 1);
    }
}
