//! Questions about the state that several rooms ask. Read only: nothing here changes anything.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Tasks of an app by what they do (Marathon's `tasksStaged` and so on).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCounts {
    pub staged: u32,
    pub running: u32,
    /// Without health checks a task counts neither here nor as unhealthy.
    pub healthy: u32,
    pub unhealthy: u32,
}

/// What is taken of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub resources: Resources,
    pub ports: BTreeSet<u16>,
    pub devices: Vec<HeldDevice>,
}

impl App {
    /// Whether a task of this app does its work: running and, where it has such checks, healthy
    /// and ready (Marathon's contract, sections 5.3 and 8).
    pub fn is_ready(&self, task: &Task) -> bool {
        task.state == TaskState::Running
            && (!self.has_health_checks() || task.healthy == Some(true))
            && task.probes.are_ready(self.readiness_checks.len())
    }
}

impl State {
    /// The record of an app that is no pod.
    pub fn app(&self, id: &AppId) -> Option<&AppRecord> {
        self.apps.get(id).filter(|record| !record.app.is_pod())
    }

    /// The record of a pod.
    pub fn pod(&self, id: &AppId) -> Option<&AppRecord> {
        self.apps.get(id).filter(|record| record.app.is_pod())
    }

    /// All apps that are no pods, in order.
    pub fn only_apps(&self) -> impl Iterator<Item = &AppRecord> {
        self.apps.values().filter(|record| !record.app.is_pod())
    }

    /// All pods, in order.
    pub fn pods(&self) -> impl Iterator<Item = &AppRecord> {
        self.apps.values().filter(|record| record.app.is_pod())
    }

    /// The record of an app, also while it leaves.
    pub fn record(&self, app_id: &AppId) -> Option<&AppRecord> {
        self.apps.get(app_id).or_else(|| self.leaving.get(app_id))
    }

    /// The definition an instance runs: its app at the instance's version.
    pub fn app_of(&self, instance: &Instance) -> Option<&App> {
        self.record(&instance.app_id)?.at_version(instance.version)
    }

    /// Instances of an app in id order, whatever their goal.
    pub fn instances_of<'a>(&'a self, app_id: &'a AppId) -> impl Iterator<Item = &'a Instance> {
        self.instances_like(app_id).filter(move |i| i.app_id == *app_id)
    }

    /// Instances whose ids begin as those of an app do. Ids carry their app's path, so that the
    /// few of one app are found without a look at all others, and without a second index that
    /// would have to be kept true.
    fn instances_like(&self, app_id: &AppId) -> impl Iterator<Item = &Instance> {
        let prefix = InstanceId::prefix(app_id);
        let from = InstanceId(prefix.clone());
        let range =
            self.instances.range(from..).take_while(move |(id, _)| id.0.starts_with(&prefix));
        range.map(|(_, instance)| instance)
    }

    /// Find the instance whose present task has this id, and that task.
    pub fn task(&self, task_id: &TaskId) -> Option<(&Instance, &Task)> {
        let instance = self.instances.get(&task_id.instance()?)?;
        let task = instance.task.as_ref().filter(|t| t.id == *task_id)?;
        Some((instance, task))
    }

    /// Whether a master can open what the cluster keeps sealed, as far as there is such.
    pub fn holds_data_key(&self, node: &NodeId) -> bool {
        self.data_key.as_ref().is_none_or(|key| key.copies.contains_key(node))
    }

