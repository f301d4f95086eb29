//! The agent of a node: beside a master, alone, or only long enough to stop its tasks.

use super::finder::Finder;
use super::levels::Levels;
use super::own::own_state;
use super::{EndSignals, api_config, place};
use crate::config::{NodeConfig, short_name};
use crate::output::tell;
use anyhow::{Context, Result, bail};
use bramble_agent::config::LOG_BYTES_MAX;
use bramble_agent::{Agent, AgentConfig, AgentHandle, Leader};
use bramble_core::model::NodeRole;
use bramble_master::api;
use bramble_master::masters::Distant;
use bramble_master::relay::{Relay, RelayConfig};
use bramble_protocol::net::{
    Directory, Endpoint, Identity, JoinError, JoinToken, Links, NodeKey, join,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Pause before a candidate that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The bridge of a node with default directories; others derive theirs.
const BRIDGE: &str = "bramble0";
/// The cgroup parent of such a node.
const CGROUP_PARENT: &str = "/bramble";

/// Where an agent finds its masters.
pub enum Masters {
    /// In this process.
    At(Leader),
    /// Wherever the finder sees them.
    Found(Finder),
}

/// A running agent.
pub struct AgentPart {
    handle: AgentHandle,
    endpoint: Arc<Endpoint>,
    leave: CancellationToken,
    serving: JoinHandle<()>,
    finder: Option<Finder>,
}

impl AgentPart {
    /// Take over this machine's tasks, and serve.
    ///
    /// # Errors
    /// A setting is wrong, or something the agent owns cannot be opened.
    pub async fn start(config: &NodeConfig, identity: Identity, masters: Masters) -> Result<Self> {
        let opened = Agent::open(agent_config(config)?, &identity.key).await?;
        let dialling = match &masters {
            Masters::At(leader) if leader.address.is_ipv6() => "[::]:0",
            _ => "0.0.0.0:0",
        };
        let address: SocketAddr = dialling.parse().context("an unspecified address")?;
        let endpoint = Arc::new(Endpoint::bind(address, Some(identity))?);
        let (leaders, finder) = match masters {
            Masters::At(leader) => (watch::Sender::new(vec![leader]).subscribe(), None),
            Masters::Found(finder) => (finder.masters(), Some(finder)),
        };
        let leave = CancellationToken::new();
        let handle = opened.handle();
        let serving = tokio::spawn(opened.serve(endpoint.clone(), leaders, leave.clone()));
        Ok(Self { handle, endpoint, leave, serving, finder })
    }

    /// End the agent. Apps keep running, unless `bramble down` has left its order.
    pub async fn stop(self, config: &NodeConfig) {
        let down = place::take_down_order(&config.run_dir);
        if down && let Err(error) = self.handle.stop_all().await {
            tracing::error!(%error, "not every app was stopped");
        }
        let tasks = self.handle.running();
        self.leave.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the agent ended with a panic");
        }
        drop(self.finder);
        if !down {
            tell(&super::banner::left_running(tasks));
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

/// `bramble agent`: an agent only, which joins first if it must.
pub async fn run(
    config: NodeConfig,
    token: Option<String>,
    seed: Option<String>,
    levels: Arc<Levels>,
) -> Result<u8> {
    let mut signals = EndSignals::listen()?;
    let _claim = place::claim(&config)?;
    if config.data_dir.join("master").exists() {
        bail!(
            "{} is that of a whole node: run `bramble up` with it, or give another --data-dir",
            config.data_dir.display()
        );
    }
    // Ports first: a taken one must be known before a cluster is joined.
    let api = api_config(&config)?;
    let listeners = api::bind(&api).await?;
    let http = listeners.http();
    let directory = bramble_master::founding::identity_dir(&config.data_dir);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let known = Identity::load(&directory)?;
    let finder = Finder::start(seed.as_deref(), &config.data_dir.join("masters-seen")).await?;
    let identity = match known {
        Some(identity) => identity,
        None => {
            let Some(token) = token else {
                bail!(
                    "this machine belongs to no cluster yet: give --token, as `bramble token` \
                    prints it on a node of the cluster"
                );
            };
            let token: JoinToken = token.parse().context("--token")?;
            let key = NodeKey::load_or_create(&Identity::key_path(&directory))?;
            let identity = admitted(&config, &finder, &token, key, &mut signals).await?;
            identity.save(&directory)?;
            identity
        }
    };
    let (key, masters) = (identity.key.clone(), finder.masters());
    let agent = AgentPart::start(&config, identity, Masters::Found(finder)).await?;
    let directory = Arc::new(Directory::default());
    let noting = tokio::spawn(note(masters, directory.clone()));
    let links = Arc::new(Links::new(agent.endpoint.clone(), directory));
    let relay = Relay::start(RelayConfig {
        api,
        listeners,
        key: &key,
        masters: Arc::new(Distant::new(agent.endpoint.clone(), links)),
        own: own_state(agent.handle.clone(), key.node_id().agent(), config.name.clone()),
        levels,
    });
    tell(&super::banner::agent(&config, http));
    signals.received().await;
    relay.stop().await;
    noting.abort();
    agent.stop(&config).await;
    Ok(0)
}

/// Write down where masters are heard.
async fn note(mut masters: watch::Receiver<Vec<Leader>>, directory: Arc<Directory>) {
    loop {
        // The best is first in the one list, and what was noted last in the other.
        for Leader { node_id, address } in masters.borrow_and_update().iter().rev() {
            match node_id {
                Some(node_id) => directory.note(node_id, NodeRole::Master, *address),
                None => directory.seed(*address),
            }
        }
        if masters.changed().await.is_err() {
            return;
        }
    }
}

/// Ask one candidate after the other until the cluster has decided.
async fn admitted(
    config: &NodeConfig,
    finder: &Finder,
    token: &JoinToken,
    key: NodeKey,
    signals: &mut EndSignals,
) -> Result<Identity> {
    let mut candidates = finder.masters();
    let mut told = false;
    loop {
        let known = candidates.borrow_and_update().clone();
        for Leader { address, .. } in known {
            match join(address, token, &key, &config.name, NodeRole::Agent).await {
                Ok(joined) => {
                    finder.remember(address);
                    tracing::info!(%address, cluster = %joined.cluster_id, "joined");
                    return Ok(Identity::new(key, joined.certificate, joined.ca)?);
                }
                // A decision is final; anything else may be another cluster's node, or a node
                // that is still starting.
                Err(JoinError::Refused { reason }) => {
                    bail!("the cluster refuses this node: {reason}")
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::info!(%address, error, "not joined here");
                }
            }
        }
        if !told && candidates.borrow().is_empty() {
            told = true;
            if !finder.listens() {
                bail!("no master is known and mDNS does not work here: give --join HOST:PORT");
            }
            tracing::info!(
                "waiting for a node of the cluster to be heard by mDNS; \
                --join HOST:PORT names one"
            );
        }
        tokio::select! {
            changed = candidates.changed() => if changed.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            },
            () = tokio::time::sleep(ASK_AGAIN) => {}
            () = signals.received() => {
                bail!("stopped before a cluster was joined");
            }
        }
    }
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
