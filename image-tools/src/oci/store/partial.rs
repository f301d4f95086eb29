//! Blobs on their way from another node: kept over failures and restarts, so that a transfer goes
//! on where it broke off, from whichever node.
//!
//! Owns the files of `partial/` and their bounds. What is in them is believed only once the digest
//! of the whole fits.

use super::{BlobWriter, Object, Staged, Store, StoreError, children, failed, remove_any};
use crate::oci::digest::Digest;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files kept; the ones written longest ago go first.
const PARTIALS_MAX: usize = 256;
/// Age at which a file is given up. By the wall clock: wrong, it costs a transfer from the start.
const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// A blob that is being written. Nobody else writes to it meanwhile.
pub(crate) struct Partial {
    writer: BlobWriter,
    /// Some of it came before this was opened, from whomever.
    resumed: bool,
}

impl Partial {
    /// Opens what is there of a blob, or begins it. Reads all of it, for the digest.
    pub(crate) fn open(store: &Store, blob: &Digest) -> Result<Partial, StoreError> {
        let path = store.partial_path(blob);
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(failed("opening", &path))?;
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(failed("locking", &path)(error.into()));
        }
        let (hasher, size) = hash(&mut file).map_err(failed("reading", &path))?;
        let writer = BlobWriter { file, path, hasher, size };
        Ok(Partial { writer, resumed: size > 0 })
    }

    pub(crate) fn writer(&mut self) -> &mut BlobWriter {
        &mut self.writer
    }

    pub(crate) fn size(&self) -> u64 {
        self.writer.size
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Throws away what is there.
    pub(crate) fn restart(self) -> Result<Partial, StoreError> {
        let BlobWriter { mut file, path, .. } = self.writer;
        let emptied = file.set_len(0).and_then(|()| io::Seek::rewind(&mut file));
        emptied.map_err(failed("emptying", &path))?;
        let writer = BlobWriter { file, path, hasher: Sha256::new(), size: 0 };
        Ok(Partial { writer, resumed: false })
    }

    /// Of all that is there.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_hasher(self.writer.hasher.clone())
    }

    /// Ends it. The file stays where it is until it is published.
    pub(crate) fn finish(self) -> Staged {
        self.writer.finish()
    }
}

/// Hashes a file to its end, where its cursor then stands.
fn hash(file: &mut File) -> io::Result<(Sha256, u64)> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher, size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Store {
    pub(super) fn partial_path(&self, blob: &Digest) -> PathBuf {
        self.root.join("partial").join(blob.hex())
    }

    /// Removes what nobody has come back for. A blob that is claimed is in use.
    pub(crate) fn sweep_partials(&self) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
        for path in children(&self.root.join("partial"))? {
            if self.is_claimed(&path) {
                continue;
            }
            let written = path.symlink_metadata().and_then(|m| m.modified()).unwrap_or(now);
            let age = now.duration_since(written).unwrap_or_default();
            if age > STALE_AFTER { remove_any(&path)? } else { kept.push((written, path)) }
        }
        kept.sort();
        let over = kept.len().saturating_sub(PARTIALS_MAX);
        kept[..over].iter().try_for_each(|(_, path)| remove_any(path))
    }

    fn is_claimed(&self, path: &Path) -> bool {
        let hex = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(digest) = Digest::from_hex(hex) else { return false };
        self.state().claims.contains_key(&Object::Blob(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::budget::Budget;

    fn write(partial: &mut Partial, bytes: &[u8]) {
        partial.writer().write(bytes, &Budget::new(1 << 20)).unwrap();
    }

    #[test]
    fn it_goes_on_where_it_broke_off_and_is_believed_only_whole() {
        let dir = tempfile::tempdir().unwrap();
        let blob = Digest::of(b"hello world");
        let store = Store::open(dir.path()).unwrap();
        let mut partial = Partial::open(&store, &blob).unwrap();
        assert!(!partial.is_resumed());
        write(&mut partial, b"hello ");
        assert!(Partial::open(&store, &blob).is_err(), "one writer at a time");
        drop(partial);
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        let mut partial = Partial::open(&store, &blob).unwrap();
        assert_eq!((partial.size(), partial.is_resumed()), (6, true));
        assert_ne!(partial.digest(), blob, "not yet whole");
        write(&mut partial, b"world");
        assert_eq!(partial.digest(), blob);
        let staged = partial.finish();
        assert_eq!(std::fs::read(&staged.path).unwrap(), b"hello world");

        let partial = Partial::open(&store, &blob).unwrap().restart().unwrap();
        assert_eq!((partial.size(), partial.is_resumed()), (0, false));
        assert_eq!(std::fs::read(&staged.path).unwrap(), b"");
    }

    #[test]
    fn what_nobody_came_back_for_goes_the_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let now = SystemTime::now();
        let path = |n: usize| store.partial_path(&Digest::of(n.to_string().as_bytes()));
        let make = |n: usize, age: Duration| {
            let file = File::create(path(n)).unwrap();
            file.set_modified(now - age).unwrap();
        };
        for n in 0..PARTIALS_MAX + 3 {
            make(n, Duration::from_secs(10_000 - n as u64));
        }
        make(1000, STALE_AFTER + Duration::from_secs(9));
        make(1001, STALE_AFTER + Duration::from_secs(9));
        store.claim(&Object::Blob(Digest::of(b"1001")));
        store.sweep_partials().unwrap();
        let left = |n| path(n).exists();
        assert_eq!((left(0), left(1), left(2), left(3)), (false, false, false, true));
        assert_eq!((left(1000), left(1001)), (false, true));
    }
}
