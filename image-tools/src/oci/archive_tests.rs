//! Archives as users bring them: whole, packed, broken and hostile.
//!
//! Owns the proof that a refused archive leaves nothing behind. Never asks a registry.

use super::*;
use crate::oci::testing::*;
use serde_json::json;
use std::io::Cursor;
use std::path::Path;
use tar::EntryType;

fn load(store: &Arc<Store>, archive: Vec<u8>) -> Result<Vec<Image>, ArchiveError> {
    load_archive(store, Cursor::new(archive), &mut |_| {})
}

fn open() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Loads what must be refused into a store with an image, and finds the store as it was.
fn refused(store: &Arc<Store>, archive: Vec<u8>) -> String {
    let before = listing(store.root());
    let error = load(store, archive).expect_err("must be refused");
    assert_eq!(listing(store.root()), before, "left behind after {error}");
    chain(&error)
}

fn check_sample(store: &Store, image: &Image) {
    let reference = image.reference.parse().unwrap();
    assert_eq!(store.find(&reference).as_ref(), Some(image));
    let dirs = store.layer_dirs(image);
    assert_eq!(dirs.len(), 2);
    assert_eq!(std::fs::read(dirs[0].join("new")).unwrap(), b"new");
    assert_eq!(std::fs::read(dirs[1].join("etc/kept")).unwrap(), b"kept");
    assert_eq!(image.config.entrypoint, ["/bin/server"]);
    assert_eq!(image.config.cmd, ["--port", "80"]);
    assert_eq!(image.config.env, ["PATH=/bin"]);
    let config = &image.config;
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("7:8", "/srv"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(image.platform, Platform::host().to_string());
    assert_eq!(image.size_bytes, 10);
}

#[test]
fn loads_every_form_and_packing() {
    if !is_root("loads_every_form_and_packing") {
        return;
    }
    let image = TestImage::sample();
    let name = "example:1";
    let forms = [
        ("docker save, old", docker_save_old(&image, &[name])),
        ("docker save, new", docker_save_new(&image, &[name])),
        ("layout, plain", layout(&[(name, &image)], plain)),
        ("layout, gzip", layout(&[(name, &image)], gzip)),
        ("layout, zstd", layout(&[(name, &image)], zstd)),
    ];
    for (form, members) in forms {
        for packing in [plain, gzip, zstd] {
            let (dir, store) = open();
            let images = load(&store, packing(&pack(&members))).expect(form);
            assert_eq!(images.len(), 1, "{form}");
            assert_eq!(images[0].reference, "docker.io/library/example:1", "{form}");
            check_sample(&store, &images[0]);
            assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "{form}");
            let left = listing(dir.path());
            assert!(!left.iter().any(|line| line.contains("pending")), "{form}: {left:?}");
            // Again, out of the file.
            drop(store);
            check_sample(&Store::open(dir.path()).unwrap(), &images[0]);
        }
    }
}

#[test]
fn names_come_from_where_tools_put_them() {
    if !is_root("names_come_from_where_tools_put_them") {
        return;
    }
    let image = TestImage::sample();
    let references = |archive: Vec<u8>| -> Vec<String> {
        let (_dir, store) = open();
        load(&store, archive).unwrap().into_iter().map(|image| image.reference).collect()
    };
    let tags = ["one:1", "localhost:5000/two"];
    assert_eq!(
        references(pack(&docker_save_old(&image, &tags))),
        ["docker.io/library/one:1", "localhost:5000/two:latest"]
    );
    let two = layout(&[("b:1", &image), ("a:1", &image)], gzip);
    assert_eq!(references(pack(&two)), ["docker.io/library/a:1", "docker.io/library/b:1"]);
    let mut members = Members::new();
    let mut entry = image_blobs(&mut members, &image, gzip);
    entry["annotations"] = json!({"io.containerd.image.name": "host.local/app:2",
                                  "org.opencontainers.image.ref.name": "2"});
    assert_eq!(references(pack(&with_index(members, &[entry]))), ["host.local/app:2"]);
}

