//! What agents report of their tasks, and what the end of a task means for its instance.

use super::{backoff, instances};
use crate::event::Event;
use crate::model::{
    Goal, Instance, InstanceId, State, Task, TaskFailure, TaskState, TaskStatus, Time,
};

pub(super) fn record(state: &mut State, statuses: &[TaskStatus]) -> Vec<Event> {
    let mut events = Vec::new();
    for status in statuses {
        let now = state.now;
        // A task the cluster no longer knows has ended before; its agent learns that from its
        // next assignment set, not from a rejection.
        let Some(instance) = find(state, status) else { continue };
        let Some(task) = instance.task.as_mut() else { continue };
        if status.sequence <= task.last_sequence {
            continue;
        }
        update(task, status, now);
        events.push(Event::TaskStatusChanged {
            task_id: task.id.clone(),
            app_id: instance.app_id.clone(),
            state: task.state,
            healthy: task.healthy,
        });
        if task.state.is_terminal() {
            let id = instance.id.clone();
            if let Some(task) = instance.task.take() {
                end(state, &id, &task, &mut events);
            }
        }
    }
    events
}

fn find<'a>(state: &'a mut State, status: &TaskStatus) -> Option<&'a mut Instance> {
    let instance = state.instances.get_mut(&status.task_id.instance()?)?;
    let known = instance.task.as_ref().is_some_and(|t| t.id == status.task_id);
    known.then_some(instance)
}

fn update(task: &mut Task, status: &TaskStatus, now: Time) {
    task.last_sequence = status.sequence;
    // An agent that starts over may report an earlier state again; a task's never goes back.
    task.state = task.state.max(status.state);
    task.healthy = status.healthy;
    task.message.clone_from(&status.message);
    if status.ip.is_some() {
        task.ip.clone_from(&status.ip);
    }
    if task.state == TaskState::Running && task.started_at.is_none() {
        task.started_at = Some(now);
    }
}

/// A task has ended: its instance waits for the next one, or goes with it.
fn end(state: &mut State, id: &InstanceId, task: &Task, events: &mut Vec<Event>) {
    let now = state.now;
    let Some(instance) = state.instances.get_mut(id) else { return };
    instance.since = now;
    instance.incarnation = instance.incarnation.saturating_add(1);
    let (app_id, version, goal) = (instance.app_id.clone(), instance.version, instance.goal);
    remember_failure(state, id, task);
    let later_restart = state.awaits_restart(&app_id);
    let Some(record) = state.apps.get_mut(&app_id) else {
        return instances::remove(state, id, events);
    };
    // An old configuration is launched again only while its own restart is still to come.
    let outdated = version < record.app.last_config_change && !later_restart;
    let Some(app) = record.at_version(version).filter(|_| goal == Goal::Running && !outdated)
    else {
        return instances::remove(state, id, events);
    };
    if task.state.delays_launch() {
        let strategy = app.backoff;
        record.delay = backoff::after_failure(record.delay, &strategy, now);
    }
}

/// Keep what went wrong for the user (Marathon's `lastTaskFailure`: not for FINISHED or KILLED).
fn remember_failure(state: &mut State, id: &InstanceId, task: &Task) {
    if let Some(report) = &status.probes {
        task.probes.take(report, now);
    }
    if !matches!(task.state, TaskState::Failed | TaskState::Error | TaskState::Lost) {
        return;
    }
    let now = state.now;
    let Some(instance) = state.instances.get(id) else { return };
    let record = match state.apps.get_mut(&instance.app_id) {
        Some(record) => Some(record),
        None => state.leaving.get_mut(&instance.app_id),
    };
    let Some(record) = record else { return };
    record.last_failure = Some(TaskFailure {
        task_id: task.id.clone(),
        agent_id: task.agent_id.clone(),
        host: task.host.clone(),
        state: task.state,
        message: task.message.clone(),
        at: now,
        version: instance.version,
    });
}
