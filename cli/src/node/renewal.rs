//! `bramble reset-identity`: let a machine forget which node it was, as after its disk was copied.

use super::agent::stop_tasks;
use super::place::try_claim;
use crate::config::NodeConfig;
use crate::output::print;
use anyhow::{Context, Error, Result, anyhow, bail};
use bramble_master::founding;
use clap::Args;
use std::path::{Path, PathBuf};

/// Says beside the identity that it belongs to another machine.
const CLONED_FILE: &str = "cloned";
/// What makes a data directory that of one node of one cluster. Images, fetched files and volumes
/// stay.
const FORGOTTEN: [&str; 3] = ["identity", "master", "agent"];

#[derive(Args, Debug)]
pub struct ResetArgs {
    /// The node's data directory [default: /var/lib/bramble]
    #[command(flatten)]
    pub node: crate::config::NodeArgs,
    /// Do it: the node leaves its cluster and its log is removed
    #[arg(long)]
    pub yes: bool,
}

/// Write down that this machine's key is another's; gives what the process ends with.
pub fn mark_cloned(data_dir: &Path) -> Error {
    let path = mark(data_dir);
    if let Err(error) = std::fs::write(&path, b"") {
        tracing::error!(%error, path = %path.display(), "the mark of a clone was not written");
    }
    refusal(&path)
}

/// Refuse to run with a key that is another machine's: a copied log must never vote.
///
/// # Errors
/// The mark is there.
pub fn check(data_dir: &Path) -> Result<()> {
    let path = mark(data_dir);
    if path.exists() { Err(refusal(&path)) } else { Ok(()) }
}

fn mark(data_dir: &Path) -> PathBuf {
    founding::identity_dir(data_dir).join(CLONED_FILE)
}

fn refusal(mark: &Path) -> Error {
    anyhow!(
        "another machine runs with this node's key (a cloned disk?): give this one an identity of \
         its own with `bramble reset-identity`, then join with a token; if it is the other one \
         that should go, switch that off and remove {}",
        mark.display()
    )
}

/// Forget the node's identity, its log and its ledger, after its tasks were stopped.
///
/// # Errors
/// The node runs, or something cannot be removed.
pub async fn run(config: NodeConfig, yes: bool) -> Result<u8> {
    if !config.data_dir.exists() {
        print(&format!("nothing to reset: there is no {}\n", config.data_dir.display()))?;
        return Ok(0);
    }
    let claim = match try_claim(&config.data_dir)? {
        Ok(claim) => claim,
        Err(pid) => bail!("bramble runs here (pid {pid}); `bramble down` stops it first"),
    };
    if !yes {
        bail!(
            "this machine would leave its cluster, and what it knows of it in {} would be \
             removed; images and volumes stay. Say --yes",
            config.data_dir.display()
        );
    }
    let stopped = stop_tasks(&config).await?;
    for name in FORGOTTEN {
        let path = config.data_dir.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    drop(claim);
    print(&format!(
        "{stopped} tasks were stopped; this machine is nobody now: `bramble up --token` joins\n"
    ))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_that_was_told_so_does_not_run_again() {
        let dir = std::env::temp_dir().join(format!("bramble-clone-{}", std::process::id()));
        std::fs::create_dir_all(founding::identity_dir(&dir)).expect("made");
        check(&dir).expect("no mark yet");
        let told = mark_cloned(&dir).to_string();
        assert!(told.contains("reset-identity"), "{told}");
        assert_eq!(check(&dir).expect_err("marked").to_string(), told);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
