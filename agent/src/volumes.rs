//! Persistent volumes on the data disk: one directory each, by the id the cluster gave it.
//!
//! Nothing here ages, sweeps or infers: a directory goes only when it is named. A volume left over
//! costs room; one removed by mistake cannot be brought back.

use bramble_core::model::VolumeId;
use bramble_protocol::message::VolumeSummary;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Only root looks in from outside; a task gets its own volumes by mounts.
const MODE_CLOSED: u32 = 0o700;
/// The task's user must reach what is in its volume.
const MODE_VOLUME: u32 = 0o755;

#[derive(Debug, Error)]
pub enum VolumeError {
    #[error("volume id '{0}' cannot name a directory")]
    Name(VolumeId),
    #[error("creating {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("removing {}", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("listing {}", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Debug)]
pub struct Volumes {
    directory: PathBuf,
}

impl Volumes {
    /// Make the parent under `data_dir`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(data_dir: &Path) -> Result<Self, VolumeError> {
        let directory = data_dir.join("volumes");
        create(&directory, MODE_CLOSED)?;
        Ok(Self { directory })
    }

    /// Give a volume's directory, made empty where there is none.
    ///
    /// # Errors
    /// When the id is no file name, or the disk refuses.
    pub fn ensure(&self, id: &VolumeId) -> Result<PathBuf, VolumeError> {
        let path = self.directory.join(file_name(id)?);
        if path.is_dir() {
            return Ok(path);
        }
        create(&path, MODE_VOLUME)?;
        // What a task has synced must not vanish because its directory's name was not.
        let synced = File::open(&self.directory).and_then(|parent| parent.sync_all());
        synced.map_err(|source| VolumeError::Create { path: path.clone(), source })?;
        tracing::info!(volume_id = %id, "a volume was made");
        Ok(path)
    }

    /// Remove a volume and all that is in it; none is fine.
    ///
    /// # Errors
    /// When the id is no file name, or the disk refuses: then the rest stays for another try.
    pub fn remove(&self, id: &VolumeId) -> Result<(), VolumeError> {
        let path = self.directory.join(file_name(id)?);
        match std::fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!(volume_id = %id, "a volume was removed with its data");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(VolumeError::Remove { path, source }),
        }
    }

    /// List the volumes here with the bytes they take on disk.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<VolumeSummary>, VolumeError> {
        let failed = |source| VolumeError::List { path: self.directory.clone(), source };
        let mut volumes = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let size_bytes = crate::sandboxes::bytes_in(&entry.path());
            volumes.push(VolumeSummary { id: VolumeId::new(name), size_bytes });
        }
        volumes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(volumes)
    }

    /// Remove volumes; gives those that are gone.
    pub fn remove_all(&self, ids: BTreeSet<VolumeId>) -> BTreeSet<VolumeId> {
        let gone = |id: &VolumeId| match self.remove(id) {
            Ok(()) => true,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(volume_id = %id, error, "a volume that was given up stays");
                false
            }
        };
        ids.into_iter().filter(gone).collect()
    }
}

/// `<app>#<path>#<uuid>`: three parts and no way out of the directory. Ids come over the network.
fn file_name(id: &VolumeId) -> Result<&str, VolumeError> {
    let name = id.as_str();
    let plain =
        !name.contains(['/', '\0']) && name.split('#').filter(|p| !p.is_empty()).count() > 2;
    if plain { Ok(name) } else { Err(VolumeError::Name(id.clone())) }
}

fn create(path: &Path, mode: u32) -> Result<(), VolumeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| VolumeError::Create { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn id(text: &str) -> VolumeId {
        VolumeId::new(text)
    }

    #[test]
    fn hostile_ids_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(data.path()).unwrap();
        for bad in ["", ".", "..", "a", "a#b", "a##b", "a#../../x#b", "a#b\0#c", "##"] {
            assert!(matches!(volumes.ensure(&id(bad)), Err(VolumeError::Name(_))), "{bad:?}");
            assert!(matches!(volumes.remove(&id(bad)), Err(VolumeError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_volume_keeps_its_data_until_it_is_named() {
        let data = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(data.path()).unwrap();
        let (one, two) = (id("db#data#1"), id("db#data#2"));
        let path = volumes.ensure(&one).unwrap();
        fs::write(path.join("file"), "kept").unwrap();
        volumes.ensure(&two).unwrap();
        let again = Volumes::open(data.path()).unwrap();
        assert_eq!(fs::read_to_string(again.ensure(&one).unwrap().join("file")).unwrap(), "kept");
        let listed = again.list().unwrap();
        assert_eq!(listed.iter().map(|v| &v.id).collect::<Vec<_>>(), [&one, &two]);
        assert!(listed[0].size_bytes > 0 && listed[1].size_bytes == 0);
        // One that never was counts as gone; one that cannot be removed does not.
        let odd = id("odd");
        let gone = again.remove_all([one.clone(), id("db#data#3"), odd].into());
        assert_eq!(gone, [one.clone(), id("db#data#3")].into());
        assert_eq!(again.list().unwrap().len(), 1);
        assert!(again.ensure(&one).unwrap().read_dir().unwrap().next().is_none());
    }

    #[test]
    fn a_link_inside_is_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "").unwrap();
        let volumes = Volumes::open(data.path()).unwrap();
        let path = volumes.ensure(&id("db#data#1")).unwrap();
        std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
        volumes.remove(&id("db#data#1")).unwrap();
        assert!(outside.path().join("file").exists());
    }
}
