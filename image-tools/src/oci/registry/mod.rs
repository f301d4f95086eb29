//! Pulling an image from a registry into the store (OCI distribution-spec, "Pull").
//!
//! Owns which scheme and credentials a registry gets, the way from a reference to one manifest,
//! and bringing in layers side by side. Every blob is verified by the store, whatever the HTTP
//! client thinks of it. Nothing is named by the index before all of it is here.

mod error;
mod transfer;

pub use error::PullError;

use super::archive::now_unix_s;
use super::credentials::{self, Login};
use super::digest::Digest;
use super::model::{
    self, ConfigFile, DOCKER_LIST, DOCKER_MANIFEST, DOCUMENT_BYTES_MAX, Descriptor, Document,
    DocumentError, INDEX_DEPTH_MAX, Manifest, OCI_INDEX, OCI_MANIFEST,
};
use super::platform::Platform;
use super::reference::ImageReference;
use super::store::{
    Bench, Image, Layer, Object, Session, Staged, Store, StoreError, blocking, failed,
};
use futures_util::stream::{StreamExt, TryStreamExt};
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use transfer::{fetch_blob, fetch_document};

/// Layers of one image in transfer or being unpacked at once.
const LAYERS_AT_ONCE: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of a body, not for the whole.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("bramble/", env!("CARGO_PKG_VERSION"));
const ACCEPTED: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// Registries spoken to by http besides those on this machine: `host:port`, or `host` for all
    /// its ports. Nothing they say is authenticated but what a digest names.
    pub insecure_registries: Vec<String>,
    /// A file as `docker login` writes it. `None` = anonymous everywhere.
    pub docker_config: Option<PathBuf>,
}

/// A puller of images.
pub struct Registry {
    config: RegistryConfig,
}

/// Lines for the user, one per step.
type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

impl Registry {
    pub fn new(config: RegistryConfig) -> Registry {
        // The HTTP client takes the process's provider. One installed earlier is as good: the
        // whole workspace is built with ring only.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Registry { config }
    }

    /// Pulls an image, whether or not the store has one of that name.
    ///
    /// A `login` comes before the credentials of the node. `progress` gets one line per step. Dropped half way, it leaves nothing behind.
    ///
    /// # Errors
    /// [`PullError::NotFound`] when the registry does not have it; the store is as before.
    pub async fn pull(
        &self,
        store: &Arc<Store>,
        reference: &ImageReference,
        login: Option<&Login>,
        progress: Progress<'_>,
    ) -> Result<Image, PullError> {
        let pull = self.begin(store, reference, login).await?;
        let result = pull.run(progress).await;
        // When one layer fails, others may still be at work: what they write goes, too.
        pull.bench.end().await?;
        result
    }

    async fn begin(
        &self,
        store: &Arc<Store>,
        reference: &ImageReference,
        login: Option<&Login>,
    ) -> Result<Pull, PullError> {
        let (registry, repository) =
            (reference.registry().to_owned(), reference.repository().to_owned());
        let remote = match (reference.tag(), reference.digest()) {
            (_, Some(digest)) => Reference::with_digest(registry, repository, digest.to_string()),
            (tag, None) => {
                Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
            }
        };
        let (login, path) = (login.cloned(), self.config.docker_config.clone());
        let host = remote.resolve_registry().to_owned();
        let name = reference.registry().to_owned();
        let auth = blocking(move || {
            credentials::find(login.as_ref(), path.as_deref(), &[&name, &host])
                .map_err(PullError::from)
        })
        .await?;
        let plain = self.is_plain(reference.registry());
        let client = Client::try_from(ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // Also keeps the machine's certificates from being needed where none is used.
            accept_invalid_certificates: plain,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        })
        .map_err(|source| PullError::Client {
            reference: reference.to_string(),
            registry: reference.registry().into(),
            source,
        })?;
        let bench = Bench::begin::<PullError>(store).await?;
        Ok(Pull { client, remote, auth, bench, name: reference.clone() })
    }

    /// Plain http: on this machine nobody listens in, elsewhere the user has said so.
    fn is_plain(&self, registry: &str) -> bool {
        let host = match registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => registry.split(':').next().unwrap_or(registry),
        };
        host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self
                .config
                .insecure_registries
                .iter()
                .any(|known| known == registry || known == host)
    }
}

/// One pull under way.
struct Pull {
    client: Client,
    remote: Reference,
    auth: RegistryAuth,
    bench: Bench,
    name: ImageReference,
}

/// What a reference led to.
struct Resolved {
    manifest: Manifest,
    digest: Digest,
    index_digest: Option<Digest>,
    /// The manifest and the indexes above it.
    documents: Vec<Vec<u8>>,
}

