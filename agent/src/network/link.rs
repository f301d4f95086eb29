//! The bridge and the host's ends of veth pairs, by rtnetlink in the agent's own namespace.
//!
//! All state is the kernel's: which tasks have a link, and with which address, is read back from
//! the bridge's ports, so that nothing here can disagree with what is.

use super::address::Subnet;
use bramble_core::model::TaskId;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder, new_connection,
};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Mutex;

/// Begins the name of every host end, followed by digits of the task id's hash.
const VETH_PREFIX: &str = "bv";
/// Hex digits of the hash; with the prefix within IFNAMSIZ (15 characters).
const VETH_DIGITS: usize = 12;
/// Begins the alias of every host end, followed by the container's address.
const ALIAS_PREFIX: &str = "bramble ";
/// Name of the container's end, as Docker has it.
pub const CONTAINER_INTERFACE: &str = "eth0";
/// Longest interface name of Linux (IFNAMSIZ without the end mark).
pub const INTERFACE_NAME_MAX: usize = 15;

#[derive(Debug, Error)]
pub enum LinkError {
    #[error("opening a netlink socket")]
    Socket(#[source] io::Error),
    #[error("{operation} {name}")]
    Netlink {
        operation: &'static str,
        name: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("the bridge {0} does not exist")]
    NoBridge(String),
}

fn netlink(
    operation: &'static str,
    name: impl ToString,
) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    move |source| LinkError::Netlink { operation, name: name.to_string(), source }
}

/// The name of a task's host end: the same at every call, short, and without meaning to anyone.
pub fn veth_name(bridge: &str, task_id: &TaskId) -> String {
    let digest = Sha256::new()
        .chain_update(bridge)
        .chain_update([0])
        .chain_update(task_id.as_str())
        .finalize();
    format!("{VETH_PREFIX}{}", &hex::encode(digest)[..VETH_DIGITS])
}

/// A hardware address that follows from the IP address, so that a neighbour that remembers an
/// address's earlier owner is not wrong.
pub fn hardware_address(ip: Ipv4Addr) -> Vec<u8> {
    // 0x02: locally administered, unicast.
    [&[0x02, 0x62][..], &ip.octets()].concat()
}

/// A host end found on the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    pub name: String,
    index: u32,
    pub address: Option<Ipv4Addr>,
}

/// Netlink in the namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub struct Links {
    handle: Handle,
    /// Held while something is listed: the kernel answers EBUSY to a second listing on the same
    /// socket.
    listing: Arc<Mutex<()>>,
}

