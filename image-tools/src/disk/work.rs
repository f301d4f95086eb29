//! A directory for what is under way, gone when it is done.

use super::error::{DiskError, Doing, at};
use std::fs;
use std::path::{Path, PathBuf};

/// Removed with all in it when dropped.
pub struct Work {
    top: PathBuf,
}

impl Work {
    /// Make one below `within`, of this process alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(within: &Path) -> Result<Work, DiskError> {
        fs::create_dir_all(within).doing(at("making", within))?;
        for number in 0.. {
            let top = within.join(format!("work-{}-{number}", std::process::id()));
            match fs::create_dir(&top) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.doing(at("making", &top)).map(|()| Work { top }),
            }
        }
        unreachable!("numbers do not end")
    }

    pub fn top(&self) -> &Path {
        &self.top
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// A directory in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path = self.path(name);
        fs::create_dir_all(&path).doing(at("making", &path)).map(|()| path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}
