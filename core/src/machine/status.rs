//! What agents report of their tasks, and what the end of a task means for its instance.

use super::{backoff, instances, resize};
use crate::event::Event;
use crate::model::{
    AppId, BackoffStrategy, Goal, HealthCheck, HealthResult, Instance, InstanceId, State, Task,
    TaskContainer, TaskFailure, TaskState, TaskStatus, Time,
};

pub(super) fn record(state: &mut State, statuses: &[TaskStatus]) -> Vec<Event> {
    let mut events = Vec::new();
    for status in statuses {
        let now = state.now;
        // A task the cluster no longer knows has ended before; its agent learns that from its
        // next assignment set, not from a rejection.
        let Some(instance) = find(state, status) else {
            events.extend(unknown_end(state, status));
            continue;
        };
        let Some(task) = instance.task.as_mut() else { continue };
        if status.sequence <= task.last_sequence {
            continue;
        }
        let (was, was_healthy) = (task.state, task.healthy);
        let was_bad: Vec<bool> = task.probes.health.iter().map(is_bad).collect();
        let changed_containers = update(task, status, now);
        if task.started_at.is_none() {
            // Word of a task on its way gives it more time.
            instance.since = now;
        }
        if let Some(size) = &status.size {
            resize::settle(instance, size);
        }
        let Some(task) = instance.task.as_ref() else { continue };
        let (task_id, state_now, healthy) = (task.id.clone(), task.state, task.healthy);
        let changed = Box::new(instance.clone());
        let ended = if state_now.is_terminal() { instance.task.take() } else { None };
        let failed_checks = turned_bad(state, &changed, &was_bad);
        let id = changed.id.clone();
        events.push(Event::TaskStatusChanged {
            task_id,
            app_id: changed.app_id.clone(),
            state: state_now,
            healthy,
            was,
            was_healthy,
            instance: changed,
            failed_checks,
            changed_containers,
        });
        if let Some(task) = ended {
            end(state, &id, &task, &mut events);
        }
    }
    events
}

fn is_bad(result: &HealthResult) -> bool {
    result.alive == Some(false)
}

/// The health checks that are bad now and were not before.
fn turned_bad(state: &State, instance: &Instance, was_bad: &[bool]) -> Vec<HealthCheck> {
    let (Some(app), Some(task)) = (state.app_of(instance), &instance.task) else {
        return Vec::new();
    };
    let results = task.probes.health.iter().enumerate();
    let turned =
        results.filter(|(at, result)| is_bad(result) && !was_bad.get(*at).is_some_and(|bad| *bad));
    turned.filter_map(|(at, _)| app.health_checks.get(at).cloned()).collect()
}

/// Word of an ending that no instance waits for any more.
fn unknown_end(state: &State, status: &TaskStatus) -> Option<Event> {
    let forgotten = !state.instances.contains_key(&status.task_id.instance()?);
    let (task_id, state) = (status.task_id.clone(), status.state);
    (forgotten && state.is_terminal()).then_some(Event::UnknownTaskEnded { task_id, state })
}

fn find<'a>(state: &'a mut State, status: &TaskStatus) -> Option<&'a mut Instance> {
    let instance = state.instances.get_mut(&status.task_id.instance()?)?;
    let known = instance.task.as_ref().is_some_and(|t| t.id == status.task_id);
    known.then_some(instance)
}

/// Take in a report; gives the names of the containers that are in another state now.
fn update(task: &mut Task, status: &TaskStatus, now: Time) -> Vec<String> {
    task.last_sequence = status.sequence;
    // An agent that starts over may report an earlier state again; a task's never goes back.
    task.state = task.state.max(status.state);
    task.healthy = status.healthy;
    task.message.clone_from(&status.message);
    if let Some(report) = &status.probes {
        task.probes.take(report, now);
    }
    if status.ip.is_some() {
        task.ip.clone_from(&status.ip);
    }
    if task.state == TaskState::Running && task.started_at.is_none() {
        task.started_at = Some(now);
    }
    let mut changed = Vec::new();
    if status.restarts > task.restarts {
        task.restarts = status.restarts;
        for container in &mut task.containers {
            let name = container.status.name.clone();
            *container = TaskContainer::staging(&name, now);
        }
    }
    for told in &status.containers {
        let known = task.containers.iter_mut().find(|c| c.status.name == told.name);
        if known.is_some_and(|known| known.take(told, now)) {
            changed.push(told.name.clone());
        }
    }
    changed
}

/// A task has ended: its instance waits for the next one, or goes with it.
fn end(state: &mut State, id: &InstanceId, task: &Task, events: &mut Vec<Event>) {
    let now = state.now;
    state.inactive.remove(id);
    let Some(instance) = state.instances.get_mut(id) else { return };
    instance.since = now;
    instance.incarnation = instance.incarnation.saturating_add(1);
    let (app_id, version, goal) = (instance.app_id.clone(), instance.version, instance.goal);
    remember_failure(state, id, task);
    let later_restart = state.awaits_restart(&app_id);
    let stable = state.held(&app_id).map(|rollout| rollout.stable);
    let Some(record) = state.apps.get(&app_id) else {
        return instances::remove(state, id, events);
    };
    // An old configuration is launched again only while its own restart is still to come, or
    // while it is kept up beside one on trial.
    let kept_up = stable.is_some_and(|stable| record.same_config(version, stable));
    let outdated = !record.is_current(version) && !later_restart && !kept_up;
    let Some(app) = record.at_version(version).filter(|_| goal == Goal::Running && !outdated)
    else {
        return instances::retire(state, id, events);
    };
    if task.state.delays_launch() {
        let (strategy, beside) = (app.backoff, kept_up && !record.is_current(version));
        delay_launch(state, &app_id, &strategy, beside);
    }
}

/// Let the next launch wait; of a version kept up `beside` one on trial, only its own.
fn delay_launch(state: &mut State, app_id: &AppId, strategy: &BackoffStrategy, beside: bool) {
    let now = state.now;
    let delay = match beside {
        true => state.rollout_mut(app_id).map(|rollout| &mut rollout.stable_delay),
        false => state.apps.get_mut(app_id).map(|record| &mut record.delay),
    };
    if let Some(delay) = delay {
        *delay = backoff::after_failure(*delay, strategy, now);
    }
}

/// Keep what went wrong for the user (Marathon's `lastTaskFailure`: not for FINISHED or KILLED).
fn remember_failure(state: &mut State, id: &InstanceId, task: &Task) {
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
