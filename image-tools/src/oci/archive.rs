//! Archives of images: `docker save` and OCI layouts, packed or not, from any stream.
//!
//! Owns reading the outer archive into a session's staging files (forward only, each file hashed
//! once, in any order of members) and installing an image from them. What the members mean is in
//! `docker_save` and `layout`. Nothing is named by the index before all of it was verified.

use super::budget::BudgetError;
use super::decompress::decompressed;
use super::digest::Digest;
use super::model::{ConfigFile, DOCUMENT_BYTES_MAX, DocumentError};
use super::platform::Platform;
use super::reference::{ImageReference, ReferenceError};
use super::rootdir::{clean, join};
use super::store::{Image, Layer, Object, Session, Staged, Store, StoreError, failed};
use super::tarstream::{Entry, EntryKind, TarError, TarStream};
use super::{docker_save, layout};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Members of an outer archive: a few per layer.
const MEMBERS_MAX: usize = 100_000;
/// Links between members that are followed (old archives link layers that occur twice).
const LINKS_MAX: usize = 8;
const COPY_BUFFER_BYTES: usize = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("reading the image archive")]
    Tar(#[from] TarError),
    #[error("decompressing the image archive")]
    Decompress(#[source] io::Error),
    #[error("member {0:?} leads out of the archive")]
    Escape(String),
    #[error("archive has more than {MEMBERS_MAX} members")]
    TooManyMembers,
    #[error(
        "not an archive of images: it has neither a manifest.json (docker save) nor an \
         oci-layout and index.json (OCI layout)"
    )]
    NotImages,
    #[error("archive lacks {path}, the {what}")]
    Missing { what: String, path: String },
    #[error("{path} has {bytes} bytes; the most is {DOCUMENT_BYTES_MAX}")]
    DocumentTooLong { path: String, bytes: u64 },
    #[error("{path} of the archive")]
    Document {
        path: String,
        #[source]
        source: DocumentError,
    },
    #[error("OCI layout has version {0:?}, which is not supported")]
    LayoutVersion(String),
    #[error("name {name:?} in the archive is not an image reference")]
    Name {
        name: String,
        #[source]
        source: ReferenceError,
    },
    #[error(
        "archive holds an image without a name: save it by name and tag (docker save NAME:TAG), \
         not by its id"
    )]
    Unnamed,
    #[error("archive holds no image")]
    Empty,
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Loads all images of an archive, or none; blocks until they are on disk.
///
/// `progress` gets one line per step. Runs on a thread that may block.
///
/// # Errors
/// Whatever was wrong is named, and the store is as before.
pub fn load_archive(
    store: &Arc<Store>,
    reader: impl Read + Send + 'static,
    progress: &mut dyn FnMut(String),
) -> Result<Vec<Image>, ArchiveError> {
    let archive = Archive::read(Session::begin(store)?, reader)?;
    let host = Platform::host();
    let found = if archive.has("manifest.json") {
        docker_save::find(&archive)?
    } else if archive.has("index.json") {
        layout::find(&archive, &host)?
    } else {
        return Err(ArchiveError::NotImages);
    };
    if found.is_empty() {
        return Err(ArchiveError::Empty);
    }
    let mut images = Vec::new();
    for image in &found {
        images.extend(archive.install(image, &host, progress)?);
    }
    archive.session.commit(&images)?;
    Ok(images)
}

/// Reads an archive to its end: whether it is whole, and one of images. What is in them is not
/// looked at.
///
/// # Errors
/// It is neither.
pub fn check_archive(reader: impl Read + Send + 'static) -> Result<(), ArchiveError> {
    let mut tar = TarStream::new(decompressed(reader).map_err(ArchiveError::Decompress)?);
    let mut lists = false;
    while let Some(entry) = tar.next_entry()? {
        let name = member_name(&entry.path, &entry)?;
        lists |= entry.kind == EntryKind::File && (name == "manifest.json" || name == "index.json");
    }
    if lists { Ok(()) } else { Err(ArchiveError::NotImages) }
}

