//! Constraints hold wherever a task is placed.

use super::{Invariant, Sight};
use crate::client::Kind;
use bramble_core::model::State;
use std::collections::{BTreeMap, BTreeSet};

/// By master and life: the index that was looked at last.
#[derive(Default)]
pub struct Constraints(BTreeMap<(usize, u64), u64>);

impl Invariant for Constraints {
    fn name(&self) -> &'static str {
        "constraints hold"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        for (place, master) in sight.world.masters.iter().enumerate() {
            let Some(inside) = master.inside() else { continue };
            let looked = self.0.entry((place, sight.world.nodes[place].life)).or_default();
            inside.store.read(|state| {
                if state.applied_index == *looked {
                    return Ok(());
                }
                *looked = state.applied_index;
                hold(state)
            })?;
        }
        Ok(())
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
