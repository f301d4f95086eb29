//! Finding nodes on the local network by multicast DNS (`_bramble._udp.local.`).
//!
//! What is found is a rumour: addresses to try, whose identity the handshake then proves. Nothing
//! here may stop a node: where multicast is impossible it warns once and finds nobody.

mod candidacy;

pub use candidacy::{Contender, Contenders};

use super::certificate::{role_from_text, role_text};
use bramble_core::model::{NodeId, NodeRole};
use mdns_sd::{
    DaemonEvent, Error, IfKind, IfPredicate, Receiver, ResolvedService, ScopedIp, ServiceDaemon,
    ServiceEvent, ServiceInfo,
};
use std::net::{SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::watch;

/// The service type of bramble nodes.
pub const SERVICE_TYPE: &str = "_bramble._udp.local.";

/// The daemon's queue is full now and then: tries, and the wait between two.
const TRIES_MAX: u32 = 50;
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// Digits of the node id in the announced name: enough to be unique, short enough to be read.
const NAME_ID_DIGITS: usize = 12;
/// Bytes of the node's own name in the announced name; a DNS label holds 63.
const NAME_BYTES_MAX: usize = 48;
/// Longest wait for the goodbye to be sent.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum DiscoveryError {
    #[error("starting multicast DNS")]
    Start(#[source] Error),
    #[error("announcing {name}")]
    Announce {
        name: String,
        #[source]
        source: Error,
    },
    #[error("looking for nodes")]
    Browse(#[source] Error),
}

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The cluster's id.
    pub cluster: String,
    pub node_id: NodeId,
    pub role: NodeRole,
    /// UDP port of QUIC.
    pub port: u16,
    /// The node's name, for people.
    pub name: String,
}

/// A node somebody announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub cluster: String,
    pub node_id: NodeId,
    pub role: NodeRole,
    /// Where to try, best first: IPv4, IPv6, link-local IPv6. Never empty.
    pub addresses: Vec<SocketAddr>,
}

/// The node's multicast DNS: one thread, asleep between packets.
pub struct Discovery {
    daemon: ServiceDaemon,
    /// Since when this node's candidacy has been said on a network.
    said: watch::Receiver<Option<Instant>>,
    ipv4_only: bool,
}

/// Keeps an announcement alive; dropping it says goodbye.
pub struct Announced {
    daemon: ServiceDaemon,
    full_name: String,
}

/// Nodes as they are found.
pub struct Browse {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    ipv4_only: bool,
}

impl Discovery {
    /// Start on every interface but loopback and those whose name `skip` picks (bridges and veths
    /// of containers: their addresses are the same on every node). `own` is where this node's QUIC
    /// listens: where that is IPv4, nothing else is told or found, since it answers and reaches
    /// nothing else. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the daemon's thread cannot be started. That multicast does not work shows later, as
    /// one warning.
    pub async fn start(
        own: SocketAddr,
        skip: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<Discovery, DiscoveryError> {
        let daemon = ServiceDaemon::new().map_err(DiscoveryError::Start)?;
        let (saying, said) = watch::channel(None);
        let discovery = Discovery { daemon, said, ipv4_only: own.is_ipv4() };
        let mut skipped = vec![
            IfKind::LoopbackV4,
            IfKind::LoopbackV6,
            IfKind::Predicate(IfPredicate::new(move |interface| skip(&interface.name))),
        ];
        if discovery.ipv4_only {
            skipped.push(IfKind::IPv6);
        }
        again(|| discovery.daemon.disable_interface(skipped.clone()))
            .await
            .map_err(DiscoveryError::Start)?;
        let events = again(|| discovery.daemon.monitor()).await.map_err(DiscoveryError::Start)?;
        tokio::spawn(follow(events, saying));
        Ok(discovery)
    }

    /// Announce this node on all addresses, following their changes, until the guard is dropped.
    ///
    /// # Errors
    /// When the text does not fit a DNS record or the daemon is gone.
    pub async fn announce(&self, own: Announcement) -> Result<Announced, DiscoveryError> {
        let name = instance_name(&own);
        let failed = |source| DiscoveryError::Announce { name: name.clone(), source };
        let host = format!("bramble-{}.local.", id_digits(&own.node_id));
        let text = [
            ("cluster", own.cluster.as_str()),
            ("id", own.node_id.as_str()),
            ("role", role_text(own.role)),
        ];
        let service = ServiceInfo::new(SERVICE_TYPE, &name, &host, "", own.port, &text[..])
            .map_err(failed)?;
        self.register(service).await.map_err(failed)
    }

    async fn register(&self, service: ServiceInfo) -> Result<Announced, Error> {
        let service = service.enable_addr_auto();
        let full_name = service.get_fullname().to_string();
        again(|| self.daemon.register(service.clone())).await?;
        Ok(Announced { daemon: self.daemon.clone(), full_name })
    }

    /// Look for nodes; those already known to the daemon come first.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn browse(&self) -> Result<Browse, DiscoveryError> {
        let events =
            again(|| self.daemon.browse(SERVICE_TYPE)).await.map_err(DiscoveryError::Browse)?;
        Ok(Browse { daemon: self.daemon.clone(), events, ipv4_only: self.ipv4_only })
    }

