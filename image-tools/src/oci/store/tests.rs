use super::*;
use crate::oci::archive::load_archive;
use crate::oci::testing::*;
use std::io::Cursor;

fn sample(name: &str) -> Cursor<Vec<u8>> {
    Cursor::new(pack(&docker_save_old(&TestImage::sample(), &[name])))
}

#[test]
fn only_one_process_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_damaged_index_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join(INDEX_FILE);
    for (text, part) in [("{", "damaged"), (r#"{"version":9,"images":7}"#, "version 9")] {
        std::fs::write(&index, text).unwrap();
        let error = Store::open(dir.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read_to_string(&index).unwrap(), text);
    }
}

#[test]
fn the_index_keeps_its_form() {
    // As version 0.1.0 writes it. A change here makes the images of every node unreadable.
    let golden = include_str!("images-v1.json");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(INDEX_FILE), golden).unwrap();
    let index = Index::read(&dir.path().join(INDEX_FILE)).unwrap();
    let image = &index.images["docker.io/library/example:1"];
    assert_eq!(image.config.entrypoint, ["/bin/server"]);
    assert_eq!(image.layers[0].unpacked_bytes, 10);
    index.write(&dir.path().join("again"), &dir.path().join("again.new")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("again")).unwrap().trim(), golden.trim());
}

#[test]
fn opening_removes_what_a_crash_left() {
    if !is_root("opening_removes_what_a_crash_left") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = load_archive(&store, sample("kept"), &mut |_| {}).unwrap().remove(0);
    let before = listing(dir.path());
    drop(store);

    // A crash while staging, one after publishing, and one between index and marker.
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("tmp/7/layer0/deep")).unwrap();
    std::fs::write(at("tmp/7/blob1"), "x").unwrap();
    std::fs::write(at("tmp/images.json"), "{").unwrap();
    let stray = Digest::of(b"stray").hex().to_owned();
    std::fs::create_dir_all(at("layers").join(&stray).join("d")).unwrap();
    std::fs::write(at("layers").join(format!("{stray}.pending")), "").unwrap();
    std::fs::write(at("blobs/sha256").join(&stray), "stray").unwrap();
    std::fs::write(at("blobs/sha256").join(format!("{stray}.pending")), "").unwrap();
    // Marked, and then the power went before the rename.
    let never = Digest::of(b"never").hex().to_owned();
    std::fs::write(at("layers").join(format!("{never}.pending")), "").unwrap();
    let named = image.layers[0].diff_id.hex();
    std::fs::write(at("layers").join(format!("{named}.pending")), "").unwrap();

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(listing(dir.path()), before);
    assert_eq!(store.find(&"kept".parse().unwrap()), Some(image));
}

#[test]
fn an_image_with_a_missing_layer_is_not_here() {
    if !is_root("an_image_with_a_missing_layer_is_not_here") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let image = load_archive(&store, sample("x"), &mut |_| {}).unwrap().remove(0);
    std::fs::remove_dir_all(&store.layer_dirs(&image)[0]).unwrap();
    assert_eq!(store.find(&"x".parse().unwrap()), None);
    // Loading it again heals it.
    load_archive(&store, sample("x"), &mut |_| {}).unwrap();
    assert!(store.find(&"x".parse().unwrap()).is_some());
}

#[test]
fn a_replaced_name_keeps_the_old_layers() {
    if !is_root("a_replaced_name_keeps_the_old_layers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let old = load_archive(&store, sample("x"), &mut |_| {}).unwrap().remove(0);
    let new = TestImage::new("amd64", vec![Tar::new().file("only", "new").done()]);
    let archive = Cursor::new(pack(&docker_save_old(&new, &["x"])));
    let new = load_archive(&store, archive, &mut |_| {}).unwrap().remove(0);
    assert_eq!(store.find(&"x".parse().unwrap()), Some(new));
    // A container may stand on them, now and after a restart.
    assert!(store.layer_dirs(&old).iter().all(|dir| dir.is_dir()));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.layer_dirs(&old).iter().all(|dir| dir.is_dir()));
}

#[test]
fn concurrent_loads_share_layers_and_failures_take_none_away() {
    if !is_root("concurrent_loads_share_layers_and_failures_take_none_away") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    // Eight images of the same layers; every second is broken in its upper one.
    let loads: Vec<_> = (0..8)
        .map(|number| {
            let mut image = TestImage::sample();
            image.layers[0] = Tar::new().file("shared", vec![9; 500_000]).done();
            if number % 2 == 1 {
                image.layers[1] = Tar::new().file("../evil", "").done();
            }
            let image = TestImage::new("amd64", image.layers);
            let archive = pack(&docker_save_old(&image, &[&format!("image:{number}")]));
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                load_archive(&store, Cursor::new(archive), &mut |_| {}).is_ok()
            })
        })
        .collect();
    let results: Vec<bool> = loads.into_iter().map(|load| load.join().unwrap()).collect();
    assert_eq!(results, [true, false, true, false, true, false, true, false]);
    assert_eq!(store.images().len(), 4);
    for image in store.images() {
        assert!(store.find(&image.reference.parse().unwrap()).is_some());
        assert!(store.layer_dirs(&image)[1].join("shared").exists());
    }
    let left = listing(dir.path());
    assert!(!left.iter().any(|line| line.contains("pending")), "{left:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("layers")).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_read_only_place_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(&file.path().join("store")).map(drop).unwrap_err();
    assert!(error.to_string().contains("making directory"), "{error}");
}
