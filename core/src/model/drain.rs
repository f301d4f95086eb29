//! Agents that are being emptied, tasks that move to even out, and who takes no task because of it.

use super::{AgentId, AppId, Goal, State, Task, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Label of an app; with the value `never`, its tasks do not move just to even out.
pub const LABEL_REBALANCE: &str = "BRAMBLE_REBALANCE";

/// An agent takes no task any more, and those it has move away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub since: Time,
}

/// Why an agent that has room takes no task of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is drained.
    Draining,
    /// A task of the app moves away from it, and its successor must not come back to it.
    Leaving,
}

impl State {
    /// Whether an agent is drained.
    pub fn is_draining(&self, agent_id: &AgentId) -> bool {
        self.draining.contains_key(agent_id)
    }

    /// Agents that take no task of an app whatever they have free.
    pub fn closed_to(&self, app_id: &AppId) -> BTreeMap<AgentId, Closed> {
        // Almost always no task moves to even out, and nothing is looked at.
        let some = self.rebalanced_at > Time(0);
        let own = self.instances_of(app_id).filter(|_| some).filter_map(|i| i.task.as_ref());
        let leaving = own.filter(|task| task.rebalanced.is_some());
        let leaving = leaving.map(|task| (task.agent_id.clone(), Closed::Leaving));
        let draining = self.draining.keys().map(|id| (id.clone(), Closed::Draining));
        leaving.chain(draining).collect()
    }

    /// Tasks that move to even out and have not ended, with their apps.
    pub(crate) fn rebalanced(&self) -> impl Iterator<Item = (&AppId, &Task)> {
        let some = self.rebalanced_at > Time(0);
        let all = self.instances.values().filter(move |_| some);
        all.filter_map(|i| Some((&i.app_id, i.task.as_ref().filter(|t| t.rebalanced.is_some())?)))
    }

    /// Tasks of goal Running that may not stay where they are, with their apps.
    pub(crate) fn misplaced(&self) -> impl Iterator<Item = (&AppId, &Task)> {
        let wanted = self.instances.values().filter(|i| i.goal == Goal::Running);
        wanted.filter_map(|i| Some((&i.app_id, i.task.as_ref().filter(|t| t.misplaced.is_some())?)))
    }
}
