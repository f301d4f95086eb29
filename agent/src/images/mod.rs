//! The images of this machine: what a task's image reference is turned into on disk.
//!
//! Owns the choice between what is here, what other nodes have and what a registry has, and that a
//! reference is brought once however many tasks wait for it. Unpacking, verifying and storing are image-tools' work;
//! all of it that blocks runs on threads that may. Never starts anything.

mod exchange;
mod feed;
mod neighbours;
mod pulls;
mod source;

pub use bramble_image_tools::oci::{Login, RunConfig};
pub use exchange::{Attending, Exchange, Inquiry};

use bramble_core::model::NodeId;
use bramble_image_tools::oci::{
    ArchiveError, Digest, DigestError, Image, ImageReference, ImportError, PullError,
    ReferenceError, Registry, RegistryConfig, Store, StoreError, load_archive,
};
use bramble_protocol::message::{HELD_IMAGES_MAX, HeldImage, ImageSummary};
use bramble_protocol::net::Links;
use bramble_protocol::peer::PeerImage;
use neighbours::{Neighbours, Tried};
use pulls::Pulls;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncRead;

/// Time between two words on a pull under way; the text says it in minutes.
const WORD_EVERY: Duration = Duration::from_secs(60);

/// How images get here.
#[derive(Clone, Debug, Default)]
pub struct ImagesConfig {
    /// Registries spoken to by http besides those on this machine: `host:port` or `host`.
    pub insecure_registries: Vec<String>,
    /// Credentials as `docker login` writes them. `None` = anonymous.
    pub docker_config: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{}; {others}", registry.reason())]
    Nowhere { registry: Box<ImageError>, others: String },
    /// The pull this one waited for failed; its error is this one's.
    #[error(transparent)]
    Shared(Arc<ImageError>),
    #[error("image work was stopped, since the program ends")]
    Stopped,
}

impl ImageError {
    /// Tells the whole chain of causes in one line, for a status or a reply.
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// An image whose layers are unpacked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOnDisk {
    /// Read-only directories, topmost first, none twice: overlayfs' `lowerdir` in order.
    pub layers: Vec<PathBuf>,
    /// Entrypoint, command, environment, user, working directory, stop signal.
    pub config: RunConfig,
    /// `sha256:...` of the manifest or, for docker-save archives, the configuration.
    pub digest: String,
}

/// All images of this machine. One per data directory.
pub struct Images {
    store: Arc<Store>,
    registry: Registry,
    pulls: Pulls,
    exchange: Arc<Exchange>,
    /// Unset on a machine that is linked to no other.
    neighbours: OnceLock<Neighbours>,
}

/// Takes one line per step.
pub type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

impl Images {
    /// Opens the image store, making it if needed, and removes what a crash left. Blocks briefly.
    ///
    /// # Errors
    /// When another process has the store open, or it cannot be written.
    pub fn open(dir: &Path, config: ImagesConfig) -> Result<Images, ImageError> {
        let store = Store::open(dir)?;
        let registry = Registry::new(RegistryConfig {
            insecure_registries: config.insecure_registries,
            docker_config: config.docker_config,
        });
        let exchange = Arc::new(Exchange::default());
        exchange.hold(held(&store));
        let (pulls, neighbours) = (Pulls::default(), OnceLock::new());
        Ok(Images { store, registry, pulls, exchange, neighbours })
    }

    /// From now on, other nodes are asked for what is not here.
    pub fn meet(&self, links: Arc<Links>, own: NodeId) {
        // Whoever came first stays: there is one endpoint per node.
        let _ = self.neighbours.set(Neighbours::new(links, own, Arc::clone(&self.exchange)));
    }

    /// What the session with the leader says of images.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Brings an image here: from the store if it has it, else from a node that holds it, else
    /// from its registry.
    ///
    /// A `login` comes before the node's own credentials; an image that the cluster has needs
    /// neither. With `force_pull` the registry is asked first. If it does not deliver, an image
    /// that is here, or else at another node, serves with a warning: a loaded image and a cut
    /// cable must not keep an app down. (Docker fails there.) Dropped half way, it leaves nothing
    /// behind but what came of blobs from other nodes.
    ///
    /// # Errors
    /// [`ImageError::Pull`] says whether the image does not exist or was not to be had, and
    /// [`ImageError::Nowhere`] also how other nodes were asked.
    pub async fn ensure(
        &self,
        reference: &str,
        force_pull: bool,
        login: Option<&Login>,
        progress: Progress<'_>,
    ) -> Result<ImageOnDisk, ImageError> {
        let reference: ImageReference = reference.parse()?;
        if !force_pull && let Some(image) = self.local(&reference).await? {
            return Ok(image);
        }
        let pull = || async {
            let brought = self.bring(&reference, force_pull, login, progress).await;
            self.tell_held().await;
            brought
        };
        // Who comes with other credentials must not share what these are told.
        let shared = login.map(|login| format!("{reference} as {}", login.name));
        let shared = shared.unwrap_or_else(|| reference.to_string());
        let pulled = aloud(self.pulls.once(&shared, progress, pull), &reference, progress).await;
        match (pulled, self.local(&reference).await?) {
            (Ok(()), Some(image)) => Ok(image),
            (Err(error), Some(image)) => {
                let reason = error.reason();
                tracing::warn!(image = %reference, %reason, "pull failed: the image here is used");
                progress(format!("warning: {reason}; the image that is here is used"));
                Ok(image)
            }
            (Err(error), None) => Err(error),
            // Removed behind our back in the meantime.
            (Ok(()), None) => {
                let (registry, reference) = (reference.registry().into(), reference.to_string());
                Err(PullError::NotFound { reference, registry, status: 404 }.into())
            }
        }
    }

