//! What one agent has been told, and the difference to what the state now says.

use bramble_core::model::{AgentId, Assignment, Goal, State, TaskId, Time};
use bramble_core::taskenv;
use bramble_protocol::message::AssignmentSet;
use std::collections::BTreeMap;

/// The set last sent on a session. Whether a task shall run can change, and its size with the
/// version that it is told: that is all there is to remember.
#[derive(Default)]
pub(super) struct Told {
    generation: Option<u64>,
    tasks: BTreeMap<TaskId, (bool, Time)>,
}

impl Told {
    /// Forget everything: the next set is a complete one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The next set for `agent_id`, or `None` when it already knows everything.
    pub(super) fn next(&mut self, state: &State, agent_id: &AgentId) -> Option<AssignmentSet> {
        let mut tasks = BTreeMap::new();
        let mut put: Vec<Assignment> = Vec::new();
        for instance in state.instances.values() {
            let Some(task) = &instance.task else { continue };
            if task.agent_id != *agent_id || task.state.is_terminal() {
                continue;
            }
            let now = (instance.goal == Goal::Running, instance.assigned_version());
            if self.tasks.get(&task.id) != Some(&now) {
                let app = state.assigned_app(instance);
                let Some(assignment) = app.and_then(|app| taskenv::assignment(app, instance))
                else {
                    tracing::error!(task_id = %task.id, "a task's app version is not kept");
                    continue;
                };
                put.push(assignment);
            }
            tasks.insert(task.id.clone(), now);
        }
        let remove: Vec<TaskId> =
            self.tasks.keys().filter(|id| !tasks.contains_key(*id)).cloned().collect();
        if self.generation.is_some() && put.is_empty() && remove.is_empty() {
            return None;
        }
        let base = self.generation;
        self.generation = Some(state.applied_index);
        self.tasks = tasks;
        Some(AssignmentSet { generation: state.applied_index, base, put, remove })
    }
}
