//! Snapshots as plain files. Owns the directory `snapshots/`; never touches the log.
//!
//! A snapshot is written beside its place, synced, renamed, and its directory synced: a name that
//! ends in `.cbor` is a whole snapshot. The newest is kept and one before it, for the day the
//! newest turns out unreadable; the log is purged only up to the older one.

use super::disk::{create_dir, sync_dir};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use bramble_core::model::State;
use bramble_protocol::codec::{self, CodecError};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// Version of the file's form; a reader knows this one and all before.
const SNAPSHOT_FORMAT: u32 = 1;
/// Snapshots kept, newest included.
const SNAPSHOTS_KEPT: usize = 2;
const SUFFIX: &str = ".cbor";
const UNFINISHED_SUFFIX: &str = ".unfinished";
const RECEIVED_FILE: &str = "received.unfinished";
/// Digits of an index in a file name: names sort as indexes do.
const INDEX_DIGITS: usize = 20;

#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("{operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("encoding a snapshot")]
    Encode(#[source] CodecError),
    #[error("decoding a snapshot of {bytes} bytes")]
    Decode {
        bytes: usize,
        #[source]
        source: CodecError,
    },
    #[error("a snapshot has format {0}, this program knows {SNAPSHOT_FORMAT}")]
    Format(u32),
    #[error("a snapshot's content does not match its digest")]
    Digest,
}

/// Everything up to one log entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub last_applied: Option<LogId>,
    pub membership: StoredMembership,
    pub state: State,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u32,
    sha256: Octets,
    contents: Octets,
}

/// Bytes that serialise as a byte string, not as a list of numbers twice as long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(OctetsVisitor)
    }
}

struct OctetsVisitor;

impl<'de> Visitor<'de> for OctetsVisitor {
    type Value = Octets;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
        Ok(Octets(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Octets, E> {
        Ok(Octets(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Octets(bytes))
    }
}

impl Contents {
    /// The bytes of a snapshot file.
    pub fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        let contents = codec::to_bytes(self).map_err(SnapshotError::Encode)?;
        let sha256 = Octets(Sha256::digest(&contents).to_vec());
        let envelope = Envelope { format: SNAPSHOT_FORMAT, sha256, contents: Octets(contents) };
        codec::to_bytes(&envelope).map_err(SnapshotError::Encode)
    }

    /// Read the bytes of a snapshot file.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let decode = |source| SnapshotError::Decode { bytes: bytes.len(), source };
        let envelope: Envelope = codec::from_bytes(bytes).map_err(decode)?;
        if envelope.format != SNAPSHOT_FORMAT {
            return Err(SnapshotError::Format(envelope.format));
        }
        if Sha256::digest(&envelope.contents.0).as_slice() != envelope.sha256.0 {
            return Err(SnapshotError::Digest);
        }
        codec::from_bytes(&envelope.contents.0).map_err(decode)
    }

    /// What openraft has to know of it.
    pub fn meta(&self) -> SnapshotMeta {
        let snapshot_id = match self.last_applied {
            Some(id) => format!("{}-{:016x}-{}", id.leader_id.term, id.leader_id.node_id, id.index),
            None => "empty".to_string(),
        };
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id,
        }
    }
}

#[derive(Default)]
struct Kept {
    newest: Option<SnapshotMeta>,
    /// Oldest first.
    files: Vec<(u64, PathBuf)>,
}

/// The directory of snapshots.
pub(super) struct Snapshots {
    dir: PathBuf,
    kept: Mutex<Kept>,
}

impl Snapshots {
    /// Open the directory, clear what was left unfinished, and read the newest readable snapshot.
    pub fn open(dir: &Path) -> Result<(Self, Option<Contents>), SnapshotError> {
        create_dir(dir).map_err(at("creating", dir))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(at("listing", dir))? {
            let path = entry.map_err(at("listing", dir))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            if name.ends_with(UNFINISHED_SUFFIX) {
                fs::remove_file(&path).map_err(at("removing", &path))?;
            } else if let Some(index) = name.strip_suffix(SUFFIX).and_then(|n| n.parse().ok()) {
                files.push((index, path));
            }
        }
        files.sort_unstable();
        let mut newest = None;
        while let Some((_, path)) = files.last() {
            match load(path) {
                Ok(contents) => {
                    newest = Some(contents);
                    break;
                }
                Err(error) => {
                    tracing::error!(
                        path = %path.display(),
                        error = &error as &dyn std::error::Error,
                        "a snapshot is unreadable; trying the one before it"
                    );
                    set_aside(path)?;
                    files.pop();
                }
            }
        }
        let meta = newest.as_ref().map(Contents::meta);
        let kept = Mutex::new(Kept { newest: meta, files });
        Ok((Self { dir: dir.to_path_buf(), kept }, newest))
    }

    /// Put `bytes`, the encoded contents that `meta` describes, in place as the newest snapshot.
    ///
    /// Does nothing when a newer one is in place.
    pub fn write(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), SnapshotError> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        // Held throughout: one built here and one received must not overtake each other.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.files.last().is_some_and(|(newest, _)| *newest > index) {
            return Ok(());
        }
        let path = self.dir.join(format!("{index:0INDEX_DIGITS$}{SUFFIX}"));
        let unfinished = self.dir.join(format!("{index:0INDEX_DIGITS$}{UNFINISHED_SUFFIX}"));
        let mut file = File::create(&unfinished).map_err(at("creating", &unfinished))?;
        file.write_all(bytes).map_err(at("writing", &unfinished))?;
        file.sync_all().map_err(at("syncing", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(at("renaming to", &path))?;
        sync_dir(&self.dir).map_err(at("syncing", &self.dir))?;
        kept.files.retain(|(i, _)| *i < index);
        kept.files.push((index, path));
        kept.newest = Some(meta.clone());
        while kept.files.len() > SNAPSHOTS_KEPT {
            let (_, old) = kept.files.remove(0);
            fs::remove_file(&old).map_err(at("removing", &old))?;
        }
        Ok(())
    }

    /// The newest snapshot and its file.
    pub fn newest(&self) -> Option<(SnapshotMeta, PathBuf)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Some((kept.newest.clone()?, kept.files.last()?.1.clone()))
    }

    /// Index up to which the log is held by every snapshot kept, once there are enough of them.
    pub fn purgeable(&self) -> Option<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.files.len() == SNAPSHOTS_KEPT).then(|| kept.files[0].0)
    }

    /// Where a snapshot is put while it is received.
    ///
    /// An earlier one that never ended loses its name, so that two streams cannot mix.
    pub fn create_received(&self) -> Result<File, SnapshotError> {
        let path = self.dir.join(RECEIVED_FILE);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(at("removing", &path)(e));
            }
            _ => {}
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        file.map_err(at("creating", &path))
    }

    /// Remove the file of a snapshot that was received and installed.
    pub fn remove_received(&self) -> Result<(), SnapshotError> {
        let path = self.dir.join(RECEIVED_FILE);
        fs::remove_file(&path).map_err(at("removing", &path))
    }
}

fn load(path: &Path) -> Result<Contents, SnapshotError> {
    Contents::decode(&fs::read(path).map_err(at("reading", path))?)
}

/// Keep an unreadable snapshot for a person to look at, out of the way of the next start.
fn set_aside(path: &Path) -> Result<(), SnapshotError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unreadable");
    fs::rename(path, &aside).map_err(at("renaming", path))
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
    let path = path.to_path_buf();
    move |source| SnapshotError::File { operation, path, source }
}
