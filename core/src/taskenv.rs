//! From an app and an instance to what its agent is told: environment and task specification.
//!
//! Owns how an app's definition reads as one task. It must never look at an agent's own setup:
//! what only the agent knows (`MESOS_SANDBOX`) is added there.

mod pod;

use crate::model::{
    AgentId, AlonePolicy, App, Assignment, BYTES_PER_MIB, ContainerKind, DeviceRequest, EnvValue,
    Goal, HeldDevice, Instance, Limit, Protocol, PublishedPort, ReadinessCheck, ReadinessProbe,
    Resources, State, Task, TaskCommand, TaskDevice, TaskId, TaskImage, TaskNetwork, TaskSpec,
};
use std::collections::BTreeMap;

/// Time between SIGTERM and SIGKILL where an app gives none (Mesos' executor default).
pub const KILL_GRACE_DEFAULT_MS: u64 = 3000;
/// Labels with a longer key than this many characters do not reach the environment (Marathon).
const LABEL_KEY_CHARS_MAX: usize = 492;
/// The same for values.
const LABEL_VALUE_CHARS_MAX: usize = 511;

/// Build a task's environment, by name: Marathon's variables (section 6.1 of its contract), then
/// the user's, which win. Secrets are left out ([`App::task_secrets`] has them): their values are
/// not known here.
pub fn environment(app: &App, _instance: &Instance, task: &Task) -> Vec<(String, String)> {
    let mut env = common(app, task, &task.id);
    let mut set = |name: String, value: String| env.insert(name, value);
    for (name, value) in port_variables(app, task) {
        set(name, value);
    }
    if let Some(container) = &app.container
        && let (ContainerKind::Docker, Some(docker)) = (container.kind, &container.docker)
    {
        set("MARATHON_APP_DOCKER_IMAGE".into(), docker.image.clone());
    }
    for (name, value) in resource_variables("MARATHON_APP", &app.resources) {
        set(name, value);
    }
    for (name, value) in &app.env {
        if let EnvValue::Plain(value) = value {
            set(name.clone(), value.clone());
        }
    }
    env.into_iter().collect()
}

/// What every task is told, of an app or a container of a pod.
fn common(app: &App, task: &Task, id: &TaskId) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("HOST".into(), task.host.clone()),
        ("MESOS_TASK_ID".into(), id.0.clone()),
        ("MARATHON_APP_ID".into(), app.id.0.clone()),
        ("MARATHON_APP_VERSION".into(), app.version.to_timestamp()),
        ("MARATHON_APP_ENFORCE_GROUP_ROLE".into(), "FALSE".into()),
    ]);
    let labels = label_variables(&app.labels);
    let names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
    env.insert("MARATHON_APP_LABELS".into(), names.join(" "));
    env.extend(labels.into_iter().map(|(k, v)| (format!("MARATHON_APP_LABEL_{k}"), v)));
    env
}

fn resource_variables(prefix: &str, resources: &Resources) -> [(String, String); 4] {
    [
        ("CPUS", decimal(resources.cpus_milli, 1000)),
        ("MEM", decimal(resources.mem_bytes, BYTES_PER_MIB)),
        ("DISK", decimal(resources.disk_bytes, BYTES_PER_MIB)),
        ("GPUS", resources.gpus.to_string()),
    ]
    .map(|(name, value)| (format!("{prefix}_RESOURCE_{name}"), value))
}

/// `PORT`, `PORTS`, and each port by index, requested number and name.
fn port_variables(app: &App, task: &Task) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: String, value: u16| variables.push((name, value.to_string()));
    for (index, port) in task.ports.iter().enumerate() {
        set(format!("PORT{index}"), *port);
    }
    let mut host_ports = task.ports.iter().copied();
    for (requested, name, host_port) in requested(app, &mut host_ports) {
        if let Some(port) = host_port {
            set(format!("PORT_{}", if requested == 0 { port } else { requested }), port);
        }
        if let Some(name) = name {
            set(format!("PORT_{}", name.to_uppercase()), host_port.unwrap_or(requested));
        }
    }
    if let Some(first) = task.ports.first() {
        let all: Vec<String> = task.ports.iter().map(u16::to_string).collect();
        variables.push(("PORT".into(), first.to_string()));
        variables.push(("PORTS".into(), all.join(",")));
    }
    variables
}

/// Number, name and host port of each port an app defines.
fn requested<'a>(
    app: &'a App,
    host_ports: &mut dyn Iterator<Item = u16>,
) -> Vec<(u16, Option<&'a str>, Option<u16>)> {
    if app.is_host_network() {
        let definitions = app.port_definitions.iter();
        return definitions.map(|p| (p.port, p.name.as_deref(), host_ports.next())).collect();
    }
    app.port_mappings()
        .iter()
        .map(|m| (m.container_port, m.name.as_deref(), m.host_port.and_then(|_| host_ports.next())))
        .collect()
}

/// Each readiness check with the port its name means; one that names none (which validation
/// refuses) would never be ready and is left out.
fn readiness(app: &App, task: &Task) -> Vec<ReadinessProbe> {
    let mut host_ports = task.ports.iter().copied();
    let ports = requested(app, &mut host_ports);
    let probe = |check: &ReadinessCheck| {
        let named = |(_, name, _): &&(u16, Option<&str>, Option<u16>)| {
            *name == Some(check.port_name.as_str())
        };
        let (requested, _, host_port) = *ports.iter().find(named)?;
        Some(ReadinessProbe { check: check.clone(), port: host_port.unwrap_or(requested) })
    };
    app.readiness_checks.iter().filter_map(probe).collect()
}

