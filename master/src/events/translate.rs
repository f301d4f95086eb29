//! From facts of the state machine to Marathon's events, in Marathon's order. Pure.

use bramble_core::event::Event;
use bramble_core::model::{
    App, AppId, Deployment, DeploymentId, Goal, GroupId, HealthCheck, Instance, InstanceId,
    TASK_UNREACHABLE, Task, TaskContainer, TaskId, TaskState, Time,
};
use bramble_protocol::rest::app::{canonical, health_check};
use bramble_protocol::rest::deployment::{StepJson, step};
use bramble_protocol::rest::event::{EventBody, StatusUpdateJson, plan};
use bramble_protocol::rest::pod::condition;
use bramble_protocol::rest::task::ip_address;
use bramble_protocol::timestamp;
use std::sync::Arc;

/// Why a deployment that was overridden or stopped has failed.
const CANCELLED: &str = "The upgrade has been cancelled";

/// An event, and the deployment whose groups a heavy plan shows.
pub(super) struct Told {
    pub body: EventBody,
    pub deployment: Option<Arc<Deployment>>,
}

/// A request for one app or pod that is about to start a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub client_ip: String,
    pub uri: String,
    pub what: Announcement,
}

/// What is told of such a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The definition as the request made it.
    App(Box<App>),
    PodCreated,
    PodUpdated,
    PodDeleted,
}

/// Say what followed from one log entry. `announced` knows which request began a deployment.
pub(super) fn translate(
    events: Vec<Event>,
    announced: &mut dyn FnMut(&DeploymentId) -> Option<Announced>,
) -> Vec<Told> {
    let mut telling = Telling { told: Vec::new(), group: None, checks: Vec::new() };
    for event in events {
        telling.tell(event, announced);
    }
    telling.flush_group();
    telling.flush_checks();
    telling.told
}

struct Telling {
    told: Vec<Told>,
    /// The group that a request named; its deployment follows, if there is one.
    group: Option<(GroupId, Time)>,
    /// Word of health checks waits for the deployment that brings them.
    checks: Vec<EventBody>,
}

impl Telling {
    fn say(&mut self, body: EventBody) {
        self.told.push(Told { body, deployment: None });
    }

    fn say_of(&mut self, deployment: &Arc<Deployment>, body: EventBody) {
        self.told.push(Told { body, deployment: Some(deployment.clone()) });
    }

    fn flush_group(&mut self) {
        if let Some((group_id, version)) = self.group.take() {
            let version = timestamp::format(version);
            self.say(EventBody::GroupChangeSuccess { group_id: group_id.0, version });
        }
    }

    fn flush_checks(&mut self) {
        for body in std::mem::take(&mut self.checks) {
            self.say(body);
        }
    }

    fn tell(
        &mut self,
        event: Event,
        announced: &mut dyn FnMut(&DeploymentId) -> Option<Announced>,
    ) {
        match event {
            Event::AppChanged { app_id, version, added_checks, removed_checks } => {
                self.checks.extend(removed(&app_id, removed_checks));
                self.checks.extend(added_checks.iter().map(|c| added(&app_id, version, c)));
            }
            Event::AppRemoved { app_id, removed_checks } => {
                self.checks.extend(removed(&app_id, removed_checks));
            }
            Event::GroupChanged { group_id, version } => {
                self.flush_group();
                self.group = Some((group_id, version));
            }
            Event::DeploymentStarted { id, deployment, .. } => {
                self.started(deployment.into(), announced(&id));
            }
            Event::DeploymentStep { deployment, .. } => self.stepped(&deployment.into()),
            Event::DeploymentFinished { deployment, .. } => self.finished(&deployment.into()),
            Event::DeploymentCancelled { deployment, .. } => {
                self.failed(&deployment.into(), CANCELLED);
            }
            Event::DeploymentUndone { deployment, reason, .. } => {
                self.failed(&deployment.into(), &reason.to_string());
            }
            Event::InstanceAdded { instance_id, app_id, version } => {
                self.say(EventBody::InstanceChanged {
                    instance_id: instance_id.0,
                    condition: "Scheduled".into(),
                    run_spec_id: app_id.0,
                    agent_id: None,
                    host: None,
                    run_spec_version: timestamp::format(version),
                });
            }
            Event::TaskAssigned { instance, .. } => {
                let containers = instance.task.iter().flat_map(|task| &task.containers);
                let all: Vec<String> = containers.map(|c| c.status.name.clone()).collect();
                self.containers(&instance, &all);
                self.task(&instance);
            }
            Event::TaskStatusChanged {
                was,
                was_healthy,
                instance,
                failed_checks,
                changed_containers,
                ..
            } => {
                self.containers(&instance, &changed_containers);
                self.reported(&instance, (was, was_healthy), &failed_checks);
            }
            Event::TaskReachable { instance, reachable: true } => self.task(&instance),
            Event::TaskReachable { instance, reachable: false } => self.unreachable(&instance),
            Event::AppTerminated { app_id } => {
                self.say(EventBody::AppTerminated { app_id: app_id.0 });
            }
            Event::UnknownTaskEnded { task_id, state } => self.unknown(&task_id, state),
            // Marathon has no event for these.
            _ => {}
        }
    }

