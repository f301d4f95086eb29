//! The index of images: which reference means which content.
//!
//! Owns the file `images.json`. Never says that content exists; only that it was whole when the
//! index was written.

use super::{Object, StoreError, failed};
use crate::oci::digest::Digest;
use crate::oci::model::RunConfig;
use crate::oci::reference::ImageReference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

const VERSION: u32 = 1;

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Normalised: `docker.io/library/nginx:latest`.
    pub reference: String,
    /// Of the manifest; of the configuration for archives of `docker save`, which have none.
    pub digest: Digest,
    /// Of the multi-platform index the manifest was chosen from.
    pub index_digest: Option<Digest>,
    pub config_digest: Digest,
    /// `linux/arm/v7`.
    pub platform: String,
    /// Bottom first, as manifests list them.
    pub layers: Vec<Layer>,
    pub config: RunConfig,
    /// Unpacked bytes, shared layers counted in full.
    pub size_bytes: u64,
    /// Seconds since 1970 when it came here.
    pub created_unix_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the uncompressed archive: names the unpacked directory.
    pub diff_id: Digest,
    /// Of the archive as it was transferred. The blob itself may be missing when the layer was
    /// already here from another source.
    pub blob: Digest,
    pub unpacked_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub images: BTreeMap<String, Image>,
}

#[derive(Serialize, Deserialize)]
struct IndexFile {
    version: u32,
    #[serde(default)]
    images: Vec<Image>,
}

impl Index {
    pub(super) fn read(path: &Path) -> Result<Index, StoreError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(failed("reading", path)(error)),
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |source| StoreError::Index { path: path.to_owned(), source };
        // The version first: a later one may have other fields.
        let version = serde_json::from_slice::<Versioned>(&bytes).map_err(damaged)?.version;
        if version != VERSION {
            return Err(StoreError::IndexVersion { path: path.to_owned(), version });
        }
        let file: IndexFile = serde_json::from_slice(&bytes).map_err(damaged)?;
        let named = file.images.into_iter().map(|image| (image.reference.clone(), image));
        Ok(Index { images: named.collect() })
    }

    /// Replaces the file: after a crash there is the old one or the new one.
    pub(super) fn write(&self, path: &Path, temporary: &Path) -> Result<(), StoreError> {
        let file = IndexFile { version: VERSION, images: self.images.values().cloned().collect() };
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|source| StoreError::Index { path: path.to_owned(), source })?;
        let write = || -> io::Result<()> {
            let mut out = File::create(temporary)?;
            out.write_all(&bytes)?;
            out.sync_all()?;
            std::fs::rename(temporary, path)?;
            let parent = path.parent().unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        };
        write().map_err(failed("writing", path))
    }

    pub(super) fn by_digest(&self, reference: &ImageReference) -> Option<&Image> {
        let digest = reference.digest()?;
        self.images.values().find(|image| {
            let same = image.digest == *digest || image.index_digest.as_ref() == Some(digest);
            let other = image.reference.parse::<ImageReference>();
            same && other.is_ok_and(|other| other.same_repository(reference))
        })
    }

    /// Some image needs this object.
    pub(super) fn names(&self, object: &Object) -> bool {
        self.images.values().any(|image| match object {
            Object::Layer(digest) => image.layers.iter().any(|layer| layer.diff_id == *digest),
            Object::Blob(digest) => {
                image.digest == *digest
                    || image.config_digest == *digest
                    || image.index_digest.as_ref() == Some(digest)
                    || image.layers.iter().any(|layer| layer.blob == *digest)
            }
        })
    }

    pub(super) fn layer_bytes(&self, diff_id: &Digest) -> Option<u64> {
        let mut layers = self.images.values().flat_map(|image| &image.layers);
        layers.find(|layer| layer.diff_id == *diff_id).map(|layer| layer.unpacked_bytes)
    }
}
