//! What an agent must be told of its node. Plain data; reading flags is the binary's business.

use crate::inventory::ResourceOverrides;
use crate::network::Subnet;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Each log file of a task is rotated at this size unless told otherwise, in bytes.
pub const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Ledger, sandboxes, images: what must survive.
    pub data_dir: PathBuf,
    /// Sockets and pids of executors: on tmpfs.
    pub run_dir: PathBuf,
    /// The binary with the verbs `executor DIR` and `exec-in DIR`.
    pub executable: PathBuf,
    /// The node's name: Marathon's `host`.
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// What the user said the machine lends; the rest is measured.
    pub resources: ResourceOverrides,
    /// Absolute cgroup path below which every task gets its own.
    pub cgroup_parent: String,
    pub allow_host_volumes: bool,
    pub allow_privileged: bool,
    /// Interface name of the containers' bridge.
    pub bridge: String,
    /// `None`: the first that collides with nothing.
    pub subnet: Option<Subnet>,
    /// Registries spoken to by http besides those on this machine.
    pub insecure_registries: Vec<String>,
    /// Registry credentials in Docker's format.
    pub docker_config: Option<PathBuf>,
    /// Each log file is rotated at this size in bytes.
    pub log_bytes_max: u64,
    /// Where the kernel shows this machine's hardware: `/sys`.
    pub sysfs: PathBuf,
}
