//! `bramble down`: stop this node's apps, whether bramble runs or not.

use super::agent::stop_tasks;
use super::place::{Claim, leave_down_order, try_claim};
use crate::config::NodeConfig;
use crate::output::print;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Longest wait for a running node to stop its apps: the longest grace plus its own end.
const END_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub async fn run(config: NodeConfig) -> Result<u8> {
    if !config.data_dir.exists() {
        print(&format!("nothing to stop: there is no {}\n", config.data_dir.display()))?;
        return Ok(0);
    }
    let (claim, stopped) = stop(&config).await?;
    drop(claim);
    print(&match stopped {
        0 => "down: no apps run here any more\n".to_string(),
        count => format!("down: stopped {count} tasks; `bramble up` brings their apps back\n"),
    })?;
    Ok(0)
}

/// Stop the node, if it runs, and all its tasks. Gives the claim on its data, and how many tasks
/// were left to be stopped here.
///
/// # Errors
/// Whoever holds the data does not end, or a task cannot be stopped.
pub(super) async fn stop(config: &NodeConfig) -> Result<(Claim, usize)> {
    let claim = match try_claim(&config.data_dir)? {
        Ok(claim) => claim,
        Err(pid) if pid > 0 => {
            leave_down_order(&config.run_dir)?;
            kill(Pid::from_raw(pid), Signal::SIGTERM)
                .with_context(|| format!("telling bramble (pid {pid}) to stop"))?;
            wait_for_end(config).await?
        }
        Err(_) => bail!("{} is held by an unknown process", config.data_dir.display()),
    };
    // What the node has left (it was killed before, or could not finish) is stopped here.
    let stopped = stop_tasks(config).await?;
    Ok((claim, stopped))
}

async fn wait_for_end(config: &NodeConfig) -> Result<Claim> {
    let start = Instant::now();
    loop {
        match try_claim(&config.data_dir)? {
            Ok(claim) => return Ok(claim),
            Err(pid) if start.elapsed() > END_MAX => {
                bail!("bramble (pid {pid}) is still stopping after {} s", END_MAX.as_secs())
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
