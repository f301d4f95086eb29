//! The container of a request (Marathon's contract, section 3.2), in its old and new places.

use super::super::update::{ContainerUpdate, DockerNetwork, DockerUpdate};
use super::constraint;
use super::network::{port, protocol};
use super::read::{self, Errors, Object};
use bramble_core::model::*;
use serde_json::Value;

/// MiB of a volume.
const SIZE_MAX: u64 = 1 << 40;

const KINDS: [(&str, ContainerKind); 2] =
    [("DOCKER", ContainerKind::Docker), ("MESOS", ContainerKind::Mesos)];

const NETWORKS: [(&str, DockerNetwork); 4] = [
    ("BRIDGE", DockerNetwork::Bridge),
    ("HOST", DockerNetwork::Host),
    ("USER", DockerNetwork::User),
    ("NONE", DockerNetwork::None),
];

const VOLUME_MODES: [(&str, VolumeMode); 2] =
    [("RO", VolumeMode::ReadOnly), ("RW", VolumeMode::ReadWrite)];

pub(super) fn container(errors: &mut Errors, path: &str, value: &Value) -> Option<ContainerUpdate> {
    let object = Object::open(errors, path, value)?;
    let kind = object.optional(errors, "type", |e, p, v| read::word(e, p, v, &KINDS));
    let volumes = object.optional(errors, "volumes", |e, p, v| read::list(e, p, v, volume));
    Some(ContainerUpdate {
        kind: kind.unwrap_or(ContainerKind::Docker),
        docker: object.optional(errors, "docker", docker),
        port_mappings: object.optional(errors, "portMappings", port_mappings),
        volumes: volumes.unwrap_or_default(),
        linux_info: object.optional(errors, "linuxInfo", linux_info),
    })
}

fn docker(errors: &mut Errors, path: &str, value: &Value) -> Option<DockerUpdate> {
    let object = Object::open(errors, path, value)?;
    let network = object.optional(errors, "network", |e, p, v| read::word(e, p, v, &NETWORKS));
    let port_mappings = object.optional(errors, "portMappings", port_mappings);
    let privileged = object.optional(errors, "privileged", read::boolean).unwrap_or(false);
    let force_pull = object.optional(errors, "forcePullImage", read::boolean).unwrap_or(false);
    let parameters = object.optional(errors, "parameters", parameters).unwrap_or_default();
    let pull_config_secret = object.optional(errors, "pullConfig", |e, p, v| {
        Object::open(e, p, v)?.required(e, "secret", read::text)
    });
    let image = object.required(errors, "image", read::text)?;
    Some(DockerUpdate {
        image,
        network,
        port_mappings,
        privileged,
        force_pull,
        parameters,
        pull_config_secret,
        has_credential: object.has("credential"),
    })
}

/// `[{"key","value"}]`, or the object that 0.7 printed.
fn parameters(errors: &mut Errors, path: &str, value: &Value) -> Option<Vec<(String, String)>> {
    if let Value::Object(entries) = value {
        let read: Vec<Option<(String, String)>> = entries
            .iter()
            .map(|(key, value)| {
                read::text(errors, &format!("{path}/{key}"), value).map(|v| (key.clone(), v))
            })
            .collect();
        return read.into_iter().collect();
    }
    read::list(errors, path, value, |errors, path, value| {
        let object = Object::open(errors, path, value)?;
        let key = object.required(errors, "key", read::filled);
        let value = object.required(errors, "value", read::text);
        key.zip(value)
    })
}

fn port_mappings(errors: &mut Errors, path: &str, value: &Value) -> Option<Vec<PortMapping>> {
    read::list(errors, path, value, |errors, path, value| {
        let object = Object::open(errors, path, value)?;
        Some(PortMapping {
            container_port: object.optional(errors, "containerPort", port).unwrap_or(0),
            host_port: object.optional(errors, "hostPort", port),
            service_port: object.optional(errors, "servicePort", port).unwrap_or(0),
            protocol: object.optional(errors, "protocol", protocol).unwrap_or(Protocol::Tcp),
            name: object.optional(errors, "name", read::text),
            labels: object.optional(errors, "labels", read::text_map).unwrap_or_default(),
            network_names: object.optional(errors, "networkNames", read::texts).unwrap_or_default(),
        })
    })
}

