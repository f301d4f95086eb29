//! No agent is given more than it has: not by any master's state, and not as the agent counts.

use super::{Invariant, Sight};
use std::collections::BTreeMap;

/// By master and life: the index that was looked at last.
#[derive(Default)]
pub struct NoOvercommit(BTreeMap<(usize, u64), u64>);

impl Invariant for NoOvercommit {
    fn name(&self) -> &'static str {
        "no overcommit"
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
                for agent in state.agents.values() {
                    let used = state.used_on(&agent.id).resources;
                    if !agent.total.holds(&used) {
                        let (name, total) = (&agent.name, &agent.total);
                        return Err(format!("{name} has {total:?}, is given {used:?}"));
                    }
                }
                Ok(())
            })?;
        }
        for node in &sight.world.agents {
            let Some(reconciling) = node.reconciling() else { continue };
            let held = reconciling.held.borrow();
            if !node.record.total.holds(&held.taken) {
                return Err(format!("{} holds {:?}", node.record.name, held.taken));
            }
        }
        Ok(())
    }
}