/// Labels as environment names with their values.
fn label_variables(labels: &BTreeMap<String, String>) -> Vec<(String, String)> {
    labels
        .iter()
        .filter(|(key, value)| {
            key.chars().count() <= LABEL_KEY_CHARS_MAX
                && value.chars().count() <= LABEL_VALUE_CHARS_MAX
        })
        .map(|(key, value)| (variable_name(key), value.clone()))
        .collect()
}

/// Upper case, with each run of other characters as one `_`.
fn variable_name(key: &str) -> String {
    let mut name = String::new();
    let mut replaced = false;
    for c in key.chars() {
        let plain = c.is_ascii_alphanumeric() || c == '_';
        if plain {
            name.push(c.to_ascii_uppercase());
        } else if !replaced {
            name.push('_');
        }
        replaced = !plain;
    }
    name
}

/// `value / unit` as Marathon prints its numbers: `0.1`, `128.0`. Up to six decimals, which is
/// finer than any amount that is asked for.
fn decimal(value: u64, unit: u64) -> String {
    let millionths = (u128::from(value) * 1_000_000 + u128::from(unit) / 2) / u128::from(unit);
    let fraction = format!("{:06}", millionths % 1_000_000);
    let kept = fraction.trim_end_matches('0');
    format!("{}.{}", millionths / 1_000_000, if kept.is_empty() { "0" } else { kept })
}

/// Build the assignment of an instance; `None` without a task. `app` is the definition its agent
/// is told ([`State::assigned_app`]).
pub fn assignment(app: &App, instance: &Instance) -> Option<Assignment> {
    let task = instance.task.as_ref()?;
    Some(Assignment {
        task_id: task.id.clone(),
        instance_id: instance.id.clone(),
        app_id: instance.app_id.clone(),
        app_version: instance.assigned_version(),
        spec: spec(app, instance, task),
        run: instance.goal == Goal::Running,
    })
}

/// The assignments of one agent, in instance order.
pub fn assignments_on(state: &State, agent_id: &AgentId) -> Vec<Assignment> {
    state
        .tasks_on(agent_id)
        .filter_map(|(instance, _)| assignment(state.assigned_app(instance)?, instance))
        .collect()
}

fn spec(app: &App, instance: &Instance, task: &Task) -> TaskSpec {
    let kept = instance.reservation.as_ref().map_or(&[][..], |r| &r.volumes);
    if let Some(pod) = &app.pod {
        return pod::spec(app, pod, kept, task);
    }
    let docker = app.container.as_ref().and_then(|c| c.docker.as_ref());
    let limits = app.resource_limits.unwrap_or_default();
    let resources = task.resizing().map_or(task.resources, |resize| resize.resources);
    TaskSpec {
        command: match (&app.cmd, &app.args) {
            (Some(line), _) => TaskCommand::Shell(line.clone()),
            (None, Some(args)) => TaskCommand::Args(args.clone()),
            (None, None) => TaskCommand::ImageDefault,
        },
        image: docker.map(|d| TaskImage {
            reference: d.image.clone(),
            force_pull: d.force_pull,
            parameters: d.parameters.clone(),
            in_sandbox: app.container.as_ref().is_some_and(|c| c.kind == ContainerKind::Mesos),
        }),
        user: app.user.clone(),
        env: environment(app, instance, task),
        resources,
        cpu_limit_milli: limit(limits.cpus, resources.cpus_milli),
        mem_limit_bytes: limit(limits.mem, resources.mem_bytes),
        network: network(app, task),
        volumes: app.container.as_ref().map(|c| c.volumes.clone()).unwrap_or_default(),
        kill_grace_ms: app.kill_grace_ms.unwrap_or(KILL_GRACE_DEFAULT_MS),
        privileged: docker.is_some_and(|d| d.privileged),
        health_checks: app.health_checks.clone(),
        host_ports: task.ports.clone(),
        tty: app.tty.unwrap_or(false),
        fetch: app.fetch.clone(),
        readiness: readiness(app, task),
        check: app.check.clone(),
        local_volumes: kept.to_vec(),
        pod: Vec::new(),
        secrets: app.task_secrets(),
        alone: alone(app),
        devices: devices(app, task),
    }
}

/// Each device that the app asks for, with what the task holds for it.
fn devices(app: &App, task: &Task) -> Vec<TaskDevice> {
    let told = |(wanted, held): (DeviceRequest, &HeldDevice)| TaskDevice {
        id: wanted.id,
        held: held.clone(),
        path: wanted.path,
    };
    app.devices().into_iter().zip(&task.devices).map(told).collect()
}

/// What the agent does with a task of `app` by itself. A label that cannot be read, which
/// validation refuses, asks for nothing.
fn alone(app: &App) -> AlonePolicy {
    AlonePolicy {
        backoff: app.backoff,
        leased: app.is_single_instance(),
        stop_after_ms: crate::alone::on_partition(app).unwrap_or_default(),
    }
}

/// The hard ceiling of a resource: the request itself where no limit is given.
fn limit(given: Option<Limit>, request: u64) -> Option<u64> {
    match given {
        Some(Limit::Unlimited) => None,
        Some(Limit::At(most)) => Some(most),
        None => Some(request),
    }
}

fn network(app: &App, task: &Task) -> TaskNetwork {
    if app.is_host_network() {
        return TaskNetwork::Host;
    }
    let published = app.port_mappings().iter().filter(|m| m.host_port.is_some());
    TaskNetwork::Bridge(
        published
            .zip(&task.ports)
            .map(|(mapping, &host_port)| PublishedPort {
                host_port,
                container_port: match mapping.container_port {
                    0 => host_port,
                    port => port,
                },
                tcp: mapping.protocol != Protocol::Udp,
                udp: mapping.protocol != Protocol::Tcp,
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests;
