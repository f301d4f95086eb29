//! `bramble restore` and `bramble recover`: what is done to a node that does not run.

use super::place;
use crate::config::NodeConfig;
use crate::output::{print, print_json};
use crate::verbs::passphrase;
use anyhow::{Context, Result, bail};
use bramble_core::model::NodeId;
use bramble_master::backup::{self, BACKUP_BYTES_MAX, is_sealed};
use bramble_master::clock::WallClock;
use bramble_master::consensus::{self, ConsensusConfig};
use bramble_master::founding::identity_dir;
use bramble_protocol::net::Identity;
use bramble_protocol::timestamp;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// What `restore` is asked to do.
pub struct Restore {
    pub file: PathBuf,
    pub passphrase_file: Option<PathBuf>,
    pub yes: bool,
}

/// `bramble restore`: make this node, alone, the cluster of a backup.
pub async fn restore(config: NodeConfig, asked: Restore, as_json: bool) -> Result<u8> {
    let bytes = read(&asked.file)?;
    let (header, sealed) = is_sealed(&bytes)?;
    let made_at = timestamp::format(header.made_at);
    let data_dir = &config.data_dir;
    let found = contents(data_dir)?;
    if !found.is_empty() {
        bail!(
            "{} is not empty: it holds {}. Restore into an empty directory, or move these away",
            data_dir.display(),
            found.join(", ")
        );
    }
    if !asked.yes {
        bail!(
            "this makes a new master of cluster {} as it was at {made_at}. What changed since is \
             lost, and no master of the old cluster may ever run again: both would lead the same \
             agents. Once every old master is stopped for good, say --yes",
            header.cluster_id
        );
    }
    let given = asked.passphrase_file.as_deref();
    let passphrase = if sealed { passphrase::read(given, false).await? } else { None };
    let backup = backup::open(&bytes, passphrase.as_ref())?;
    let _claim = place::claim_data(data_dir)?;
    let clock = WallClock::default().now();
    let restored =
        backup::restore(data_dir, &config.name, backup, clock).await.with_context(|| {
            format!("{} is half made; empty it before another try", data_dir.display())
        })?;
    if as_json {
        print_json(&json!({
            "cluster": restored.cluster_id, "node": restored.node, "madeAt": made_at,
            "removed": named(&restored.removed), "agents": restored.agents,
            "apps": restored.apps, "secrets": restored.secrets,
        }))?;
        return Ok(0);
    }
    let mut text = format!(
        "{} is now the only master of cluster {}, as of {made_at}: {} apps, {} secrets\n",
        config.name, restored.cluster_id, restored.apps, restored.secrets
    );
    if !restored.agents.is_empty() {
        text.push_str(&returning(&restored.agents));
    }
    text.push_str(&gone(&restored.removed));
    text.push_str(&format!("start it: bramble up --data-dir {}\n", data_dir.display()));
    print(&text)?;
    Ok(0)
}

/// `bramble recover`: make this master, whose fellow masters are lost, the only one.
pub async fn recover(config: NodeConfig, yes: bool, as_json: bool) -> Result<u8> {
    let data_dir = &config.data_dir;
    let identity = Identity::load(&identity_dir(data_dir))?.with_context(|| {
        format!("{} is no node of a cluster; give the --data-dir of a master", data_dir.display())
    })?;
    let log = ConsensusConfig::new(data_dir.join("master/raft"), identity.key.node_id());
    if !log.dir.exists() {
        bail!("{} is that of an agent; recover on a master", data_dir.display());
    }
    if !yes {
        bail!(
            "this makes this node the only master of its cluster, without asking the others. \
             Changes that only they had taken are lost, and they must never run again with their \
             data: each could lead the same agents. If one of them can be brought back, do that \
             instead; of several survivors, recover the one that knows most. Once all others are \
             stopped for good, say --yes"
        );
    }
    let _claim = place::claim_data(data_dir)?;
    let recovered = consensus::recover(&log, WallClock::default().now()).await?;
    let last_change = timestamp::format(recovered.last_change);
    if as_json {
        print_json(&json!({
            "node": identity.key.node_id(), "removed": named(&recovered.removed),
            "lastIndex": recovered.last_index, "lastChange": last_change,
        }))?;
        return Ok(0);
    }
    print(&format!(
        "this node is now the only master; it knows of everything up to {last_change} (index {})\n\
         {}start it: bramble up --data-dir {}\n",
        recovered.last_index,
        gone(&recovered.removed),
        data_dir.display()
    ))?;
    Ok(0)
}

/// Which agents may return. They believe the CA that they were last told of, which is not that of a
/// backup from before it was replaced; the backup cannot know.
fn returning(agents: &[String]) -> String {
    format!(
        "agents that may return as they are: {}\n\
         unless a master was removed (rm-node) after the backup was made, which replaced the CA: then \
         run `bramble reset-identity --yes` on each, and join it again with `bramble token`'s token\n",
        agents.join(", ")
    )
}

/// What has to happen to masters that were removed.
fn gone(removed: &[(NodeId, String)]) -> String {
    if removed.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = removed.iter().map(|(_, name)| name.as_str()).collect();
    format!(
        "removed, to be wiped before they join again: {}\n\
         never start one of them with its old data while this cluster lives\n",
        names.join(", ")
    )
}

fn named(removed: &[(NodeId, String)]) -> serde_json::Value {
    removed.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut bytes = Vec::new();
    let limit = BACKUP_BYTES_MAX + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 == limit {
        bail!("{} is over {BACKUP_BYTES_MAX} bytes: no backup is", path.display());
    }
    Ok(bytes)
}

/// What is in a data directory, besides the lock that every look at it leaves.
fn contents(data_dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("looking into {}", data_dir.display()));
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.context("looking into the data directory")?.file_name();
        let name = name.to_string_lossy().into_owned();
        // The latter is in the root of every ext4 disk.
        if name != LOCK_FILE && name != "lost+found" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
