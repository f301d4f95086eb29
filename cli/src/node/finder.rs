//! Where other nodes may be: the seed given by the user, addresses seen before, and what mDNS
//! hears. All of it goes into the node's directory.
//!
//! None of these is believed: whoever is dialled must show a certificate of the cluster.

use super::agent::is_container_link;
use anyhow::{Context, Result};
use bramble_protocol::net::{Announced, Announcement, Browse, Directory, Discovery};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Addresses written down.
const ADDRESSES_MAX: usize = 16;

/// Keeps the directory current until dropped.
pub struct Finder {
    directory: Arc<Directory>,
    /// Known once this node belongs to one: nodes of other clusters are then passed over.
    cluster: Arc<OnceLock<String>>,
    discovery: Option<Discovery>,
    tasks: Vec<JoinHandle<()>>,
    asked: watch::Sender<Asked>,
}

/// What came of asking whoever may be a node of the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Times that all known addresses were asked.
    pub rounds: u64,
    /// Whether somebody has proven to be of the cluster.
    pub met: bool,
}

impl Finder {
    /// Start with `seed` (`HOST:PORT`) and the addresses in `seen_file`, and listen for more: for
    /// nodes of `cluster` only, where that is known already.
    ///
    /// # Errors
    /// The seed is no address and no name that can be resolved.
    pub async fn start(
        seed: Option<&str>,
        seen_file: &Path,
        directory: Arc<Directory>,
        cluster: Option<String>,
        quic: SocketAddr,
    ) -> Result<Self> {
        let seen = std::fs::read_to_string(seen_file).unwrap_or_default();
        let seen: Vec<SocketAddr> =
            seen.lines().filter_map(|line| line.trim().parse().ok()).take(ADDRESSES_MAX).collect();
        // The one put in last is tried first.
        seen.into_iter().rev().for_each(|address| directory.seed(address));
        if let Some(seed) = seed {
            let found = tokio::net::lookup_host(seed)
                .await
                .with_context(|| format!("--join {seed:?}: write HOST:PORT of a running node"))?;
            found.for_each(|address| directory.seed(address));
        }
        let cluster = Arc::new(cluster.map_or_else(OnceLock::new, OnceLock::from));
        let mut tasks = vec![tokio::spawn(write_down(directory.clone(), seen_file.to_path_buf()))];
        let discovery = match Discovery::start(quic, is_container_link).await {
            Ok(discovery) => Some(discovery),
            Err(error) => {
                tracing::warn!(%error, "mDNS does not work here; --join names a node instead");
                None
            }
        };
        if let Some(discovery) = &discovery {
            match discovery.browse().await {
                Ok(browse) => {
                    tasks.push(tokio::spawn(follow(browse, directory.clone(), cluster.clone())));
                }
                Err(error) => tracing::warn!(%error, "mDNS cannot be heard here"),
            }
        }
        let asked = watch::Sender::default();
        Ok(Self { directory, cluster, discovery, tasks, asked })
    }

    /// Whether more can still turn up.
    pub fn listens(&self) -> bool {
        self.discovery.is_some()
    }

    /// The node's multicast DNS, where it works.
    pub fn discovery(&self) -> Option<&Discovery> {
        self.discovery.as_ref()
    }

    /// Ask the network for nodes now: whoever has listened for long asks ever more rarely.
    pub async fn look_again(&self) {
        if let Some(discovery) = &self.discovery
            && let Err(error) = discovery.look_again().await
        {
            tracing::debug!(%error, "nodes are not asked for again");
        }
    }

    /// What came of asking so far.
    pub fn asked(&self) -> Asked {
        *self.asked.borrow()
    }

    /// Somebody has proven to be of the cluster, though he could not admit this node.
    pub fn met(&self) {
        self.asked.send_modify(|asked| asked.met = true);
    }

    /// All known addresses have been asked.
    pub fn asked_all(&self) {
        self.asked.send_modify(|asked| asked.rounds += 1);
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Announce this node, and from now on pass over nodes of other clusters. A network without
    /// multicast is no reason not to run.
    pub async fn announce(&self, own: Announcement) -> Option<Announced> {
        // A node belongs to one cluster all its life.
        let _ = self.cluster.set(own.cluster.clone());
        match self.discovery.as_ref()?.announce(own).await {
            Ok(announced) => Some(announced),
            Err(error) => {
                tracing::warn!(%error, "this node is not announced; others need --join");
                None
            }
        }
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn follow(mut browse: Browse, directory: Arc<Directory>, cluster: Arc<OnceLock<String>>) {
    while let Some(found) = browse.next().await {
        if cluster.get().is_some_and(|own| *own != found.cluster) {
            continue;
        }
        // Best first, and the one noted last is tried first.
        for address in found.addresses.iter().rev() {
            directory.note(&found.node_id, found.role, *address);
        }
    }
}

/// Write the masters' addresses down whenever they change.
async fn write_down(directory: Arc<Directory>, file: PathBuf) {
    let mut changes = directory.changes();
    let mut written = String::new();
    while changes.changed().await.is_ok() {
        let masters = directory.masters().into_iter().take(ADDRESSES_MAX);
        let lines: String = masters.map(|(_, address)| format!("{address}\n")).collect();
        if lines == written {
            continue;
        }
        // Losing this file costs one round of mDNS, so it needs no fsync.
        match std::fs::write(&file, &lines) {
            Ok(()) => written = lines,
            Err(error) => tracing::debug!(%error, "addresses seen were not written down"),
        }
    }
}
