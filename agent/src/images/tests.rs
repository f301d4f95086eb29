use super::*;
use sha2::Digest as _;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// Unpacking sets owners. Says loudly that a test did not run.
pub(crate) fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root, and CI must not skip it");
    eprintln!("SKIPPED {test}: unpacking layers needs root");
    false
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in members {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What `docker save` writes for an image with one file `f`.
pub(crate) fn archive(name: &str, content: &str) -> Vec<u8> {
    let layer = tar(&[("f", content.as_bytes())]);
    let diff_id = hex::encode(sha2::Sha256::digest(&layer));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/f"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": [name], "Layers": ["l/layer.tar"]}]);
    tar(&[
        ("c.json", config.to_string().as_bytes()),
        ("l/layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

fn open() -> (tempfile::TempDir, Images) {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::open(dir.path(), ImagesConfig::default()).unwrap();
    (dir, images)
}

#[tokio::test]
async fn a_loaded_image_needs_no_registry() {
    if !is_root("a_loaded_image_needs_no_registry") {
        return;
    }
    let (_dir, images) = open();
    let lines = Mutex::new(Vec::new());
    let progress = |line: String| lines.lock().unwrap().push(line);
    let loaded = images.load(&archive("hello:1", "hi")[..], &progress).await.unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference, "docker.io/library/hello:1");
    assert_eq!(loaded[0].size_bytes, 2);
    assert_eq!(images.list(), loaded);
    assert!(lines.lock().unwrap().iter().any(|line| line.contains("layer 1 of 1")));

    let image = images.ensure("hello:1", false, None, &|_| {}).await.unwrap();
    assert_eq!(image.layers.len(), 1);
    assert_eq!(std::fs::read(image.layers[0].join("f")).unwrap(), b"hi");
    assert_eq!((image.config.cmd, image.config.env), (vec!["/f".into()], vec!["A=b".into()]));
    assert_eq!(image.digest, loaded[0].digest);
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_forced_pull_that_fails_falls_back_to_what_is_here() {
    if !is_root("a_forced_pull_that_fails_falls_back_to_what_is_here") {
        return;
    }
    let (_dir, images) = open();
    let name = format!("{}/app:1", nobody().await);
    let error = images.ensure(&name, false, None, &|_| {}).await.unwrap_err();
    assert!(error.reason().contains("cannot be reached"), "{}", error.reason());
    images.load(&archive(&name, "x")[..], &|_| {}).await.unwrap();
    let lines = Mutex::new(Vec::new());
    let progress = |line: String| lines.lock().unwrap().push(line);
    images.ensure(&name, true, None, &progress).await.unwrap();
    let lines = lines.into_inner().unwrap();
    assert!(lines.iter().any(|line| line.starts_with("warning: ")), "{lines:?}");
}

#[tokio::test]
async fn bad_input_is_named() {
    let (_dir, images) = open();
    let error = images.ensure("Not A Reference", false, None, &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Reference(_)), "{error}");
    let error = images.load(&b"not an archive"[..], &|_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Archive(_)), "{error}");
    let whole = archive("x", "y");
    let error = images.load(&whole[..whole.len() / 2], &|_| {}).await.unwrap_err();
    assert!(error.reason().contains("cut off"), "{}", error.reason());
    assert!(images.list().is_empty());
}

/// Gives its bytes and then fails, or never ends.
struct Broken {
    bytes: Vec<u8>,
    fails: bool,
    /// Told when all bytes were read.
    read: Option<tokio::sync::oneshot::Sender<()>>,
}

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.bytes.len().min(buffer.remaining());
        if count > 0 {
            let bytes: Vec<u8> = self.bytes.drain(..count).collect();
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if let Some(read) = self.read.take() {
            let _ = read.send(());
        }
        match self.fails {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_lost_or_dropped_stream_leaves_nothing() {
    let (dir, images) = open();
    let left = || {
        let count = |path: &str| std::fs::read_dir(dir.path().join(path)).unwrap().count();
        count("tmp") + count("layers") + count("blobs/sha256")
    };
    let mut bytes = archive("x", &"y".repeat(200_000));
    bytes.truncate(150_000);
    let broken = Broken { bytes: bytes.clone(), fails: true, read: None };
    let error = images.load(broken, &|_| {}).await.unwrap_err();
    assert!(error.reason().contains("reset"), "{}", error.reason());
    assert_eq!(left(), 0);

    let (read, all_read) = tokio::sync::oneshot::channel();
    let stalled = Broken { bytes, fails: false, read: Some(read) };
    tokio::select! {
        result = images.load(stalled, &|_| {}) => panic!("{result:?}"),
        _ = all_read => {}
    }
    // The work still holds the store while it cleans up.
    while Arc::strong_count(&images.store) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(left(), 0);
}

#[tokio::test]
async fn who_waits_for_a_pull_shares_its_outcome() {
    let pulls = Pulls::default();
    let started = AtomicUsize::new(0);
    let (release, released) = tokio::sync::watch::channel(false);
    let waiting = AtomicUsize::new(0);
    let progress = |line: String| {
        assert!(line.contains("waiting"), "{line}");
        // The last of the two is in line: let the first go on.
        if waiting.fetch_add(1, Ordering::SeqCst) == 1 {
            release.send(true).unwrap();
        }
    };
    let pull = || async {
        started.fetch_add(1, Ordering::SeqCst);
        released.clone().wait_for(|released| *released).await.unwrap();
        Err(ImageError::Stopped)
    };
    let (a, b, c) = tokio::join!(
        pulls.once("x", &progress, pull),
        pulls.once("x", &progress, pull),
        pulls.once("x", &progress, pull),
    );
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert_eq!(started.load(Ordering::SeqCst), 1);
    // Later ones ask anew.
    pulls.once("x", &progress, || async { Ok(()) }).await.unwrap();
}

#[tokio::test]
async fn a_dropped_pull_hands_over_to_the_next() {
    let pulls = Pulls::default();
    {
        let never = pulls.once("x", &|_| {}, std::future::pending);
        tokio::pin!(never);
        assert!(futures_util::poll!(never.as_mut()).is_pending());
        let next = pulls.once("x", &|_| {}, || async { Ok(()) });
        tokio::pin!(next);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        never.set(pulls.once("y", &|_| {}, std::future::pending));
        next.await.unwrap();
    }
    pulls.once("x", &|_| {}, || async { Ok(()) }).await.unwrap();
}
