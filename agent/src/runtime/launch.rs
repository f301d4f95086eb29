//! What the runtime is asked to run and what it knows of this machine. Plain data.

use super::cgroup::Hierarchies;
use crate::hardware::Node;
use bramble_core::model::{Assignment, VolumeMode};
use bramble_protocol::executor::{ExecutorSecrets, ProcessKey};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One task to create, with everything resolved but the user's name.
#[derive(Clone, Debug)]
pub struct Launch {
    pub assignment: Assignment,
    /// The unpacked image; `None` for a command task, which sees the host's programs.
    pub image: Option<LaunchImage>,
    /// The task's sandbox on the host; exists.
    pub sandbox: PathBuf,
    /// An own directory on the data disk for what the task writes outside its sandbox.
    pub work_dir: PathBuf,
    /// Directory on the host of each persistent volume, by the container path the app gives it.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Text of `/etc/resolv.conf`; `None` = the host's.
    pub resolv_conf: Option<String>,
    pub hostname: String,
    /// What it gets besides, kept off every disk.
    pub secrets: ExecutorSecrets,
    /// Devices it is given, in the order in which its app asks for them.
    pub devices: Vec<LaunchDevice>,
    /// The node lets apps mount its directories (DESIGN 2.15).
    pub allow_host_volumes: bool,
    /// The node lets apps be privileged (DESIGN 2.15).
    pub allow_privileged: bool,
    pub pod: PodPlace,
}

/// What a container has in common with the others of its pod; an app's has nothing.
#[derive(Clone, Debug, Default)]
pub struct PodPlace {
    /// First process of the container whose network it joins; `None` = a network of its own, where
    /// the task has one.
    pub network_of: Option<ProcessKey>,
    pub shared: Vec<SharedDirectory>,
}

/// A directory of the pod as one container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDirectory {
    pub host_path: PathBuf,
    pub container_path: String,
    pub mode: VolumeMode,
}

/// A device of this machine for one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchDevice {
    /// What it is used by, the one that most want first.
    pub nodes: Vec<Node>,
    /// Where the task finds the first; `None`: where the machine has it.
    pub path: Option<String>,
}

impl LaunchDevice {
    /// Each node with its path in the container.
    pub fn placed(&self) -> impl Iterator<Item = (String, &Node)> {
        self.nodes.iter().enumerate().map(|(at, node)| {
            let given = self.path.clone().filter(|_| at == 0);
            (given.unwrap_or_else(|| format!("/dev/{}", node.name)), node)
        })
    }
}

/// An unpacked image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchImage {
    /// Directories of the layers, topmost first.
    pub layers: Vec<PathBuf>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// Name (`SIGQUIT`) or number.
    pub stop_signal: Option<String>,
}

/// What the configuration of a container depends on besides its launch.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub hierarchies: Hierarchies,
    /// v1 counts swap (`memory.memsw.limit_in_bytes` exists).
    pub swap_accounting_v1: bool,
    /// Host paths that a command task sees read-only, in mount order.
    pub visible: Vec<PathBuf>,
    /// Capabilities this agent itself may hand on, by bit.
    pub capability_bound: u64,
}

impl Host {
    /// Look at this machine, and prepare its cgroups for tasks below `cgroup_parent`.
    ///
    /// # Errors
    /// No cgroup file system is mounted, or the parent cannot be made there.
    pub fn detect(cgroup_parent: &str) -> Result<Self, super::cgroup::CgroupError> {
        let mut hierarchies = Hierarchies::detect()?;
        hierarchies.delegate(cgroup_parent)?;
        let swap_accounting_v1 = hierarchies
            .v1_mount("memory")
            .is_some_and(|m| m.join("memory.memsw.limit_in_bytes").exists());
        Ok(Self {
            hierarchies,
            swap_accounting_v1,
            visible: super::view::visible_on_host(),
            capability_bound: capability_bound(),
        })
    }
}

fn capability_bound() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}
