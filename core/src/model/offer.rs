//! Offers and demands: what an agent has free now, and what wants to run. Never stored in Raft.

use super::{
    AgentId, App, Closed, HeldDevice, InstanceId, OfferedDevice, PortRange, Reservation, Resources,
    Vitals,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What one agent has free at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub id: String,
    pub agent_id: AgentId,
    pub hostname: String,
    /// Everything the agent lends, minus what its assignments up to `generation` take. What is
    /// reserved besides, the state knows.
    pub free: Resources,
    /// Free host ports: those of the range that no assignment holds and nothing listens on.
    pub ports: Vec<PortRange>,
    /// The agent's own word; the placer goes by what users made of it.
    pub attributes: BTreeMap<String, String>,
    /// Whom the agent lends to; empty = to anybody. No agent knows this itself.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// The assignment set this offer already accounts for.
    pub generation: u64,
    /// What is plugged in, also what tasks hold.
    #[serde(default)]
    pub devices: Vec<OfferedDevice>,
    #[serde(default)]
    pub vitals: Vitals,
}

impl Offer {
    /// Mark devices that a task holds, or gives back.
    pub fn mark_devices(&mut self, held: &[HeldDevice], taken: bool) {
        for device in self.devices.iter_mut().filter(|device| !device.shared) {
            if held.iter().any(|held| held.key == device.key) {
                device.taken = taken;
            }
        }
    }
}

/// Where a task is, as far as constraints care: the agent's name and attributes.
pub type TaskPlace = (String, BTreeMap<String, String>);

/// An instance that wants a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    pub instance_id: InstanceId,
    pub app: &'a App,
    /// Where its volumes are; `None` before its first task, and for apps without volumes.
    pub reservation: Option<&'a Reservation>,
    /// Agents of the app's tasks of the same or a later configuration that stand where they may,
    /// first placed first.
    pub placed: Vec<TaskPlace>,
    /// Secrets that the app needs and the cluster does not have, by name.
    pub missing_secrets: Vec<String>,
    /// Agents that take none of it whatever they have free.
    pub closed: BTreeMap<AgentId, Closed>,
}

impl Demand<'_> {
    /// What it takes of an offer. Volumes that are reserved already take nothing more.
    pub fn need(&self) -> Resources {
        match self.reservation {
            Some(_) => self.app.resources,
            None => self.app.resources.plus(&self.app.volume_resources()),
        }
    }
}
