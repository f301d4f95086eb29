//! Where masters may be: the seed given by the user, addresses seen before, and what mDNS hears.
//!
//! None of these is believed: whoever is dialled must show a certificate of the cluster.

use super::agent::is_container_link;
use anyhow::{Context, Result};
use bramble_agent::Leader;
use bramble_core::model::NodeRole;
use bramble_protocol::net::{Browse, Discovery, DiscoveryError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Addresses remembered; the oldest are forgotten first.
const ADDRESSES_MAX: usize = 16;

/// The list, shared with the listener.
struct Known {
    masters: watch::Sender<Vec<Leader>>,
    seen_file: PathBuf,
}

/// Keeps the list of masters current until dropped.
pub struct Finder {
    known: Arc<Known>,
    listener: Option<JoinHandle<()>>,
}

impl Finder {
    /// Start with `seed` (`HOST:PORT`) and the addresses in `seen_file`, and listen for more.
    ///
    /// # Errors
    /// The seed is no address and no name that can be resolved.
    pub async fn start(seed: Option<&str>, seen_file: &Path) -> Result<Self> {
        let mut masters = Vec::new();
        if let Some(seed) = seed {
            let found = tokio::net::lookup_host(seed)
                .await
                .with_context(|| format!("--join {seed:?}: write HOST:PORT of a running node"))?;
            masters.extend(found.map(at));
        }
        let seen = std::fs::read_to_string(seen_file).unwrap_or_default();
        let seen = seen.lines().filter_map(|line| line.trim().parse().ok());
        masters.extend(seen.map(at).take(ADDRESSES_MAX));
        let known = Arc::new(Known {
            masters: watch::Sender::new(masters),
            seen_file: seen_file.to_path_buf(),
        });
        let listener = match listen().await {
            Ok((discovery, browse)) => Some(tokio::spawn(follow(discovery, browse, known.clone()))),
            Err(error) => {
                tracing::warn!(%error, "mDNS cannot be heard here; --join names a node instead");
                None
            }
        };
        Ok(Self { known, listener })
    }

    /// Masters to try in order, and word of changes.
    pub fn masters(&self) -> watch::Receiver<Vec<Leader>> {
        self.known.masters.subscribe()
    }

    /// Put an address that answered first, and write it down.
    pub fn remember(&self, address: SocketAddr) {
        self.known.add(vec![at(address)]);
    }

    /// Whether more can still turn up.
    pub fn listens(&self) -> bool {
        self.listener.is_some()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Known {
    fn add(&self, fresh: Vec<Leader>) {
        if !self.masters.send_if_modified(|masters| merge(masters, fresh)) {
            return;
        }
        let lines: Vec<String> =
            self.masters.borrow().iter().map(|master| master.address.to_string()).collect();
        // Losing this file costs one round of mDNS, so it needs no fsync.
        if let Err(error) = std::fs::write(&self.seen_file, lines.join("\n") + "\n") {
            tracing::debug!(%error, "addresses seen were not written down");
        }
    }
}

fn at(address: SocketAddr) -> Leader {
    Leader { node_id: None, address }
}

async fn listen() -> Result<(Discovery, Browse), DiscoveryError> {
    let discovery = Discovery::start(is_container_link).await?;
    let browse = discovery.browse().await?;
    Ok((discovery, browse))
}

/// `discovery` is held so that browsing goes on.
async fn follow(_discovery: Discovery, mut browse: Browse, known: Arc<Known>) {
    while let Some(found) = browse.next().await {
        if found.role != NodeRole::Agent {
            let node_id = Some(found.node_id);
            let leader = |address| Leader { node_id: node_id.clone(), address };
            known.add(found.addresses.into_iter().map(leader).collect());
        }
    }
}

/// Put what is fresh first, drop what it replaces; whether anything changed.
fn merge(known: &mut Vec<Leader>, fresh: Vec<Leader>) -> bool {
    let before = known.clone();
    known.retain(|old| !fresh.iter().any(|new| new.address == old.address));
    known.splice(0..0, fresh);
    known.truncate(ADDRESSES_MAX);
    *known != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fresh_comes_first_and_once() {
        let leader = |text: &str| at(text.parse().expect("an address"));
        let mut known = vec![leader("10.0.0.1:1"), leader("10.0.0.2:1")];
        assert!(merge(&mut known, vec![leader("10.0.0.2:1")]));
        assert_eq!(known, [leader("10.0.0.2:1"), leader("10.0.0.1:1")]);
        assert!(!merge(&mut known, vec![leader("10.0.0.2:1")]));
    }
}