#[test]
fn chooses_the_platform_in_nested_indexes() {
    if !is_root("chooses_the_platform_in_nested_indexes") {
        return;
    }
    let host = Platform::host();
    let of =
        |text: &str| TestImage::new(&host.architecture, vec![Tar::new().file("f", text).done()]);
    let mut members = Members::new();
    let mut entry = |text: &str, architecture: &str, variant: Option<&str>| {
        let mut entry = image_blobs(&mut members, &of(text), zstd);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            entry["platform"]["variant"] = json!(variant);
        }
        entry
    };
    let wrong = entry("wrong", "s390x", None);
    let right = entry("right", &host.architecture, host.variant.as_deref());
    let attestation = entry("attestation", "unknown", None);
    let attestation = {
        let mut attestation = attestation;
        attestation["platform"]["os"] = json!("unknown");
        attestation
    };
    let inner =
        json!({"schemaVersion": 2, "manifests": [wrong.clone(), right.clone(), attestation]});
    let media = crate::oci::model::OCI_INDEX;
    let mut inner = descriptor(&mut members, media, inner.to_string().as_bytes());
    inner["annotations"] = json!({"org.opencontainers.image.ref.name": "multi:1"});
    let (_dir, store) = open();
    let images = load(&store, pack(&with_index(members.clone(), &[inner.clone()]))).unwrap();
    assert_eq!(images[0].digest.to_string(), right["digest"]);
    assert_eq!(images[0].index_digest.as_ref().unwrap().to_string(), inner["digest"]);
    let dirs = store.layer_dirs(&images[0]);
    assert_eq!(std::fs::read(dirs[0].join("f")).unwrap(), b"right");
    // By the digest of the index as well as of the manifest; not under another name.
    for (name, found) in [("multi", true), ("other", false)] {
        for digest in [&inner["digest"], &right["digest"]] {
            let reference = format!("{name}@{}", digest.as_str().unwrap()).parse().unwrap();
            assert_eq!(store.find(&reference).is_some(), found, "{reference}");
        }
    }

    let mut other = wrong.clone();
    other["platform"]["architecture"] = json!("mips");
    let foreign: Vec<_> = [wrong, other]
        .into_iter()
        .map(|mut entry| {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": "foreign"});
            entry
        })
        .collect();
    let error = refused(&store, pack(&with_index(members, &foreign)));
    assert!(error.contains("linux/mips, linux/s390x"), "{error}");
}

#[test]
fn a_single_image_for_another_machine_is_taken_with_a_warning() {
    if !is_root("a_single_image_for_another_machine_is_taken_with_a_warning") {
        return;
    }
    let image = TestImage { ..TestImage::new("s390x", TestImage::sample().layers) };
    let (_dir, store) = open();
    let mut lines = Vec::new();
    let archive = Cursor::new(pack(&docker_save_old(&image, &["foreign"])));
    let images = load_archive(&store, archive, &mut |line| lines.push(line)).unwrap();
    assert_eq!(images[0].platform, "linux/s390x");
    assert!(lines.iter().any(|line| line.starts_with("warning: ")), "{lines:?}");
}

#[test]
fn layers_are_shared_and_stacked_once() {
    if !is_root("layers_are_shared_and_stacked_once") {
        return;
    }
    let sample = TestImage::sample();
    let architecture = Platform::host().architecture;
    let [lower, upper] = [sample.layers[0].clone(), sample.layers[1].clone()];
    let twice =
        TestImage::new(&architecture, vec![lower.clone(), upper.clone(), lower.clone(), upper]);
    let (dir, store) = open();
    load(&store, pack(&docker_save_old(&sample, &["a"]))).unwrap();
    // Old archives link a layer that occurs again.
    let mut members = docker_save_old(&twice, &["b"]);
    let manifest = String::from_utf8(members["manifest.json"].clone()).unwrap();
    let path = format!("{}/layer.tar", Digest::of(&lower).hex());
    let linked = manifest.replacen(&path, "again/layer.tar", 1);
    members.insert("manifest.json".into(), linked.into_bytes());
    let target = format!("../{path}");
    let tar = Tar::new().pax(&[("linkpath", target.as_bytes())]).symlink("again/layer.tar", "x");
    let tar = members.iter().fold(tar, |tar, (path, data)| tar.file(path, data));
    let images = load(&store, tar.done()).unwrap();
    assert_eq!(images[0].layers.len(), 4);
    let dirs = store.layer_dirs(&images[0]);
    assert_eq!(dirs.len(), 2);
    assert!(dirs[0].join("new").exists() && dirs[1].join("etc/old").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("layers")).unwrap().count(), 2);
}