impl Links {
    /// Open a socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Links, LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Links { handle, listing: Arc::default() })
    }

    /// The index of an interface, if it exists.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub async fn index_of(&self, name: &str) -> Result<Option<u32>, LinkError> {
        // By name, not from a list: every task on the bridge would make the list longer.
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found {
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => {
                Ok(None)
            }
            Err(error) => Err(netlink("looking for", name)(error)),
            Ok(link) => Ok(link.map(|link| link.header.index)),
        }
    }

    async fn links(&self) -> Result<Vec<LinkMessage>, LinkError> {
        let _turn = self.listing.lock().await;
        let links = self.handle.link().get().execute().try_collect();
        links.await.map_err(netlink("listing", "interfaces"))
    }

    /// Make the bridge, without address, down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn create_bridge(&self, name: &str, address: Ipv4Addr) -> Result<u32, LinkError> {
        // Given an address of its own, it does not take that of whichever port is lowest.
        let bridge =
            LinkMessageBuilder::<LinkBridge>::new(name).address(hardware_address(address)).build();
        let added = self.handle.link().add(bridge).execute().await;
        added.map_err(netlink("creating the bridge", name))?;
        self.index_of(name).await?.ok_or_else(|| LinkError::NoBridge(name.to_string()))
    }

    /// Give an interface an address (replacing the same one) and take it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn configure(
        &self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), LinkError> {
        let add = self.handle.address().add(index, IpAddr::V4(address), prefix);
        add.replace().execute().await.map_err(netlink("setting the address", address))?;
        self.take_up(index).await
    }

    /// Take an interface up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn take_up(&self, index: u32) -> Result<(), LinkError> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().change(up).execute().await.map_err(netlink("taking up", index))
    }

    /// Route everything through `gateway`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn route_by(&self, gateway: Ipv4Addr) -> Result<(), LinkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        let add = self.handle.route().add(route).replace().execute().await;
        add.map_err(netlink("routing by", gateway))
    }

    /// The IPv4 address of an interface, if it has one.
    ///
    /// # Errors
    /// When the kernel refuses to list addresses.
    pub async fn address_of(&self, index: u32) -> Result<Option<(Ipv4Addr, u8)>, LinkError> {
        let all = self.addresses().await?;
        Ok(all
            .into_iter()
            .find(|(at, ..)| *at == index)
            .map(|(_, address, prefix)| (address, prefix)))
    }

    async fn addresses(&self) -> Result<Vec<(u32, Ipv4Addr, u8)>, LinkError> {
        let _turn = self.listing.lock().await;
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(netlink("listing", "addresses"))?;
        let of = |attributes: &[AddressAttribute]| {
            attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })
        };
        let all = messages.into_iter().filter_map(|message| {
            let address = of(&message.attributes)?;
            Some((message.header.index, address, message.header.prefix_len))
        });
        Ok(all.collect())
    }

    /// Every IPv4 network this host has an address in or a route to, but for the default route
    /// and those of the interface `except`.
    ///
    /// # Errors
    /// When the kernel refuses to list addresses or routes.
    pub async fn networks(&self, except: Option<u32>) -> Result<Vec<Subnet>, LinkError> {
        let mut networks: Vec<Subnet> = self
            .addresses()
            .await?
            .into_iter()
            .filter(|(index, ..)| Some(*index) != except)
            .map(|(_, address, prefix)| Subnet::containing(address, prefix))
            .collect();
        let _turn = self.listing.lock().await;
        let any = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<RouteMessage> = self
            .handle
            .route()
            .get(any)
            .execute()
            .try_collect()
            .await
            .map_err(netlink("listing", "routes"))?;
        networks.extend(routes.iter().filter_map(|route| destination(route, except)));
        Ok(networks)
    }

    /// Make a veth pair whose one end is a port of the bridge and whose other end is `eth0` in
    /// the network namespace `namespace`; the host's end is down.
    ///
    /// # Errors
    /// When the kernel refuses; nothing is left then.
    pub async fn create_veth(
        &self,
        name: &str,
        bridge: u32,
        namespace: BorrowedFd<'_>,
        address: Ipv4Addr,
    ) -> Result<u32, LinkError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(CONTAINER_INTERFACE)
            .address(hardware_address(address))
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .controller(bridge)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let added = self.handle.link().add(veth).execute().await;
        added.map_err(netlink("creating the veth", name))?;
        self.index_of(name).await?.ok_or_else(|| LinkError::NoBridge(name.to_string()))
    }

    /// Note the container's address on its host end (a port of the bridge) and take it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn finish_veth(&self, index: u32, address: Ipv4Addr) -> Result<(), LinkError> {
        let change = LinkUnspec::new_with_index(index)
            .alias(format!("{ALIAS_PREFIX}{address}"))
            .up()
            .build();
        let changed = self.handle.link().change(change).execute().await;
        changed.map_err(netlink("taking up the veth of", address))?;
        // Where br_netfilter is loaded (Docker does it), a container that asks for its own
        // published port is answered through the bridge port that the question came from.
        let reflect = LinkBridgePort::new(index).hairpin(true).build();
        let reflected = self.handle.link().set_port(reflect).execute().await;
        reflected.map_err(netlink("setting hairpin mode on the veth of", address))
    }

    /// The tasks' host ends among the bridge's ports.
    ///
    /// # Errors
    /// When the kernel refuses to list interfaces.
    pub async fn veths(&self, bridge: u32) -> Result<Vec<Veth>, LinkError> {
        let links = self.links().await?;
        Ok(links.iter().filter_map(|link| veth_on(link, bridge)).collect())
    }

    /// Remove an interface; one that is already gone is as well.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove(&self, name: &str) -> Result<(), LinkError> {
        // It may vanish in between, with its namespace, or with the other end.
        let Some(index) = self.index_of(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(()),
            other => other.map_err(netlink("removing", name)),
        }
    }
}

/// Turn IPv6 off on an interface of the host: a link-local address there would only be noise
/// (router solicitations, multicast DNS) and a way around the published ports.
pub fn disable_ipv6(name: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
    match fs::write(&path, "1") {
        Ok(()) => {}
        // A kernel without IPv6 has nothing to turn off.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(interface = name, %error, "IPv6 stays on"),
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn veth_on(link: &LinkMessage, bridge: u32) -> Option<Veth> {
    let name = name_of(link).filter(|name| name.starts_with(VETH_PREFIX))?.to_string();
    let on_bridge = link.attributes.contains(&LinkAttribute::Controller(bridge));
    let address = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => alias.strip_prefix(ALIAS_PREFIX)?.parse().ok(),
        _ => None,
    });
    on_bridge.then_some(Veth { name, index: link.header.index, address })
}

fn destination(route: &RouteMessage, except: Option<u32>) -> Option<Subnet> {
    let prefix = route.header.destination_prefix_length;
    let ours =
        route.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(i) if Some(*i) == except));
    if ours || prefix == 0 || route.header.address_family != AddressFamily::Inet {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(to)) => {
            Some(Subnet::containing(*to, prefix))
        }
        _ => None,
    })
}
