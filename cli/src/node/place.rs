//! A node's directories and the claim on them.

use crate::config::NodeConfig;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Holds the data directory for this process.
pub struct Claim {
    file: Flock<File>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The pid inside is only for messages; the lock itself ends with the process.
        let _ = self.file.set_len(0);
    }
}

/// Make both directories (0700) and claim the data directory.
///
/// # Errors
/// Another bramble holds it, or a directory cannot be made.
pub fn claim(config: &NodeConfig) -> Result<Claim> {
    make(&config.run_dir)?;
    // One that others use too (`--run-dir /tmp`) stays open: what is in ours is closed by itself.
    if is_empty(&config.run_dir)? {
        close(&config.run_dir)?;
    }
    claim_data(&config.data_dir)
}

/// Make the data directory (0700) and claim it.
///
/// # Errors
/// As [`claim`].
pub fn claim_data(data_dir: &Path) -> Result<Claim> {
    make(data_dir)?;
    close(data_dir)?;
    match try_claim(data_dir)? {
        Ok(claim) => Ok(claim),
        Err(pid) => bail!(
            "the data directory {} is owned by a running bramble (pid {pid}); \
             stop it, or give this one another --data-dir",
            data_dir.display()
        ),
    }
}

fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

/// Let only root look into a directory.
fn close(dir: &Path) -> Result<()> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))
        .with_context(|| format!("closing {} to others", dir.display()))
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries =
        std::fs::read_dir(dir).with_context(|| format!("looking into {}", dir.display()))?;
    Ok(entries.next().is_none())
}

fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("lock")
}

/// Claim the directory, or give the pid of who holds it.
pub fn try_claim(data_dir: &Path) -> Result<Result<Claim, i32>> {
    let path = lock_path(data_dir);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            file.set_len(0).context("writing the lock")?;
            file.rewind().context("writing the lock")?;
            write!(file, "{}", std::process::id()).context("writing the lock")?;
            Ok(Ok(Claim { file }))
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text).context("reading the lock")?;
            Ok(Err(text.trim().parse().unwrap_or(0)))
        }
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Whether the node was told to stop its apps too. Read once, at its end.
pub fn take_down_order(run_dir: &Path) -> bool {
    std::fs::remove_file(down_order(run_dir)).is_ok()
}

/// Tell the node that runs here to stop its apps when it ends.
pub fn leave_down_order(run_dir: &Path) -> Result<()> {
    let path = down_order(run_dir);
    std::fs::write(&path, b"").with_context(|| format!("writing {}", path.display()))
}

fn down_order(run_dir: &Path) -> PathBuf {
    run_dir.join("down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once() {
        let dir = std::env::temp_dir().join(format!("bramble-claim-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        let first = try_claim(&dir).expect("works").expect("free");
        let second = try_claim(&dir).expect("works");
        assert_eq!(second.err(), Some(std::process::id() as i32));
        drop(first);
        assert!(try_claim(&dir).expect("works").is_ok());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
