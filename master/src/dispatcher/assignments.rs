//! What one agent has been told, and the difference to what the state now says.

use crate::vault::Vault;
use bramble_core::model::{AgentId, Assignment, Goal, State, TaskId, Time};
use bramble_core::taskenv;
use bramble_protocol::message::AssignmentSet;
use bramble_protocol::secret::Secret;
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
    pub(super) fn next(
        &mut self,
        state: &State,
        agent_id: &AgentId,
        vault: &Vault,
    ) -> Option<AssignmentSet> {
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
        let secrets = secrets(state, &put, vault);
        Some(AssignmentSet { generation: state.applied_index, base, put, remove, secrets })
    }
}

/// The values of all secrets that tasks of a set use. One that is not there, or does not open, is
/// left out: the agent says so at the task, and starts nothing with an empty value.
fn secrets(state: &State, put: &[Assignment], vault: &Vault) -> BTreeMap<String, Secret> {
    let mut values = BTreeMap::new();
    let running = put.iter().filter(|assignment| assignment.run);
    for source in running.flat_map(|a| a.spec.all_secrets()).map(|secret| &secret.source) {
        if values.contains_key(source) {
            continue;
        }
        match vault.open(state, source) {
            Ok(Some(value)) => drop(values.insert(source.clone(), value)),
            Ok(None) => {}
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(secret = source, error, "an agent is told without a secret");
            }
        }
    }
    values
}
