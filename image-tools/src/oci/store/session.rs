//! One load or pull: what it has staged and claimed, and how it ends.
//!
//! Owns a directory below `tmp/` and a list of claims. Dropped without a commit it leaves nothing
//! behind. Blocking: callers on an async runtime use it from `spawn_blocking`.

use super::{Image, Object, Store, StoreError, failed};
use crate::oci::budget::Budget;
use crate::oci::decompress::decompressed;
use crate::oci::digest::{Digest, HashingReader};
use crate::oci::tarstream::TarStream;
use crate::oci::unpack::{UnpackError, Unpacked, unpack_layer};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Session {
    store: Arc<Store>,
    dir: PathBuf,
    budget: Budget,
    claims: Mutex<Vec<Object>>,
    next_file: AtomicU64,
}

/// Content in the session's own directory, hashed while it was written.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub path: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

impl Session {
    pub(crate) fn begin(store: &Arc<Store>) -> Result<Session, StoreError> {
        let number = store.next_session.fetch_add(1, Ordering::Relaxed);
        let dir = store.root().join("tmp").join(number.to_string());
        let budget = store.budget()?;
        std::fs::create_dir(&dir).map_err(failed("making directory", &dir))?;
        Ok(Session {
            store: Arc::clone(store),
            dir,
            budget,
            claims: Mutex::default(),
            next_file: AtomicU64::new(0),
        })
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn new_path(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{kind}{}", self.next_file.fetch_add(1, Ordering::Relaxed)))
    }

    /// Keeps an object from being removed until this session ends.
    pub(crate) fn claim(&self, object: &Object) {
        let mut claims = self.claims.lock().unwrap_or_else(|p| p.into_inner());
        if !claims.contains(object) {
            self.store.claim(object);
            claims.push(object.clone());
        }
    }

    /// Opens a file that hashes and counts what is written to it.
    pub(crate) fn stage(&self) -> Result<BlobWriter, StoreError> {
        let path = self.new_path("blob");
        let file = File::create_new(&path).map_err(failed("making", &path))?;
        Ok(BlobWriter { file, path, hasher: Sha256::new(), size: 0 })
    }

    pub(crate) fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, StoreError> {
        let mut writer = self.stage()?;
        writer.write(bytes, &self.budget)?;
        Ok(writer.finish())
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Moves staged content to its place among the blobs.
    pub(crate) fn publish_blob(&self, staged: &Staged) -> Result<(), StoreError> {
        let object = Object::Blob(staged.digest.clone());
        self.claim(&object);
        self.store.publish(&staged.path, &object)?;
        // Whatever another transfer of it had is not needed any more; mostly there is none.
        let _ = std::fs::remove_file(self.store.partial_path(&staged.digest));
        Ok(())
    }

    /// Tells the unpacked size of a layer that is already here. Claim and lock it before.
    pub(crate) fn present_layer(&self, diff_id: &Digest) -> Option<u64> {
        let dir = self.store.path(&Object::Layer(diff_id.clone()));
        if !dir.is_dir() {
            return None;
        }
        let known = self.store.state().index.layer_bytes(diff_id);
        Some(known.unwrap_or_else(|| tree_bytes(&dir)))
    }

    /// Unpacks an archive whose content must have the given diff id, and puts the layer in place.
    /// The caller holds the layer's claim and lock.
    pub(crate) fn unpack(&self, archive: &Path, diff_id: &Digest) -> Result<Unpacked, StoreError> {
        let file = File::open(archive).map_err(failed("opening", archive))?;
        let reader = decompressed(file)
            .map_err(|source| StoreError::Decompress { diff_id: diff_id.clone(), source })?;
        let dir = self.new_path("layer");
        std::fs::create_dir(&dir).map_err(failed("making directory", &dir))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, mode).map_err(failed("setting the mode of", &dir))?;

        let mut tar = TarStream::verified(HashingReader::new(reader));
        let unpacked = unpack_layer(&mut tar, &dir, &self.budget)
            .map_err(|source| StoreError::Unpack { diff_id: diff_id.clone(), source })?;
        let mut hashing = tar.into_inner();
        self.drain(&mut hashing, diff_id)?;
        let (actual, _) = hashing.finish();
        if actual != *diff_id {
            let what = "unpacked layer".to_owned();
            return Err(StoreError::DigestMismatch { what, expected: diff_id.clone(), actual });
        }
        self.store.publish(&dir, &Object::Layer(diff_id.clone()))?;
        Ok(unpacked)
    }

    /// Reads what follows the end of the archive: padding, which the diff id covers, too.
    fn drain(&self, reader: &mut impl Read, diff_id: &Digest) -> Result<(), StoreError> {
        let mut buffer = [0; 8192];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(StoreError::Decompress { diff_id: diff_id.clone(), source });
                }
            };
            self.budget.take(count as u64).map_err(|error| StoreError::Unpack {
                diff_id: diff_id.clone(),
                source: UnpackError::Budget(error),
            })?;
        }
    }

    /// Names the images in the index. Their content must be published through this session.
    pub(crate) fn commit(&self, images: &[Image]) -> Result<(), StoreError> {
        let claims = self.claims.lock().unwrap_or_else(|p| p.into_inner()).clone();
        let named = Object::clone;
        let objects: Vec<Object> = claims
            .iter()
            .filter(|object| images.iter().any(|image| image_names(image, object)))
            .map(named)
            .collect();
        self.store.commit(images, &objects)
    }
}

fn image_names(image: &Image, object: &Object) -> bool {
    let index =
        super::Index { images: [(image.reference.clone(), image.clone())].into_iter().collect() };
    index.names(object)
}

impl Drop for Session {
    fn drop(&mut self) {
        let claims = std::mem::take(&mut *self.claims.lock().unwrap_or_else(|p| p.into_inner()));
        for object in &claims {
            self.store.release(object);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            let path = self.dir.display();
            tracing::warn!(%path, %error, "temporary files stay until restart");
        }
    }
}

/// A staged file being written.
pub(crate) struct BlobWriter {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) hasher: Sha256,
    pub(super) size: u64,
}

impl BlobWriter {
    pub(crate) fn write(&mut self, bytes: &[u8], budget: &Budget) -> Result<(), StoreError> {
        budget.take(bytes.len() as u64)?;
        self.file.write_all(bytes).map_err(failed("writing", &self.path))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> Staged {
        Staged { path: self.path, digest: Digest::from_hasher(self.hasher), size: self.size }
    }
}

impl Staged {
    /// Refuses content that is not what a descriptor promised.
    pub(crate) fn check(
        &self,
        what: &str,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<(), StoreError> {
        let what = what.to_owned();
        if let Some(expected) = size
            && expected != self.size
        {
            return Err(StoreError::SizeMismatch { what, expected, actual: self.size });
        }
        if self.digest != *digest {
            let (expected, actual) = (digest.clone(), self.digest.clone());
            return Err(StoreError::DigestMismatch { what, expected, actual });
        }
        Ok(())
    }
}

/// Adds up the files of a layer the index has forgotten. Unreadable parts count as nothing: the
/// number is for display.
fn tree_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => left.push(entry.path()),
                Ok(metadata) if metadata.is_file() => bytes += metadata.len(),
                _ => {}
            }
        }
    }
    bytes
}
