//! The agent's decision: desired tasks x observed tasks -> actions.

use crate::model::TaskId;
use std::collections::BTreeMap;

/// What is wanted of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub run: bool,
    pub kill_grace_ms: u64,
}

/// What the agent sees of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Being brought up: images, network, executor.
    Starting,
    Running,
    /// Told to stop.
    Stopping,
    /// Ended; its last status is in the ledger.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start(TaskId),
    Stop { task_id: TaskId, grace_ms: u64 },
    /// It shall not run and nothing of it runs: report it as killed.
    ReportNeverStarted(TaskId),
    /// The cluster no longer knows it: remove what is left of it.
    Forget(TaskId),
}

/// Actions that bring `seen` towards `wanted`, in task order. Calling it again after its actions
/// were performed gives nothing new (a fixed point).
pub fn converge(wanted: &BTreeMap<TaskId, Wanted>, seen: &BTreeMap<TaskId, Seen>) -> Vec<Action> {
    let mut actions = Vec::new();
    for (task_id, want) in wanted {
        match (want.run, seen.get(task_id)) {
            (true, None) => actions.push(Action::Start(task_id.clone())),
            (false, None) => actions.push(Action::ReportNeverStarted(task_id.clone())),
            (false, Some(Seen::Starting | Seen::Running)) => actions
                .push(Action::Stop { task_id: task_id.clone(), grace_ms: want.kill_grace_ms }),
            _ => {}
        }
    }
    for (task_id, seen) in seen {
        if wanted.contains_key(task_id) {
            continue;
        }
        match seen {
            Seen::Starting | Seen::Running => {
                actions.push(Action::Stop { task_id: task_id.clone(), grace_ms: 0 });
            }
            Seen::Stopping => {}
            Seen::Ended => actions.push(Action::Forget(task_id.clone())),
        }
    }
    actions
}
