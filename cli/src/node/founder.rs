//! Founding the cluster of a founding file, or joining it where it exists already.
//!
//! Who holds the file must not trust that it is the only one, nor that it is the first time: a card
//! is written anew, a file is copied, a disk is lost. So it listens before it founds (`silence`),
//! and what it has founded gives way to a cluster that it hears, as long as nobody has joined it
//! and nothing of a user's is in it (`bramble_master::provisional`).

mod file;
mod silence;

pub use file::use_up;

use super::EndSignals;
use super::finder::Finder;
use super::joining;
use crate::config::NodeConfig;
use anyhow::{Result, bail};
use bramble_core::model::{NodeId, NodeRole};
use bramble_master::founding::{self, Keys};
use bramble_master::provisional::Provisional;
use bramble_master::server::Master;
use bramble_protocol::net::{
    Announced, Contender, FoundingFile, Identity, JoinToken, NodeKey, cluster_id_of,
};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Pause before it is looked again whether the founding stands by now.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause before the network is asked again for a cluster that a cable kept apart.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A node that founds or joins the cluster of a founding file.
pub struct Founder {
    /// `None`: the data directory holds what was in it, as far as it is needed still.
    file: Option<FoundingFile>,
    token: JoinToken,
    cluster_id: Option<String>,
    key: NodeKey,
    provisional: Provisional,
    /// Whether it has founded, in an earlier life that nobody may have noticed.
    founded: bool,
    /// Whether it could found: not, once it began to give its founding up.
    can_found: bool,
}

/// Whether this node is to found; `None` where it belongs to a cluster, or has no founding file.
///
/// # Errors
/// The file is of no use, or does not fit the other settings or the data directory.
pub fn prepare(config: &NodeConfig, role: NodeRole) -> Result<Option<Founder>> {
    let provisional = Provisional::of(&config.data_dir);
    let directory = founding::identity_dir(&config.data_dir);
    let known = Identity::load(&directory)?;
    if known.is_some() && !provisional.stands() {
        return Ok(None);
    }
    if let Some(known) = &known {
        joining::check_role(config, known, role)?;
    }
    let key_path = Identity::key_path(&directory);
    if !provisional.stands() {
        let Some(file) = file::read(config, role)? else { return Ok(None) };
        let key = NodeKey::load_or_create(&key_path)?;
        if provisional.authority(&key)?.is_some() {
            bail!(
                "{} holds the keys of a cluster that this node has begun to found without a file: \
                 leave out --founding, or give an empty --data-dir",
                config.data_dir.display()
            );
        }
        return Ok(Some(Founder::of(file, key, provisional)));
    }
    let key = NodeKey::load_or_create(&key_path)?;
    if let (Some(ca), Some(token)) = (provisional.authority(&key)?, provisional.token()?) {
        let (cluster_id, founded) = (Some(ca.cluster_id()?), known.is_some());
        let founder =
            Founder { file: None, token, cluster_id, key, provisional, founded, can_found: true };
        return Ok(Some(founder));
    }
    // Cut off between the first and the last step of founding or of giving up.
    if let Some(file) = file::read(config, role)? {
        return Ok(Some(Founder::of(file, key, provisional)));
    }
    let Some(token) = provisional.token()? else {
        provisional.settle()?;
        return Ok(None);
    };
    let cluster_id = known.map(|known| cluster_id_of(&known.ca)).transpose()?;
    let (founded, can_found) = (false, false);
    Ok(Some(Founder { file: None, token, cluster_id, key, provisional, founded, can_found }))
}

impl Founder {
    fn of(file: FoundingFile, key: NodeKey, provisional: Provisional) -> Founder {
        let (token, cluster_id) = (file.token.clone(), Some(file.cluster_id.clone()));
        let (founded, can_found) = (false, true);
        Founder { file: Some(file), token, cluster_id, key, provisional, founded, can_found }
    }

    /// The cluster in question, where it is known.
    pub fn cluster_id(&self) -> Option<String> {
        self.cluster_id.clone()
    }

    /// Found the cluster or join it. The candidacy that comes with the keys of who founds is to be
    /// kept until the node is announced: others wait as long as they hear it.
    ///
    /// # Errors
    /// The cluster refuses this node, or something cannot be written.
    pub async fn keys(
        self,
        config: &NodeConfig,
        role: NodeRole,
        finder: &Finder,
        port: u16,
        signals: &mut EndSignals,
    ) -> Result<(Keys, Option<Announced>)> {
        let own = Contender {
            cluster: self.cluster_id.clone().unwrap_or_default(),
            node_id: self.key.node_id(),
            founded: self.founded,
        };
        let nobody_else = async {
            match self.can_found {
                true => silence::heard(finder, &own, port).await,
                false => std::future::pending().await,
            }
        };
        let (token, key, may) = (&self.token, self.key.clone(), self.can_found);
        tokio::select! {
            joined = joining::admitted(config, role, finder, token, key, signals, may) => {
                let (identity, name) = joined?;
                joining::keep_name(config, &name)?;
                if self.founded {
                    tracing::warn!("the cluster exists already: this node's own founding of it, \
                        which nobody had joined, is given up");
                }
                self.give_up(config, &identity)?;
                Ok((Keys::joined(identity)?, None))
            }
            standing = nobody_else => {
                if let Some(file) = &self.file {
                    tracing::info!(cluster = %file.cluster_id, name = %file.name,
                        "nobody else is heard: this node founds the cluster");
                    self.provisional.begin(file, &self.key)?;
                }
                Ok((Keys::load_or_make(&config.data_dir, role)?, standing))
            }
        }
    }

    fn give_up(&self, config: &NodeConfig, joined: &Identity) -> Result<()> {
        if self.provisional.stands() {
            return Ok(self.provisional.give_up(joined)?);
        }
        Ok(joined.save(&founding::identity_dir(&config.data_dir))?)
    }
}

/// Resolves with a node that belongs to the same cluster and yet not to what this node has founded,
/// while that may be given up.
pub async fn outvoted(master: &Master, finder: &Finder, own: &NodeId) -> NodeId {
    let directory = finder.directory();
    let mut changes = directory.changes();
    let mut asked = Instant::now();
    while master.provisional().stands() {
        changes.mark_unchanged();
        if asked.elapsed() >= ASK_AGAIN {
            asked = Instant::now();
            finder.look_again().await;
        }
        let seen = directory.sightings().into_iter().map(|sighting| sighting.node_id);
        if let Some(stranger) = seen.into_iter().find(|id| id != own && !master.knows(id)) {
            return stranger;
        }
        // Whether the founding stands by now shows nowhere else.
        let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
    }
    std::future::pending().await
}

/// Begin anew in the same process, with the same arguments: what the node holds open is let go.
pub fn begin_anew() -> anyhow::Error {
    let arguments = std::env::args_os().skip(1);
    let failed = Command::new("/proc/self/exe").args(arguments).exec();
    anyhow::Error::new(failed).context("starting this node anew")
}

/// Keep the candidacy until everyone has had time to hear that the cluster exists.
pub fn retire(standing: Option<Announced>) {
    let Some(standing) = standing else { return };
    tokio::spawn(async move {
        tokio::time::sleep(silence::LISTEN).await;
        drop(standing);
    });
}

#[cfg(test)]
mod tests;
