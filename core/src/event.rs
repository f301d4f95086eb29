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
    TokenRotated,
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
    },
    /// An app left the group; its tasks may still be stopping.
    AppRemoved {
        app_id: AppId,
    },
    DeploymentStarted {
        id: DeploymentId,
        version: Time,
    },
    /// The step before is done, this one (an index from 0) is under way. The first step begins
    /// with `DeploymentStarted`, the end of the last is `DeploymentFinished`.
    DeploymentStep {
        id: DeploymentId,
        step: u32,
    },
    DeploymentFinished {
        id: DeploymentId,
    },
    DeploymentCancelled {
        id: DeploymentId,
    },
    InstanceAdded {
        instance_id: InstanceId,
        app_id: AppId,
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
    },
    DelayReset {
        app_id: AppId,
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
}
