//! How a pod reads as one task: what its containers share, and each container's own part
//! (Marathon's contract, section 9).

use super::{KILL_GRACE_DEFAULT_MS, alone, common, limit, resource_variables, variable_name};
use crate::model::{
    App, Check, CheckProbe, EnvValue, HealthCheck, HealthCheckKind, LocalVolume, Pod, PodCheck,
    PodContainer, PodHealthCheck, PodProbe, PodTask, PodVolume, Protocol, PublishedPort,
    ResourceLimits, SharedMount, Task, TaskCommand, TaskImage, TaskNetwork, TaskSpec, Volume,
    VolumeMount, VolumeSource,
};
use std::collections::BTreeMap;

/// Everything an agent needs to run one instance of a pod.
pub(super) fn spec(app: &App, pod: &Pod, kept: &[LocalVolume], task: &Task) -> TaskSpec {
    let containers: Vec<PodTask> =
        pod.containers.iter().filter_map(|c| container(app, pod, c, kept, task)).collect();
    let grace = containers.iter().map(|c| c.spec.kill_grace_ms).max();
    TaskSpec {
        user: app.user.clone(),
        resources: task.resources,
        cpu_limit_milli: sum(containers.iter().map(|c| c.spec.cpu_limit_milli)),
        mem_limit_bytes: sum(containers.iter().map(|c| c.spec.mem_limit_bytes)),
        network: network(app, pod, task),
        kill_grace_ms: grace.unwrap_or(KILL_GRACE_DEFAULT_MS),
        host_ports: task.ports.clone(),
        pod: containers,
        alone: alone(app),
        ..blank()
    }
}

/// The ceilings of all together; none where one has none.
fn sum(mut limits: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    limits.try_fold(0, |sum: u64, limit| Some(sum.saturating_add(limit?)))
}

/// A specification that asks for nothing.
fn blank() -> TaskSpec {
    TaskSpec {
        command: TaskCommand::ImageDefault,
        image: None,
        user: None,
        env: Vec::new(),
        resources: <_>::default(),
        cpu_limit_milli: None,
        mem_limit_bytes: None,
        network: TaskNetwork::Host,
        volumes: Vec::new(),
        kill_grace_ms: KILL_GRACE_DEFAULT_MS,
        privileged: false,
        health_checks: Vec::new(),
        host_ports: Vec::new(),
        tty: false,
        fetch: Vec::new(),
        readiness: Vec::new(),
        check: None,
        local_volumes: Vec::new(),
        pod: Vec::new(),
        secrets: Vec::new(),
        alone: <_>::default(),
        devices: Vec::new(),
    }
}

fn container(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    kept: &[LocalVolume],
    task: &Task,
) -> Option<PodTask> {
    // Ids of tasks are made here and always have the form that names containers.
    let task_id = task.id.of_container(&container.name)?;
    let limits: ResourceLimits = container.resource_limits.unwrap_or_default();
    let probes = Probes { pod, task };
    let spec = TaskSpec {
        command: container.exec.as_ref().map_or(TaskCommand::ImageDefault, |e| e.task_command()),
        image: container.image.as_ref().map(|image| TaskImage {
            reference: image.id.clone(),
            force_pull: image.force_pull.unwrap_or(false),
            parameters: Vec::new(),
            in_sandbox: true,
        }),
        user: container.user.clone().or_else(|| app.user.clone()),
        env: environment(app, pod, container, task),
        resources: container.resources,
        cpu_limit_milli: limit(limits.cpus, container.resources.cpus_milli),
        mem_limit_bytes: limit(limits.mem, container.resources.mem_bytes),
        volumes: volumes(pod, container),
        local_volumes: local_volumes(container, kept),
        kill_grace_ms: container.kill_grace_ms.unwrap_or(KILL_GRACE_DEFAULT_MS),
        health_checks: container.health_check.iter().filter_map(|c| probes.health(c)).collect(),
        tty: container.tty.unwrap_or(false),
        fetch: container.artifacts.clone(),
        check: container.check.as_ref().and_then(|check| probes.check(check)),
        secrets: app.container_secrets(pod, container),
        ..blank()
    };
    let shared = shared(pod, container);
    Some(PodTask { name: container.name.clone(), task_id, spec, shared })
}

/// The environment of one container, by name: Marathon's variables, the pod's own, the
/// container's own; later ones win. Every container sees the endpoints of all.
fn environment(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    task: &Task,
) -> Vec<(String, String)> {
    let id = task.id.of_container(&container.name).unwrap_or_else(|| task.id.clone());
    let mut env: BTreeMap<String, String> = common(app, task, &id);
    env.insert("MARATHON_CONTAINER_ID".into(), container.name.clone());
    env.extend(resource_variables("MARATHON_CONTAINER", &container.resources));
    for (_, endpoint, host_port) in pod.allocated(&task.ports) {
        let name = variable_name(&endpoint.name);
        let inside = endpoint.container_port.filter(|port| *port != 0).or(host_port);
        env.extend(host_port.map(|port| (format!("EP_HOST_{name}"), port.to_string())));
        env.extend(inside.map(|port| (format!("EP_CONTAINER_{name}"), port.to_string())));
    }
    for (name, value) in app.env.iter().chain(&container.environment) {
        match value {
            EnvValue::Plain(text) => env.insert(name.clone(), text.clone()),
            // Its value is not known here; one of the pod's that it hides must not show through.
            EnvValue::Secret(_) => env.remove(name),
        };
    }
    env.into_iter().collect()
}

