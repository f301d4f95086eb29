//! After healing all becomes as it should: one leader, one state, every app as wanted, every agent
//! running exactly that and with nothing left to say.

use super::Sight;
use crate::client::Kind;
use bramble_core::model::{Goal, State, TaskState};

/// Entries that a master may be behind another: some are always on their way.
const LAG_MAX: u64 = 10;

/// What is not yet as it should be.
pub fn unsettled(sight: &Sight) -> Option<String> {
    let mut insides = Vec::new();
    for (place, master) in sight.world.masters.iter().enumerate() {
        match master.inside() {
            Some(inside) => insides.push(inside),
            None => return Some(format!("master {place} is down")),
        }
    }
    let leaders = insides.iter().filter(|inside| inside.consensus.is_leader()).count();
    if leaders != 1 {
        return Some(format!("{leaders} masters lead"));
    }
    insides[0].store.read(|state| {
        for (place, inside) in insides.iter().enumerate().skip(1) {
            let differ = inside.store.read(|other| {
                let lag = other.applied_index.abs_diff(state.applied_index);
                lag > LAG_MAX || lag == 0 && other != state
            });
            if differ {
                return Some(format!("masters 0 and {place} have different states"));
            }
        }
        apps(state).or_else(|| agents(sight, state))
    })
}

fn apps(state: &State) -> Option<String> {
    if let Some(id) = state.deployments.keys().next() {
        return Some(format!("deployment {id} is not done"));
    }
    if let Some(id) = state.leaving.keys().next() {
        return Some(format!("{id} has not left"));
    }
    if let Some(id) = state.away.keys().next() {
        return Some(format!("agent {id} is away"));
    }
    for (id, record) in &state.apps {
        if Kind::of(id.as_str()) == Some(Kind::Failing) {
            continue;
        }
        let running = state.instances_of(id).filter(|instance| {
            instance.goal == Goal::Running
                && instance.task.as_ref().is_some_and(|t| t.state == TaskState::Running)
        });
        let (running, all) = (running.count(), state.instances_of(id).count());
        let wanted = record.app.instances as usize;
        if running != wanted || all != wanted {
            return Some(format!("{id}: {running} of {wanted} run, {all} are there"));
        }
    }
    None
}

fn agents(sight: &Sight, state: &State) -> Option<String> {
    for node in &sight.world.agents {
        let name = &node.record.name;
        let Some(reconciling) = node.reconciling() else { return Some(format!("{name} is down")) };
        let living = node.machine.living();
        let failing = |app: &str| Kind::of(app) == Some(Kind::Failing);
        for (id, process) in &living {
            let known = state.tasks_on(&node.record.id).any(|(_, task)| task.id == *id);
            if !known && !failing(&process.app_id) {
                return Some(format!("{name} runs {id}, which nobody wants"));
            }
        }
        for (instance, task) in state.tasks_on(&node.record.id) {
            if !living.contains_key(&task.id) && !failing(instance.app_id.as_str()) {
                return Some(format!("{name} does not run {}", task.id));
            }
        }
        let failing_only = state.apps.keys().any(|id| failing(id.as_str()));
        if !failing_only && !reconciling.outbox.is_empty() {
            return Some(format!("{name} still has something to say"));
        }
    }
    None
}
