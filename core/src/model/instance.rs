//! Instances and their tasks.

use super::{
    AgentId, AppId, HeldDevice, InstanceId, ProbeReport, Reservation, Resize, Resources,
    SizeReport, TaskId, TaskProbes, Time,
};
use serde::{Deserialize, Serialize};

/// One wanted copy of an app, served by successive tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub app_id: AppId,
    /// Version of the app this instance was created from.
    pub version: Time,
    pub goal: Goal,
    /// When it was created, when its last task ended, or when a task that has not come to run was
    /// last heard of.
    pub since: Time,
    /// Number of the current or next task, from 1.
    pub incarnation: u32,
    /// `None`: waits for a place.
    pub task: Option<Task>,
    /// Set with its first task where the app has persistent volumes; from then on it runs there
    /// and nowhere else.
    #[serde(default)]
    pub reservation: Option<Reservation>,
}

impl Instance {
    /// Build an instance of an app's `version` that waits for its first place since `since`.
    pub fn waiting(id: InstanceId, app_id: AppId, version: Time, since: Time) -> Self {
        let goal = Goal::Running;
        Self { id, app_id, version, goal, since, incarnation: 1, task: None, reservation: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    Running,
    /// To be stopped and then forgotten.
    Decommissioned,
    /// To be stopped, and kept with what is reserved for it until it is wanted again.
    Stopped,
}

/// One run on one agent. Its state never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub agent_id: AgentId,
    /// The agent's name when the task was placed.
    pub host: String,
    /// Host ports, in definition order (a mapping without host port takes none).
    pub ports: Vec<u16>,
    pub resources: Resources,
    pub state: TaskState,
    /// Sequence of the last report applied; older ones change nothing.
    pub last_sequence: u32,
    pub staged_at: Time,
    pub started_at: Option<Time>,
    /// The container's own address, on networks that have one.
    pub ip: Option<String>,
    /// Last word of the health checks; `None` while unknown or without checks.
    pub healthy: Option<bool>,
    /// The last message of the agent: progress while staging ("pulling ..."), reason at the end.
    pub message: String,
    /// Each probe's last turn.
    #[serde(default)]
    pub probes: TaskProbes,
    /// A change of its size that is on its way, or was refused.
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Why it may not be any more where it is, in words.
    #[serde(default)]
    pub misplaced: Option<String>,
    /// Since when it moves just to even out: nothing is wrong with where it is.
    #[serde(default)]
    pub rebalanced: Option<Time>,
    /// Of a pod: its containers, in definition order; empty for an app.
    #[serde(default)]
    pub containers: Vec<TaskContainer>,
    /// How often its agent has started it again by itself, with no master to ask.
    #[serde(default)]
    pub restarts: u32,
    /// Devices of its agent that it holds, in the order of the label.
    #[serde(default)]
    pub devices: Vec<HeldDevice>,
}

impl Task {
    /// Build a task that was given its place at `at`, of which nothing has been heard yet.
    pub fn staging(id: TaskId, agent_id: AgentId, host: &str, at: Time) -> Self {
        Self {
            id,
            agent_id,
            host: host.to_string(),
            ports: Vec::new(),
            resources: Resources::default(),
            state: TaskState::Staging,
            last_sequence: 0,
            staged_at: at,
            started_at: None,
            ip: None,
            healthy: None,
            message: String::new(),
            probes: TaskProbes::default(),
            resize: None,
            misplaced: None,
            rebalanced: None,
            containers: Vec::new(),
            restarts: 0,
            devices: Vec::new(),
        }
    }
}

/// One container of a pod, as the cluster knows it. Its state never goes back, but where its agent
/// has started the whole pod again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskContainer {
    /// The agent's last word of it.
    pub status: ContainerStatus,
    /// When it came into its state.
    pub since: Time,
    /// When anything of it changed last.
    pub changed: Time,
}

impl TaskContainer {
    /// A container that its agent has not heard of yet.
    pub fn staging(name: &str, now: Time) -> Self {
        let status = ContainerStatus {
            name: name.to_string(),
            state: TaskState::Staging,
            message: String::new(),
            healthy: None,
            exit_code: None,
        };
        Self { status, since: now, changed: now }
    }

    /// Take in what an agent reports at `now`; gives whether the state is another.
    pub fn take(&mut self, told: &ContainerStatus, now: Time) -> bool {
        let was = self.status.state;
        let state = was.max(told.state);
        let status = ContainerStatus { state, ..told.clone() };
        if self.status != status {
            self.status = status;
            self.changed = now;
        }
        if was != state {
            self.since = now;
        }
        was != state
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskState {
    Staging,
    Starting,
    Running,
    Finished,
    Failed,
    Killed,
    Error,
    Lost,
}

impl TaskState {
    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        self >= TaskState::Finished
    }

    /// Whether a task in this state makes its app wait before the next launch (Marathon,
    /// section 8: every ending but a kill).
    pub fn delays_launch(self) -> bool {
        self.is_terminal() && self != TaskState::Killed
    }

    /// Mesos' name.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Staging => "TASK_STAGING",
            TaskState::Starting => "TASK_STARTING",
            TaskState::Running => "TASK_RUNNING",
            TaskState::Finished => "TASK_FINISHED",
            TaskState::Failed => "TASK_FAILED",
            TaskState::Killed => "TASK_KILLED",
            TaskState::Error => "TASK_ERROR",
            TaskState::Lost => "TASK_LOST",
        }
    }
}

/// What an agent reports of a task. Kept by the agent until the master has committed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub task_id: TaskId,
    /// Counts the reports of one task from 1; a master ignores one it has already seen.
    pub sequence: u32,
    pub state: TaskState,
    pub message: String,
    pub healthy: Option<bool>,
    pub ip: Option<String>,
    /// Exit code, or 128 + signal; only at the end.
    pub exit_code: Option<i32>,
    /// Where its probes stand; `None` while they have nothing to say.
    #[serde(default)]
    pub probes: Option<ProbeReport>,
    /// Of a pod: where each of its containers stands, all of them, in definition order.
    #[serde(default)]
    pub containers: Vec<ContainerStatus>,
    /// The size it runs under; `None` until it runs.
    #[serde(default)]
    pub size: Option<SizeReport>,
    /// How often its agent has started it again by itself, with no master to ask.
    #[serde(default)]
    pub restarts: u32,
}

/// Where one container of a pod stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: String,
    pub state: TaskState,
    pub message: String,
    pub healthy: Option<bool>,
    /// Exit code, or 128 + signal; only at the end.
    pub exit_code: Option<i32>,
}

/// Marathon's `lastTaskFailure`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure {
    pub task_id: TaskId,
    pub agent_id: AgentId,
    pub host: String,
    pub state: TaskState,
    pub message: String,
    pub at: Time,
    pub version: Time,
}
