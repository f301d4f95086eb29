//! The bridge interface, its subnet, and the switches of the kernel it needs.
//!
//! An existing bridge is taken as it is: containers of an earlier process hang on it.

use super::address::{AddressError, Addresses, Subnet, choose};
use super::link::{LinkError, Links, Veth, disable_ipv6, veth_name};
use super::namespace::Namespace;
use super::publish::{
    NftPublisher, ProxyPublisher, PublishError, Publisher, Publishing, forwarding_dropped_by,
};
use super::{NetworkConfig, Publication};
use bramble_core::model::TaskId;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use thiserror::Error;

/// File in the state directory that remembers the subnet.
const SUBNET_FILE: &str = "subnet";
/// The kernel's switch for forwarding between interfaces.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, Error)]
pub enum BridgeError {
    #[error("asking the kernel for the bridge")]
    Link(#[source] LinkError),
    #[error("choosing a subnet")]
    Choose(#[source] AddressError),
    #[error("the subnet {subnet} collides with {other}, which this host already reaches")]
    Collides { subnet: Subnet, other: Subnet },
    #[error("remembering the subnet in {}", path.display())]
    Remember {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("turning on {IP_FORWARD}")]
    Forwarding(#[source] io::Error),
    #[error("removing published ports")]
    Unpublish(#[source] PublishError),
}

/// The bridge, existing and up.
pub struct Bridge {
    name: String,
    index: u32,
    pub subnet: Subnet,
    pub publishing: Publishing,
    links: Links,
    addresses: Mutex<Addresses>,
}

impl Bridge {
    /// Whether an interface of this name exists.
    ///
    /// # Errors
    /// When the kernel refuses to list interfaces.
    pub async fn exists(name: &str) -> Result<bool, LinkError> {
        Ok(Links::open()?.index_of(name).await?.is_some())
    }

    /// Find the bridge or make it.
    ///
    /// # Errors
    /// When no subnet is free or the kernel refuses.
    pub async fn open(
        config: &NetworkConfig,
        publication: Publication,
    ) -> Result<Bridge, BridgeError> {
        let links = Links::open().map_err(BridgeError::Link)?;
        let (index, subnet) = find_or_make(&links, config).await?;
        turn_on(IP_FORWARD).map_err(BridgeError::Forwarding)?;
        let veths = links.veths(index).await.map_err(BridgeError::Link)?;
        let used = veths.iter().filter_map(|veth| veth.address).collect();
        Ok(Bridge {
            name: config.bridge.clone(),
            index,
            subnet,
            publishing: publishing(&config.bridge, subnet, publication).await,
            links,
            addresses: Mutex::new(Addresses::new(subnet, used)),
        })
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, Addresses> {
        self.addresses.lock().expect("no holder of this lock panics")
    }

    /// Take a free address.
    ///
    /// # Errors
    /// When all are in use.
    pub fn take_address(&self) -> Result<Ipv4Addr, AddressError> {
        self.addresses().take()
    }

    /// Note an address in use.
    pub fn mark_address(&self, address: Ipv4Addr) {
        self.addresses().mark(address);
    }

    /// Give an address back.
    pub fn release_address(&self, address: Ipv4Addr) {
        self.addresses().release(address);
    }

    /// Connect a container's namespace; its end has no address yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn connect(
        &self,
        task_id: &TaskId,
        namespace: &Namespace,
        address: Ipv4Addr,
    ) -> Result<(), LinkError> {
        let name = veth_name(&self.name, task_id);
        let veth = self.links.create_veth(&name, self.index, namespace.as_fd(), address).await?;
        disable_ipv6(&name);
        self.links.finish_veth(veth, address).await
    }

    /// Remove a task's veth, if it has one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn disconnect(&self, task_id: &TaskId) -> Result<(), LinkError> {
        self.links.remove(&veth_name(&self.name, task_id)).await
    }

    /// Remove the veths of all tasks but these.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn keep_veths(&self, live: &BTreeSet<&TaskId>) -> Result<(), LinkError> {
        let keep: BTreeSet<String> =
            live.iter().map(|task_id| veth_name(&self.name, task_id)).collect();
        for Veth { name, address, .. } in self.links.veths(self.index).await? {
            if !keep.contains(&name) {
                tracing::info!(interface = name, ?address, "removing what a task left");
                self.links.remove(&name).await?;
                if let Some(address) = address {
                    self.release_address(address);
                }
            }
        }
        Ok(())
    }

    /// Remove published ports and the bridge, unless a task hangs on it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_if_empty(&self) -> Result<bool, BridgeError> {
        if !self.links.veths(self.index).await.map_err(BridgeError::Link)?.is_empty() {
            return Ok(false);
        }
        self.publishing.close().await.map_err(BridgeError::Unpublish)?;
        self.links.remove(&self.name).await.map_err(BridgeError::Link)?;
        Ok(true)
    }
}

async fn find_or_make(links: &Links, config: &NetworkConfig) -> Result<(u32, Subnet), BridgeError> {
    let name = &config.bridge;
    let mut existing = links.index_of(name).await.map_err(BridgeError::Link)?;
    if let Some(index) = existing {
        let address = links.address_of(index).await.map_err(BridgeError::Link)?;
        if let Some((address, prefix)) = address {
            let subnet = Subnet::containing(address, prefix);
            let wish = config.subnet.filter(|wish| *wish != subnet);
            let busy = !links.veths(index).await.map_err(BridgeError::Link)?.is_empty();
            match wish {
                Some(wish) if !busy => {
                    tracing::info!(from = %subnet, to = %wish, "the bridge changes its subnet");
                    links.remove(name).await.map_err(BridgeError::Link)?;
                    existing = None;
                }
                wish => {
                    if let Some(wish) = wish {
                        let (is, wanted) = (subnet, wish);
                        tracing::warn!(%is, %wanted, "tasks hold the bridge to its subnet");
                    }
                    links.take_up(index).await.map_err(BridgeError::Link)?;
                    return Ok((index, subnet));
                }
            }
        }
    }
    let subnet = choose_subnet(links, config, existing).await?;
    let index = match existing {
        // An earlier process died between making it and giving it an address.
        Some(index) => index,
        None => {
            let made = links.create_bridge(name, subnet.gateway()).await;
            made.map_err(BridgeError::Link)?
        }
    };
    disable_ipv6(name);
    let configured = links.configure(index, subnet.gateway(), subnet.prefix()).await;
    configured.map_err(BridgeError::Link)?;
    tracing::info!(bridge = name, %subnet, "the bridge is up");
    Ok((index, subnet))
}

async fn choose_subnet(
    links: &Links,
    config: &NetworkConfig,
    own: Option<u32>,
) -> Result<Subnet, BridgeError> {
    let taken = links.networks(own).await.map_err(BridgeError::Link)?;
    if let Some(subnet) = config.subnet {
        return match taken.iter().find(|other| other.overlaps(&subnet)) {
            Some(&other) => Err(BridgeError::Collides { subnet, other }),
            None => Ok(subnet),
        };
    }
    let path = config.state_dir.join(SUBNET_FILE);
    // A file that is missing or damaged is no loss: it only says what was chosen before.
    let before = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
    let subnet = choose(before, &taken).map_err(BridgeError::Choose)?;
    if before != Some(subnet) {
        remember(&path, subnet).map_err(|source| BridgeError::Remember { path, source })?;
    }
    Ok(subnet)
}

fn remember(path: &Path, subnet: Subnet) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, format!("{subnet}\n"))
}

async fn publishing(bridge: &str, subnet: Subnet, publication: Publication) -> Publishing {
    let proxy: Box<dyn Publisher> = Box::new(ProxyPublisher::new());
    if publication == Publication::Proxy {
        return Publishing::new(proxy, None);
    }
    if let Some(by) = forwarding_dropped_by().await {
        // Only the host's own packets pass such a chain by, and those of the proxy are that.
        let hint = "containers reach nothing outside unless that table lets the bridge through";
        tracing::warn!(table = by, bridge, hint, "another table drops forwarded packets");
        return Publishing::new(proxy, None);
    }
    Publishing::new(Box::new(NftPublisher::new(bridge, subnet)), Some(proxy))
}

/// Write `1` where it is not already: the file may be read-only in a container that has it set.
fn turn_on(path: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == "1" {
        return Ok(());
    }
    fs::write(path, "1")
}
