//! JSON documents of images: manifests, indexes, configs (OCI image-spec and Docker's schema 2,
//! which agree in every field read here).
//!
//! Owns reading them, leniently where builders differ. Never trusts them: digests do that.

use super::digest::Digest;
use super::platform::Platform;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Layers of one image: overlayfs stacks 500, Docker allows 127.
pub(crate) const LAYERS_MAX: usize = 256;
/// Bytes of one JSON document; configs with a long history stay below 100 KiB.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Depth of indexes within indexes.
pub(crate) const INDEX_DEPTH_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{what} is not valid JSON of its kind")]
    Json {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("manifest holds no container image but {0:?}")]
    NotAnImage(String),
    #[error("manifest has the media type {0:?}, which is not supported")]
    MediaType(String),
    #[error("manifest lists {layers} layers, its configuration {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("image has no layers")]
    NoLayers,
    #[error("image has {0} layers; the most is {LAYERS_MAX}")]
    TooManyLayers(usize),
    #[error("no image for {wanted} in it, only for {offered}")]
    NoPlatform { wanted: String, offered: String },
    #[error("index of images is nested too deeply")]
    TooDeep,
}

/// Reads `null` as the default: Docker writes it for every empty list.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub platform: Option<PlatformJson>,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PlatformJson {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    pub variant: Option<String>,
}

impl From<&PlatformJson> for Platform {
    fn from(json: &PlatformJson) -> Platform {
        Platform::new(&json.os, &json.architecture, json.variant.as_deref())
    }
}

impl Descriptor {
    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    /// Signatures and provenance that builders put beside images.
    pub(crate) fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown")
    }
}

/// A manifest or an index, whichever the bytes are.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Debug)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Tells the two apart by their fields: the media type is optional in both.
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Document, DocumentError> {
        let raw: RawDocument = parse(bytes, what)?;
        if raw.schema_version != 2 {
            let kind = format!("schema version {} {}", raw.schema_version, raw.media_type);
            return Err(DocumentError::MediaType(kind));
        }
        match raw {
            RawDocument { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
            RawDocument { config: Some(config), layers: Some(layers), .. } => {
                if let Some(odd) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
                    return Err(DocumentError::NotAnImage(odd.media_type.clone()));
                }
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            raw => Err(DocumentError::MediaType(raw.media_type)),
        }
    }
}

/// Helm charts, WebAssembly modules and such have manifests of the same form.
fn is_layer(media_type: &str) -> bool {
    media_type.is_empty() || media_type.contains(".tar") || media_type.contains("rootfs.diff")
}

/// The configuration of an image (image-spec, "Image Configuration").
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub config: RunConfig,
    pub rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// How a container of the image runs unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty = root.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Empty = `/`.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// `SIGTERM` or a number; `None` = SIGTERM.
    pub stop_signal: Option<String>,
    /// Paths the image wants kept out of its own layers; the values are empty.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// `80/tcp`; the values are empty.
    #[serde(deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<ConfigFile, DocumentError> {
        let config: ConfigFile = parse(bytes, "configuration of the image")?;
        match config.rootfs.diff_ids.len() {
            0 => Err(DocumentError::NoLayers),
            count if count > LAYERS_MAX => Err(DocumentError::TooManyLayers(count)),
            _ => Ok(config),
        }
    }

    /// An unnamed platform is that of the host: the oldest builders wrote none.
    pub(crate) fn platform(&self, host: &Platform) -> Platform {
        if self.architecture.is_empty() {
            return host.clone();
        }
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        Platform::new(os, &self.architecture, self.variant.as_deref())
    }

    pub(crate) fn check_layers(&self, layers: usize) -> Result<(), DocumentError> {
        let diff_ids = self.rootfs.diff_ids.len();
        if layers == diff_ids {
            return Ok(());
        }
        Err(DocumentError::LayerCount { layers, diff_ids })
    }
}

/// Chooses the entry of an index that fits the machine best; the first of equals.
///
/// # Errors
/// [`DocumentError::NoPlatform`] names what there is instead.
pub(crate) fn choose<'a>(
    entries: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, DocumentError> {
    let images: Vec<_> = entries.iter().filter(|entry| !entry.is_attestation()).collect();
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(platform) => host.rank(&platform.into()),
        // Says nothing: better than nothing, worse than anything that fits.
        None => Some(u32::MAX),
    };
    let ranked = images.iter().filter_map(|entry| rank(entry).map(|rank| (rank, *entry)));
    match ranked.min_by_key(|(rank, _)| *rank) {
        Some((_, entry)) => Ok(entry),
        None => Err(no_platform(host, images.iter().filter_map(|e| e.platform.as_ref()))),
    }
}

pub(crate) fn no_platform<'a>(
    host: &Platform,
    offered: impl Iterator<Item = &'a PlatformJson>,
) -> DocumentError {
    let mut offered: Vec<_> = offered.map(|p| Platform::from(p).to_string()).collect();
    offered.sort();
    offered.dedup();
    let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
    DocumentError::NoPlatform { wanted: host.to_string(), offered }
}

pub(crate) fn parse<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    what: &str,
) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes)
        .map_err(|source| DocumentError::Json { what: what.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let hex = "a".repeat(64);
        let text = format!(
            r#"{{"architecture":"arm","variant":"v7","os":"linux","history":[{{}}],
                "config":{{"Env":["A=b"],"Cmd":null,"Entrypoint":["/x"],"User":"","Volumes":null,
                           "ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"x":"y"}}}},
                "rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}}}}"#
        );
        let config = ConfigFile::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.entrypoint, ["/x"]);
        assert_eq!(config.config.env, ["A=b"]);
        assert!(config.config.cmd.is_empty() && config.config.stop_signal.is_none());
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        let host = Platform::new("linux", "amd64", None);
        assert_eq!(config.platform(&host).to_string(), "linux/arm/v7");
        assert!(matches!(
            config.check_layers(2),
            Err(DocumentError::LayerCount { layers: 2, diff_ids: 1 })
        ));
    }

    #[test]
    fn tells_documents_apart() {
        let hex = "b".repeat(64);
        let descriptor =
            |media: &str| format!(r#"{{"mediaType":"{media}","digest":"sha256:{hex}","size":3}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(OCI_MANIFEST));
        assert!(matches!(Document::parse(index.as_bytes(), "x"), Ok(Document::Index(_))));
        let manifest = |layer: &str| {
            let (config, layer) = (descriptor("application/json"), descriptor(layer));
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
        };
        let image = manifest("application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(matches!(Document::parse(image.as_bytes(), "x"), Ok(Document::Manifest(_))));
        let chart = manifest("application/vnd.cncf.helm.chart.content.v1.t+gzip");
        let error = Document::parse(chart.as_bytes(), "x").unwrap_err();
        assert!(matches!(error, DocumentError::NotAnImage(_)), "{error}");
        for bad in ["{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2}"#, "[", ""] {
            assert!(Document::parse(bad.as_bytes(), "x").is_err(), "{bad}");
        }
    }
}
