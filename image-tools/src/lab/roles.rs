//! The role of agent-public machines: the cluster keeps it, so it is given where the cluster is.

use super::api::Api;
use super::config::{Kind, Machine};

/// Whom agent-public machines take apps of: Mesos' word for it.
pub const PUBLIC: &str = "slave_public";

/// Give it to those machines that the cluster knows and that lack it; says to which.
pub fn give(machines: &[Machine]) -> Vec<String> {
    let asked = machines.iter().map(|machine| Api::of(machine.ip));
    let Some((api, known)) = asked.into_iter().find_map(|api| Some((api, api.agents()?))) else {
        return Vec::new();
    };
    let lacks = |machine: &&Machine| {
        let agent = known.iter().find(|agent| agent.name == machine.name);
        agent.is_some_and(|agent| !agent.roles.iter().any(|role| role == PUBLIC))
    };
    let public = machines.iter().filter(|machine| machine.kind == Kind::AgentPublic).filter(lacks);
    public
        .filter(|machine| api.set_roles(&machine.name, &[PUBLIC]))
        .map(|machine| machine.name.clone())
        .collect()
}
