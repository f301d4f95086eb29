//! No task runs on two agents, and no instance twice whose app does not bear it.

use super::{Invariant, Sight};
use crate::client::Kind;
use bramble_core::model::TaskId;
use std::collections::BTreeMap;

pub struct OneAgent;

impl Invariant for OneAgent {
    fn name(&self) -> &'static str {
        "no task on two agents"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        let mut places: BTreeMap<TaskId, usize> = BTreeMap::new();
        let mut once: BTreeMap<String, TaskId> = BTreeMap::new();
        for (agent, node) in sight.world.agents.iter().enumerate() {
            for (id, process) in node.machine.living() {
                if let Some(other) = places.insert(id.clone(), agent) {
                    return Err(format!("task {id} runs on agents {other} and {agent}"));
                }
                if Kind::of(&process.app_id) != Some(Kind::Once) {
                    continue;
                }
                if let Some(other) = once.insert(process.app_id.clone(), id.clone()) {
                    return Err(format!("{} runs as {other} and as {id}", process.app_id));
                }
            }
        }
        Ok(())
    }
}
