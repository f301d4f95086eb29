//! Whether the disk can take more. Owns the one early look that keeps raft from failing.
//!
//! openraft stops for good at the first write error, so a full disk must be noticed before an
//! entry is handed to it: then a proposal fails, nothing else does, and the voter goes on by
//! itself once there is room.

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub(super) enum SpaceError {
    #[error("the disk of {dir} is full: {free} bytes free, {reserve} are kept in reserve")]
    Full { dir: PathBuf, free: u64, reserve: u64 },
    #[error("the disk of {dir} is read-only")]
    ReadOnly { dir: PathBuf },
    #[error("looking at the disk of {dir}: {errno}")]
    Look { dir: PathBuf, errno: Errno },
}

/// Check that `dir` can be written and has more than `reserve` bytes free.
#[allow(clippy::unnecessary_cast, reason = "the counters are 32 bits wide on 32-bit machines")]
pub(super) fn check(dir: &Path, reserve: u64) -> Result<(), SpaceError> {
    let stat = statvfs(dir).map_err(|errno| SpaceError::Look { dir: dir.to_path_buf(), errno })?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Err(SpaceError::ReadOnly { dir: dir.to_path_buf() });
    }
    let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
    if free <= reserve {
        return Err(SpaceError::Full { dir: dir.to_path_buf(), free, reserve });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_decides() {
        let dir = tempfile::tempdir().expect("a directory");
        check(dir.path(), 0).expect("room");
        let error = check(dir.path(), u64::MAX).expect_err("never enough");
        assert!(matches!(error, SpaceError::Full { reserve: u64::MAX, .. }), "{error}");
        let error = check(&dir.path().join("missing"), 0).expect_err("not there");
        assert!(matches!(error, SpaceError::Look { errno: Errno::ENOENT, .. }), "{error}");
    }
}
