use super::*;
use crate::oci::archive::load_archive;
use crate::oci::testing::*;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A store in this process, as a node would give it out.
struct Node {
    store: Arc<Store>,
    /// Blobs end after this many bytes, counted from their beginning.
    cut: AtomicU64,
    /// One byte of each blob over a kilobyte is another.
    corrupt: AtomicBool,
    opened: Mutex<Vec<(Digest, u64)>>,
    _dir: tempfile::TempDir,
}

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    Node {
        store: Store::open(dir.path()).unwrap(),
        cut: AtomicU64::new(u64::MAX),
        corrupt: AtomicBool::new(false),
        opened: Mutex::default(),
        _dir: dir,
    }
}

impl Node {
    fn load(&self, members: &Members) -> Image {
        let (store, archive) = (Arc::clone(&self.store), Cursor::new(pack(members)));
        // Loading blocks, which the test's own thread may not.
        let load = move || load_archive(&store, archive, &mut |_| {}).unwrap().remove(0);
        std::thread::spawn(load).join().unwrap()
    }

    fn parts(&self, name: &str) -> Parts {
        self.store.parts(&name.parse().unwrap()).expect("it is whole here")
    }

    /// Offsets at which large blobs were asked for, in order.
    fn offsets(&self) -> Vec<u64> {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap());
        opened.into_iter().map(|(_, offset)| offset).collect()
    }
}

impl BlobSource for Node {
    type Reader = Cursor<Vec<u8>>;

    fn name(&self) -> &str {
        "far"
    }

    async fn open(&self, blob: &Digest, offset: u64) -> io::Result<Cursor<Vec<u8>>> {
        let (mut file, size) =
            self.store.open_blob(blob).unwrap().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset)).unwrap();
        let end = self.cut.load(Ordering::SeqCst).saturating_sub(offset);
        file.take(end).read_to_end(&mut bytes).unwrap();
        if size > 1024 {
            self.opened.lock().unwrap().push((blob.clone(), offset));
            if self.corrupt.load(Ordering::SeqCst)
                && let Some(last) = bytes.last_mut()
            {
                *last ^= 1;
            }
        }
        Ok(Cursor::new(bytes))
    }
}

async fn bring(to: &Node, from: &Node, name: &str) -> Result<Image, ImportError> {
    let import = Import::begin(&to.store, &name.parse().unwrap()).await.unwrap();
    let result = import.from(&from.parts(name), from, &|_| {}).await;
    import.end().await.unwrap();
    result
}

/// One layer of 100 kB and one of 40 kB.
fn large() -> TestImage {
    let lower = Tar::new().file("lower", vec![b'a'; 100_000]).done();
    let upper = Tar::new().file("upper", vec![b'b'; 40_000]).done();
    TestImage::new(super::Platform::host().architecture.as_str(), vec![lower, upper])
}

#[tokio::test]
async fn images_of_every_origin_come_over_whole_and_can_be_passed_on() {
    if !is_root("images_of_every_origin_come_over_whole_and_can_be_passed_on") {
        return;
    }
    let cases = [
        ("docker save", docker_save_old(&large(), &["x:1"])),
        ("layout", layout(&[("x:1", &large())], gzip)),
    ];
    for (origin, members) in cases {
        let (from, to, third) = (node(), node(), node());
        let image = from.load(&members);
        let came = bring(&to, &from, "x:1").await.unwrap();
        assert_eq!(came, Image { created_unix_s: came.created_unix_s, ..image }, "{origin}");
        assert_eq!(to.parts("x:1").layers, from.parts("x:1").layers);
        let dirs = to.store.layer_dirs(&came);
        assert_eq!(std::fs::read(dirs[0].join("upper")).unwrap().len(), 40_000);
        assert_eq!(children(&to, "partial"), 0);
        assert_eq!(children(&to, "tmp"), 0);
        bring(&third, &to, "x:1").await.unwrap();
        assert_eq!(third.store.images().len(), 1);
    }
}

