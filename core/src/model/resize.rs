//! Changes of nothing but size (cpus, memory, disk), which a running task can take as it is.
//!
//! Owns which changes those are and which tasks can take one where they run. Nothing here changes
//! anything: the deployer asks in order to propose, the state machine asks again.

use super::{
    AgentId, App, AppId, AppRecord, Goal, Instance, InstanceId, Resources, State, Task, TaskPlace,
    TaskState, Time, Usage,
};
use crate::place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Label of an app whose every change goes by new tasks, also of its size: a program that reads
/// its size once (a JVM its heap) does not notice another one.
pub const LABEL_RESIZE: &str = "BRAMBLE_RESIZE";
/// The only value of [`LABEL_RESIZE`] that means something.
pub const RESIZE_BY_RESTART: &str = "restart";

/// A new size of a running task on its way to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Version of the app that asks for it.
    pub version: Time,
    /// What the task takes then; until it is known to, the larger of both is kept for it.
    pub resources: Resources,
    /// What the task took before.
    pub before: Resources,
    /// Why the agent could not do it: the task keeps its size and is to be replaced.
    pub refused: Option<String>,
}

/// What an agent says of the size it was told to give a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeReport {
    /// Version of the app whose size it is.
    pub version: Time,
    /// Why the task could not be given it.
    pub refused: Option<String>,
}

/// Why a task cannot take its app's new size where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresizable {
    /// More has changed than the size.
    NewTask,
    NotRunning,
    AgentAway,
    NoRoom,
    /// A constraint forbids its place to a task of the new configuration.
    Constraint,
    /// The agent has tried.
    Refused(String),
}

impl Unresizable {
    /// Tell a person why a new task is needed.
    pub fn describe(&self) -> String {
        match self {
            Unresizable::NewTask => "more than its size has changed".into(),
            Unresizable::NotRunning => "it did not run yet".into(),
            Unresizable::AgentAway => "its agent is away".into(),
            Unresizable::NoRoom => "its agent has no room for the new size".into(),
            Unresizable::Constraint => "a constraint does not hold any more where it is".into(),
            Unresizable::Refused(why) => why.clone(),
        }
    }
}

impl App {
    /// Whether tasks of `earlier` may become tasks of this by a change of their size. Those of a
    /// pod never do: its size is the sum of its containers', each of which has its own.
    pub fn only_resizes(&self, earlier: &App) -> bool {
        let sized = |app: &App| App {
            resources: Resources { gpus: app.resources.gpus, ..Resources::default() },
            resource_limits: None,
            ..app.config()
        };
        let by_restart = self.labels.get(LABEL_RESIZE).is_some_and(|v| v == RESIZE_BY_RESTART);
        !by_restart && self.pod.is_none() && sized(self) == sized(earlier)
    }

    /// The version from which on a task differs from a new one in its size alone.
    pub fn tasks_since(&self) -> Time {
        // An app stored before there was the field.
        if self.last_restart == Time(0) { self.last_config_change } else { self.last_restart }
    }
}

impl Task {
    /// The new size on its way.
    pub fn resizing(&self) -> Option<&Resize> {
        self.resize.as_ref().filter(|resize| resize.refused.is_none())
    }
}

impl Instance {
    /// The version its agent is told: of the new size where one is on its way, else its own.
    pub fn assigned_version(&self) -> Time {
        let resizing = self.task.as_ref().and_then(Task::resizing);
        resizing.map_or(self.version, |resize| resize.version)
    }
}

impl State {
    /// The definition an instance's agent is told ([`Instance::assigned_version`]).
    pub fn assigned_app(&self, instance: &Instance) -> Option<&App> {
        self.record(&instance.app_id)?.at_version(instance.assigned_version())
    }

    /// Each instance of another configuration with whether it can take the present one's size
    /// where it is; together they fit.
    pub fn resizable(&self, app_id: &AppId) -> Vec<(InstanceId, Result<(), Unresizable>)> {
        let Some(record) = self.apps.get(app_id) else { return Vec::new() };
        let app = &record.app;
        let outdated = |i: &&Instance| i.goal == Goal::Running && !self.is_current(i);
        let mut placed = self.placed_under(app);
        let mut used: BTreeMap<&AgentId, Usage> = BTreeMap::new();
        let mut verdicts = Vec::new();
        for instance in self.instances_of(app_id).filter(outdated) {
            let verdict = self.verdict(record, instance, &mut used, &placed);
            if let (Ok(()), Some(task)) = (&verdict, &instance.task) {
                placed.push(self.place_of(task));
            }
            verdicts.push((instance.id.clone(), verdict));
        }
        verdicts
    }

    fn verdict<'a>(
        &'a self,
        record: &AppRecord,
        instance: &'a Instance,
        used: &mut BTreeMap<&'a AgentId, Usage>,
        placed: &[TaskPlace],
    ) -> Result<(), Unresizable> {
        let app = &record.app;
        // A later version may have come and gone: what counts is the definition of its own.
        let own = record.at_version(instance.version);
        if own.is_none_or(|own| own.tasks_since() != app.tasks_since()) {
            return Err(Unresizable::NewTask);
        }
        let task = instance.task.as_ref().filter(|task| task.state == TaskState::Running);
        let task = task.ok_or(Unresizable::NotRunning)?;
        if let Some(resize) = &task.resize
            && record.is_current(resize.version)
            && let Some(why) = &resize.refused
        {
            return Err(Unresizable::Refused(why.clone()));
        }
        let agent = self.agents.get(&task.agent_id).filter(|agent| agent.reachable);
        let agent = agent.ok_or(Unresizable::AgentAway)?;
        if !place::accepts(app, &self.place_of(task), placed) {
            return Err(Unresizable::Constraint);
        }
        let used = used.entry(&task.agent_id).or_insert_with(|| self.used_on(&task.agent_id));
        let after = used.resources.minus(&task.resources);
        let after = after.plus(&task.resources.covering(&app.resources));
        if !agent.total.holds(&after) {
            return Err(Unresizable::NoRoom);
        }
        used.resources = after;
        Ok(())
    }

    /// Places of an app's tasks that count as of its present configuration.
    fn placed_under(&self, app: &App) -> Vec<TaskPlace> {
        let current = |i: &&Instance| self.is_current(i);
        let tasks = self.instances_of(&app.id).filter(current).filter_map(|i| i.task.as_ref());
        tasks.map(|task| self.place_of(task)).collect()
    }
}
