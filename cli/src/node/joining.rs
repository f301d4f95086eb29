//! Becoming a node: with the identity it has, by joining with a token, or by founding.

use super::EndSignals;
use super::finder::Finder;
use super::waiting::Waiting;
use crate::config::NodeConfig;
use anyhow::{Context, Result, bail};
use bramble_core::model::NodeRole;
use bramble_master::founding::{self, Keys};
use bramble_protocol::net::{
    Applicant, Identity, JoinError, JoinToken, NodeKey, cluster_id_of, join, peer_of, short_ca,
    write_private,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::path::Path;
use std::time::Duration;

/// Pause before a candidate that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Head start of a candidate before the next one, which shall not wait for one that is gone.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// File beside the identity with the name that the cluster gave.
const NAME_FILE: &str = "name";

/// Read this node's keys, or get some in `role`.
///
/// # Errors
/// The directory is that of a node in another role, or the node cannot join.
pub async fn keys(
    config: &NodeConfig,
    role: NodeRole,
    finder: &Finder,
    signals: &mut EndSignals,
) -> Result<Keys> {
    let directory = founding::identity_dir(&config.data_dir);
    if let Some(known) = Identity::load(&directory)? {
        check_role(config, &known, role)?;
        if let Some(token) = &config.token {
            say_not_needed(&known, token, config)?;
        }
        return Ok(match role {
            NodeRole::Agent => Keys::joined(known)?,
            NodeRole::Full | NodeRole::Master => Keys::load_or_make(&config.data_dir, role)?,
        });
    }
    let Some(token) = &config.token else {
        if role == NodeRole::Agent {
            bail!(
                "this machine belongs to no cluster yet: give --token, as `bramble token` prints \
                it on a node of the cluster"
            );
        }
        if let Some(seed) = &config.join {
            bail!(
                "--join {seed} needs --token, as `bramble token` prints it on a node of the \
                cluster: this machine belongs to none yet. To make a cluster of its own, leave \
                --join out"
            );
        }
        return Ok(Keys::load_or_make(&config.data_dir, role)?);
    };
    let key = NodeKey::load_or_create(&Identity::key_path(&directory))?;
    let (identity, name) = admitted(config, role, finder, token, key, signals, false).await?;
    keep_name(config, &name)?;
    identity.save(&directory)?;
    Ok(Keys::joined(identity)?)
}

/// Say that a token does nothing here, loudly where it may be another cluster's.
///
/// A token names a CA and no cluster, and a cluster replaces its CA when it removes a master: an
/// older token of this cluster, or one newer than this node's last word of it, differs as well. To
/// stop for that would keep a node down whose settings still hold the token that it joined with.
fn say_not_needed(known: &Identity, token: &JoinToken, config: &NodeConfig) -> Result<()> {
    if token.names_ca(&known.ca) {
        tracing::info!("this node belongs to its cluster already: the token is not needed");
        return Ok(());
    }
    tracing::warn!(
        cluster = %cluster_id_of(&known.ca)?,
        ca = short_ca(&known.ca),
        token_ca = token.ca_short(),
        "this node belongs to a cluster already and stays in it; the token is not used, and names \
         another CA. If it is of this cluster, from before or after its CA was replaced, leave \
         --token out. If it is of another cluster, this node has NOT joined that: `bramble \
         reset-identity --yes --data-dir {}` makes it leave this one, then start it with the token",
        config.data_dir.display()
    );
    Ok(())
}

/// Whether a node was made in the role in which it is to run now.
///
/// # Errors
/// It was not.
pub fn check_role(config: &NodeConfig, known: &Identity, role: NodeRole) -> Result<()> {
    let own = peer_of(&known.certificate)?.role;
    if own != role {
        bail!(
            "{} is that of a node that was made by `bramble {}`: run that with it, or give \
            another --data-dir",
            config.data_dir.display(),
            verb(own)
        );
    }
    Ok(())
}

/// Write down the name that the cluster gave this node. Before the certificate, whose presence
/// says that the node is admitted.
pub fn keep_name(config: &NodeConfig, name: &str) -> Result<()> {
    if name != config.name {
        let path = founding::identity_dir(&config.data_dir).join(NAME_FILE);
        write_private(&path, name.as_bytes()).context("writing down the name of this node")?;
    }
    Ok(())
}

/// The name that the cluster gave this node, where nobody chose one.
pub fn given_name(data_dir: &Path) -> Option<String> {
    let path = founding::identity_dir(data_dir).join(NAME_FILE);
    std::fs::read_to_string(path).ok().filter(|name| !name.is_empty())
}

/// The verb that runs a node in a role.
fn verb(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Full => "up",
        NodeRole::Master => "master",
        NodeRole::Agent => "agent",
    }
}

/// Ask the candidates until the cluster has decided.
pub async fn admitted(
    config: &NodeConfig,
    role: NodeRole,
    finder: &Finder,
    token: &JoinToken,
    key: NodeKey,
    signals: &mut EndSignals,
    may_found: bool,
) -> Result<(Identity, String)> {
    let mut changes = finder.directory().changes();
    let mut waiting = Waiting::begin();
    let default_name = config.default_name;
    let applicant = Applicant { key: &key, name: &config.name, default_name, role };
    loop {
        changes.mark_unchanged();
        let known = finder.directory().masters();
        let ask = async |place: u32, address| {
            tokio::time::sleep(NEXT_AFTER * place).await;
            (address, join(address, token, applicant).await)
        };
        let asked = (0..).zip(&known).map(|(place, (_, address))| ask(place, *address));
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some((address, answer)) = asked.next().await {
            match answer {
                Ok(joined) => {
                    finder.directory().seed(address);
                    tracing::info!(%address, cluster = %joined.cluster_id, "joined");
                    if let Some(note) = &joined.note {
                        tracing::warn!("{note}");
                    }
                    let identity = Identity::new(key.clone(), joined.certificate, joined.ca)?;
                    return Ok((identity, joined.name));
                }
                // A decision is final; anything else may be another cluster's node, or a node
                // that is still starting.
                Err(JoinError::Refused { reason }) => {
                    bail!("the cluster refuses this node: {reason}")
                }
                Err(error) => {
                    if matches!(error, JoinError::NotNow { .. }) {
                        finder.met();
                    }
                    let error: &dyn std::error::Error = &error;
                    tracing::info!(%address, error, "not joined here");
                }
            }
        }
        finder.asked_all();
        // Who may found need not be let in, and says himself what he waits for.
        if !may_found {
            if known.is_empty() && !finder.listens() {
                bail!("no master is known and mDNS does not work here: give --join HOST:PORT");
            }
            waiting.say(known.is_empty());
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            },
            () = tokio::time::sleep(ASK_AGAIN) => {}
            () = signals.received() => bail!("stopped before a cluster was joined"),
        }
    }
}
