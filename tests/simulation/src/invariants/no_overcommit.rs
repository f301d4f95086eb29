//! No agent is given more than it has: not by any master's state, and not as the agent counts.

use super::{Invariant, Looked, Sight};

#[derive(Default)]
pub struct NoOvercommit(Looked);

impl Invariant for NoOvercommit {
    fn name(&self) -> &'static str {
        "no overcommit"
    }

    fn look(&mut self, sight: &Sight) -> Result<(), String> {
        self.0.each_new(sight, |state| {
            for agent in state.agents.values() {
                let used = state.used_on(&agent.id).resources;
                if !agent.total.holds(&used) {
                    let (name, total) = (&agent.name, &agent.total);
                    return Err(format!("{name} has {total:?}, is given {used:?}"));
                }
            }
            Ok(())
        })?;
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
