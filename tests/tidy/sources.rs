//! The tree's own files, as the rules read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A Rust file: path from the top of the tree, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// What the rules ask of a crate's manifest.
pub struct Manifest {
    /// Names under `[dependencies]`.
    pub dependencies: Vec<String>,
    /// Dependencies that give a version themselves.
    pub own_versions: Vec<(String, String)>,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the tree").into()
}

/// Every Rust file of the workspace.
pub fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut found = Vec::new();
        for crate_dir in ["core", "protocol", "master", "agent", "image-tools", "cli", "tests"] {
            collect(&top().join(crate_dir), &mut found);
        }
        assert!(found.len() > 50, "only {} files were found", found.len());
        found
    })
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(directory).expect("the tree can be read");
    for entry in entries {
        let path = entry.expect("the tree can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(top()).expect("below the top").display().to_string();
            found.push(Source { path, text });
        }
    }
}

/// Read a crate's manifest.
pub fn manifest(crate_dir: &str) -> Manifest {
    let path = top().join(crate_dir).join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("every crate has a manifest");
    let mut manifest = Manifest { dependencies: Vec::new(), own_versions: Vec::new() };
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_string();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { continue };
        if !section.ends_with("dependencies") || line.starts_with('#') {
            continue;
        }
        let name = name.trim().trim_end_matches(".workspace").to_string();
        if !line.contains("workspace = true") {
            manifest.own_versions.push((name.clone(), value.trim().to_string()));
        }
        if section == "dependencies" {
            manifest.dependencies.push(name);
        }
    }
    manifest
}