fn network(app: &App, pod: &Pod, task: &Task) -> TaskNetwork {
    if app.is_host_network() {
        return TaskNetwork::Host;
    }
    let published = pod.allocated(&task.ports).filter_map(|(_, endpoint, host_port)| {
        let host_port = host_port?;
        Some(PublishedPort {
            host_port,
            container_port: endpoint.container_port.filter(|p| *p != 0).unwrap_or(host_port),
            tcp: endpoint.protocol != Protocol::Udp,
            udp: endpoint.protocol != Protocol::Tcp,
        })
    });
    TaskNetwork::Bridge(published.collect())
}

/// What a container mounts that is not the pod's own.
fn volumes(pod: &Pod, container: &PodContainer) -> Vec<Volume> {
    let mounted = container.volume_mounts.iter().filter_map(|m| Some((m, pod.volume(&m.name)?)));
    let volume = |(mount, volume): (&VolumeMount, &PodVolume)| {
        let (container_path, mode) = (mount.mount_path.clone(), mount.mode());
        match volume.source.clone() {
            VolumeSource::Ephemeral => None,
            VolumeSource::Host(host_path) => Some(Volume::Host { container_path, host_path, mode }),
            VolumeSource::Secret(secret) => Some(Volume::Secret { container_path, secret }),
            VolumeSource::Persistent {
                kind,
                size_mib,
                max_size_mib,
                profile_name,
                constraints,
            } => Some(Volume::Persistent {
                container_path,
                mode,
                kind,
                size_mib,
                max_size_mib,
                profile_name,
                constraints,
            }),
        }
    };
    mounted.filter_map(volume).collect()
}

/// The pod's persistent volumes, each at every path where the container mounts it.
fn local_volumes(container: &PodContainer, kept: &[LocalVolume]) -> Vec<LocalVolume> {
    let mounted = |mount: &VolumeMount| {
        let volume = kept.iter().find(|volume| volume.container_path == mount.name)?;
        Some(LocalVolume { container_path: mount.mount_path.clone(), ..volume.clone() })
    };
    container.volume_mounts.iter().filter_map(mounted).collect()
}

fn shared(pod: &Pod, container: &PodContainer) -> Vec<SharedMount> {
    let of_pod = |name: &str| pod.volume(name).is_some_and(|v| v.source == VolumeSource::Ephemeral);
    let mounts = container.volume_mounts.iter().filter(|mount| of_pod(&mount.name));
    mounts
        .map(|mount| SharedMount {
            volume: mount.name.clone(),
            container_path: mount.mount_path.clone(),
            mode: mount.mode(),
        })
        .collect()
}

/// Checks by the ports that their endpoints have in this task. One whose endpoint has none (which
/// validation refuses) could only fail and is left out.
struct Probes<'a> {
    pod: &'a Pod,
    task: &'a Task,
}

impl Probes<'_> {
    /// The host port, or the container's own where that has none.
    fn port(&self, name: &str) -> Option<u16> {
        let mut all = self.pod.allocated(&self.task.ports);
        let (_, endpoint, host_port) = all.find(|(_, endpoint, _)| endpoint.name == name)?;
        host_port.or(endpoint.container_port)
    }

    fn health(&self, check: &PodHealthCheck) -> Option<HealthCheck> {
        let blank = HealthCheck {
            kind: HealthCheckKind::Command,
            path: None,
            port_index: None,
            port: None,
            command: None,
            grace_ms: check.grace_ms,
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            max_consecutive_failures: check.max_consecutive_failures,
            delay_ms: check.delay_ms,
            ignore_http_1xx: false,
            ip_protocol: None,
        };
        Some(match &check.probe {
            PodProbe::Exec { command } => HealthCheck { command: Some(command.as_line()), ..blank },
            PodProbe::Tcp { endpoint } => HealthCheck {
                kind: HealthCheckKind::Tcp,
                port: Some(self.port(endpoint)?),
                ..blank
            },
            PodProbe::Http { endpoint, path, https } => HealthCheck {
                kind: if *https { HealthCheckKind::Https } else { HealthCheckKind::Http },
                path: path.clone(),
                port: Some(self.port(endpoint)?),
                ..blank
            },
        })
    }

    fn check(&self, check: &PodCheck) -> Option<Check> {
        let port_of = |endpoint: &str| self.port(endpoint).map(Some);
        let probe = match &check.probe {
            PodProbe::Exec { command } => CheckProbe::Exec { command: command.as_line() },
            PodProbe::Tcp { endpoint } => {
                CheckProbe::Tcp { port_index: None, port: port_of(endpoint)? }
            }
            PodProbe::Http { endpoint, path, https } => CheckProbe::Http {
                path: path.clone(),
                port_index: None,
                port: port_of(endpoint)?,
                https: *https,
            },
        };
        let PodCheck { delay_ms, interval_ms, timeout_ms, .. } = *check;
        Some(Check { probe, delay_ms, interval_ms, timeout_ms })
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
