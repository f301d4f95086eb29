//! Agents as the cluster remembers them. What changes by the second lives in offers instead.

use super::{AgentId, PortRange, Resources};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The role of resources that anybody may use.
pub const ROLE_ANY: &str = "*";
/// Attributes that users may set on one agent, and roles, at most.
pub const AGENT_SETTINGS_MAX: u32 = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    /// The node's name, also Marathon's `host` and the `hostname` of constraints.
    pub name: String,
    /// Everything it lends to tasks.
    pub total: Resources,
    pub ports: Vec<PortRange>,
    /// As it told them itself; [`super::State::attributes_of`] has what users made of them.
    pub attributes: BTreeMap<String, String>,
    pub reachable: bool,
}

/// What users say of an agent. It stands above what the agent says of itself, and outlives every
/// restart of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// `None`: it has no such attribute, whatever it says itself.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Whom it lends to; empty = to anybody.
    pub roles: BTreeSet<String>,
}

/// A change of [`AgentSettings`]: what it does not name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentChange {
    pub attributes: BTreeMap<String, Option<String>>,
    pub roles: Option<BTreeSet<String>>,
}
