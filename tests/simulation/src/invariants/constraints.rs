//! Constraints hold wherever a task is placed.

use super::{Invariant, Looked, Sight};
use crate::client::Kind;
use bramble_core::model::State;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Constraints(Looked);

impl Invariant for Constraints {
    fn name(&self) -> &'static str {
        "constraints hold"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        self.0.each_new(sight, hold)
    }
}

/// Tasks of one configuration of an app are held against each other, as in Marathon: one that
/// replaces another may stand beside it.
fn hold(state: &State) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for instance in state.instances.values() {
        let Some(task) = instance.task.as_ref().filter(|task| !task.state.is_terminal()) else {
            continue;
        };
        match Kind::of(instance.app_id.as_str()) {
            Some(Kind::Spread) => {
                let app = state.assigned_app(instance).map(|app| app.last_config_change);
                if !taken.insert((&instance.app_id, app, &task.agent_id)) {
                    return Err(format!("{} is twice on {}", instance.app_id, task.agent_id));
                }
            }
            Some(Kind::Racked) => {
                let attributes = state.attributes_of(&task.agent_id);
                if attributes.get("rack").map(String::as_str) != Some("r1") {
                    return Err(format!("{} is on {}", instance.id, task.agent_id));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
