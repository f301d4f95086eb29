//! Agents as the cluster remembers them. What changes by the second lives in offers instead.

use super::{AgentId, PortRange, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    /// The node's name, also Marathon's `host` and the `hostname` of constraints.
    pub name: String,
    /// Everything it lends to tasks.
    pub total: Resources,
    pub ports: Vec<PortRange>,
    pub attributes: BTreeMap<String, String>,
    pub reachable: bool,
}
