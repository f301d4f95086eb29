//! OCI layouts: what `index.json` leads to (image-spec, "Image Layout").
//!
//! Owns names and the choice among platforms. Descriptors are grouped by name; each name gets the
//! one image that fits this machine best, however indexes are nested.

use super::archive::{Archive, ArchiveError, Found, blob_path};
use super::digest::Digest;
use super::model::{self, ConfigFile, Descriptor, Document, DocumentError, INDEX_DEPTH_MAX};
use super::platform::Platform;
use super::reference::ImageReference;
use super::store::Staged;
use serde::Deserialize;
use std::collections::BTreeMap;

const INDEX: &str = "index.json";
const MARK: &str = "oci-layout";
/// The whole name, written by containerd and buildx; the standard key then has only the tag.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Manifests an index may lead to, all depths together.
const CANDIDATES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    image_layout_version: String,
}

/// One manifest that could be the image of a name.
struct Candidate {
    descriptor: Descriptor,
    /// The outermost index below `index.json` that leads here, and all documents on the way.
    index_digest: Option<Digest>,
    documents: Vec<Staged>,
}

pub(super) fn find(archive: &Archive, host: &Platform) -> Result<Vec<Found>, ArchiveError> {
    let mark: Mark = read(archive, archive.file(MARK, "mark of an OCI layout")?, MARK)?;
    if !mark.image_layout_version.starts_with("1.") {
        return Err(ArchiveError::LayoutVersion(mark.image_layout_version));
    }
    let bytes = archive.document(archive.file(INDEX, "list of images")?, INDEX)?;
    let document = Document::parse(&bytes, INDEX).map_err(in_document(INDEX))?;
    let Document::Index(entries) = document else {
        return Err(in_document(INDEX)(DocumentError::MediaType(String::new())));
    };
    let mut by_name: BTreeMap<ImageReference, Vec<Candidate>> = BTreeMap::new();
    let mut walk = Walk { archive, by_name: &mut by_name, count: 0 };
    for entry in &entries {
        walk.descend(entry, None, None, &[], 0)?;
    }
    let mut found = Vec::new();
    for (name, candidates) in by_name {
        found.push(choose(archive, name, candidates, host)?);
    }
    Ok(found)
}

struct Walk<'a> {
    archive: &'a Archive,
    by_name: &'a mut BTreeMap<ImageReference, Vec<Candidate>>,
    count: usize,
}

impl Walk<'_> {
    fn descend(
        &mut self,
        entry: &Descriptor,
        name: Option<&ImageReference>,
        index_digest: Option<&Digest>,
        documents: &[Staged],
        depth: usize,
    ) -> Result<(), ArchiveError> {
        self.count += 1;
        if depth > INDEX_DEPTH_MAX || self.count > CANDIDATES_MAX {
            return Err(in_document(INDEX)(DocumentError::TooDeep));
        }
        if entry.is_attestation() {
            return Ok(());
        }
        let own = name_of(entry)?;
        let name = own.as_ref().or(name);
        if !entry.is_index() {
            let name = name.ok_or(ArchiveError::Unnamed)?;
            self.by_name.entry(name.clone()).or_default().push(Candidate {
                descriptor: entry.clone(),
                index_digest: index_digest.cloned(),
                documents: documents.to_vec(),
            });
            return Ok(());
        }
        let path = blob_path(&entry.digest);
        let staged = self.archive.blob(&entry.digest, Some(entry.size), "index")?;
        let bytes = self.archive.document(staged, &path)?;
        let Document::Index(inner) =
            Document::parse(&bytes, "index").map_err(in_document(&path))?
        else {
            let source = DocumentError::MediaType(entry.media_type.clone());
            return Err(in_document(&path)(source));
        };
        let index_digest = index_digest.unwrap_or(&entry.digest);
        let documents = [documents, std::slice::from_ref(staged)].concat();
        for entry in &inner {
            self.descend(entry, name, Some(index_digest), &documents, depth + 1)?;
        }
        Ok(())
    }
}

fn name_of(entry: &Descriptor) -> Result<Option<ImageReference>, ArchiveError> {
    let name = entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REF_NAME));
    let Some(name) = name else { return Ok(None) };
    let parsed = name.parse().map_err(|source| ArchiveError::Name { name: name.clone(), source });
    parsed.map(Some)
}

fn choose(
    archive: &Archive,
    name: ImageReference,
    candidates: Vec<Candidate>,
    host: &Platform,
) -> Result<Found, ArchiveError> {
    let only = candidates.len() == 1;
    let mut best: Option<(u32, &Candidate)> = None;
    for candidate in &candidates {
        let rank = match &candidate.descriptor.platform {
            Some(platform) => host.rank(&platform.into()),
            // Many tools leave the platform to the configuration.
            None => host.rank(&configured_platform(archive, candidate, host)?),
        };
        // A single image is taken as it is: some are labelled wrongly, and Docker runs them.
        let rank = if only { Some(0) } else { rank };
        if let Some(rank) = rank
            && best.is_none_or(|(least, _)| rank < least)
        {
            best = Some((rank, candidate));
        }
    }
    let Some((_, candidate)) = best else {
        let offered = candidates.iter().filter_map(|c| c.descriptor.platform.as_ref());
        return Err(in_document(&name.to_string())(model::no_platform(host, offered)));
    };
    let (staged, manifest) = manifest(archive, &candidate.descriptor)?;
    let size = Some(manifest.config.size);
    let config = archive.blob(&manifest.config.digest, size, "configuration")?.clone();
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        layers.push(archive.blob(&layer.digest, Some(layer.size), "layer")?.clone());
    }
    Ok(Found {
        names: vec![name],
        digest: candidate.descriptor.digest.clone(),
        index_digest: candidate.index_digest.clone(),
        config,
        documents: [candidate.documents.as_slice(), &[staged]].concat(),
        layers,
    })
}

fn manifest(
    archive: &Archive,
    descriptor: &Descriptor,
) -> Result<(Staged, model::Manifest), ArchiveError> {
    let path = blob_path(&descriptor.digest);
    let staged = archive.blob(&descriptor.digest, Some(descriptor.size), "manifest")?;
    let bytes = archive.document(staged, &path)?;
    match Document::parse(&bytes, "manifest").map_err(in_document(&path))? {
        Document::Manifest(manifest) => Ok((staged.clone(), manifest)),
        Document::Index(_) => Err(in_document(&path)(DocumentError::MediaType("index".to_owned()))),
    }
}

fn configured_platform(
    archive: &Archive,
    candidate: &Candidate,
    host: &Platform,
) -> Result<Platform, ArchiveError> {
    let (_, manifest) = manifest(archive, &candidate.descriptor)?;
    let digest = &manifest.config.digest;
    let staged = archive.blob(digest, Some(manifest.config.size), "configuration")?;
    let path = blob_path(digest);
    let bytes = archive.document(staged, &path)?;
    let config = ConfigFile::parse(&bytes).map_err(in_document(&path))?;
    Ok(config.platform(host))
}

fn read<T: for<'de> Deserialize<'de>>(
    archive: &Archive,
    staged: &Staged,
    path: &str,
) -> Result<T, ArchiveError> {
    let bytes = archive.document(staged, path)?;
    model::parse(&bytes, path).map_err(in_document(path))
}

fn in_document(path: &str) -> impl FnOnce(DocumentError) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Document { path, source }
}