    /// Tasks on an agent, in instance order.
    pub fn tasks_on<'a>(
        &'a self,
        agent_id: &'a AgentId,
    ) -> impl Iterator<Item = (&'a Instance, &'a Task)> {
        self.instances
            .values()
            .filter_map(|i| i.task.as_ref().map(|t| (i, t)))
            .filter(move |(_, t)| t.agent_id == *agent_id)
    }

    /// The attributes of an agent, as it tells them and users changed them.
    pub fn attributes_of(&self, agent_id: &AgentId) -> BTreeMap<String, String> {
        let mut attributes =
            self.agents.get(agent_id).map(|agent| agent.attributes.clone()).unwrap_or_default();
        let changed = self.agent_settings.get(agent_id).map(|settings| &settings.attributes);
        for (name, value) in changed.into_iter().flatten() {
            match value {
                Some(value) => attributes.insert(name.clone(), value.clone()),
                None => attributes.remove(name),
            };
        }
        attributes
    }

    /// Whom an agent lends to; empty = to anybody.
    pub fn roles_of(&self, agent_id: &AgentId) -> BTreeSet<String> {
        self.agent_settings.get(agent_id).map(|s| s.roles.clone()).unwrap_or_default()
    }

    /// Where a task is, as far as constraints care.
    pub(crate) fn place_of(&self, task: &Task) -> TaskPlace {
        (task.host.clone(), self.attributes_of(&task.agent_id))
    }

    /// Add up what the tasks of an agent take, and what is reserved on it.
    pub fn used_on(&self, agent_id: &AgentId) -> Usage {
        let resources = self.reserved().get(agent_id).copied().unwrap_or_default();
        let mut usage = Usage { resources, ..Usage::default() };
        for (_, task) in self.tasks_on(agent_id) {
            usage.resources = usage.resources.plus(&task.resources);
            usage.ports.extend(task.ports.iter().copied());
            usage.devices.extend(task.devices.iter().cloned());
        }
        usage
    }

    /// Deployments under way that touch an app.
    pub fn deployments_touching<'a>(
        &'a self,
        app_id: &'a AppId,
    ) -> impl Iterator<Item = &'a Deployment> {
        self.deployments.values().filter(move |d| d.touches(app_id))
    }

    /// An app's new version on trial.
    pub fn rollout(&self, app_id: &AppId) -> Option<&Rollout> {
        self.deployments.values().find_map(|d| d.rollouts.get(app_id))
    }

    /// An app's new version on trial, to be changed.
    pub(crate) fn rollout_mut(&mut self, app_id: &AppId) -> Option<&mut Rollout> {
        self.deployments.values_mut().find_map(|d| d.rollouts.get_mut(app_id))
    }

    /// An app's new version on trial while the stable one is kept up beside it.
    pub fn held(&self, app_id: &AppId) -> Option<&Rollout> {
        self.rollout(app_id).filter(|rollout| rollout.is_held())
    }

    /// Whether an instance has the configuration that its app wants by now.
    pub fn is_current(&self, instance: &Instance) -> bool {
        self.apps.get(&instance.app_id).is_some_and(|r| r.is_current(instance.assigned_version()))
    }

    /// When an instance may launch.
    pub fn delay_of(&self, instance: &Instance) -> LaunchDelay {
        let Some(record) = self.apps.get(&instance.app_id) else { return LaunchDelay::default() };
        if record.is_current(instance.version) {
            return record.delay;
        }
        self.held(&instance.app_id).map_or(record.delay, |rollout| rollout.stable_delay)
    }

    /// Deployments that lock any of these apps, in id order.
    pub fn locked_by<'a>(&self, apps: impl IntoIterator<Item = &'a AppId>) -> Vec<DeploymentId> {
        let ids: BTreeSet<DeploymentId> = apps
            .into_iter()
            .flat_map(|app| self.deployments.values().filter(|d| d.touches(app)))
            .map(|d| d.id.clone())
            .collect();
        ids.into_iter().collect()
    }

    /// Whether an app's restart belongs to a step that its deployment has not reached yet.
    pub fn awaits_restart(&self, app_id: &AppId) -> bool {
        self.deployments.values().filter(|d| d.touches(app_id)).any(|d| {
            d.plan.steps.iter().skip(d.current_step as usize + 1).any(|step| {
                step.actions.iter().any(|a| a.kind == ActionKind::Restart && a.app_id == *app_id)
            })
        })
    }

    /// Count an app's tasks by state and health.
    pub fn counts(&self, app_id: &AppId) -> TaskCounts {
        let mut counts = TaskCounts::default();
        let tasks = self.instances_of(app_id).filter_map(|i| i.task.as_ref());
        for task in tasks.filter(|task| !self.is_away(task)) {
            match task.state {
                TaskState::Staging | TaskState::Starting => counts.staged += 1,
                TaskState::Running => counts.running += 1,
                _ => {}
            }
            match task.healthy {
                Some(true) => counts.healthy += 1,
                Some(false) => counts.unhealthy += 1,
                None => {}
            }
        }
        counts
    }

    /// Instances that wait for a place and may launch at `now`: first those that have only one
    /// place to go to, then the longest waiting.
    pub fn demands(&self, now: Time) -> Vec<Demand<'_>> {
        let mut waiting: Vec<(&Instance, &App)> = self
            .instances
            .values()
            .filter(|i| i.is_waiting())
            .filter_map(|i| {
                let record = self.apps.get(&i.app_id)?;
                (self.delay_of(i).until <= now).then_some(())?;
                Some((i, record.at_version(i.version)?))
            })
            .collect();
        waiting.sort_by_key(|(i, _)| (i.reservation.is_none(), i.since));
        let apps: BTreeSet<&AppId> = waiting.iter().map(|(i, _)| &i.app_id).collect();
        let places = self.places_of(&apps);
        let closed: BTreeMap<&AppId, BTreeMap<AgentId, Closed>> =
            apps.iter().map(|id| (*id, self.closed_to(id))).collect();
        let same_config = |app_id: &AppId, one: Time, other: Time| {
            self.apps.get(app_id).is_some_and(|record| record.same_config(one, other))
        };
        waiting
            .into_iter()
            .map(|(instance, app)| Demand {
                instance_id: instance.id.clone(),
                app,
                reservation: instance.reservation.as_ref(),
                missing_secrets: self.missing_secrets(app),
                closed: closed.get(&instance.app_id).cloned().unwrap_or_default(),
                placed: places
                    .get(&instance.app_id)
                    .into_iter()
                    .flatten()
                    .filter(|(version, _)| same_config(&instance.app_id, *version, app.version))
                    .map(|(_, place)| place.clone())
                    .collect(),
            })
            .collect()
    }

    /// Version and place of the tasks of these apps, first placed first: CLUSTER without a value
    /// follows the first one.
    ///
    /// Callers leave out tasks of other configurations, as Marathon does: else an app that is
    /// UNIQUE per host could never be replaced on a cluster of one. Tasks that move away are left
    /// out for the same reason: groups that they keep even may be what their successors need.
    fn places_of(&self, apps: &BTreeSet<&AppId>) -> BTreeMap<&AppId, Vec<(Time, TaskPlace)>> {
        let mut tasks: Vec<(&Instance, &Task)> = self
            .instances
            .values()
            .filter(|i| apps.contains(&i.app_id) && !self.is_inactive(&i.id))
            .filter_map(|i| Some((i, i.task.as_ref().filter(|t| t.misplaced.is_none())?)))
            .collect();
        tasks.sort_by_key(|(_, t)| t.staged_at);
        let mut places: BTreeMap<&AppId, Vec<(Time, TaskPlace)>> = BTreeMap::new();
        for (instance, task) in tasks {
            let place = self.place_of(task);
            places.entry(&instance.app_id).or_default().push((instance.assigned_version(), place));
        }
        places
    }

    /// When the next launch delay after `now` ends that keeps an instance waiting.
    ///
    /// `now` is the caller's clock: [`State::now`] stands still while nothing is written, and a
    /// moment already past would make the caller wake again and again.
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        self.instances
            .values()
            .filter(|i| i.is_waiting())
            .filter(|i| self.apps.contains_key(&i.app_id))
            .map(|i| self.delay_of(i).until)
            .filter(|until| *until > now)
            .min()
    }
}