impl Pull {
    async fn run(&self, progress: Progress<'_>) -> Result<Image, PullError> {
        let reference = self.name.to_string();
        let host = Platform::host();
        let resolved = self.resolve(&host).await?;
        let config_staged = self.blob(&resolved.manifest.config, "configuration").await?;
        let config = self.read_config(&config_staged).await?;
        config
            .check_layers(resolved.manifest.layers.len())
            .map_err(|source| PullError::Document { reference: reference.clone(), source })?;
        let platform = config.platform(&host);
        if host.rank(&platform).is_none() {
            progress(format!("warning: {reference} is for {platform}, this machine is {host}"));
        }
        let count = resolved.manifest.layers.len();
        let pairs = config.rootfs.diff_ids.iter().zip(&resolved.manifest.layers).enumerate();
        // Made before the stream: a closure inside it would not be general enough over lifetimes
        // for callers that need this future to be `Send`, as every task of the agent does.
        let layers: Vec<_> = pairs
            .map(|(number, (diff_id, descriptor))| {
                let step = format!("{reference}: layer {} of {count}", number + 1);
                self.layer(diff_id, descriptor, step, progress)
            })
            .collect();
        let layers: Vec<Layer> =
            futures_util::stream::iter(layers).buffered(LAYERS_AT_ONCE).try_collect().await?;
        let image = Image {
            reference,
            digest: resolved.digest,
            index_digest: resolved.index_digest,
            config_digest: config_staged.digest.clone(),
            platform: platform.to_string(),
            size_bytes: layers.iter().map(|layer| layer.unpacked_bytes).sum(),
            layers,
            config: config.config,
            created_unix_s: now_unix_s(),
        };
        self.commit(image, resolved.documents, config_staged).await
    }

    /// Runs work that needs the session on a thread that may block.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, PullError> + Send + 'static,
    ) -> Result<T, PullError> {
        self.bench.work(work).await
    }

    /// Follows indexes down to the manifest for this machine.
    async fn resolve(&self, host: &Platform) -> Result<Resolved, PullError> {
        let in_document = |source| PullError::Document { reference: self.name.to_string(), source };
        let mut remote = self.remote.clone();
        let mut promised: Option<Descriptor> = None;
        let mut documents = Vec::new();
        let mut index_digest = None;
        for _ in 0..=INDEX_DEPTH_MAX {
            let bytes = fetch_document(self, &remote).await?;
            let digest = Digest::of(&bytes);
            let expected = promised.as_ref().map(|d| &d.digest).or(self.name.digest());
            if let Some(expected) = expected
                && *expected != digest
            {
                let what = format!("manifest of {}", self.name);
                let (expected, actual) = (expected.clone(), digest);
                return Err(StoreError::DigestMismatch { what, expected, actual }.into());
            }
            let document = Document::parse(&bytes, "manifest").map_err(in_document)?;
            documents.push(bytes);
            match document {
                Document::Manifest(manifest) => {
                    return Ok(Resolved { manifest, digest, index_digest, documents });
                }
                Document::Index(entries) => {
                    let chosen = model::choose(&entries, host).map_err(in_document)?.clone();
                    index_digest.get_or_insert(digest);
                    remote = self.remote.clone_with_digest(chosen.digest.to_string());
                    promised = Some(chosen);
                }
            }
        }
        Err(in_document(DocumentError::TooDeep))
    }

    async fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<Staged, PullError> {
        fetch_blob(self, descriptor, &format!("{what} {} of {}", descriptor.digest, self.name))
            .await
    }

    async fn read_config(&self, staged: &Staged) -> Result<ConfigFile, PullError> {
        let reference = self.name.to_string();
        if staged.size > DOCUMENT_BYTES_MAX {
            return Err(PullError::ConfigTooLong { reference, bytes: staged.size });
        }
        let path = staged.path.clone();
        let bytes = blocking(move || {
            std::fs::read(&path).map_err(failed("reading", &path)).map_err(PullError::from)
        })
        .await?;
        ConfigFile::parse(&bytes).map_err(|source| PullError::Document { reference, source })
    }

    async fn layer(
        &self,
        diff_id: &Digest,
        descriptor: &Descriptor,
        step: String,
        progress: Progress<'_>,
    ) -> Result<Layer, PullError> {
        let blob = Object::Blob(descriptor.digest.clone());
        self.bench.session().claim(&Object::Layer(diff_id.clone()));
        self.bench.session().claim(&blob);
        let held = self.bench.session().store().layer_lock(diff_id).lock_owned().await;
        let layer = |unpacked_bytes| Layer {
            diff_id: diff_id.clone(),
            blob: descriptor.digest.clone(),
            unpacked_bytes,
        };
        let wanted = diff_id.clone();
        if let Some(bytes) = self.work(move |session| Ok(session.present_layer(&wanted))).await? {
            progress(format!("{step} is already here"));
            return Ok(layer(bytes));
        }
        let path = self.bench.session().store().path(&blob);
        let staged = if path.exists() {
            Staged { path, digest: descriptor.digest.clone(), size: descriptor.size }
        } else {
            progress(format!("{step}: pulling {} bytes", descriptor.size));
            self.blob(descriptor, "layer").await?
        };
        progress(format!("{step}: unpacking"));
        let wanted = diff_id.clone();
        let work = move |session: &Session| {
            // The lock goes along: if this pull is dropped now, the work still ends undisturbed.
            let _held = held;
            let unpacked = session.unpack(&staged.path, &wanted)?;
            session.publish_blob(&staged)?;
            Ok(unpacked)
        };
        let unpacked = self.work(work).await?;
        for note in unpacked.notes() {
            progress(format!("{step}: {note}"));
        }
        Ok(layer(unpacked.bytes))
    }

    async fn commit(
        &self,
        image: Image,
        documents: Vec<Vec<u8>>,
        config: Staged,
    ) -> Result<Image, PullError> {
        let work = move |session: &Session| {
            for bytes in &documents {
                session.publish_blob(&session.stage_bytes(bytes)?)?;
            }
            session.publish_blob(&config)?;
            session.commit(std::slice::from_ref(&image))?;
            Ok(image)
        };
        self.work(work).await
    }
}

#[cfg(test)]
#[path = "../registry_tests.rs"]
mod tests;
