//! An image as another node needs it told: which blobs of this store make it.
//!
//! Owns finding a blob for every layer. A layer that is here may have come from another blob than
//! the one its image names (packed there, unpacked here): any that unpacks to it serves.

use super::{Image, Object, Store, StoreError, failed};
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::ImageReference;
use std::fs::File;
use std::io;

/// A blob that is in the store which tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
}

/// A layer, and a blob that unpacks to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPart {
    pub diff_id: Digest,
    pub blob: Blob,
}

/// All that makes an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What its machine runs, in the form of [`Image::platform`].
    pub host: String,
    pub config: Blob,
    /// `None` for archives of `docker save`, whose images are named by their configuration.
    pub manifest: Option<Blob>,
    /// The multi-platform index the manifest was chosen from, if it is kept.
    pub index: Option<Blob>,
    /// Bottom first.
    pub layers: Vec<LayerPart>,
    /// Seconds since 1970 when the image came into the cluster.
    pub created_unix_s: u64,
}

impl Parts {
    /// The digest that names the image.
    pub fn digest(&self) -> &Digest {
        &self.manifest.as_ref().unwrap_or(&self.config).digest
    }

    /// Bytes of all layers as they are transferred.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.blob.size))
    }
}

impl Store {
    /// Tells the parts of an image, if the blobs of all of them are here. Blocks briefly.
    pub fn parts(&self, reference: &ImageReference) -> Option<Parts> {
        self.parts_of(&self.find(reference)?)
    }

    /// Lists the images that another node can get from here, whole. Blocks briefly.
    pub fn whole_images(&self) -> Vec<Image> {
        self.images().into_iter().filter(|image| self.parts_of(image).is_some()).collect()
    }

    /// Opens a blob for reading; gives its size too. Blocks briefly.
    ///
    /// # Errors
    /// When it is here and cannot be opened.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.path(&Object::Blob(digest.clone()));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let size = file.metadata().map_err(failed("measuring", &path))?.len();
        Ok(Some((file, size)))
    }

    fn parts_of(&self, image: &Image) -> Option<Parts> {
        let named_by_config = image.digest == image.config_digest;
        let manifest = match named_by_config {
            true => None,
            false => Some(self.blob(&image.digest)?),
        };
        let layers = image.layers.iter().map(|layer| {
            let own = self.blob(&layer.blob);
            let blob = own.or_else(|| self.blob(&self.other_blob(&layer.diff_id)?))?;
            Some(LayerPart { diff_id: layer.diff_id.clone(), blob })
        });
        Some(Parts {
            host: Platform::host().to_string(),
            config: self.blob(&image.config_digest)?,
            manifest,
            index: image.index_digest.as_ref().and_then(|digest| self.blob(digest)),
            layers: layers.collect::<Option<_>>()?,
            created_unix_s: image.created_unix_s,
        })
    }

    /// A blob that is here and unpacks to the layer, whichever image brought it.
    pub(crate) fn other_blob(&self, diff_id: &Digest) -> Option<Digest> {
        let state = self.state();
        let layers = state.index.images.values().flat_map(|image| &image.layers);
        let mut blobs = layers.filter(|layer| layer.diff_id == *diff_id).map(|layer| &layer.blob);
        blobs.find(|blob| self.path(&Object::Blob((*blob).clone())).exists()).cloned()
    }

    fn blob(&self, digest: &Digest) -> Option<Blob> {
        let metadata = self.path(&Object::Blob(digest.clone())).metadata().ok()?;
        Some(Blob { digest: digest.clone(), size: metadata.len() })
    }
}