fn children(node: &Node, dir: &str) -> usize {
    std::fs::read_dir(node._dir.path().join(dir)).unwrap().count()
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_broke_off_also_from_another_node() {
    if !is_root("a_transfer_goes_on_where_it_broke_off_also_from_another_node") {
        return;
    }
    let (from, other, to) = (node(), node(), node());
    for holder in [&from, &other] {
        holder.load(&docker_save_old(&large(), &["x"]));
    }
    from.cut.store(30_000, Ordering::SeqCst);
    let error = bring(&to, &from, "x").await.unwrap_err();
    assert!(matches!(error, ImportError::Transfer { .. }), "{error:?}");
    assert!(!error.is_wrong() && !error.is_local());
    assert!(to.store.images().is_empty());
    assert_eq!((children(&to, "layers"), children(&to, "tmp")), (0, 0));
    assert!(children(&to, "partial") > 0);

    bring(&to, &other, "x").await.unwrap();
    // The layer that was cut goes on; the other had come as far as it had by then.
    let offsets = other.offsets();
    assert!(offsets.contains(&30_000), "{offsets:?}");
    assert!(offsets.iter().all(|offset| *offset <= 30_000), "{offsets:?}");
    assert_eq!(children(&to, "partial"), 0);
}

#[tokio::test]
async fn blobs_that_came_whole_do_not_come_again() {
    if !is_root("blobs_that_came_whole_do_not_come_again") {
        return;
    }
    let (from, to) = (node(), node());
    from.load(&docker_save_old(&large(), &["x"]));
    // Only the lower layer is longer than this.
    from.cut.store(50_000, Ordering::SeqCst);
    bring(&to, &from, "x").await.unwrap_err();
    from.cut.store(u64::MAX, Ordering::SeqCst);
    from.offsets();
    bring(&to, &from, "x").await.unwrap();
    let offsets = from.offsets();
    assert!(offsets.contains(&50_000), "{offsets:?}");
}

#[tokio::test]
async fn a_corrupt_node_is_found_out_and_what_it_gave_is_thrown_away() {
    if !is_root("a_corrupt_node_is_found_out_and_what_it_gave_is_thrown_away") {
        return;
    }
    let (bad, good, to) = (node(), node(), node());
    let image = TestImage::new("", vec![large().layers.remove(0)]);
    for holder in [&bad, &good] {
        holder.load(&docker_save_old(&image, &["x"]));
    }
    bad.corrupt.store(true, Ordering::SeqCst);
    let error = bring(&to, &bad, "x").await.unwrap_err();
    assert!(error.is_wrong(), "{error:?}");
    assert_eq!(bad.offsets(), [0], "asked once");

    // It leaves a corrupt beginning behind: the good node is not blamed for that.
    bad.cut.store(10_000, Ordering::SeqCst);
    bring(&to, &bad, "x").await.unwrap_err();
    bring(&to, &good, "x").await.unwrap();
    assert_eq!(good.offsets(), [10_000, 0]);
}

#[tokio::test]
async fn nothing_is_believed_that_digests_do_not_prove() {
    if !is_root("nothing_is_believed_that_digests_do_not_prove") {
        return;
    }
    let (from, to) = (node(), node());
    from.load(&layout(&[("x:1", &large()), ("y:1", &TestImage::sample())], gzip));
    let (x, y) = (from.parts("x:1"), from.parts("y:1"));
    let wrong_layers = Parts { layers: y.layers.clone(), ..x.clone() };
    let wrong_config = Parts { config: y.config.clone(), layers: y.layers.clone(), ..x.clone() };
    let mut swapped = x.clone();
    swapped.layers[0].blob = x.layers[1].blob.clone();
    let mut endless = x.clone();
    endless.config.size = u64::MAX;
    for (what, parts) in [
        ("layers", wrong_layers),
        ("configuration", wrong_config),
        ("blob", swapped),
        ("size", endless),
    ] {
        let import = Import::begin(&to.store, &"x:1".parse().unwrap()).await.unwrap();
        let error = import.from(&parts, &from, &|_| {}).await.unwrap_err();
        assert!(error.is_wrong(), "{what}: {error:?}");
        import.end().await.unwrap();
    }
    // Another image than the digest that was asked for.
    let pinned = format!("x@{}", y.digest()).parse().unwrap();
    let import = Import::begin(&to.store, &pinned).await.unwrap();
    let error = import.from(&x, &from, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherImage(_)), "{error:?}");
    import.end().await.unwrap();
    assert!(to.store.images().is_empty());
    assert_eq!((children(&to, "layers"), children(&to, "blobs/sha256")), (0, 0));
}

#[tokio::test]
async fn an_image_for_other_machines_stays_there_unless_it_is_labelled_wrongly() {
    if !is_root("an_image_for_other_machines_stays_there") {
        return;
    }
    let (from, to) = (node(), node());
    let foreign = TestImage::new("s390x", large().layers);
    from.load(&docker_save_old(&foreign, &["x"]));
    let parts = Parts { host: "linux/s390x".into(), ..from.parts("x") };
    let import = Import::begin(&to.store, &"x".parse().unwrap()).await.unwrap();
    let error = import.from(&parts, &from, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImportError::Platform { .. }), "{error:?}");
    assert!(from.offsets().is_empty(), "no layer was asked for");
    import.end().await.unwrap();
    let lines = Mutex::new(Vec::new());
    let import = Import::begin(&to.store, &"x".parse().unwrap()).await.unwrap();
    let progress = |line: String| lines.lock().unwrap().push(line);
    import.from(&from.parts("x"), &from, &progress).await.unwrap();
    import.end().await.unwrap();
    let lines = lines.into_inner().unwrap();
    assert!(lines[0].starts_with("warning: "), "{lines:?}");
    assert!(lines[1].contains("fetching image from far: "), "{lines:?}");
}
