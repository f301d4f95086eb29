//! Every fact that can follow from a command.

use crate::model::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    ClusterFounded {
        cluster_id: String,
    },
    NodeAdmitted {
        node_id: NodeId,
    },
    NodeRemoved {
        node_id: NodeId,
        name: String,
    },
    TokenRotated,
    /// Another CA, data key and join secret.
    KeysReplaced,
    AgentRegistered {
        agent_id: AgentId,
    },
    AgentReachable {
        agent_id: AgentId,
        reachable: bool,
    },
    /// An app has a new version.
    AppChanged {
        app_id: AppId,
        version: Time,
        /// Health checks of its new configuration, where the configuration is new.
        added_checks: Vec<HealthCheck>,
        /// How many health checks of an earlier configuration hold no more.
        removed_checks: u32,
    },
    /// An app left the group; its tasks may still be stopping.
    AppRemoved {
        app_id: AppId,
        removed_checks: u32,
    },
    /// Deployment events carry the deployment whole: it may be gone from the state when they are
    /// read.
    DeploymentStarted {
        id: DeploymentId,
        version: Time,
        deployment: Box<Deployment>,
    },
    /// The step before is done, this one (an index from 0) is under way. The first step begins
    /// with `DeploymentStarted`, the end of the last is `DeploymentFinished`.
    DeploymentStep {
        id: DeploymentId,
        step: u32,
        deployment: Box<Deployment>,
    },
    DeploymentFinished {
        id: DeploymentId,
        deployment: Box<Deployment>,
    },
    DeploymentCancelled {
        id: DeploymentId,
        deployment: Box<Deployment>,
    },
    InstanceAdded {
        instance_id: InstanceId,
        app_id: AppId,
        version: Time,
    },
    InstanceDecommissioned {
        instance_id: InstanceId,
        app_id: AppId,
    },
    InstanceRemoved {
        instance_id: InstanceId,
        app_id: AppId,
    },
    TaskAssigned {
        task_id: TaskId,
        agent_id: AgentId,
        /// With its new task.
        instance: Box<Instance>,
    },
    AssignmentRefused {
        instance_id: InstanceId,
        agent_id: AgentId,
        reason: RefusedAssignment,
    },
    TaskStatusChanged {
        task_id: TaskId,
        app_id: AppId,
        state: TaskState,
        healthy: Option<bool>,
        /// State and health before.
        was: TaskState,
        was_healthy: Option<bool>,
        /// With the task as it became, also where that is its end.
        instance: Box<Instance>,
        /// The health checks that have just turned bad.
        failed_checks: Vec<HealthCheck>,
        /// Of a pod: the containers that have come into another state.
        changed_containers: Vec<String>,
    },
    DelayReset {
        app_id: AppId,
    },
    /// The last task of a removed app has ended.
    AppTerminated {
        app_id: AppId,
    },
    /// A task ended whose instance the cluster had forgotten.
    UnknownTaskEnded {
        task_id: TaskId,
        state: TaskState,
    },
    /// A request changed a group, or what is in it.
    GroupChanged {
        group_id: GroupId,
        version: Time,
    },
    /// The agent of a task is away, or here again.
    TaskReachable {
        instance: Box<Instance>,
        reachable: bool,
    },
    /// Users changed the attributes or roles of an agent.
    AgentChanged {
        agent_id: AgentId,
    },
    /// An agent is drained from now on, or open again.
    AgentDraining {
        agent_id: AgentId,
        draining: bool,
    },
    /// A running task is being given another size; its agent will say whether it could.
    TaskResizing {
        task_id: TaskId,
        app_id: AppId,
        version: Time,
    },
    /// It is taken back by the deployment that starts with it.
    DeploymentUndone {
        id: DeploymentId,
        deployment: Box<Deployment>,
        reason: UndoReason,
    },
    /// A new version on trial is in another phase.
    RolloutChanged {
        id: DeploymentId,
        app_id: AppId,
        phase: Phase,
    },
}

/// Why an assignment chosen from an offer no longer held when it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedAssignment {
    InstanceGone,
    AlreadyPlaced,
    AgentUnknown,
    AgentUnreachable,
    NotEnough,
    PortTaken,
    Delayed,
    /// The agent has other attributes or roles by now.
    Unsuitable,
    /// A secret it needs is not there.
    SecretMissing,
    /// Its volumes are on another agent.
    NotReserved,
    /// The agent is drained.
    AgentDraining,
    /// Another task holds a device of it, or it is no answer to what the app asks for.
    DeviceTaken,
}
