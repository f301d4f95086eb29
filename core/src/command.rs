//! Every write the cluster can make, and why one may be refused.

use crate::model::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A committed log entry as the state machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the log.
    pub index: u64,
    /// The leader's clock when it proposed.
    pub now: Time,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The founder writes what makes this cluster this cluster. Refused if already founded.
    Found { cluster: Cluster, founder: Node },
    /// Admit a node, or update the name and role of one already admitted.
    AdmitNode { node: Node },
    /// Replace the digest of the join secret.
    RotateToken { join_secret_sha256: String },
    /// An agent (re)appeared with these resources.
    RegisterAgent { agent: Agent },
    /// Whether an agent's session stands.
    SetReachable { agent_id: AgentId, reachable: bool },
    /// Create, change, restart or remove apps in one deployment.
    ChangeApps { deployment_id: DeploymentId, changes: Vec<AppChange>, force: bool },
    /// The step `from_step` is done: go to the next, or finish after the last.
    AdvanceDeployment { id: DeploymentId, from_step: u32 },
    /// Stop a deployment where it stands.
    CancelDeployment { id: DeploymentId },
    /// Add waiting instances of an app's current version.
    AddInstances { app_id: AppId, ids: Vec<InstanceId> },
    /// Set the goal of instances to decommissioned.
    Decommission { ids: Vec<InstanceId> },
    /// Give waiting instances a place. Each is re-checked; one that no longer fits is left
    /// waiting (see [`crate::event::Event::AssignmentRefused`]).
    Assign { assignments: Vec<Placed> },
    /// Statuses as agents reported them.
    RecordStatus { statuses: Vec<TaskStatus> },
    /// Let an app launch at once.
    ResetDelay { app_id: AppId },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppChange {
    /// Create; refused if the id is taken.
    Create(App),
    /// Replace an existing app; refused if it does not exist.
    Update(App),
    Restart(AppId),
    Remove(AppId),
}

/// A place for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub instance_id: InstanceId,
    pub agent_id: AgentId,
    pub ports: Vec<u16>,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Rejection {
    #[error("the cluster is already founded")]
    AlreadyFounded,
    #[error("the cluster is not founded yet")]
    NotFounded,
    #[error("an app with id [{0}] already exists")]
    AppExists(AppId),
    #[error("app '{0}' does not exist")]
    AppUnknown(AppId),
    /// `/a` cannot be an app while `/a/b` is one.
    #[error("app '{0}' is in the way of '{1}'")]
    PathTaken(AppId, AppId),
    #[error("app is locked by deployments {0:?}")]
    Locked(Vec<DeploymentId>),
    #[error("{max} deployments are running already")]
    DeploymentsFull { max: u32 },
    #[error("deployment {0} does not exist")]
    DeploymentUnknown(DeploymentId),
    #[error("deployment {id} is at step {at}, not {from}")]
    StepMismatch { id: DeploymentId, at: u32, from: u32 },
    #[error("all service ports in {begin}..={end} are in use")]
    ServicePortsExhausted { begin: u16, end: u16 },
    #[error("agent {0} is not known")]
    AgentUnknown(AgentId),
    #[error("agent {0} is not an admitted node")]
    NotAdmitted(AgentId),
    #[error("instance id {0} is taken")]
    InstanceExists(InstanceId),
}
