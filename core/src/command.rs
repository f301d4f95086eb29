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
    /// Replace the join secret: its digest, and the token for masters to show.
    RotateToken {
        join_secret_sha256: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed: Option<SealedToken>,
    },
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
    /// Stop instances. Those with volumes are kept with them, the others forgotten.
    Decommission { ids: Vec<InstanceId> },
    /// Give waiting instances a place. Each is re-checked; one that no longer fits is left
    /// waiting (see [`crate::event::Event::AssignmentRefused`]).
    Assign { assignments: Vec<Placed> },
    /// Statuses as agents reported them.
    RecordStatus { statuses: Vec<TaskStatus> },
    /// Let an app launch at once.
    ResetDelay { app_id: AppId },
    /// Post events to this URL; nothing changes where that is done already.
    AddCallback { url: String },
    /// Post no more events to this URL; nothing changes where none are.
    RemoveCallback { url: String },
    /// Change groups and the apps in them in one deployment: first the groups, then the apps.
    ChangeGroup {
        deployment_id: DeploymentId,
        /// The group that the request named.
        group: GroupId,
        groups: Vec<GroupChange>,
        apps: Vec<AppChange>,
        force: bool,
        /// The deployment that this takes back: it ends, and locks nothing of this change.
        #[serde(default)]
        replaces: Option<DeploymentId>,
    },
    /// Say whether apps of a top-level group must use its role. Starts no deployment.
    EnforceRole { group: GroupId, enforce: bool },
    /// Keep a master's sealed copy of the data key; the first one makes it the cluster's. Refused
    /// if the cluster has another.
    KeepDataKey { id: String, node_id: NodeId, copy: Sealed },
    /// Keep what admits nodes (the authority's key, the join token), sealed with the data key of
    /// this id.
    KeepAuthority { key_id: String, authority: Sealed, join_token: Sealed },
    /// Create or replace a secret, sealed with the data key of this id.
    PutSecret { name: String, key_id: String, value: Sealed },
    /// Remove a secret; tasks that have it keep it.
    RemoveSecret { name: String },
    /// Give running tasks the size that their app has now, without new ones. Each is re-checked;
    /// one that cannot take it stays as it is.
    Resize { app_id: AppId, ids: Vec<InstanceId> },
    /// Stop instances and give up their volumes: the data is removed.
    Wipe { ids: Vec<InstanceId> },
    /// An agent has removed the data of volumes that were given up.
    ForgetVolumes { agent_id: AgentId, ids: Vec<VolumeId> },
    /// Take a deployment back: what it changed, and nothing else, becomes as it was.
    RollBack { id: DeploymentId, deployment_id: DeploymentId, reason: UndoReason },
    /// Write down how far the new versions of a deployment have come.
    ReviewRollouts { id: DeploymentId },
    /// Let the new versions that wait take the place of the old ones.
    Promote { id: DeploymentId },
    /// Add waiting instances of the version that is kept up while another is on trial.
    AddStable { app_id: AppId, ids: Vec<InstanceId> },
    /// Give up a volume that no task uses: one of a resting instance, which goes with all of its
    /// volumes, or one on an agent that belongs to nobody.
    GiveUpVolume { agent_id: AgentId, id: VolumeId },
    /// Change what users say of an agent: its attributes, and whom it lends to.
    ChangeAgent { agent_id: AgentId, change: AgentChange },
    /// Count instances no more whose agent has been away for long; another is launched for each.
    Deactivate { ids: Vec<InstanceId> },
    /// Forget instances whose agent is away for good. Should it return, it stops them.
    Expunge { ids: Vec<InstanceId> },
    /// Put a node out: it is no member any more, what ran there is replaced, and the join secret
    /// is another one, so that it does not come back by itself.
    RemoveNode { node_id: NodeId, join_secret_sha256: String, sealed: Option<SealedToken> },
    /// Replace the CA, the data key and the join secret. Refused when a secret has changed since
    /// they were sealed.
    ReplaceKeys { keys: Box<NewKeys> },
    /// Give an agent no tasks any more, and move away those it has.
    Drain { agent_id: AgentId },
    /// Open a drained agent again; what has not moved stays.
    Undrain { agent_id: AgentId },
    /// Move a task just to even out.
    Rebalance { task_id: TaskId },
    /// Let tasks stay that were to move just to even out, and could not.
    EndRebalance { task_ids: Vec<TaskId> },
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupChange {
    /// Create; refused if a group or an app has that path.
    Create { id: GroupId, dependencies: Vec<AppId> },
    /// Create, or give an existing group these dependencies; its members stay.
    Put { id: GroupId, dependencies: Vec<AppId> },
    /// Remove with everything in it; the root itself stays.
    Remove(GroupId),
}

/// A place for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub instance_id: InstanceId,
    pub agent_id: AgentId,
    pub ports: Vec<u16>,
    /// One for each device that the app asks for, in that order.
    #[serde(default)]
    pub devices: Vec<HeldDevice>,
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
    #[error("{max} event callbacks are subscribed already")]
    CallbacksFull { max: u32 },
    #[error("group '{0}' does not exist")]
    GroupUnknown(GroupId),
    #[error("group {0} already exists")]
    GroupExists(GroupId),
    #[error("the dependency graph has cycles")]
    DependencyCycle,
    /// Instances are found by the path in their id.
    #[error("instance id {0} is not one of app '{1}'")]
    InstanceMisnamed(InstanceId, AppId),
    #[error("a pod with id [{0}] already exists")]
    PodExists(AppId),
    #[error("the cluster's data key is another one")]
    OtherDataKey,
    #[error("there are {max} secrets already: remove one that is not needed")]
    SecretsFull { max: u32 },
    #[error("all secrets together would be over {max_bytes} bytes: remove what is not needed")]
    SecretsTooLarge { max_bytes: u64 },
    #[error("secret '{0}' does not exist")]
    SecretUnknown(String),
    #[error("deployment {0} is neither canary nor blue-green: there is nothing to withdraw")]
    NotStaged(DeploymentId),
    #[error("deployment {id} does not wait to be promoted{}", not_ready(still))]
    NotWaiting {
        id: DeploymentId,
        /// Apps whose new instances are not all ready.
        still: Vec<AppId>,
    },
    #[error("deployment {0} still has time")]
    NotOverdue(DeploymentId),
    /// Its instance runs, or shall.
    #[error("volume {0} is in use")]
    VolumeInUse(VolumeId),
    #[error("node {0} is no member of the cluster")]
    NodeUnknown(NodeId),
    #[error(
        "node {0} is the last master: remove it and there is no cluster; `bramble down` ends it"
    )]
    LastMaster(NodeId),
    #[error("a secret has changed meanwhile")]
    SecretsChanged,
    #[error("an agent has at most {max} attributes set, and roles")]
    AgentSettingsFull { max: u32 },
}

fn not_ready(apps: &[AppId]) -> String {
    match apps {
        [] => String::new(),
        _ => format!(": not all new instances of {apps:?} are ready yet"),
    }
}
