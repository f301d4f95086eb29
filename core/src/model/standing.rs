//! Where a pod and its instances stand, in Marathon's words (its contract, section 9).

use super::{App, Goal, Instance, State, Task, TaskState, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceStanding {
    /// Without a place.
    Pending,
    /// On its way.
    Staging,
    Stable,
    /// A container is unhealthy, or nothing is heard of its agent.
    Degraded,
    /// Ended, or told to.
    Terminal,
}

impl InstanceStanding {
    /// Marathon's word.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceStanding::Pending => "PENDING",
            InstanceStanding::Staging => "STAGING",
            InstanceStanding::Stable => "STABLE",
            InstanceStanding::Degraded => "DEGRADED",
            InstanceStanding::Terminal => "TERMINAL",
        }
    }
}

impl Instance {
    /// Where this instance of `app` stands.
    pub fn standing(&self, state: &State, app: &App) -> InstanceStanding {
        if self.goal != Goal::Running {
            return InstanceStanding::Terminal;
        }
        let Some(task) = &self.task else { return InstanceStanding::Pending };
        if state.agents.get(&task.agent_id).is_some_and(|agent| !agent.reachable) {
            return InstanceStanding::Degraded;
        }
        match task.state {
            TaskState::Staging | TaskState::Starting => InstanceStanding::Staging,
            TaskState::Running if task.healthy == Some(false) => InstanceStanding::Degraded,
            TaskState::Running if app.is_ready(task) => InstanceStanding::Stable,
            // Its checks have not said yes yet.
            TaskState::Running => InstanceStanding::Staging,
            _ => InstanceStanding::Terminal,
        }
    }

    /// When it came to stand as it does, as far as is known.
    pub fn standing_since(&self) -> Time {
        let Some(task) = &self.task else { return self.since };
        let began = task.started_at.unwrap_or(task.staged_at);
        task.containers.iter().map(|c| c.since).fold(began, Time::max)
    }
}

impl Task {
    /// When anything of it changed last, as far as is known.
    pub fn changed_at(&self) -> Time {
        let began = self.started_at.unwrap_or(self.staged_at);
        self.containers.iter().map(|c| c.changed).fold(began, Time::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentId, AppId, Goal, HealthCheck, HealthCheckKind, InstanceId};

    fn instance(goal: Goal, task: Option<(TaskState, Option<bool>)>) -> Instance {
        let app_id = AppId::new("/p");
        let id = InstanceId::compose(&app_id, "1");
        let task = task.map(|(state, healthy)| Task {
            state,
            healthy,
            ..Task::staging(id.pod_task(1), AgentId::new("n1"), "n1", Time(5))
        });
        Instance { goal, task, ..Instance::waiting(id, app_id, Time(1), Time(2)) }
    }

    #[test]
    fn instances_stand_as_their_tasks_do() {
        use InstanceStanding::{Degraded, Pending, Stable, Staging, Terminal};
        let plain = App::with_defaults(AppId::new("/p"));
        let check = HealthCheck {
            kind: HealthCheckKind::Tcp,
            path: None,
            port_index: None,
            port: Some(1),
            command: None,
            grace_ms: 0,
            interval_ms: 0,
            timeout_ms: 0,
            max_consecutive_failures: 0,
            delay_ms: 0,
            ignore_http_1xx: false,
            ip_protocol: None,
        };
        let checked = App { health_checks: vec![check], ..plain.clone() };
        let run = |healthy| Some((TaskState::Running, healthy));
        let rows = [
            (&plain, Goal::Running, None, Pending),
            (&plain, Goal::Running, Some((TaskState::Staging, None)), Staging),
            (&plain, Goal::Running, Some((TaskState::Starting, None)), Staging),
            (&plain, Goal::Running, run(None), Stable),
            (&checked, Goal::Running, run(None), Staging),
            (&checked, Goal::Running, run(Some(true)), Stable),
            (&checked, Goal::Running, run(Some(false)), Degraded),
            (&plain, Goal::Running, Some((TaskState::Failed, None)), Terminal),
            (&plain, Goal::Decommissioned, run(None), Terminal),
        ];
        for (app, goal, task, expected) in rows {
            let found = instance(goal, task).standing(&State::default(), app);
            assert_eq!(found, expected, "{goal:?} {task:?}");
        }
    }
}
