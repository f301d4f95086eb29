//! What an agent is told to run: everything it needs without asking back.

use super::{
    AppId, BACKOFF_DEFAULT, BackoffStrategy, Check, Fetch, HealthCheck, InstanceId, LocalVolume,
    ReadinessCheck, Resources, TaskDevice, TaskId, TaskSecret, Time, Volume, VolumeMode,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub task_id: TaskId,
    pub instance_id: InstanceId,
    pub app_id: AppId,
    pub app_version: Time,
    pub spec: TaskSpec,
    /// False once the task shall stop.
    pub run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub command: TaskCommand,
    /// `None`: a command task that sees the host's programs (DESIGN 2.14).
    pub image: Option<TaskImage>,
    pub user: Option<String>,
    /// Complete environment but for `MESOS_SANDBOX`, in order.
    pub env: Vec<(String, String)>,
    pub resources: Resources,
    /// Hard CPU ceiling in millicpu; `None` = no ceiling.
    pub cpu_limit_milli: Option<u64>,
    /// Hard memory ceiling in bytes; `None` = no ceiling.
    pub mem_limit_bytes: Option<u64>,
    pub network: TaskNetwork,
    pub volumes: Vec<Volume>,
    pub kill_grace_ms: u64,
    pub privileged: bool,
    pub health_checks: Vec<HealthCheck>,
    /// Host ports in definition order, for checks by index.
    pub host_ports: Vec<u16>,
    pub tty: bool,
    /// Files to bring into the sandbox before start, in order.
    #[serde(default)]
    pub fetch: Vec<Fetch>,
    #[serde(default)]
    pub readiness: Vec<ReadinessProbe>,
    /// The generic check: its result is shown, nothing follows from it.
    #[serde(default)]
    pub check: Option<Check>,
    /// The persistent volumes among `volumes`: which directory of the agent each one is.
    #[serde(default)]
    pub local_volumes: Vec<LocalVolume>,
    /// Containers of a pod, in definition order; empty for an app. Where there are some, this
    /// specification holds what they share (network, ports, resources in sum, grace) and each of
    /// them the rest.
    #[serde(default)]
    pub pod: Vec<PodTask>,
    /// Secrets it gets besides `env` and `volumes`.
    #[serde(default)]
    pub secrets: Vec<TaskSecret>,
    /// What its agent does with it by itself.
    #[serde(default)]
    pub alone: AlonePolicy,
    /// Devices of the agent that it is given.
    #[serde(default)]
    pub devices: Vec<TaskDevice>,
}

/// What an agent does with a task while no master can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlonePolicy {
    /// Delays between restarts of its own.
    pub backoff: BackoffStrategy,
    /// It must not run twice: it runs only while its agent holds a lease.
    pub leased: bool,
    /// Stop it after this long; `None` = keep it running.
    pub stop_after_ms: Option<u64>,
}

impl Default for AlonePolicy {
    fn default() -> Self {
        Self { backoff: BACKOFF_DEFAULT, leased: false, stop_after_ms: None }
    }
}

/// One container of a pod: a task beside the others, on the pod's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodTask {
    /// Name in the pod's definition.
    pub name: String,
    /// `<instance>.<name>.<incarnation>`: names its sandbox, its logs and its status.
    pub task_id: TaskId,
    /// Its `network`, `host_ports` and `pod` say nothing: those are the pod's.
    pub spec: TaskSpec,
    /// The pod's own directories that it sees.
    pub shared: Vec<SharedMount>,
}

/// A directory of the pod, empty at first and gone with it, as one container sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMount {
    /// Name of the volume: containers that name the same share it.
    pub volume: String,
    pub container_path: String,
    pub mode: VolumeMode,
}

/// A readiness check and the port that its name means for this task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessProbe {
    pub check: ReadinessCheck,
    /// The host port, or the container's own where that has none.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskCommand {
    /// `/bin/sh -c LINE`.
    Shell(String),
    /// Arguments: to the image's entrypoint, or the whole command line without an image.
    Args(Vec<String>),
    /// The image's own command.
    ImageDefault,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskImage {
    pub reference: String,
    pub force_pull: bool,
    /// `docker run` options the app gave, in order.
    pub parameters: Vec<(String, String)>,
    /// Start in the sandbox where the image names no directory, as Mesos' own containerizer
    /// does; Docker's starts in the root.
    #[serde(default)]
    pub in_sandbox: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskNetwork {
    Host,
    /// The agent's own bridge with these ports published.
    Bridge(Vec<PublishedPort>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host_port: u16,
    pub container_port: u16,
    pub tcp: bool,
    pub udp: bool,
}