    fn started(&mut self, deployment: Arc<Deployment>, announced: Option<Announced>) {
        let mut affected = deployment.affected();
        if let Some(Announced { client_ip, uri, what }) = announced {
            let body = match what {
                Announcement::App(app) => {
                    // As stored, with version and service ports; a change of nothing stores
                    // nothing.
                    let stored = deployment.target.apps.get(&app.id);
                    let app_definition = Box::new(match stored {
                        Some(app) => canonical(app),
                        None => canonical(&App { version: deployment.version, ..*app.clone() }),
                    });
                    if affected.is_empty() {
                        affected.push(app.id);
                    }
                    EventBody::ApiPost { client_ip, uri, app_definition }
                }
                Announcement::PodCreated => EventBody::PodCreated { client_ip, uri },
                Announcement::PodUpdated => EventBody::PodUpdated { client_ip, uri },
                Announcement::PodDeleted => EventBody::PodDeleted { client_ip, uri },
            };
            self.say(body);
        }
        let named = self.group.take_if(|(_, version)| *version == deployment.version);
        let group_id = named.map_or_else(|| GroupId::new(group_of(&affected)), |(id, _)| id);
        self.flush_group();
        self.group = Some((group_id, deployment.version));
        self.flush_group();
        if !deployment.plan.steps.is_empty() {
            self.info(&deployment);
        }
        self.flush_checks();
    }

    fn info(&mut self, deployment: &Arc<Deployment>) {
        let current_step = step_at(deployment, deployment.current_step);
        let plan = plan(deployment);
        self.say_of(deployment, EventBody::DeploymentInfo { plan, current_step });
    }

    fn step_done(&mut self, deployment: &Arc<Deployment>, index: u32) {
        let current_step = step_at(deployment, index);
        let plan = plan(deployment);
        self.say_of(deployment, EventBody::DeploymentStepSuccess { plan, current_step });
    }

    fn stepped(&mut self, deployment: &Arc<Deployment>) {
        self.step_done(deployment, deployment.current_step.saturating_sub(1));
        self.info(deployment);
    }

    fn finished(&mut self, deployment: &Arc<Deployment>) {
        if !deployment.plan.steps.is_empty() {
            self.step_done(deployment, deployment.current_step);
        }
        let (id, plan) = (deployment.id.0.clone(), plan(deployment));
        self.say_of(deployment, EventBody::DeploymentSuccess { id, plan });
    }

    fn failed(&mut self, deployment: &Arc<Deployment>, reason: &str) {
        let current_step = step_at(deployment, deployment.current_step);
        let failure = EventBody::DeploymentStepFailure { plan: plan(deployment), current_step };
        self.say_of(deployment, failure);
        let (id, plan) = (deployment.id.0.clone(), plan(deployment));
        let reason = reason.to_string();
        self.say_of(deployment, EventBody::DeploymentFailed { id, plan, reason });
    }

    /// A task is in a new state.
    fn task(&mut self, instance: &Instance) {
        let Some(task) = &instance.task else { return };
        // A pod's containers are tasks to Marathon's clients; all of them together are not.
        if task.containers.is_empty() {
            self.say(EventBody::StatusUpdate(Box::new(status_update(instance, task))));
        }
        self.say(EventBody::InstanceChanged {
            instance_id: instance.id.0.clone(),
            condition: condition(task.state),
            run_spec_id: instance.app_id.0.clone(),
            agent_id: Some(task.agent_id.0.clone()),
            host: Some(task.host.clone()),
            run_spec_version: timestamp::format(instance.version),
        });
    }

    /// Containers of a pod are in new states.
    fn containers(&mut self, instance: &Instance, changed: &[String]) {
        let Some(task) = &instance.task else { return };
        for container in &task.containers {
            let TaskContainer { status, .. } = container;
            let id = task.id.of_container(&status.name).filter(|_| changed.contains(&status.name));
            let Some(id) = id else { continue };
            let of_pod = status_update(instance, task);
            self.say(EventBody::StatusUpdate(Box::new(StatusUpdateJson {
                task_id: id.0,
                task_status: status.state.as_str(),
                message: status.message.clone(),
                ..of_pod
            })));
        }
    }

