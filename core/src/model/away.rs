//! Agents that are away, and how long an app bears it (Marathon's `unreachableStrategy`).
//!
//! An agent that is away may still run its tasks. Its master only knows since when it has heard
//! nothing, and everything here follows from that moment, which is replicated: a new leader counts
//! on where the last one was.

use super::{
    AgentId, App, Goal, Instance, InstanceId, LABEL_SINGLE_INSTANCE, State, Task, Time,
    UnreachableStrategy,
};
use crate::lease::surely_over;

/// Name that Mesos has for the state of a task whose agent is away.
pub const TASK_UNREACHABLE: &str = "TASK_UNREACHABLE";

/// Label that says what an agent does with a task while no master can be reached.
pub const LABEL_ON_PARTITION: &str = "BRAMBLE_ON_PARTITION";

/// What an app bears of the absence of an instance's agent. `None` = for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From here on the instance does not count: another is launched.
    pub inactive: Option<Time>,
    /// From here on it is forgotten, and killed should its agent return.
    pub expunge: Option<Time>,
}

const FOREVER: Patience = Patience { inactive: None, expunge: None };

impl State {
    /// Whether a task's agent is away.
    pub fn is_away(&self, task: &Task) -> bool {
        self.away.contains_key(&task.agent_id)
    }

    /// Whether an instance has been away for so long that it counts no more.
    pub fn is_inactive(&self, id: &InstanceId) -> bool {
        self.inactive.contains(id)
    }

    /// Mesos' name of a task's state, as far as the master can know it.
    pub fn state_name(&self, task: &Task) -> &'static str {
        let unknown = self.is_away(task) && !task.state.is_terminal();
        if unknown { TASK_UNREACHABLE } else { task.state.as_str() }
    }

    /// What is borne of an instance's absence; `None` while its agent is here.
    ///
    /// One that must not run twice (a singleton, or one with volumes) never gets a second one beside
    /// it. A singleton is given up once its lease is surely over, or later where its app says so; one
    /// with volumes waits for the agent that has them.
    pub fn patience(&self, instance: &Instance) -> Option<Patience> {
        let task = instance.task.as_ref()?;
        let since = *self.away.get(&task.agent_id)?;
        let now = Patience { inactive: Some(since), expunge: Some(since) };
        let Some(app) = self.app_of(instance) else { return Some(now) };
        if instance.reservation.is_some() || app.is_resident() {
            return Some(FOREVER);
        }
        let single = is_singleton(app);
        let over = if single { surely_over(since) } else { since };
        if instance.goal != Goal::Running {
            // Nobody wants it any more, and there is nobody to tell it.
            return Some(Patience { inactive: (!single).then_some(since), expunge: Some(over) });
        }
        Some(match app.unreachable {
            UnreachableStrategy::Disabled => FOREVER,
            UnreachableStrategy::After { inactive_ms, expunge_ms } => Patience {
                inactive: (!single).then_some(since.plus_ms(inactive_ms)),
                expunge: Some(since.plus_ms(expunge_ms).max(over)),
            },
        })
    }

    /// Instances whose agent is away, with what is borne of it, in id order.
    pub fn absent(&self) -> impl Iterator<Item = (&Instance, Patience)> {
        // Almost always nobody is away, and nothing is looked at.
        let some = !self.away.is_empty();
        let all = self.instances.values().filter(move |_| some);
        all.filter_map(|instance| Some((instance, self.patience(instance)?)))
    }

    /// Instances with a task on an agent.
    pub(crate) fn ids_on(&self, agent_id: &AgentId) -> Vec<InstanceId> {
        self.tasks_on(agent_id).map(|(instance, _)| instance.id.clone()).collect()
    }
}

fn is_singleton(app: &App) -> bool {
    app.labels.get(LABEL_SINGLE_INSTANCE).is_some_and(|v| v == "true")
}
