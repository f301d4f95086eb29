//! Bridge networking: gives containers an interface, an address, and published ports.
//!
//! A container's network namespace is made by its executor and has no name; the agent only moves
//! one end of a veth pair into it. So nothing stays behind when the container dies, and what the
//! kernel holds is what is true: the bridge's ports are the list of attached tasks. The bridge is
//! made when the first task needs it. Host-network tasks never come here.

mod address;
mod bridge;
mod host;
mod link;
mod namespace;
mod publish;

#[cfg(test)]
mod tests;

pub use address::{AddressError, Subnet};
pub use bridge::BridgeError;
pub use host::{HostError, occupied_ports, resolv_conf};
pub use link::LinkError;
pub use namespace::NamespaceError;
pub use publish::{PublishError, Publisher, Transport};

use bramble_core::model::{PublishedPort, TaskId};
use bridge::Bridge;
use namespace::Namespace;
use publish::PortMaps;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use tokio::sync::Semaphore;

/// Namespaces worked in at the same time; each takes a thread for a moment.
const NAMESPACES_MAX: usize = 8;

#[derive(Debug, Error)]
pub enum NetworkError {
    #[error(
        "{0:?} cannot name a bridge: 1 to {max} letters, digits, '-', '_' or '.'",
        max = link::INTERFACE_NAME_MAX
    )]
    BridgeName(String),
    #[error("setting up the bridge")]
    Bridge(#[source] BridgeError),
    #[error("handing out an address")]
    Address(#[source] AddressError),
    #[error("connecting the container to the bridge")]
    Link(#[source] LinkError),
    #[error("setting up the container's network")]
    Namespace(#[source] NamespaceError),
    #[error("publishing ports")]
    Publish(#[source] PublishError),
    #[error("looking for ports in use")]
    Host(#[source] HostError),
    #[error("{transport} port {port} of this host is already published by task {by}")]
    PortPublished { transport: Transport, port: u16, by: TaskId },
    #[error("{transport} port {port} of this host is in use by another program")]
    PortTaken { transport: Transport, port: u16 },
}

/// Where an agent's containers live.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Interface name of the bridge, also in the name of the nftables table.
    pub bridge: String,
    /// `None`: the first candidate that collides with nothing on this host.
    pub subnet: Option<Subnet>,
    /// Where the chosen subnet is remembered.
    pub state_dir: PathBuf,
}

/// Who publishes ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// nftables where it works, else the proxy.
    Auto,
    /// The proxy, whatever the kernel can do.
    Proxy,
}

/// A task's place on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub ip: Ipv4Addr,
}

/// The bridge of one agent and what hangs on it.
pub struct Network {
    config: NetworkConfig,
    publication: Publication,
    /// `None` until the first task needs it.
    bridge: tokio::sync::Mutex<Option<Arc<Bridge>>>,
    tasks: Mutex<BTreeMap<TaskId, Place>>,
    namespaces: Semaphore,
}

/// What a task holds here.
#[derive(Clone, Debug)]
struct Place {
    /// `None` until one is chosen.
    address: Option<Ipv4Addr>,
    ports: Vec<(Transport, u16)>,
}

impl Network {
    /// Make ready; touches nothing of the host yet.
    ///
    /// # Errors
    /// When the bridge's name is none.
    pub fn open(config: NetworkConfig) -> Result<Network, NetworkError> {
        Network::open_with(config, Publication::Auto)
    }

    /// Like [`Network::open`], choosing who publishes ports.
    ///
    /// # Errors
    /// As [`Network::open`].
    pub fn open_with(
        config: NetworkConfig,
        publication: Publication,
    ) -> Result<Network, NetworkError> {
        let name = &config.bridge;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let dots = name.chars().all(|c| c == '.');
        if dots || name.len() > link::INTERFACE_NAME_MAX || !name.chars().all(plain) {
            return Err(NetworkError::BridgeName(name.clone()));
        }
        Ok(Network {
            config,
            publication,
            bridge: tokio::sync::Mutex::new(None),
            tasks: Mutex::new(BTreeMap::new()),
            namespaces: Semaphore::new(NAMESPACES_MAX),
        })
    }

    /// Connect the container whose first process is `init_pid` and publish its ports. The process
    /// must not run the user's program yet.
    ///
    /// # Errors
    /// When a port is taken, or any step fails; nothing of the task is left then.
    pub async fn attach(
        &self,
        task_id: &TaskId,
        init_pid: i32,
        ports: &[PublishedPort],
    ) -> Result<Attached, NetworkError> {
        let namespace = Namespace::of_process(init_pid).map_err(NetworkError::Namespace)?;
        let bridge = self.open_bridge().await?;
        self.leave(&bridge, task_id).await?;
        self.reserve(task_id, ports, true)?;
        match self.connect(&bridge, task_id, &namespace, ports).await {
            Ok(attached) => Ok(attached),
            Err(error) => {
                if let Err(second) = self.leave(&bridge, task_id).await {
                    let second: &dyn std::error::Error = &second;
                    tracing::warn!(%task_id, error = second, "a half-made connection is left");
                }
                Err(error)
            }
        }
    }

    /// Disconnect a task: its interface goes, its ports are free. Nothing to do is fine.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn detach(&self, task_id: &TaskId) -> Result<(), NetworkError> {
        let Some(bridge) = self.existing_bridge().await? else { return Ok(()) };
        self.leave(&bridge, task_id).await?;
        bridge.publishing.apply().await.map_err(NetworkError::Publish)
    }

    /// Take over a task that an earlier process of this agent attached. Its ports come into force
    /// with the next [`Network::prune`]; until then nftables goes on as the earlier process left
    /// it, which a table of only the tasks adopted so far would interrupt.
    ///
    /// # Errors
    /// When the process is gone or its namespace holds no interface of ours.
    pub async fn adopt(
        &self,
        task_id: &TaskId,
        init_pid: i32,
        ports: &[PublishedPort],
    ) -> Result<Attached, NetworkError> {
        let namespace = Namespace::of_process(init_pid).map_err(NetworkError::Namespace)?;
        let ip = {
            let _turn = self.turn().await;
            namespace.address().await.map_err(NetworkError::Namespace)?
        };
        let bridge = self.open_bridge().await?;
        self.forget(&bridge, task_id);
        self.reserve(task_id, ports, false)?;
        bridge.mark_address(ip);
        self.settle(&bridge, task_id, ip, ports);
        Ok(Attached { ip })
    }

    /// Remove the interfaces and published ports of all tasks but `live`, and put the ports of
    /// those in force. Call it once after the last [`Network::adopt`], before the first attach.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn prune(&self, live: &[TaskId]) -> Result<(), NetworkError> {
        let Some(bridge) = self.existing_bridge().await? else { return Ok(()) };
        let live: BTreeSet<&TaskId> = live.iter().collect();
        let known: Vec<TaskId> = self.tasks().keys().cloned().collect();
        for task_id in known.iter().filter(|task_id| !live.contains(task_id)) {
            self.forget(&bridge, task_id);
        }
        bridge.keep_veths(&live).await.map_err(NetworkError::Link)?;
        // Even without a change: the table may still be the earlier process's.
        bridge.publishing.change(|_| {});
        bridge.publishing.apply().await.map_err(NetworkError::Publish)
    }

    /// Remove table and bridge if no task hangs on it; says whether nothing is left.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn close(&self) -> Result<bool, NetworkError> {
        if let Some(bridge) = self.existing_bridge().await?
            && !bridge.remove_if_empty().await.map_err(NetworkError::Bridge)?
        {
            return Ok(false);
        }
        *self.bridge.lock().await = None;
        self.tasks().clear();
        Ok(true)
    }

    /// The bridge's own address, from where the host reaches containers; `None` before first use.
    pub async fn gateway(&self) -> Option<Ipv4Addr> {
        self.bridge.lock().await.as_ref().map(|bridge| bridge.subnet.gateway())
    }

    async fn open_bridge(&self) -> Result<Arc<Bridge>, NetworkError> {
        let mut slot = self.bridge.lock().await;
        if let Some(bridge) = slot.as_ref() {
            return Ok(bridge.clone());
        }
        let bridge = Bridge::open(&self.config, self.publication).await;
        let bridge = Arc::new(bridge.map_err(NetworkError::Bridge)?);
        *slot = Some(bridge.clone());
        Ok(bridge)
    }

    /// The bridge, unless it was never made: looking must not make it.
    async fn existing_bridge(&self) -> Result<Option<Arc<Bridge>>, NetworkError> {
        if self.bridge.lock().await.is_none()
            && !Bridge::exists(&self.config.bridge).await.map_err(NetworkError::Link)?
        {
            return Ok(None);
        }
        self.open_bridge().await.map(Some)
    }

    async fn turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.namespaces.acquire().await.expect("this semaphore is never closed")
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, Place>> {
        self.tasks.lock().expect("no holder of this lock panics")
    }

    /// Note that the task has these ports, unless somebody else has one of them.
    fn reserve(
        &self,
        task_id: &TaskId,
        ports: &[PublishedPort],
        look_at_host: bool,
    ) -> Result<(), NetworkError> {
        let keys: Vec<_> = targets(ports, Ipv4Addr::UNSPECIFIED).into_keys().collect();
        let mut tasks = self.tasks();
        for &(transport, port) in &keys {
            let holder = tasks.iter().find(|(_, place)| place.ports.contains(&(transport, port)));
            if let Some((by, _)) = holder {
                return Err(NetworkError::PortPublished { transport, port, by: by.clone() });
            }
        }
        if look_at_host {
            refuse_taken(&keys)?;
        }
        tasks.insert(task_id.clone(), Place { address: None, ports: keys });
        Ok(())
    }

    async fn connect(
        &self,
        bridge: &Bridge,
        task_id: &TaskId,
        namespace: &Namespace,
        ports: &[PublishedPort],
    ) -> Result<Attached, NetworkError> {
        let ip = bridge.take_address().map_err(NetworkError::Address)?;
        if let Some(place) = self.tasks().get_mut(task_id) {
            place.address = Some(ip);
        }
        {
            let _turn = self.turn().await;
            bridge.connect(task_id, namespace, ip).await.map_err(NetworkError::Link)?;
            let (prefix, gateway) = (bridge.subnet.prefix(), bridge.subnet.gateway());
            let configured = namespace.configure(ip, prefix, gateway).await;
            configured.map_err(NetworkError::Namespace)?;
        }
        self.settle(bridge, task_id, ip, ports);
        if !ports.is_empty() {
            bridge.publishing.apply().await.map_err(NetworkError::Publish)?;
        } else {
            bridge.publishing.ensure().await.map_err(NetworkError::Publish)?;
        }
        Ok(Attached { ip })
    }

    fn settle(&self, bridge: &Bridge, task_id: &TaskId, ip: Ipv4Addr, ports: &[PublishedPort]) {
        if let Some(place) = self.tasks().get_mut(task_id) {
            place.address = Some(ip);
        }
        bridge.publishing.change(|maps| maps.extend(targets(ports, ip)));
    }

    /// Remove all that a task has on the bridge; its ports are out of force at the next `apply`.
    async fn leave(&self, bridge: &Bridge, task_id: &TaskId) -> Result<(), NetworkError> {
        bridge.disconnect(task_id).await.map_err(NetworkError::Link)?;
        self.forget(bridge, task_id);
        Ok(())
    }

    fn forget(&self, bridge: &Bridge, task_id: &TaskId) {
        let Some(place) = self.tasks().remove(task_id) else { return };
        if let Some(address) = place.address {
            bridge.release_address(address);
        }
        if !place.ports.is_empty() {
            bridge.publishing.change(|maps| maps.retain(|key, _| !place.ports.contains(key)));
        }
    }
}

/// Host ports of a task and where they lead. Port 0 is no host port; container port 0 is the same
/// number as outside.
fn targets(ports: &[PublishedPort], ip: Ipv4Addr) -> PortMaps {
    let mut maps = PortMaps::new();
    for port in ports.iter().filter(|port| port.host_port != 0) {
        let inside = if port.container_port == 0 { port.host_port } else { port.container_port };
        for (wanted, transport) in [(port.tcp, Transport::Tcp), (port.udp, Transport::Udp)] {
            if wanted {
                maps.insert((transport, port.host_port), SocketAddrV4::new(ip, inside));
            }
        }
    }
    maps
}

/// nftables would lead such a port away from the program that listens on it.
fn refuse_taken(keys: &[(Transport, u16)]) -> Result<(), NetworkError> {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut wanted = keys.iter().filter(|(kind, _)| *kind == transport).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let taken =
            host::occupied_ports_of(transport == Transport::Tcp).map_err(NetworkError::Host)?;
        if let Some(&(_, port)) = wanted.find(|(_, port)| taken.contains(port)) {
            return Err(NetworkError::PortTaken { transport, port });
        }
    }
    Ok(())
}
