//! What skopeo writes: indexes of several platforms, and layouts packed in every way.

use super::{PLAIN, can_run, listed, runs, speaker};
use bramble_tests::{
    Node, Protection, RunningRegistry, host_architecture, sha256, skopeo_copy, succeed,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Turn an OCI layout whose `index.json` lists images into one that lists an index of them.
fn make_index(layout: &Path, name: &str, architectures: &[&str]) {
    let file = layout.join("index.json");
    let listed = std::fs::read(&file).expect("the layout has an index");
    let listed: Value = serde_json::from_slice(&listed).expect("it is JSON");
    let mut manifests = listed["manifests"].as_array().cloned().expect("it lists manifests");
    assert_eq!(manifests.len(), architectures.len());
    for (manifest, architecture) in manifests.iter_mut().zip(architectures) {
        manifest.as_object_mut().expect("a descriptor").remove("annotations");
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    let digest = sha256(index.as_bytes());
    std::fs::write(layout.join("blobs/sha256").join(&digest), &index).expect("a blob is written");
    let descriptor = json!({"mediaType": kind, "digest": format!("sha256:{digest}"),
        "size": index.len(), "annotations": {"org.opencontainers.image.ref.name": name}});
    let outer = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
    std::fs::write(&file, outer).expect("the index can be written");
}

/// An OCI layout with one name for an image of another processor, which says `wrong`, and one of
/// this machine's, which says `right`.
fn two_platforms(node: &Node, name: &str) -> PathBuf {
    let here = host_architecture();
    let there = if here == "arm64" { "amd64" } else { "arm64" };
    let layout = node.root().join("layout");
    for (architecture, word) in [(there, "wrong"), (here, "right")] {
        let mut image = speaker(word);
        image.architecture = architecture.into();
        let archive = format!("docker-archive:{}", image.save(node.root()).display());
        skopeo_copy(node, &[], &archive, &format!("oci:{}:{architecture}", layout.display()));
    }
    make_index(&layout, name, &[there, here]);
    layout
}

#[test]
fn the_right_platform_of_an_index_runs() {
    if !can_run("multi-platform index") {
        return;
    }
    let node = Node::start();
    let registry = RunningRegistry::start(&node, "localhost:5000", &Protection::default());
    let layout = two_platforms(&node, "both:1");
    let from = format!("oci:{}:both:1", layout.display());
    for (id, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let image = registry.image(&format!("both:{id}"));
        let options = [PLAIN[0], "--all", "--format", format];
        skopeo_copy(&node, &options, &from, &format!("docker://{image}"));
        let mut inspect = node.inside("skopeo");
        inspect.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")]);
        let index: Value = serde_json::from_str(&succeed(inspect)).expect("skopeo prints JSON");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
        runs(&node, id, &image, "right");
        is_listed_for_this_machine(&node, &image);
    }
}

fn is_listed_for_this_machine(node: &Node, image: &str) {
    let here = format!("linux/{}", host_architecture());
    let listed = listed(node);
    let line = listed.lines().find(|line| line.starts_with(image));
    assert!(line.is_some_and(|line| line.contains(&here)), "{listed}");
}

/// Load an archive and check every byte of what the client prints where nobody watches.
fn load(node: &Node, archive: &Path, image: &str) {
    let output = node.bramble(&["load", &archive.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", archive.display());
    assert_eq!(said, "", "a progress bar where no terminal is");
    let printed = String::from_utf8_lossy(&output.stdout);
    let rest = printed.strip_prefix(&format!("loaded {image} (")).and_then(|r| r.split_once(")\n"));
    assert!(rest.is_some_and(|(size, rest)| !size.is_empty() && rest.is_empty()), "{printed:?}");
}

/// Pack an archive with a program of the machine.
fn packed(archive: &Path, program: &str, ending: &str) -> PathBuf {
    let target = PathBuf::from(format!("{}.{ending}", archive.display()));
    let mut pack = std::process::Command::new(program);
    pack.arg("-c").arg(archive);
    let output = pack.output().expect("the archive is packed");
    assert!(output.status.success(), "{program}: {}", output.status);
    std::fs::write(&target, output.stdout).expect("the archive is written");
    target
}

#[test]
fn layouts_load_however_they_and_their_layers_are_packed() {
    if !can_run("layout archives") {
        return;
    }
    let node = Node::start();
    for (word, layers, pack) in [
        ("plain", "gzip", None),
        ("gzipped", "gzip", Some(("gzip", "gz"))),
        ("zstandard", "zstd", Some(("zstd", "zst"))),
    ] {
        let image = format!("registry.example/packed/{word}:1");
        let archive = node.root().join(format!("{word}-layout.tar"));
        let from = format!("docker-archive:{}", speaker(word).save(node.root()).display());
        let to = format!("oci-archive:{}:{image}", archive.display());
        skopeo_copy(&node, &["--dest-compress-format", layers], &from, &to);
        let kind = format!("tar+{layers}");
        let mut contents = std::process::Command::new("tar");
        contents.arg("-xOf").arg(&archive).args(["--wildcards", "blobs/*"]);
        let contents = contents.output().expect("tar runs").stdout;
        assert!(String::from_utf8_lossy(&contents).contains(&kind), "no layer is {kind}");
        let archive = match pack {
            Some((program, ending)) => packed(&archive, program, ending),
            None => archive,
        };
        load(&node, &archive, &image);
        is_listed_for_this_machine(&node, &image);
        runs(&node, word, &image, word);
    }
}

#[test]
fn a_layout_of_several_platforms_gives_this_machines() {
    if !can_run("multi-platform layout") {
        return;
    }
    let node = Node::start();
    let image = "registry.example/both:1";
    let layout = two_platforms(&node, image);
    let archive = node.root().join("both.tar");
    let to = format!("oci-archive:{}:{image}", archive.display());
    skopeo_copy(&node, &["--all"], &format!("oci:{}:{image}", layout.display()), &to);
    load(&node, &archive, image);
    is_listed_for_this_machine(&node, image);
    runs(&node, "both", image, "right");
}
