//! Bringing an image over from another node's store.
//!
//! Owns what is believed: nothing the other node says but what digests prove. The digest that
//! names the image leads to its configuration, that to the layers as they unpack. So a layer may
//! come in another blob than the image's own manifest names, packed differently. Nothing is named
//! by the index before all of it is here; blobs that came stay in `partial/` until then, so that
//! neither a lost node nor a restart makes them come twice.

mod transfer;

use super::archive::now_unix_s;
use super::digest::Digest;
use super::model::{ConfigFile, DOCUMENT_BYTES_MAX, Document, DocumentError};
use super::platform::Platform;
use super::reference::ImageReference;
use super::store::{
    Bench, Blob, Image, Layer, LayerPart, Object, Parts, Session, Staged, Stopped, Store,
    StoreError, failed,
};
use futures_util::stream::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncRead;
use transfer::Meter;

/// Layers of one image in transfer or being unpacked at once: one comes while another is unpacked.
const LAYERS_AT_ONCE: usize = 2;

/// Lines for the user, one per step.
type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// A node that gives out blobs.
pub trait BlobSource: Sync {
    type Reader: AsyncRead + Send + Unpin;

    /// The node's name, for progress.
    fn name(&self) -> &str;

    /// Begin to read a blob at an offset; it comes to its end.
    fn open(
        &self,
        blob: &Digest,
        offset: u64,
    ) -> impl Future<Output = io::Result<Self::Reader>> + Send;
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("transfer of {what} broke off")]
    Transfer {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("its image is for {offered}, this machine is {host}")]
    Platform { offered: String, host: String },
    #[error("what it gives is not what it should be")]
    Wrong(#[source] StoreError),
    #[error("its image is not that of digest {0}")]
    OtherImage(Digest),
    #[error("its image does not fit together")]
    Document(#[source] DocumentError),
    #[error(transparent)]
    Store(StoreError),
    #[error("image work was stopped, since the program ends")]
    Stopped,
}

impl From<Stopped> for ImportError {
    fn from(_: Stopped) -> ImportError {
        ImportError::Stopped
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> ImportError {
        match error {
            StoreError::DigestMismatch { .. }
            | StoreError::SizeMismatch { .. }
            | StoreError::Unpack { .. }
            | StoreError::Decompress { .. } => ImportError::Wrong(error),
            error => ImportError::Store(error),
        }
    }
}

impl ImportError {
    /// Tells whether that node's copy is no good, as opposed to not being had at the moment.
    pub fn is_wrong(&self) -> bool {
        matches!(
            self,
            ImportError::Wrong(_) | ImportError::OtherImage(_) | ImportError::Document(_)
        )
    }

    /// Tells whether no other node can help: the fault lies here.
    pub fn is_local(&self) -> bool {
        matches!(self, ImportError::Store(_) | ImportError::Stopped)
    }
}

/// An import under way: any number of nodes may be tried one after the other.
pub struct Import {
    bench: Bench,
    name: ImageReference,
    /// Blobs that came and are not published yet.
    came: Mutex<BTreeMap<Digest, Staged>>,
}

/// What documents have proven of an image.
struct Proven {
    config: ConfigFile,
    index_digest: Option<Digest>,
    documents: Vec<Vec<u8>>,
}

impl Import {
    /// Begin to bring over the image of a name.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn begin(store: &Arc<Store>, name: &ImageReference) -> Result<Import, ImportError> {
        let bench = Bench::begin::<ImportError>(store).await?;
        bench.work(|session| session.store().sweep_partials().map_err(ImportError::from)).await?;
        Ok(Import { bench, name: name.clone(), came: Mutex::default() })
    }

    /// Bring over all that is still missing from one node, and name the image.
    ///
    /// # Errors
    /// What came stays for the next node, unless [`ImportError::is_local`].
    pub async fn from<S: BlobSource>(
        &self,
        parts: &Parts,
        source: &S,
        progress: Progress<'_>,
    ) -> Result<Image, ImportError> {
        let result = self.bring(parts, source, progress).await;
        // When one layer fails, another may still be at work: its file is its own until it ends.
        self.bench.idle().await;
        result
    }

    /// End it. What was not named is removed, but for partial blobs.
    ///
    /// # Errors
    /// When the program ends.
    pub async fn end(self) -> Result<(), ImportError> {
        Ok(self.bench.end().await?)
    }

    async fn bring<S: BlobSource>(
        &self,
        parts: &Parts,
        source: &S,
        progress: Progress<'_>,
    ) -> Result<Image, ImportError> {
        let host = Platform::host();
        let proven = self.prove(parts, source).await?;
        let platform = proven.config.platform(&host);
        if host.rank(&platform).is_none() {
            let (offered, host) = (platform.to_string(), host.to_string());
            // A machine like this one took it as it is: some images are labelled wrongly.
            if parts.host != host {
                return Err(ImportError::Platform { offered, host });
            }
            progress(format!("warning: {} is for {offered}, this machine is {host}", self.name));
        }
        let meter = Meter::new(&self.name, source.name(), parts.layer_bytes(), progress);
        // Made before the stream, as for a pull: a closure inside it would not be `Send` enough.
        let layers: Vec<_> =
            parts.layers.iter().map(|layer| self.layer(layer, source, &meter)).collect();
        let layers: Vec<Layer> =
            futures_util::stream::iter(layers).buffered(LAYERS_AT_ONCE).try_collect().await?;
        let image = Image {
            reference: self.name.to_string(),
            digest: parts.digest().clone(),
            index_digest: proven.index_digest,
            config_digest: parts.config.digest.clone(),
            platform: platform.to_string(),
            size_bytes: layers.iter().map(|layer| layer.unpacked_bytes).sum(),
            layers,
            config: proven.config.config,
            created_unix_s: parts.created_unix_s.min(now_unix_s()),
        };
        self.commit(image, proven.documents).await
    }

    /// Follows the digests from the image's name to its layers.
    async fn prove<S: BlobSource>(&self, parts: &Parts, source: &S) -> Result<Proven, ImportError> {
        let bytes = self.document(&parts.config, "configuration", source).await?;
        let config = ConfigFile::parse(&bytes).map_err(ImportError::Document)?;
        let told = parts.layers.iter().map(|layer| &layer.diff_id);
        if !config.rootfs.diff_ids.iter().eq(told) {
            let (layers, diff_ids) = (parts.layers.len(), config.rootfs.diff_ids.len());
            return Err(ImportError::Document(DocumentError::LayerCount { layers, diff_ids }));
        }
        let mut documents = vec![bytes];
        let mut index_digest = None;
        if let Some(blob) = &parts.manifest {
            let bytes = self.document(blob, "manifest", source).await?;
            match Document::parse(&bytes, "manifest").map_err(ImportError::Document)? {
                Document::Manifest(manifest) if manifest.config.digest == parts.config.digest => {}
                _ => return Err(ImportError::OtherImage(parts.config.digest.clone())),
            }
            documents.push(bytes);
            if let Some(index) = &parts.index {
                let bytes = self.document(index, "index", source).await?;
                // One that leads here by way of another index is not kept: it proves nothing.
                if let Ok(Document::Index(entries)) = Document::parse(&bytes, "index")
                    && entries.iter().any(|entry| entry.digest == blob.digest)
                {
                    index_digest = Some(index.digest.clone());
                    documents.push(bytes);
                }
            }
        }
        match self.name.digest() {
            Some(wanted) if wanted != parts.digest() && index_digest.as_ref() != Some(wanted) => {
                Err(ImportError::OtherImage(wanted.clone()))
            }
            _ => Ok(Proven { config, index_digest, documents }),
        }
    }

    async fn layer<S: BlobSource>(
        &self,
        part: &LayerPart,
        source: &S,
        meter: &Meter<'_>,
    ) -> Result<Layer, ImportError> {
        let session = self.bench.session();
        session.claim(&Object::Layer(part.diff_id.clone()));
        session.claim(&Object::Blob(part.blob.digest.clone()));
        let held = session.store().layer_lock(&part.diff_id).lock_owned().await;
        let layer = |blob: &Digest, unpacked_bytes| Layer {
            diff_id: part.diff_id.clone(),
            blob: blob.clone(),
            unpacked_bytes,
        };
        let wanted = part.diff_id.clone();
        let here = self.bench.work(move |session| {
            let bytes = session.present_layer(&wanted);
            Ok::<_, ImportError>(bytes.map(|bytes| (bytes, session.store().other_blob(&wanted))))
        });
        if let Some((bytes, other)) = here.await? {
            meter.skip(part.blob.size);
            let came = self.came().contains_key(&part.blob.digest);
            return Ok(layer(other.as_ref().filter(|_| !came).unwrap_or(&part.blob.digest), bytes));
        }
        let staged = self.blob(&part.blob, source, meter).await?;
        let (wanted, archive) = (part.diff_id.clone(), staged.clone());
        let unpacked = self.bench.work(move |session| {
            // The lock goes along: if this import is dropped now, the work still ends undisturbed.
            let _held = held;
            let unpacked = session.unpack(&archive.path, &wanted).map_err(ImportError::from);
            if unpacked.as_ref().is_err_and(ImportError::is_wrong) {
                // Whole, but not this layer: of no use to anybody.
                let _ = std::fs::remove_file(&archive.path);
            }
            unpacked
        });
        let unpacked = unpacked.await?;
        for note in unpacked.notes() {
            meter.note(note);
        }
        self.came().insert(staged.digest.clone(), staged);
        Ok(layer(&part.blob.digest, unpacked.bytes))
    }

    async fn blob<S: BlobSource>(
        &self,
        blob: &Blob,
        source: &S,
        meter: &Meter<'_>,
    ) -> Result<Staged, ImportError> {
        let path = self.bench.session().store().path(&Object::Blob(blob.digest.clone()));
        if path.exists() {
            meter.skip(blob.size);
            return Ok(Staged { path, digest: blob.digest.clone(), size: blob.size });
        }
        transfer::fetch(&self.bench, blob, source, meter).await
    }

    async fn document<S: BlobSource>(
        &self,
        blob: &Blob,
        what: &str,
        source: &S,
    ) -> Result<Vec<u8>, ImportError> {
        if blob.size > DOCUMENT_BYTES_MAX {
            let (what, actual) = (what.to_owned(), blob.size);
            let expected = DOCUMENT_BYTES_MAX;
            return Err(StoreError::SizeMismatch { what, expected, actual }.into());
        }
        let bytes = transfer::read(blob, what, source).await?;
        let digest = Digest::of(&bytes);
        if digest != blob.digest {
            let (what, expected) = (what.to_owned(), blob.digest.clone());
            return Err(StoreError::DigestMismatch { what, expected, actual: digest }.into());
        }
        Ok(bytes)
    }

    async fn commit(&self, image: Image, documents: Vec<Vec<u8>>) -> Result<Image, ImportError> {
        let came: Vec<Staged> = std::mem::take(&mut *self.came()).into_values().collect();
        let work = move |session: &Session| {
            for bytes in &documents {
                session.publish_blob(&session.stage_bytes(bytes)?)?;
            }
            for staged in &came {
                publish(session, staged)?;
            }
            session.commit(std::slice::from_ref(&image))?;
            Ok::<_, ImportError>(image)
        };
        self.bench.work(work).await
    }

    fn came(&self) -> MutexGuard<'_, BTreeMap<Digest, Staged>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves a blob to its place. One that is there already may have been brought by a pull.
fn publish(session: &Session, staged: &Staged) -> Result<(), StoreError> {
    let place = session.store().path(&Object::Blob(staged.digest.clone()));
    if !place.exists() && !staged.path.exists() {
        let gone = io::Error::from(io::ErrorKind::NotFound);
        return Err(failed("finding", &staged.path)(gone));
    }
    session.publish_blob(staged)
}

#[cfg(test)]
mod tests;
