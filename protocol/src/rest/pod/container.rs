//! One container of a pod in an answer.

use super::super::app::{
    EnvJson, FetchJson, LinuxInfoJson, PullConfigJson, ResourceLimitsJson, env, fetch, linux_info,
    resource_limits,
};
use super::super::number::Decimal;
use bramble_core::model::{
    Endpoint, PodCheck, PodCommand, PodContainer, PodHealthCheck, PodImage, PodProbe, Protocol,
    Resources, VolumeMount,
};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodContainerJson {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecJson>,
    pub resources: ResourcesJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimitsJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, EnvJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMountJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<FetchJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecycleJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<LinuxInfoJson>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecJson {
    pub command: CommandJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_entrypoint: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CommandJson {
    Shell(String),
    Argv(Vec<String>),
}

#[derive(Clone, Debug, Serialize)]
pub struct ResourcesJson {
    pub cpus: Decimal,
    pub mem: Decimal,
    pub disk: Decimal,
    pub gpus: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointJson {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    pub protocol: &'static [&'static str],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_names: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageJson {
    pub kind: &'static str,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_pull: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_config: Option<PullConfigJson>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMountJson {
    pub name: String,
    pub mount_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleJson {
    pub kill_grace_period_seconds: Decimal,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckJson {
    #[serde(flatten)]
    pub probe: ProbeJson,
    pub grace_period_seconds: Decimal,
    pub interval_seconds: u64,
    pub max_consecutive_failures: u32,
    pub timeout_seconds: u64,
    pub delay_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckJson {
    #[serde(flatten)]
    pub probe: ProbeJson,
    pub interval_seconds: u64,
    pub timeout_seconds: u64,
    pub delay_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeJson {
    Http {
        endpoint: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        scheme: &'static str,
    },
    Tcp {
        endpoint: String,
    },
    Exec {
        command: CommandJson,
    },
}

pub(super) fn write(container: &PodContainer) -> PodContainerJson {
    PodContainerJson {
        name: container.name.clone(),
        exec: container.exec.as_ref().map(|exec| ExecJson {
            command: command(&exec.command),
            override_entrypoint: exec.override_entrypoint,
        }),
        resources: resources(&container.resources),
        resource_limits: container.resource_limits.as_ref().map(resource_limits),
        endpoints: container.endpoints.iter().map(endpoint).collect(),
        image: container.image.as_ref().map(image),
        environment: container.environment.iter().map(|(k, v)| (k.clone(), env(v))).collect(),
        user: container.user.clone(),
        health_check: container.health_check.as_ref().map(health_check),
        check: container.check.as_ref().map(check),
        volume_mounts: container.volume_mounts.iter().map(mount).collect(),
        artifacts: container.artifacts.iter().map(fetch).collect(),
        labels: container.labels.clone(),
        lifecycle: container
            .kill_grace_ms
            .map(|ms| LifecycleJson { kill_grace_period_seconds: Decimal::from_milli(ms) }),
        tty: container.tty,
        linux_info: container.linux_info.as_ref().map(linux_info),
    }
}

pub(super) fn resources(resources: &Resources) -> ResourcesJson {
    ResourcesJson {
        cpus: Decimal::from_milli(resources.cpus_milli),
        mem: Decimal::from_bytes(resources.mem_bytes),
        disk: Decimal::from_bytes(resources.disk_bytes),
        gpus: resources.gpus,
    }
}

fn command(command: &PodCommand) -> CommandJson {
    match command {
        PodCommand::Shell(line) => CommandJson::Shell(line.clone()),
        PodCommand::Argv(words) => CommandJson::Argv(words.clone()),
    }
}

fn endpoint(endpoint: &Endpoint) -> EndpointJson {
    EndpointJson {
        name: endpoint.name.clone(),
        container_port: endpoint.container_port,
        host_port: endpoint.host_port,
        protocol: match endpoint.protocol {
            Protocol::Tcp => &["tcp"],
            Protocol::Udp => &["udp"],
            Protocol::UdpTcp => &["tcp", "udp"],
        },
        labels: endpoint.labels.clone(),
        network_names: endpoint.network_names.clone(),
    }
}

fn image(image: &PodImage) -> ImageJson {
    ImageJson {
        kind: "DOCKER",
        id: image.id.clone(),
        force_pull: image.force_pull,
        pull_config: image.pull_config_secret.clone().map(|secret| PullConfigJson { secret }),
        labels: image.labels.clone(),
    }
}

fn mount(mount: &VolumeMount) -> VolumeMountJson {
    VolumeMountJson {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
    }
}

fn health_check(check: &PodHealthCheck) -> HealthCheckJson {
    HealthCheckJson {
        probe: probe(&check.probe),
        grace_period_seconds: Decimal::from_milli(check.grace_ms),
        interval_seconds: check.interval_ms / 1000,
        max_consecutive_failures: check.max_consecutive_failures,
        timeout_seconds: check.timeout_ms / 1000,
        delay_seconds: check.delay_ms / 1000,
    }
}

fn check(check: &PodCheck) -> CheckJson {
    CheckJson {
        probe: probe(&check.probe),
        interval_seconds: check.interval_ms / 1000,
        timeout_seconds: check.timeout_ms / 1000,
        delay_seconds: check.delay_ms / 1000,
    }
}

fn probe(probe: &PodProbe) -> ProbeJson {
    match probe {
        PodProbe::Tcp { endpoint } => ProbeJson::Tcp { endpoint: endpoint.clone() },
        PodProbe::Exec { command: line } => ProbeJson::Exec { command: command(line) },
        PodProbe::Http { endpoint, path, https } => ProbeJson::Http {
            endpoint: endpoint.clone(),
            path: path.clone(),
            scheme: if *https { "HTTPS" } else { "HTTP" },
        },
    }
}