/// An image as an archive describes it, with its members verified.
pub(super) struct Found {
    pub names: Vec<ImageReference>,
    pub digest: Digest,
    pub index_digest: Option<Digest>,
    pub config: Staged,
    /// Manifests and indexes, kept as blobs.
    pub documents: Vec<Staged>,
    /// Bottom first.
    pub layers: Vec<Staged>,
}

enum Member {
    File(Staged),
    Link(String),
}

pub(super) struct Archive {
    session: Session,
    members: HashMap<String, Member>,
}

impl Archive {
    fn read(session: Session, reader: impl Read + Send + 'static) -> Result<Archive, ArchiveError> {
        let mut tar = TarStream::new(decompressed(reader).map_err(ArchiveError::Decompress)?);
        let mut archive = Archive { session, members: HashMap::new() };
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        while let Some(entry) = tar.next_entry()? {
            let name = member_name(&entry.path, &entry)?;
            let member = match entry.kind {
                EntryKind::File => {
                    let staged = archive.stage(&mut tar, &entry, &mut buffer)?;
                    check_blob_name(&name, &staged)?;
                    Member::File(staged)
                }
                EntryKind::Symlink | EntryKind::Hardlink => {
                    Member::Link(link_target(&name, &entry)?)
                }
                _ => continue,
            };
            archive.members.insert(name, member);
            if archive.members.len() > MEMBERS_MAX {
                return Err(ArchiveError::TooManyMembers);
            }
        }
        archive.drain(tar.into_inner(), &mut buffer)?;
        Ok(archive)
    }

    fn stage(
        &self,
        tar: &mut TarStream<impl Read>,
        entry: &Entry,
        buffer: &mut [u8],
    ) -> Result<Staged, ArchiveError> {
        let mut writer = self.session.stage()?;
        loop {
            let count = match tar.read(buffer) {
                Ok(0) => return Ok(writer.finish()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::reading(&entry.name(), source).into()),
            };
            writer.write(&buffer[..count], self.session.budget())?;
        }
    }