    /// Ask for nodes at once. Who browses for long asks ever more rarely, and hears of a node
    /// that was cut off before only by chance.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn look_again(&self) -> Result<(), DiscoveryError> {
        // Takes the place of the earlier reader, which then begins again by itself.
        self.browse().await.map(drop)
    }

    /// Say goodbye for everything announced and stop, waiting at most a second.
    pub async fn shutdown(self) {
        if let Ok(status) = again(|| self.daemon.shutdown()).await {
            // Nothing depends on the goodbye: without it, records time out.
            let _ = tokio::time::timeout(SHUTDOWN_MAX, status.recv_async()).await;
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // Fails after `shutdown` and when the queue is full; the process is then ending anyway.
        let _ = self.daemon.shutdown();
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Unheard goodbyes are made up for by the records' time to live.
        let _ = self.daemon.unregister(&self.full_name);
    }
}

impl Browse {
    /// The next finding; the same node again when its addresses change. `None` once discovery has
    /// stopped.
    pub async fn next(&mut self) -> Option<Found> {
        loop {
            match self.events.recv_async().await {
                Ok(ServiceEvent::ServiceResolved(service)) => {
                    if let Some(found) = read_service(&service, self.ipv4_only) {
                        return Some(found);
                    }
                }
                Ok(_) => {}
                // The daemon drops a reader that was too slow: begin again, its cache answers.
                Err(_) => {
                    let daemon = &self.daemon;
                    self.events = again(|| daemon.browse(SERVICE_TYPE)).await.ok()?;
                }
            }
        }
    }
}

/// Repeat while the daemon's queue is full.
async fn again<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..TRIES_MAX {
        match call() {
            Err(Error::Again) => tokio::time::sleep(TRY_AGAIN).await,
            other => return other,
        }
    }
    call()
}

/// Note what the daemon does, and warn of its trouble once.
async fn follow(events: Receiver<DaemonEvent>, saying: watch::Sender<Option<Instant>>) {
    let mut warned = false;
    while let Ok(event) = events.recv_async().await {
        match event {
            DaemonEvent::Error(error) if !warned => {
                warned = true;
                let hint = "other nodes are not found by multicast; use --join HOST:PORT";
                tracing::warn!(%error, hint, "multicast DNS has trouble");
            }
            DaemonEvent::Error(error) => tracing::debug!(%error, "multicast DNS has trouble"),
            DaemonEvent::NameChange(change) => {
                let (from, to) = (&change.original, &change.new_name);
                tracing::info!(from, to, "another node has the announced name, changed it");
            }
            DaemonEvent::Announce(name, _) if candidacy::is_candidacy(&name) => {
                saying.send_if_modified(|since| {
                    let first = since.is_none();
                    since.get_or_insert_with(Instant::now);
                    first
                });
            }
            _ => {}
        }
    }
}

fn id_digits(node_id: &NodeId) -> &str {
    node_id.as_str().get(..NAME_ID_DIGITS).unwrap_or(node_id.as_str())
}

fn instance_name(own: &Announcement) -> String {
    let mut end = own.name.len().min(NAME_BYTES_MAX);
    while !own.name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{}", &own.name[..end], id_digits(&own.node_id))
}

/// Believe nothing that is incomplete.
fn read_service(service: &ResolvedService, ipv4_only: bool) -> Option<Found> {
    let cluster = service.get_property_val_str("cluster")?.to_string();
    let node_id = NodeId::new(service.get_property_val_str("id")?);
    let role = role_from_text(service.get_property_val_str("role")?)?;
    let mut addresses: Vec<SocketAddr> = service
        .get_addresses()
        .iter()
        .filter(|ip| !ip.to_ip_addr().is_loopback())
        .map(|ip| address(ip, service.get_port()))
        .filter(|address| address.is_ipv4() || !ipv4_only)
        .collect();
    addresses.sort_by_key(|addr| (preference(addr), *addr));
    addresses.dedup();
    if addresses.is_empty() {
        return None;
    }
    Some(Found { cluster, node_id, role, addresses })
}

fn address(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

fn preference(addr: &SocketAddr) -> u8 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) if !v6.ip().is_unicast_link_local() => 1,
        SocketAddr::V6(_) => 2,
    }
}

#[cfg(test)]
mod tests;
