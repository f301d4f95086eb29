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
        clear_left(within);
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

/// Remove what processes have left that were killed.
fn clear_left(within: &Path) {
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("work-").and_then(|rest| rest.split('-').next());
        let gone = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if pid.is_some_and(gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_killed_left_goes_and_what_others_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        // No process has so large a number.
        let (left, used) = (dir.path().join("work-4194305-0"), dir.path().join("work-1-0"));
        let others = dir.path().join("work-of-mine");
        for path in [&left, &used, &others] {
            fs::create_dir(path).unwrap();
        }
        let work = Work::new(dir.path()).unwrap();
        assert!(!left.exists() && used.exists() && others.exists() && work.top().exists());
        let top = work.top().to_path_buf();
        drop(work);
        assert!(!top.exists());
    }
}
