//! The container part of an app (section 3.2 of Marathon's contract).

use super::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub kind: ContainerKind,
    pub docker: Option<DockerImage>,
    /// `None`: none given, on the host network. After normalising always `Some` elsewhere.
    pub port_mappings: Option<Vec<PortMapping>>,
    pub volumes: Vec<Volume>,
    pub linux_info: Option<LinuxInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    Docker,
    Mesos,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerImage {
    pub image: String,
    pub privileged: bool,
    pub force_pull: bool,
    /// Arbitrary `docker run` options, in order.
    pub parameters: Vec<(String, String)>,
    /// Name of the secret with registry credentials.
    pub pull_config_secret: Option<String>,
}

/// A port inside the container and where it appears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// 0 = the same number as the host port.
    pub container_port: u16,
    /// `Some(0)` = any from the agent's range; `None` = not on the host.
    pub host_port: Option<u16>,
    pub service_port: u16,
    pub protocol: Protocol,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub network_names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeMode {
    ReadOnly,
    ReadWrite,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Volume {
    Host {
        container_path: String,
        host_path: String,
        mode: VolumeMode,
    },
    Persistent {
        container_path: String,
        mode: VolumeMode,
        /// `root`, `path` or `mount`.
        kind: String,
        size_mib: u64,
        max_size_mib: Option<u64>,
        profile_name: Option<String>,
        constraints: Vec<super::Constraint>,
    },
    External {
        container_path: String,
        mode: VolumeMode,
        name: Option<String>,
        provider: Option<String>,
        options: BTreeMap<String, String>,
        size_mib: Option<u64>,
        shared: bool,
    },
    Secret {
        container_path: String,
        secret: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxInfo {
    pub seccomp: Option<SeccompInfo>,
    pub ipc: Option<IpcInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompInfo {
    pub profile_name: Option<String>,
    pub unconfined: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpcInfo {
    /// `PRIVATE` or `SHARE_PARENT`.
    pub mode: String,
    pub shm_size_mib: Option<u64>,
}
