//! Containers in the canonical form.

use bramble_core::model::*;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerJson {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerJson>,
    pub volumes: Vec<VolumeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_mappings: Option<Vec<PortMappingJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<LinuxInfoJson>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerJson {
    pub force_pull_image: bool,
    pub image: String,
    pub parameters: Vec<ParameterJson>,
    pub privileged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_config: Option<PullConfigJson>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ParameterJson {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PullConfigJson {
    pub secret: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMappingJson {
    pub container_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_names: Vec<String>,
    pub protocol: &'static str,
    pub service_port: u16,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeJson {
    pub container_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<PersistentJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PersistentJson {
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_name: Option<String>,
    pub constraints: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExternalJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub options: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    pub shared: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxInfoJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc_info: Option<IpcJson>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfined: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpcJson {
    pub mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
}

pub(super) fn write(container: &Container) -> ContainerJson {
    ContainerJson {
        kind: match container.kind {
            ContainerKind::Docker => "DOCKER",
            ContainerKind::Mesos => "MESOS",
        },
        docker: container.docker.as_ref().map(docker),
        volumes: container.volumes.iter().map(volume).collect(),
        port_mappings: container
            .port_mappings
            .as_ref()
            .map(|mappings| mappings.iter().map(port_mapping).collect()),
        linux_info: container.linux_info.as_ref().map(linux_info),
    }
}

fn docker(docker: &DockerImage) -> DockerJson {
    let parameter =
        |(key, value): &(String, String)| ParameterJson { key: key.clone(), value: value.clone() };
    DockerJson {
        force_pull_image: docker.force_pull,
        image: docker.image.clone(),
        parameters: docker.parameters.iter().map(parameter).collect(),
        privileged: docker.privileged,
        pull_config: docker.pull_config_secret.clone().map(|secret| PullConfigJson { secret }),
    }
}

fn port_mapping(mapping: &PortMapping) -> PortMappingJson {
    PortMappingJson {
        container_port: mapping.container_port,
        host_port: mapping.host_port,
        labels: mapping.labels.clone(),
        name: mapping.name.clone(),
        network_names: mapping.network_names.clone(),
        protocol: mapping.protocol.as_str(),
        service_port: mapping.service_port,
    }
}

fn mode(mode: VolumeMode) -> Option<&'static str> {
    Some(match mode {
        VolumeMode::ReadOnly => "RO",
        VolumeMode::ReadWrite => "RW",
    })
}

fn volume(volume: &Volume) -> VolumeJson {
    let mut json = VolumeJson::default();
    match volume.clone() {
        Volume::Host { container_path, host_path, mode: access } => {
            json.container_path = container_path;
            json.host_path = Some(host_path);
            json.mode = mode(access);
        }
        Volume::Persistent {
            container_path,
            mode: access,
            kind,
            size_mib: size,
            max_size_mib: max_size,
            profile_name,
            constraints,
        } => {
            json.container_path = container_path;
            json.mode = mode(access);
            json.persistent =
                Some(persistent(&kind, size, max_size, profile_name.as_ref(), &constraints));
        }
        Volume::External {
            container_path,
            mode: access,
            name,
            provider,
            options,
            size_mib: size,
            shared,
        } => {
            json.container_path = container_path;
            json.mode = mode(access);
            json.external = Some(ExternalJson { name, provider, options, size, shared });
        }
        Volume::Secret { container_path, secret } => {
            json.container_path = container_path;
            json.secret = Some(secret);
        }
    }
    json
}

pub(in crate::rest) fn persistent(
    kind: &str,
    size: u64,
    max_size: Option<u64>,
    profile_name: Option<&String>,
    constraints: &[Constraint],
) -> PersistentJson {
    PersistentJson {
        kind: kind.to_string(),
        size,
        max_size,
        profile_name: profile_name.cloned(),
        constraints: constraints.iter().map(super::constraint).collect(),
    }
}

pub(in crate::rest) fn linux_info(info: &LinuxInfo) -> LinuxInfoJson {
    LinuxInfoJson {
        seccomp: info.seccomp.as_ref().map(|s| SeccompJson {
            profile_name: s.profile_name.clone(),
            unconfined: s.unconfined,
        }),
        ipc_info: info
            .ipc
            .as_ref()
            .map(|ipc| IpcJson { mode: ipc.mode.clone(), shm_size: ipc.shm_size_mib }),
    }
}