fn volume(errors: &mut Errors, path: &str, value: &Value) -> Option<Volume> {
    let object = Object::open(errors, path, value)?;
    let container_path = object.required(errors, "containerPath", read::text);
    let mode = object.optional(errors, "mode", |e, p, v| read::word(e, p, v, &VOLUME_MODES));
    if object.has("persistent") {
        let mode = mode.unwrap_or(VolumeMode::ReadWrite);
        let persistent = |e: &mut Errors, p: &str, v: &Value| {
            persistent(e, p, v, container_path.clone().unwrap_or_default(), mode)
        };
        let volume = object.required(errors, "persistent", persistent);
        return container_path.as_ref().and(volume);
    }
    if object.has("external") {
        let mode = mode.unwrap_or(VolumeMode::ReadWrite);
        let external = |e: &mut Errors, p: &str, v: &Value| {
            external(e, p, v, container_path.clone().unwrap_or_default(), mode)
        };
        let volume = object.required(errors, "external", external);
        return container_path.as_ref().and(volume);
    }
    if object.has("secret") {
        let secret = object.required(errors, "secret", read::text);
        return Some(Volume::Secret { container_path: container_path?, secret: secret? });
    }
    let host_path = object.required(errors, "hostPath", read::text);
    Some(Volume::Host {
        container_path: container_path?,
        host_path: host_path?,
        mode: mode.unwrap_or(VolumeMode::ReadWrite),
    })
}

fn size(errors: &mut Errors, path: &str, value: &Value) -> Option<u64> {
    read::integer(errors, path, value, (0, SIZE_MAX))
}

pub(super) fn persistent(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    container_path: String,
    mode: VolumeMode,
) -> Option<Volume> {
    const KINDS: [(&str, &str); 3] = [("root", "root"), ("path", "path"), ("mount", "mount")];
    let object = Object::open(errors, path, value)?;
    let kind = object.optional(errors, "type", |e, p, v| read::word(e, p, v, &KINDS));
    let max_size_mib = object.optional(errors, "maxSize", size);
    let profile_name = object.optional(errors, "profileName", read::text);
    let constraints =
        object.optional(errors, "constraints", |e, p, v| read::list(e, p, v, constraint));
    Some(Volume::Persistent {
        container_path,
        mode,
        kind: kind.unwrap_or("root").to_string(),
        size_mib: object.required(errors, "size", size)?,
        max_size_mib,
        profile_name,
        constraints: constraints.unwrap_or_default(),
    })
}

fn external(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    container_path: String,
    mode: VolumeMode,
) -> Option<Volume> {
    let object = Object::open(errors, path, value)?;
    Some(Volume::External {
        container_path,
        mode,
        name: object.optional(errors, "name", read::text),
        provider: object.optional(errors, "provider", read::text),
        options: object.optional(errors, "options", read::text_map).unwrap_or_default(),
        size_mib: object.optional(errors, "size", size),
        shared: object.optional(errors, "shared", read::boolean).unwrap_or(false),
    })
}

pub(super) fn linux_info(errors: &mut Errors, path: &str, value: &Value) -> Option<LinuxInfo> {
    const MODES: [(&str, &str); 2] = [("PRIVATE", "PRIVATE"), ("SHARE_PARENT", "SHARE_PARENT")];
    let object = Object::open(errors, path, value)?;
    let seccomp = object.optional(errors, "seccomp", |errors, path, value| {
        let object = Object::open(errors, path, value)?;
        Some(SeccompInfo {
            profile_name: object.optional(errors, "profileName", read::text),
            unconfined: object.optional(errors, "unconfined", read::boolean),
        })
    });
    let ipc = object.optional(errors, "ipcInfo", |errors, path, value| {
        let object = Object::open(errors, path, value)?;
        let mode = object.optional(errors, "mode", |e, p, v| read::word(e, p, v, &MODES));
        Some(IpcInfo {
            mode: mode.unwrap_or("PRIVATE").to_string(),
            shm_size_mib: object.optional(errors, "shmSize", size),
        })
    });
    Some(LinuxInfo { seccomp, ipc })
}