impl Instance {
    /// Whether it wants to run and has no place.
    pub fn is_waiting(&self) -> bool {
        self.goal == Goal::Running && self.task.is_none()
    }
}

impl Deployment {
    /// Whether it touches an app.
    pub fn touches(&self, app_id: &AppId) -> bool {
        self.original.apps.contains_key(app_id) || self.target.apps.contains_key(app_id)
    }

    /// The actions under way.
    pub fn current_actions(&self) -> &[DeploymentAction] {
        self.plan.steps.get(self.current_step as usize).map_or(&[], |s| &s.actions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_an_app_are_found_without_a_look_at_others() {
        let mut state = State::default();
        // The last two share the beginning of their instances' ids with `/a1`.
        let apps = (0..1000).map(|n| format!("/a{n}"));
        for app in apps.chain(["/a1.instance-x".into(), "/a1.instance-y".into()]) {
            let app_id = AppId::new(app);
            let id = InstanceId::compose(&app_id, "1");
            let instance = Instance::waiting(id.clone(), app_id, Time(1), Time(1));
            state.instances.insert(id, instance);
        }
        for (app, looked_at) in [("/a0", 1), ("/a1", 3), ("/a999", 1), ("/a1000", 0)] {
            let app_id = AppId::new(app);
            assert_eq!(state.instances_like(&app_id).count(), looked_at, "{app}");
            let found = state.instances_of(&app_id).filter(|i| i.app_id == app_id).count();
            assert_eq!(found, looked_at.min(1), "{app}");
        }
    }
}