    /// Loads all images of an archive (`docker save` or OCI layout, packed or not), or none.
    ///
    /// Dropped half way, it leaves nothing behind.
    ///
    /// # Errors
    /// [`ImageError::Archive`] names what is wrong with the archive.
    pub async fn load<R: AsyncRead>(
        &self,
        reader: R,
        progress: Progress<'_>,
    ) -> Result<Vec<ImageSummary>, ImageError> {
        let store = Arc::clone(&self.store);
        let work = move |bytes, notes: feed::Notes| {
            load_archive(&store, bytes, &mut |line| notes.send(line)).map_err(ImageError::from)
        };
        let images = feed::through(reader, progress, work).await?;
        self.tell_held().await;
        Ok(images.iter().map(summary).collect())
    }

    /// Tells another node what an image is made of, if all of it is here.
    ///
    /// # Errors
    /// When the reference is none.
    pub async fn parts(&self, reference: &str, own: &str) -> Result<Option<PeerImage>, ImageError> {
        let (store, reference) = (Arc::clone(&self.store), reference.parse::<ImageReference>()?);
        let look = move || store.parts(&reference);
        let parts = tokio::task::spawn_blocking(look).await.map_err(|_| ImageError::Stopped)?;
        Ok(parts.map(|parts| source::told(parts, own)))
    }

    /// Opens a blob that is here; gives its size too.
    ///
    /// # Errors
    /// When the digest is none, or the blob is here and cannot be read.
    pub async fn blob(&self, digest: &str) -> Result<Option<(File, u64)>, ImageError> {
        let digest = digest.parse::<Digest>()?;
        let store = Arc::clone(&self.store);
        let open = tokio::task::spawn_blocking(move || store.open_blob(&digest));
        Ok(open.await.map_err(|_| ImageError::Stopped)??)
    }

    /// Other nodes before the registry, unless that is to be asked in any case.
    async fn bring(
        &self,
        reference: &ImageReference,
        force_pull: bool,
        login: Option<&Login>,
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        // Another pull may have brought it between the first look and now.
        let here = self.local(reference).await?.is_some();
        if here && !force_pull {
            return Ok(());
        }
        let mut tried = Tried::default();
        if !force_pull
            && let Some(neighbours) = self.neighbours.get()
            && neighbours.fetch(&self.store, reference, &mut tried, progress).await?
        {
            return Ok(());
        }
        let pulled = self.registry.pull(&self.store, reference, login, progress).await;
        let Err(error) = pulled else { return Ok(()) };
        let error = ImageError::from(error);
        if here {
            return Err(error);
        }
        let Some(neighbours) = self.neighbours.get() else { return Err(error) };
        let fetched = match force_pull {
            true => neighbours.fetch(&self.store, reference, &mut tried, progress).await?,
            false => neighbours.fetch_unheard(&self.store, reference, &mut tried, progress).await?,
        };
        if fetched {
            if force_pull {
                let reason = error.reason();
                progress(format!("warning: {reason}; the image of another node is used"));
            }
            return Ok(());
        }
        match tried.line() {
            Some(others) => Err(ImageError::Nowhere { registry: Box::new(error), others }),
            None => Err(error),
        }
    }

    /// Looks at what is held here, for the leader to be told.
    async fn tell_held(&self) {
        let store = Arc::clone(&self.store);
        if let Ok(images) = tokio::task::spawn_blocking(move || held(&store)).await {
            self.exchange.hold(images);
        }
    }

    /// Lists the images that are here, by reference.
    pub fn list(&self) -> Vec<ImageSummary> {
        self.store.images().iter().map(summary).collect()
    }

    async fn local(&self, reference: &ImageReference) -> Result<Option<ImageOnDisk>, ImageError> {
        let (store, reference) = (Arc::clone(&self.store), reference.clone());
        let find = move || {
            let image = store.find(&reference)?;
            let layers = store.layer_dirs(&image);
            let digest = image.digest.to_string();
            Some(ImageOnDisk { layers, config: image.config, digest })
        };
        tokio::task::spawn_blocking(find).await.map_err(|_| ImageError::Stopped)
    }
}

/// Says that a pull goes on when it has had nothing else to say for a while: the master gives up
/// on tasks that it hears nothing of, and one large layer takes long.
async fn aloud<T>(
    pull: impl Future<Output = T>,
    reference: &ImageReference,
    progress: Progress<'_>,
) -> T {
    tokio::pin!(pull);
    let mut minutes = 0u32;
    loop {
        match tokio::time::timeout(WORD_EVERY, &mut pull).await {
            Ok(done) => return done,
            Err(_) => {
                minutes += 1;
                progress(format!("{reference}: pulling for {minutes} min"));
            }
        }
    }
}

/// The images that other nodes can get from here, the latest first.
fn held(store: &Store) -> Vec<HeldImage> {
    let of = |image: Image| HeldImage {
        digests: [Some(image.digest), image.index_digest]
            .into_iter()
            .flatten()
            .map(|digest| digest.to_string())
            .collect(),
        reference: image.reference,
        created_unix_s: image.created_unix_s,
    };
    let mut images: Vec<HeldImage> = store.whole_images().into_iter().map(of).collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.created_unix_s));
    images.truncate(HELD_IMAGES_MAX);
    images
}

fn summary(image: &Image) -> ImageSummary {
    ImageSummary {
        reference: image.reference.clone(),
        digest: image.digest.to_string(),
        platform: image.platform.clone(),
        size_bytes: image.size_bytes,
        created_unix_s: image.created_unix_s,
    }
}

#[cfg(test)]
pub(crate) mod tests;