#[test]
fn every_truncation_is_refused_and_leaves_nothing() {
    if !is_root("every_truncation_is_refused_and_leaves_nothing") {
        return;
    }
    let image = TestImage::sample();
    let (_dir, store) = open();
    load(&store, pack(&docker_save_old(&TestImage::sample(), &["present"]))).unwrap();
    let other = {
        let mut other = image;
        other.layers[1] = Tar::new().file("other", vec![3; 3000]).done();
        TestImage::new(&Platform::host().architecture, other.layers)
    };
    for members in [docker_save_old(&other, &["x"]), layout(&[("x", &other)], gzip)] {
        let whole = pack(&members);
        // Two blocks of zeros end an archive; one of them is enough to know.
        let needed = whole.len() - 1024;
        for cut in (0..needed).step_by(509).chain([needed, needed + 511]) {
            refused(&store, whole[..cut].to_vec());
        }
        for packing in [gzip, zstd] {
            let packed = packing(&whole);
            for cut in (0..packed.len()).step_by(packed.len() / 40).chain([packed.len() - 1]) {
                refused(&store, packed[..cut].to_vec());
            }
        }
        // And the whole one is fine, so that the cuts were what was wrong.
        let (_dir, fresh) = open();
        load(&fresh, whole).unwrap();
    }
}

/// Changes one member.
fn with(members: &Members, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut members = members.clone();
    change(members.get_mut(path).unwrap());
    pack(&members)
}

fn replace(members: &Members, path: &str, from: &str, to: &str) -> Vec<u8> {
    with(members, path, |data| {
        let text = String::from_utf8(data.clone()).unwrap();
        assert!(text.contains(from), "{text} lacks {from}");
        *data = text.replacen(from, to, 1).into_bytes();
    })
}

/// What is wrong, the archive, and a part of the error.
type Lie = (&'static str, Vec<u8>, String);

fn without(members: &Members, path: &str) -> Vec<u8> {
    let mut members = members.clone();
    members.remove(path).unwrap();
    pack(&members)
}

fn check_lies(lies: Vec<Lie>) {
    let (_dir, store) = open();
    let present = TestImage::new("amd64", vec![Tar::new().dir("p").done()]);
    load(&store, pack(&docker_save_old(&present, &["present"]))).unwrap();
    for (name, archive, part) in lies {
        let error = refused(&store, archive);
        assert!(error.contains(&part), "{name}: {error:?} lacks {part:?}");
    }
    assert_eq!(store.images().len(), 1);
}

#[test]
fn lies_of_docker_save_archives_are_named() {
    if !is_root("lies_of_docker_save_archives_are_named") {
        return;
    }
    let image = TestImage::sample();
    let name = |data: &[u8]| Digest::of(data).hex().to_owned();
    let old = docker_save_old(&image, &["x:1"]);
    let list = "manifest.json";
    let config = format!("{}.json", name(&image.config));
    let layer = format!("{}/layer.tar", name(&image.layers[0]));
    let second = format!(",\"{}/layer.tar\"", name(&image.layers[1]));
    // The layers in an order other than that of the configuration.
    let swapped = {
        let mut swapped = image.clone();
        swapped.layers.swap(0, 1);
        pack(&docker_save_old(&swapped, &["x:1"]))
    };
    let flip = |data: &mut Vec<u8>| data[1024] ^= 1;
    let named = format!("configuration {config}");
    check_lies(vec![
        ("no list", without(&old, list), "not an archive of images".into()),
        ("no config", without(&old, &config), "configuration of an image".into()),
        ("no layer", without(&old, &layer), "lacks".into()),
        ("layer flipped", with(&old, &layer, flip), "promised".into()),
        ("layer cut", with(&old, &layer, |d| d.truncate(700)), "cut off".into()),
        ("layer cut between", with(&old, &layer, |d| d.truncate(512)), "promised".into()),
        ("layer garbage", with(&old, &layer, |d| d.fill(b'x')), "not a tar archive".into()),
        ("layers swapped", swapped, "promised".into()),
        ("config changed", with(&old, &config, |d| d.push(b' ')), named),
        ("bad name", replace(&old, list, "x:1", "X:1"), "lower case".into()),
        ("no name", replace(&old, list, "[\"x:1\"]", "null"), "without a name".into()),
        ("no images", with(&old, list, |d| *d = b"[]".to_vec()), "no image".into()),
        ("not json", with(&old, list, |d| d.truncate(9)), list.into()),
        ("fewer layers", replace(&old, list, &second, ""), "lists 1 layers".into()),
        ("link out", replace(&old, list, &layer, "../../etc/passwd"), "lacks".into()),
        ("member outside", Tar::new().file("../x", "").done(), "leads out".into()),
        ("not a tar", b"hello world".repeat(100), "not a tar".into()),
        ("nothing", Vec::new(), "cut off".into()),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec(), "xz".into()),
        ("empty tar", Tar::new().done(), "not an archive of images".into()),
    ]);
}

