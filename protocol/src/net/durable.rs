//! Small private files that survive a power cut: written aside, synced, renamed, directory synced.
//!
//! Must never be used for anything large or frequent: each call costs two syncs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Readable and writable by the owner alone.
const PRIVATE_MODE: u32 = 0o600;

#[derive(Debug, Error)]
pub enum DurableError {
    #[error("{} has no parent directory", path.display())]
    NoParent { path: PathBuf },
    #[error("creating the directory {}", path.display())]
    CreateDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("moving {} into place", path.display())]
    Rename {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Replace `path` by a file of mode 0600 with these bytes, whole or not at all.
///
/// # Errors
/// Any failing step; the earlier file, if there was one, is then still in place.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(DurableError::NoParent { path: path.to_path_buf() });
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::create_dir_all(parent)
        .map_err(|source| DurableError::CreateDirectory { path: parent.to_path_buf(), source })?;
    let aside = parent.join(format!(".{}.new", name.to_string_lossy()));
    let written = write_aside(&aside, bytes);
    if let Err(source) = written {
        // The error that matters is the first one; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&aside);
        return Err(DurableError::Write { path: aside, source });
    }
    fs::rename(&aside, path)
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(|source| DurableError::Rename { path: path.to_path_buf(), source })
}

fn write_aside(aside: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a crash may have another mode, and `mode` only counts at creation.
    match fs::remove_file(aside) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(aside)?;
    file.write_all(bytes)?;
    file.sync_all()
}
