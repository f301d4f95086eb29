//! Give waiting instances their place, if it still holds.
//!
//! Offers are seen outside the log, so each decision is checked again here, where the truth is:
//! this is what makes overcommitting impossible whatever the placer believed.

use crate::command::Placed;
use crate::event::{Event, RefusedAssignment};
use crate::model::{
    Agent, AgentId, App, Goal, HeldDevice, Protocol, Reservation, State, Task, TaskContainer,
    TaskId, Usage,
};
use crate::place;
use std::collections::BTreeMap;

pub(super) fn assign(state: &mut State, assignments: &[Placed]) -> Vec<Event> {
    let mut usage: BTreeMap<AgentId, Usage> = BTreeMap::new();
    let mut events = Vec::new();
    for placed in assignments {
        let agent_id = placed.agent_id.clone();
        let used = usage.entry(agent_id.clone()).or_insert_with(|| state.used_on(&agent_id));
        match check(state, placed, used) {
            Ok((task, reservation)) => {
                used.resources = used.resources.plus(&task.resources);
                let volumes = reservation.as_ref().map(Reservation::resources);
                used.resources = used.resources.plus(&volumes.unwrap_or_default());
                used.ports.extend(task.ports.iter().copied());
                used.devices.extend(task.devices.iter().cloned());
                let task_id = task.id.clone();
                if let Some(instance) = state.instances.get_mut(&placed.instance_id) {
                    instance.task = Some(task);
                    instance.reservation = reservation.or(instance.reservation.take());
                    let instance = Box::new(instance.clone());
                    events.push(Event::TaskAssigned { task_id, agent_id, instance });
                }
            }
            Err(reason) => events.push(Event::AssignmentRefused {
                instance_id: placed.instance_id.clone(),
                agent_id,
                reason,
            }),
        }
    }
    events
}

/// The task that an instance gets, and what is reserved with it where it is its first.
fn check(
    state: &State,
    placed: &Placed,
    used: &Usage,
) -> Result<(Task, Option<Reservation>), RefusedAssignment> {
    let instance =
        state.instances.get(&placed.instance_id).ok_or(RefusedAssignment::InstanceGone)?;
    if instance.task.is_some() {
        return Err(RefusedAssignment::AlreadyPlaced);
    }
    let record = state.apps.get(&instance.app_id).ok_or(RefusedAssignment::InstanceGone)?;
    let app = record.at_version(instance.version).ok_or(RefusedAssignment::InstanceGone)?;
    if instance.goal != Goal::Running {
        return Err(RefusedAssignment::InstanceGone);
    }
    let agent = state.agents.get(&placed.agent_id).ok_or(RefusedAssignment::AgentUnknown)?;
    if !agent.reachable {
        return Err(RefusedAssignment::AgentUnreachable);
    }
    if state.is_draining(&agent.id) {
        return Err(RefusedAssignment::AgentDraining);
    }
    if state.delay_of(instance).until > state.now {
        return Err(RefusedAssignment::Delayed);
    }
    if !state.missing_secrets(app).is_empty() {
        return Err(RefusedAssignment::SecretMissing);
    }
    let mut judge = place::Judge::new(state.attributes_of(&agent.id), state.roles_of(&agent.id));
    if judge.broken(app, &agent.name).is_some() {
        return Err(RefusedAssignment::Unsuitable);
    }
    let fresh = match &instance.reservation {
        Some(kept) if kept.agent_id != agent.id => return Err(RefusedAssignment::NotReserved),
        Some(_) => None,
        None => Reservation::of(app, &instance.id, agent),
    };
    let volumes = fresh.as_ref().map(Reservation::resources).unwrap_or_default();
    // As the placer counts: an agent that lends less than it gave out before has none left of
    // that, which is no reason to refuse what needs none of it.
    if !agent.total.minus(&used.resources).holds(&app.resources.plus(&volumes)) {
        return Err(RefusedAssignment::NotEnough);
    }
    if !ports_hold(app, agent, used, &placed.ports) {
        return Err(RefusedAssignment::PortTaken);
    }
    if !devices_hold(app, used, &placed.devices) {
        return Err(RefusedAssignment::DeviceTaken);
    }
    let id = match app.pod {
        Some(_) => instance.id.pod_task(instance.incarnation),
        None => instance.id.task(instance.incarnation),
    };
    Ok((task(state, id, agent, app, placed), fresh))
}

fn task(state: &State, id: TaskId, agent: &Agent, app: &App, placed: &Placed) -> Task {
    let containers = app.pod.iter().flat_map(|pod| &pod.containers);
    Task {
        ports: placed.ports.clone(),
        devices: placed.devices.clone(),
        resources: app.resources,
        containers: containers.map(|c| TaskContainer::staging(&c.name, state.now)).collect(),
        ..Task::staging(id, agent.id.clone(), &agent.name, state.now)
    }
}

/// One device for each that the app asks for, none held by another task or twice by this one. Which
/// the agent has, the state does not know: the agent refuses a task whose device is gone.
fn devices_hold(app: &App, used: &Usage, devices: &[HeldDevice]) -> bool {
    let free = |(at, device): (usize, &HeldDevice)| {
        let own = devices.iter().take(at);
        !used.devices.iter().chain(own).any(|held| held.excludes(device))
    };
    app.devices().len() == devices.len() && devices.iter().enumerate().all(free)
}

/// One port for each that the app asks for: the very one where it is fixed, else one the agent
/// lends; none held by another task. Two of one task may be equal only on different transports.
fn ports_hold(app: &App, agent: &Agent, used: &Usage, ports: &[u16]) -> bool {
    let requests = app.port_requests();
    if requests.len() != ports.len() {
        return false;
    }
    let mut own: Vec<(u16, Protocol)> = Vec::new();
    for (request, &port) in requests.iter().zip(ports) {
        let allowed = match request.fixed {
            Some(fixed) => fixed == port,
            None => agent.ports.iter().any(|range| range.contains(port)),
        };
        let twice = own.iter().any(|(p, proto)| *p == port && proto.overlaps(request.protocol));
        if port == 0 || !allowed || twice || used.ports.contains(&port) {
            return false;
        }
        own.push((port, request.protocol));
    }
    true
}