#[test]
fn lies_of_layouts_are_named() {
    if !is_root("lies_of_layouts_are_named") {
        return;
    }
    let image = TestImage::sample();
    let oci = layout(&[("x:1", &image)], gzip);
    let layer = blob_path(&Digest::of(&gzip(&image.layers[0])));
    let manifest = {
        let index: serde_json::Value = serde_json::from_slice(&oci["index.json"]).unwrap();
        blob_path(&index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap())
    };
    let size = format!("\"size\":{}", oci[&manifest].len());
    let key = "org.opencontainers.image.ref.name";
    check_lies(vec![
        ("no mark", without(&oci, "oci-layout"), "oci-layout".into()),
        ("other version", replace(&oci, "oci-layout", "1.0.0", "2.0.0"), "2.0.0".into()),
        ("no blob", without(&oci, &layer), layer.clone()),
        ("no manifest", without(&oci, &manifest), manifest.clone()),
        ("blob flipped", with(&oci, &layer, |d| d[30] ^= 1), layer.clone()),
        ("blob longer", with(&oci, &layer, |d| d.push(0)), layer.clone()),
        ("size lies", replace(&oci, "index.json", &size, "\"size\":7"), "bytes, not 7".into()),
        ("empty index", pack(&with_index(Members::new(), &[])), "no image".into()),
        ("unnamed", replace(&oci, "index.json", key, "x"), "without a name".into()),
    ]);
}

#[test]
fn layers_that_lie_about_their_content() {
    if !is_root("layers_that_lie_about_their_content") {
        return;
    }
    let architecture = Platform::host().architecture;
    let evil = Tar::new().symlink("l", "/").file("../escape", "evil").done();
    let image = TestImage::new(&architecture, vec![Tar::new().dir("fine").done(), evil]);
    let (_dir, store) = open();
    for members in [docker_save_old(&image, &["x"]), layout(&[("x", &image)], zstd)] {
        let error = refused(&store, pack(&members));
        assert!(error.contains("leads out of its root"), "{error}");
    }
    // A manifest whose layer is honest, for a configuration that expects another.
    let mut members = Members::new();
    let mut other = image.clone();
    other.layers = vec![Tar::new().dir("fine").done(), Tar::new().dir("other").done()];
    let mut entry = image_blobs(&mut members, &other, gzip);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    let error = refused(&store, pack(&with_index(members, &[entry])));
    assert!(error.contains("unpacked layer has digest"), "{error}");
    assert_eq!(std::fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn bombs_are_refused_before_the_disk_is_full() {
    if !is_root("bombs_are_refused_before_the_disk_is_full") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_limited(dir.path(), Some(4 << 20)).unwrap();
    let architecture = Platform::host().architecture;
    let image = TestImage::new(&architecture, vec![Tar::new().file("0", vec![0; 8 << 20]).done()]);
    // Small when it arrives, large when unpacked.
    let inner = pack(&layout(&[("bomb", &image)], gzip));
    assert!(inner.len() < 1 << 20);
    let outer = gzip(&pack(&docker_save_old(&image, &["bomb"])));
    let padded =
        gzip(&[pack(&layout(&[("x", &TestImage::sample())], gzip)), vec![0; 8 << 20]].concat());
    for bomb in [inner, outer, padded] {
        let error = refused(&store, bomb);
        assert!(error.contains("more than the 4194304 bytes"), "{error}");
    }
    load(&store, pack(&docker_save_old(&TestImage::sample(), &["fits"]))).unwrap();
}

#[test]
fn a_lost_sender_leaves_nothing() {
    struct Lost(Cursor<Vec<u8>>);
    impl Read for Lost {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionAborted.into()),
                count => Ok(count),
            }
        }
    }
    let (dir, store) = open();
    let before = listing(dir.path());
    let whole = pack(&docker_save_old(&TestImage::sample(), &["x"]));
    let lost = Lost(Cursor::new(whole[..whole.len() / 2].to_vec()));
    let error = load_archive(&store, lost, &mut |_| {}).unwrap_err();
    assert!(chain(&error).contains("aborted"), "{error}");
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn links_between_members_stay_inside() {
    let link = |kind, path: &str, target: &str| {
        let archive = Tar::new().add(kind, path, target, 0o777, b"").done();
        let mut stream = TarStream::new(Cursor::new(archive));
        link_target(path, &stream.next_entry().unwrap().unwrap()).ok()
    };
    let cases = [
        (EntryType::Symlink, "a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
        (EntryType::Symlink, "a", "b", Some("b")),
        (EntryType::Symlink, "a/b", "../../c", None),
        (EntryType::Link, "a/b", "c/d", Some("c/d")),
        (EntryType::Link, "a/b", "../d", None),
    ];
    for (kind, path, target, expected) in cases {
        assert_eq!(link(kind, path, target).as_deref(), expected, "{path} -> {target}");
    }
    assert!(!Path::new("/layer.tar").exists());
}
