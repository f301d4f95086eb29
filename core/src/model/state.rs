//! The replicated state: what every master holds and a snapshot contains.

use super::{
    Agent, AgentId, AgentSettings, App, AppId, Cluster, DataKey, Deployment, DeploymentId, Drain,
    GroupChangeRecord, GroupId, GroupRecord, Instance, InstanceId, Node, NodeId, Removed,
    SecretRecord, TaskFailure, Time, VolumeId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Versions kept per app besides those that tasks still run (Marathon's `zk_max_versions`).
pub const APP_VERSIONS_MAX: u32 = 50;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `None` until the founder wrote it.
    pub cluster: Option<Cluster>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// Nodes that were put out. One that is admitted anew leaves this list.
    #[serde(default)]
    pub removed: BTreeMap<NodeId, Removed>,
    pub agents: BTreeMap<AgentId, Agent>,
    /// Agents that are away, since when.
    #[serde(default)]
    pub away: BTreeMap<AgentId, Time>,
    /// Instances that have been away for so long that they count no more.
    #[serde(default)]
    pub inactive: BTreeSet<InstanceId>,
    /// What users say of agents.
    #[serde(default)]
    pub agent_settings: BTreeMap<AgentId, AgentSettings>,
    /// Agents that take no tasks any more, and whose tasks move away.
    #[serde(default)]
    pub draining: BTreeMap<AgentId, Drain>,
    /// When agents came, returned, or were opened again: for a while, tasks move onto them.
    #[serde(default)]
    pub arrived: BTreeMap<AgentId, Time>,
    /// When a task began to move last just to even out; 0 = none ever did.
    #[serde(default)]
    pub rebalanced_at: Time,
    pub apps: BTreeMap<AppId, AppRecord>,
    /// Apps already removed whose instances still stop. Answers never show them.
    #[serde(default)]
    pub leaving: BTreeMap<AppId, AppRecord>,
    pub instances: BTreeMap<InstanceId, Instance>,
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// Where events are posted to: URLs given by users.
    #[serde(default)]
    pub callbacks: BTreeSet<String>,
    /// Groups by path. One that only follows from the paths of apps may be missing (ask
    /// [`State::group`]); the root gets its record with the first change.
    #[serde(default)]
    pub groups: BTreeMap<GroupId, GroupRecord>,
    /// What the latest changes replaced, oldest first: earlier versions of groups.
    #[serde(default)]
    pub group_history: Vec<GroupChangeRecord>,
    /// What secrets are sealed with; `None` until there was one.
    #[serde(default)]
    pub data_key: Option<DataKey>,
    /// By name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRecord>,
    /// Volumes given up, with their bytes, that their agents have yet to remove. Only what is
    /// named here is ever removed; it is never wanted again, so an old copy of this is harmless.
    #[serde(default)]
    pub given_up: BTreeMap<AgentId, BTreeMap<VolumeId, u64>>,
    /// Log index of the last applied entry.
    pub applied_index: u64,
    /// Latest leader time seen: cluster time never goes back.
    pub now: Time,
}

/// An app and what the cluster remembers about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    pub app: App,
    /// Earlier versions, oldest first, without the current one.
    pub versions: Vec<App>,
    pub delay: LaunchDelay,
    pub last_failure: Option<TaskFailure>,
}

/// Marathon's backoff: no launch before `until`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchDelay {
    /// Current delay in milliseconds; 0 = none yet.
    pub delay_ms: u64,
    pub until: Time,
}

impl AppRecord {
    /// The definition of `version`, current or kept.
    pub fn at_version(&self, version: Time) -> Option<&App> {
        if self.app.version == version {
            return Some(&self.app);
        }
        self.versions.iter().rev().find(|a| a.version == version)
    }

    /// Whether an instance of `version` has the app's present configuration.
    ///
    /// A later version need not have it: going back brings an earlier configuration to life.
    pub fn is_current(&self, version: Time) -> bool {
        let config = self.app.last_config_change;
        self.at_version(version).map_or(version >= config, |app| app.last_config_change == config)
    }

    /// Whether two known versions have one configuration.
    pub fn same_config(&self, one: Time, other: Time) -> bool {
        let config = |version| self.at_version(version).map(|app| app.last_config_change);
        config(one).is_some() && config(one) == config(other)
    }
}
