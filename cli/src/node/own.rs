//! What an agent knows of its own tasks, in the words of the cluster's state, so that its API can
//! show them while no master answers.

use bramble_agent::{AgentHandle, OwnTask};
use bramble_core::model::{
    AgentId, App, AppRecord, Instance, LaunchDelay, Pod, State, Task, TaskContainer, TaskState,
    Time,
};
use bramble_master::api::OwnState;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Ask the agent anew each time.
pub fn own_state(agent: AgentHandle, id: AgentId, host: String) -> OwnState {
    Arc::new(move || {
        let (agent, id, host) = (agent.clone(), id.clone(), host.clone());
        Box::pin(async move {
            // An agent that is about to end has nothing to tell.
            let tasks = agent.tasks().await.unwrap_or_default();
            state(&tasks, &id, &host, now())
        })
    })
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn state(tasks: &[OwnTask], agent: &AgentId, host: &str, now: Time) -> State {
    let mut state = State { now, ..State::default() };
    for own in tasks {
        let assignment = &own.assignment;
        let record = state.apps.entry(assignment.app_id.clone()).or_insert_with(|| AppRecord {
            app: App {
                version: assignment.app_version,
                instances: 0,
                health_checks: assignment.spec.health_checks.clone(),
                pod: (!assignment.spec.pod.is_empty())
                    .then(|| Pod { containers: Vec::new(), volumes: Vec::new() }),
                ..App::with_defaults(assignment.app_id.clone())
            },
            versions: Vec::new(),
            delay: LaunchDelay::default(),
            last_failure: None,
        });
        record.app.instances += 1;
        let mut instance = Instance::waiting(
            assignment.instance_id.clone(),
            assignment.app_id.clone(),
            assignment.app_version,
            assignment.app_version,
        );
        instance.task = Some(task(own, agent, host, now));
        state.instances.insert(instance.id.clone(), instance);
    }
    state
}

fn task(own: &OwnTask, agent: &AgentId, host: &str, now: Time) -> Task {
    let assignment = &own.assignment;
    let running_for = own.running_for.map(|time| u64::try_from(time.as_millis()).unwrap_or(0));
    let started_at = running_for.map(|time| Time(now.0.saturating_sub(time)));
    // When it was placed, only the cluster knows; no later than it began to run.
    let staged_at = started_at.unwrap_or(assignment.app_version);
    let containers = own.containers.iter().map(|told| TaskContainer {
        status: told.clone(),
        since: staged_at,
        changed: staged_at,
    });
    Task {
        ports: assignment.spec.host_ports.clone(),
        resources: assignment.spec.resources,
        state: own.state,
        started_at: started_at.filter(|_| own.state == TaskState::Running),
        ip: own.ip.clone(),
        healthy: own.healthy,
        containers: containers.collect(),
        ..Task::staging(assignment.task_id.clone(), agent.clone(), host, staged_at)
    }
}
