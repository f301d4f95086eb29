//! Builds layers, images and archives in memory for the tests of this module.

use super::digest::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Unpacking sets owners and writes device nodes. Says loudly that a test did not run.
pub(crate) fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root, and CI must not skip it");
    eprintln!("SKIPPED {test}: unpacking layers needs root");
    false
}

/// A tar archive, written header by header, so that nothing is refused while it is built.
pub(crate) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(Builder::new(Vec::new()))
    }

    pub(crate) fn add(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        data: &[u8],
    ) -> Tar {
        let mut header = header(kind, path, link, mode, data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, data: impl AsRef<[u8]>) -> Tar {
        self.add(EntryType::Regular, path, "", 0o644, data.as_ref())
    }

    pub(crate) fn dir(self, path: &str) -> Tar {
        self.add(EntryType::Directory, path, "", 0o755, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Tar {
        self.add(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Tar {
        self.add(EntryType::Link, path, target, 0o644, b"")
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn header(kind: EntryType, path: &str, link: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn plain(data: &[u8]) -> Vec<u8> {
    data.to_vec()
}

/// An image: its layers uncompressed, and its configuration.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

impl TestImage {
    pub(crate) fn new(architecture: &str, layers: Vec<Vec<u8>>) -> TestImage {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": ["/bin/server"], "Cmd": ["--port", "80"], "User": "7:8",
                       "Env": ["PATH=/bin"], "WorkingDir": "/srv", "StopSignal": "SIGQUIT"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        TestImage { layers, config: config.to_string().into_bytes() }
    }

    /// Two layers, of which the upper hides a file of the lower.
    pub(crate) fn sample() -> TestImage {
        let lower = Tar::new().dir("etc/").file("etc/old", "old").file("etc/kept", "kept").done();
        let upper = Tar::new().dir("etc/").file("etc/.wh.old", "").file("new", "new").done();
        TestImage::new(super::Platform::host().architecture.as_str(), vec![lower, upper])
    }
}

/// Members of an outer archive by path.
pub(crate) type Members = BTreeMap<String, Vec<u8>>;

pub(crate) fn pack(members: &Members) -> Vec<u8> {
    members.iter().fold(Tar::new(), |tar, (path, data)| tar.file(path, data)).done()
}

/// What `docker save` wrote before version 25.
pub(crate) fn docker_save_old(image: &TestImage, tags: &[&str]) -> Members {
    let mut members = Members::new();
    let config = format!("{}.json", Digest::of(&image.config).hex());
    let mut layers = Vec::new();
    for layer in &image.layers {
        let path = format!("{}/layer.tar", Digest::of(layer).hex());
        members.insert(path.clone(), layer.clone());
        layers.push(path);
    }
    let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": layers}]);
    members.insert("manifest.json".into(), manifest.to_string().into_bytes());
    members.insert(config, image.config.clone());
    members
}

/// What `docker save` writes since version 25.
pub(crate) fn docker_save_new(image: &TestImage, tags: &[&str]) -> Members {
    let mut members = layout(&[(tags[0], image)], plain);
    let layers: Vec<_> = image.layers.iter().map(|layer| blob(&mut members, layer)).collect();
    let config = blob(&mut members, &image.config);
    let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": layers}]);
    members.insert("manifest.json".into(), manifest.to_string().into_bytes());
    members
}

fn blob(members: &mut Members, data: &[u8]) -> String {
    let path = format!("blobs/sha256/{}", Digest::of(data).hex());
    members.insert(path.clone(), data.to_vec());
    path
}

pub(crate) fn descriptor(members: &mut Members, media_type: &str, data: &[u8]) -> Value {
    blob(members, data);
    json!({"mediaType": media_type, "digest": Digest::of(data), "size": data.len()})
}

/// Puts an image's blobs among the members; gives the descriptor of its manifest.
pub(crate) fn image_blobs(
    members: &mut Members,
    image: &TestImage,
    packing: fn(&[u8]) -> Vec<u8>,
) -> Value {
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    let config_type = "application/vnd.oci.image.config.v1+json";
    let config = descriptor(members, config_type, &image.config);
    let layers: Vec<_> =
        image.layers.iter().map(|layer| descriptor(members, layer_type, &packing(layer))).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": super::model::OCI_MANIFEST,
                          "config": config, "layers": layers});
    descriptor(members, super::model::OCI_MANIFEST, manifest.to_string().as_bytes())
}

pub(crate) fn layout(images: &[(&str, &TestImage)], packing: fn(&[u8]) -> Vec<u8>) -> Members {
    let mut members = Members::new();
    let mut entries = Vec::new();
    for (name, image) in images {
        let mut entry = image_blobs(&mut members, image, packing);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        entries.push(entry);
    }
    with_index(members, &entries)
}

pub(crate) fn with_index(mut members: Members, entries: &[Value]) -> Members {
    let index = json!({"schemaVersion": 2, "manifests": entries});
    members.insert("index.json".into(), index.to_string().into_bytes());
    members.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    members
}

/// Everything below a directory, with sizes: equal listings mean nothing was left behind.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                left.push(entry.path());
            }
            let size = if metadata.is_file() { metadata.len() } else { 0 };
            found.push(format!("{} {size}", entry.path().display()));
        }
    }
    found.sort();
    found
}

/// The chain of causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
