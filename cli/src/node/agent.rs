//! The agent of a node: beside a master, alone, or only long enough to stop its tasks.

use super::place;
use crate::config::{NodeConfig, short_name};
use crate::output::tell;
use anyhow::Result;
use bramble_agent::config::LOG_BYTES_MAX;
use bramble_agent::{Agent, AgentConfig, AgentHandle};
use bramble_protocol::net::{Endpoint, Identity, Links};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The bridge of a node with default directories; others derive theirs.
const BRIDGE: &str = "bramble0";
/// The cgroup parent of such a node.
const CGROUP_PARENT: &str = "/bramble";

/// A running agent.
pub struct AgentPart {
    handle: AgentHandle,
    leave: CancellationToken,
    serving: JoinHandle<()>,
}

impl AgentPart {
    /// Take over this machine's tasks, and serve.
    ///
    /// # Errors
    /// A setting is wrong, or something the agent owns cannot be opened.
    pub async fn start(
        config: &NodeConfig,
        identity: &Identity,
        endpoint: Arc<Endpoint>,
        links: Arc<Links>,
    ) -> Result<Self> {
        let opened = Agent::open(agent_config(config)?, &identity.key).await?;
        let leave = CancellationToken::new();
        let handle = opened.handle();
        let serving = tokio::spawn(opened.serve(endpoint, links, leave.clone()));
        Ok(Self { handle, leave, serving })
    }

    /// What may be asked of it while it runs.
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// End the agent. Apps keep running, unless `bramble down` has left its order.
    pub async fn stop(self, config: &NodeConfig) {
        let down = place::take_down_order(&config.run_dir);
        if down && let Err(error) = self.handle.stop_all().await {
            tracing::error!(%error, "not every app was stopped");
        }
        let (tasks, leases) = (self.handle.running(), self.handle.has_leases());
        self.leave.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the agent ended with a panic");
        }
        if !down {
            tell(&super::banner::left_running(tasks));
            if leases {
                tell(&super::banner::left_leased());
            }
        }
    }
}

fn agent_config(config: &NodeConfig) -> Result<AgentConfig> {
    Ok(AgentConfig {
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        // Not the path it was started by: that may be a newer binary by now, and executors of
        // one agent should be of one version until it is restarted.
        executable: "/proc/self/exe".into(),
        name: config.name.clone(),
        attributes: config.attributes.clone(),
        resources: config.resources.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        allow_host_volumes: config.allow_host_volumes,
        allow_privileged: config.allow_privileged,
        bridge: bridge_name(&config.cgroup_parent),
        subnet: None,
        insecure_registries: config.insecure_registries.clone(),
        docker_config: config.docker_config.clone(),
        log_bytes_max: LOG_BYTES_MAX,
        sysfs: config.sysfs.clone(),
    })
}

/// Several nodes may share one network namespace; their cgroup parents differ already. On one
/// bridge, each would remove the interfaces of the other's tasks.
fn bridge_name(cgroup_parent: &str) -> String {
    if cgroup_parent == CGROUP_PARENT {
        return BRIDGE.into();
    }
    let derived = cgroup_parent
        .strip_prefix(CGROUP_PARENT)
        .and_then(|rest| rest.strip_prefix('-'))
        .filter(|name| name.len() == 8 && name.chars().all(|c| c.is_ascii_hexdigit()));
    // Interface names have 15 characters at most.
    match derived {
        Some(name) => format!("bramble{name}"),
        None => format!("bramble{}", short_name(cgroup_parent.as_bytes())),
    }
}

/// Interfaces that belong to containers: their addresses are no way to a node.
pub fn is_container_link(name: &str) -> bool {
    name.starts_with("bramble") || name.starts_with("veth") || name.starts_with("docker")
}

/// Stop what runs while no agent does. Gives the number of tasks stopped.
///
/// # Errors
/// Something the agent owns cannot be opened.
pub async fn stop_tasks(config: &NodeConfig) -> Result<usize> {
    let directory = bramble_master::founding::identity_dir(&config.data_dir);
    let Some(identity) = Identity::load(&directory)? else { return Ok(0) };
    Ok(Agent::stop_all(agent_config(config)?, &identity.key).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_cgroups_of_their_own_have_bridges_of_their_own() {
        assert_eq!(bridge_name("/bramble"), "bramble0");
        assert_eq!(bridge_name("/bramble-0123abcd"), "bramble0123abcd");
        let (one, other) = (bridge_name("/lab/one"), bridge_name("/lab/other"));
        assert_ne!(one, other);
        for name in [one, other, bridge_name("/bramble-täg"), bridge_name("/brambles")] {
            assert!(name.len() <= 15 && name != "bramble0", "{name}");
            assert!(is_container_link(&name), "{name}");
        }
    }
}
