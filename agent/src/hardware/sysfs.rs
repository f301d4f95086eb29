//! Reading sysfs. What is not there, or cannot be read, is simply not known: drivers differ, and a
//! device may go while it is looked at.

use std::path::{Path, PathBuf};

/// Entries looked at in one directory at most.
const ENTRIES_MAX: usize = 1024;

pub(super) struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Directories in `directory`, below the root, in order of their names.
    pub fn list(&self, directory: &str) -> Vec<PathBuf> {
        entries(&self.root.join(directory))
    }

    /// The text of a file below the root.
    pub fn text(&self, file: &str) -> Option<String> {
        text(&self.root.join(file))
    }
}

/// Directories in a directory, also by way of links, in order of their names.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.flatten().take(ENTRIES_MAX).map(|e| e.path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}

/// The text of a file, without the space around it.
pub(super) fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// The number in a file.
pub(super) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// A path's last part.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