    /// Reads to the end of the stream, where a packed one has its checksum.
    fn drain(&self, mut reader: impl Read, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.session.budget().take(count as u64)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Decompress(source)),
            }
        }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.members.contains_key(path)
    }

    /// Finds a file, following links between members.
    pub(super) fn file(&self, path: &str, what: &str) -> Result<&Staged, ArchiveError> {
        let missing = || ArchiveError::Missing { what: what.to_owned(), path: path.to_owned() };
        let names = clean(path.as_bytes()).ok_or_else(missing)?;
        let mut name = join(&names).to_string_lossy().into_owned();
        for _ in 0..LINKS_MAX {
            match self.members.get(&name) {
                Some(Member::File(staged)) => return Ok(staged),
                Some(Member::Link(target)) => name = target.clone(),
                None => break,
            }
        }
        Err(missing())
    }

    /// Finds a blob of a layout and holds it against its descriptor.
    pub(super) fn blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
        what: &str,
    ) -> Result<&Staged, ArchiveError> {
        let path = blob_path(digest);
        let staged = self.file(&path, what)?;
        staged.check(&format!("{what} {path}"), digest, size)?;
        Ok(staged)
    }

    pub(super) fn document(&self, staged: &Staged, path: &str) -> Result<Vec<u8>, ArchiveError> {
        if staged.size > DOCUMENT_BYTES_MAX {
            let path = path.to_owned();
            return Err(ArchiveError::DocumentTooLong { path, bytes: staged.size });
        }
        let path = self.content(staged);
        Ok(std::fs::read(&path).map_err(failed("reading", &path))?)
    }

    /// Where a file's content is now: an earlier image may have moved it among the blobs.
    fn content(&self, staged: &Staged) -> PathBuf {
        if staged.path.exists() {
            return staged.path.clone();
        }
        self.session.store().path(&Object::Blob(staged.digest.clone()))
    }

    fn install(
        &self,
        found: &Found,
        host: &Platform,
        progress: &mut dyn FnMut(String),
    ) -> Result<Vec<Image>, ArchiveError> {
        let label = found.names.first().ok_or(ArchiveError::Unnamed)?.to_string();
        let in_config = |source| ArchiveError::Document { path: label.clone(), source };
        let bytes = self.document(&found.config, &label)?;
        let config = ConfigFile::parse(&bytes).map_err(in_config)?;
        config.check_layers(found.layers.len()).map_err(in_config)?;
        let platform = config.platform(host);
        if host.rank(&platform).is_none() {
            progress(format!("warning: {label} is for {platform}, this machine is {host}"));
        }
        let mut layers = Vec::new();
        let count = found.layers.len();
        for (number, (diff_id, staged)) in
            config.rootfs.diff_ids.iter().zip(&found.layers).enumerate()
        {
            let step = format!("{label}: layer {} of {count}", number + 1);
            let unpacked_bytes = self.install_layer(diff_id, staged, &step, progress)?;
            self.session.publish_blob(staged)?;
            let (diff_id, blob) = (diff_id.clone(), staged.digest.clone());
            layers.push(Layer { diff_id, blob, unpacked_bytes });
        }
        for staged in found.documents.iter().chain([&found.config]) {
            self.session.publish_blob(staged)?;
        }
        let image = |name: &ImageReference| Image {
            reference: name.to_string(),
            digest: found.digest.clone(),
            index_digest: found.index_digest.clone(),
            config_digest: found.config.digest.clone(),
            platform: platform.to_string(),
            size_bytes: layers.iter().map(|layer| layer.unpacked_bytes).sum(),
            layers: layers.clone(),
            config: config.config.clone(),
            created_unix_s: now_unix_s(),
        };
        Ok(found.names.iter().map(image).collect())
    }

    fn install_layer(
        &self,
        diff_id: &Digest,
        staged: &Staged,
        step: &str,
        progress: &mut dyn FnMut(String),
    ) -> Result<u64, ArchiveError> {
        self.session.claim(&Object::Layer(diff_id.clone()));
        let lock = self.session.store().layer_lock(diff_id);
        let _held = lock.blocking_lock();
        if let Some(bytes) = self.session.present_layer(diff_id) {
            progress(format!("{step} is already here"));
            return Ok(bytes);
        }
        progress(format!("{step}: unpacking {} bytes", staged.size));
        let unpacked = self.session.unpack(&self.content(staged), diff_id)?;
        for note in unpacked.notes() {
            progress(format!("{step}: {note}"));
        }
        Ok(unpacked.bytes)
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub(super) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn member_name(path: &[u8], entry: &Entry) -> Result<String, ArchiveError> {
    let names = clean(path).ok_or_else(|| ArchiveError::Escape(entry.name()))?;
    Ok(join(&names).to_string_lossy().into_owned())
}

/// Symbolic links count from their directory, hard links from the top.
fn link_target(name: &str, entry: &Entry) -> Result<String, ArchiveError> {
    if entry.kind == EntryKind::Hardlink {
        return member_name(&entry.link, entry);
    }
    let above = name.rsplit_once('/').map_or("", |(above, _)| above);
    let target = [above.as_bytes(), b"/", &entry.link].concat();
    member_name(&target, entry)
}

/// A file under `blobs/sha256/` must be what its name says, needed or not.
fn check_blob_name(name: &str, staged: &Staged) -> Result<(), StoreError> {
    let Some(hex) = name.strip_prefix("blobs/sha256/") else { return Ok(()) };
    match Digest::from_hex(hex) {
        Some(digest) => staged.check(&format!("blob {name}"), &digest, None),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
