//! Archives of `docker save`: what `manifest.json` lists.
//!
//! Owns both layouts, the old `<id>/layer.tar` and the newer `blobs/sha256/<hex>`: the manifest
//! names the members in either. Archives that are OCI layouts as well are read by this manifest,
//! as `docker load` does, since only it has whole names.

use super::archive::{Archive, ArchiveError, Found};
use super::digest::Digest;
use super::model;
use serde::Deserialize;

const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn find(archive: &Archive) -> Result<Vec<Found>, ArchiveError> {
    let bytes = archive.document(archive.file(MANIFEST, "list of images")?, MANIFEST)?;
    let saved: Vec<Saved> = model::parse(&bytes, "list of images")
        .map_err(|source| ArchiveError::Document { path: MANIFEST.to_owned(), source })?;
    saved.iter().map(|saved| found(archive, saved)).collect()
}

fn found(archive: &Archive, saved: &Saved) -> Result<Found, ArchiveError> {
    let mut names = Vec::new();
    for name in saved.repo_tags.iter().flatten() {
        let reference =
            name.parse().map_err(|source| ArchiveError::Name { name: name.clone(), source })?;
        names.push(reference);
    }
    if names.is_empty() {
        return Err(ArchiveError::Unnamed);
    }
    let config = archive.file(&saved.config, "configuration of an image")?.clone();
    if let Some(digest) = named_digest(&saved.config) {
        config.check(&format!("configuration {}", saved.config), &digest, None)?;
    }
    let mut layers = Vec::new();
    for layer in saved.layers.iter().flatten() {
        layers.push(archive.file(layer, "layer of an image")?.clone());
    }
    Ok(Found {
        names,
        digest: config.digest.clone(),
        index_digest: None,
        config,
        documents: Vec::new(),
        layers,
    })
}

/// Configurations are named `<digest>.json` or `blobs/sha256/<digest>`.
fn named_digest(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name))
}
