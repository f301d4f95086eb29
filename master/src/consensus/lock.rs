//! The directory belongs to one process at a time. Owns the file `lock` and nothing else.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

const LOCK_FILE: &str = "lock";

#[derive(Debug, Error)]
pub enum LockError {
    #[error("{dir} is in use by {}", holder(.pid))]
    Held { dir: PathBuf, pid: Option<u32> },
    #[error("opening the lock file {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("locking {path}")]
    Take {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("writing the process id into {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_string(),
    }
}

/// Held for as long as the directory is in use; the kernel releases it with the process.
///
/// The file stays behind: removing it would let two processes lock two different files.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: Flock<File>,
}

impl DirLock {
    /// Take the lock of `dir` without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's pid when another process (or another voter of this
    /// one) has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| LockError::Open { path: path.clone(), source })?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(LockError::Held {
                    dir: dir.to_path_buf(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err((_, source)) => return Err(LockError::Take { path, source }),
        };
        file.set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(|source| LockError::Write { path, source })?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_the_first_ones_pid() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DirLock::take(dir.path()).expect("free");
        let error = DirLock::take(dir.path()).expect_err("held");
        let pid = std::process::id();
        assert!(matches!(error, LockError::Held { pid: Some(p), .. } if p == pid), "{error}");
        assert!(error.to_string().ends_with(&format!("in use by process {pid}")), "{error}");
        drop(first);
        DirLock::take(dir.path()).expect("free again");
    }
}