    /// Nobody knows what a task is at.
    fn unreachable(&mut self, instance: &Instance) {
        let Some(task) = &instance.task else { return };
        let status = status_update(instance, task);
        let status = StatusUpdateJson { task_status: TASK_UNREACHABLE, ..status };
        self.say(EventBody::StatusUpdate(Box::new(status)));
        self.say(EventBody::InstanceChanged {
            instance_id: instance.id.0.clone(),
            condition: "Unreachable".into(),
            run_spec_id: instance.app_id.0.clone(),
            agent_id: Some(task.agent_id.0.clone()),
            host: Some(task.host.clone()),
            run_spec_version: timestamp::format(instance.version),
        });
    }

    fn reported(
        &mut self,
        instance: &Instance,
        (was, was_healthy): (TaskState, Option<bool>),
        failed_checks: &[HealthCheck],
    ) {
        let Some(task) = &instance.task else { return };
        for check in failed_checks {
            self.say(EventBody::FailedHealthCheck {
                app_id: instance.app_id.0.clone(),
                task_id: instance.id.0.clone(),
                health_check: Box::new(health_check(check)),
            });
        }
        // Nobody wanted it stopped, and it was not well: its agent has killed it for that.
        let killed = was != TaskState::Killed && task.state == TaskState::Killed;
        if killed && instance.goal == Goal::Running && was_healthy == Some(false) {
            self.say(unhealthy_kill(instance, task));
        }
        if was != task.state {
            // Progress within a state (an image being pulled) is no update to Marathon's clients.
            self.task(instance);
        }
        if was_healthy != task.healthy && !task.state.is_terminal() {
            self.health(instance, task.healthy);
        }
    }

    fn health(&mut self, instance: &Instance, healthy: Option<bool>) {
        let version = timestamp::format(instance.version);
        if let Some(alive) = healthy {
            self.say(EventBody::HealthStatusChanged {
                app_id: instance.app_id.0.clone(),
                instance_id: instance.id.0.clone(),
                version: version.clone(),
                alive,
            });
        }
        self.say(EventBody::InstanceHealthChanged {
            instance_id: instance.id.0.clone(),
            run_spec_id: instance.app_id.0.clone(),
            healthy,
            run_spec_version: version,
        });
    }

    fn unknown(&mut self, task_id: &TaskId, state: TaskState) {
        let Some(instance_id) = task_id.instance() else { return };
        self.say(EventBody::UnknownInstanceTerminated {
            run_spec_id: app_of(&instance_id),
            instance_id: instance_id.0,
            condition: condition(state),
        });
    }
}

fn added(app_id: &AppId, version: Time, check: &HealthCheck) -> EventBody {
    EventBody::AddHealthCheck {
        app_id: app_id.0.clone(),
        version: timestamp::format(version),
        health_check: Box::new(health_check(check)),
    }
}

fn removed(app_id: &AppId, count: u32) -> impl Iterator<Item = EventBody> {
    let app_id = app_id.0.clone();
    (0..count).map(move |_| EventBody::RemoveHealthCheck { app_id: app_id.clone() })
}

fn status_update(instance: &Instance, task: &Task) -> StatusUpdateJson {
    StatusUpdateJson {
        slave_id: task.agent_id.0.clone(),
        task_id: task.id.0.clone(),
        task_status: task.state.as_str(),
        message: task.message.clone(),
        app_id: instance.app_id.0.clone(),
        host: task.host.clone(),
        ip_addresses: task.ip.iter().map(|ip| ip_address(ip)).collect(),
        ports: task.ports.clone(),
        version: timestamp::format(instance.version),
    }
}

fn unhealthy_kill(instance: &Instance, task: &Task) -> EventBody {
    EventBody::UnhealthyInstanceKill {
        app_id: instance.app_id.0.clone(),
        task_id: task.id.0.clone(),
        instance_id: instance.id.0.clone(),
        version: timestamp::format(instance.version),
        reason: task.message.clone(),
        host: task.host.clone(),
        slave_id: task.agent_id.0.clone(),
    }
}

fn step_at(deployment: &Deployment, index: u32) -> StepJson {
    let found = usize::try_from(index).ok().and_then(|index| deployment.plan.steps.get(index));
    found.map_or_else(|| StepJson { actions: Vec::new() }, step)
}

/// The deepest group that holds all of these apps.
pub(crate) fn group_of(apps: &[AppId]) -> String {
    let Some((first, others)) = apps.split_first() else { return "/".into() };
    let mut path: Vec<&str> = first.segments().collect();
    path.pop();
    for other in others {
        let mut theirs: Vec<&str> = other.segments().collect();
        theirs.pop();
        let common = path.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        path.truncate(common);
    }
    format!("/{}", path.join("/"))
}

/// The app that an instance id names: no app id holds an underscore, so the way back is plain.
fn app_of(id: &InstanceId) -> String {
    let safe = id.as_str().rsplit_once(".instance-").map_or(id.as_str(), |(safe, _)| safe);
    format!("/{}", safe.replace('_', "/"))
}

#[cfg(test)]
mod tests;
