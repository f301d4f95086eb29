//! Pulling from a registry of the test's own, which also lies and breaks off.
//!
//! Owns the proof that nothing unverified is kept. Never leaves this machine.

use super::*;
use crate::oci::model::OCI_INDEX;
use crate::oci::testing::*;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, std::io::Error>;

#[derive(Clone, Copy, PartialEq)]
enum Access {
    Anonymous,
    Basic,
    /// A token, given to anybody or to `user:pass` only.
    Bearer {
        login: bool,
    },
}

/// What the registry holds and how it behaves. Paths are those below `/v2/`.
struct Fake {
    access: Access,
    content: BTreeMap<String, Vec<u8>>,
    /// Replies with 503 this often for each path, or cuts the body in half.
    failures: Mutex<BTreeMap<String, Vec<Failure>>>,
    requests: Mutex<Vec<String>>,
    address: SocketAddr,
}

#[derive(Clone, Copy)]
enum Failure {
    Unavailable,
    /// Promises all and sends half.
    Half,
    /// Sends half and then nothing, for ever.
    Stall,
}

/// `user:pass` in base64.
const BASIC: &str = "Basic dXNlcjpwYXNz";
const TOKEN: &str = "Bearer secret-token";

impl Fake {
    async fn start(
        access: Access,
        members: &Members,
        failures: &[(&str, &[Failure])],
    ) -> Arc<Fake> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let content = members.iter().map(|(path, data)| (path.clone(), data.clone())).collect();
        let failures = failures.iter().map(|(path, f)| (path.to_string(), f.to_vec())).collect();
        let fake = Arc::new(Fake {
            access,
            content,
            failures: Mutex::new(failures),
            requests: Mutex::default(),
            address: listener.local_addr().unwrap(),
        });
        let serving = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let reply = fake.answer(&request);
                    async move { Ok::<_, Infallible>(reply) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        fake
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let header = |name: &str| {
            request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (shown, range) = (header("authorization"), header("range"));
        self.requests.lock().unwrap().push(format!("{path} {range}").trim().to_owned());
        if path == "/token" {
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("scope=repository%3Alibrary%2Fapp%3Apull"), "{query}");
            let login = self.access == Access::Bearer { login: true };
            if login && shown != BASIC {
                return reply(StatusCode::UNAUTHORIZED, "no such user");
            }
            return reply(StatusCode::OK, r#"{"token":"secret-token"}"#);
        }
        let (wanted, challenge) = match self.access {
            Access::Anonymous => (None, String::new()),
            Access::Basic => (Some(BASIC), "Basic realm=\"x\"".to_owned()),
            Access::Bearer { .. } => {
                let realm = format!("http://{}/token", self.address);
                (Some(TOKEN), format!("Bearer realm=\"{realm}\",service=\"fake\""))
            }
        };
        if wanted.is_some_and(|wanted| wanted != shown) {
            let mut reply = reply(StatusCode::UNAUTHORIZED, "");
            reply.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            return reply;
        }
        let key = path.strip_prefix("/v2/").unwrap_or_default();
        self.content(key, &range)
    }

    fn content(&self, key: &str, range: &str) -> Response<Body> {
        if key.is_empty() {
            return reply(StatusCode::OK, "{}");
        }
        let failure = {
            let mut failures = self.failures.lock().unwrap();
            failures.get_mut(key).filter(|left| !left.is_empty()).map(|left| left.remove(0))
        };
        let Some(data) = self.content.get(key) else {
            let error = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#;
            return reply(StatusCode::NOT_FOUND, error);
        };
        match failure {
            Some(Failure::Unavailable) => reply(StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Some(Failure::Half) => {
                let half = Bytes::from(data[..data.len() / 2].to_vec());
                let rest = async {
                    // Not ready once: the server then sends what it has, before the error.
                    tokio::task::yield_now().await;
                    Err(std::io::ErrorKind::ConnectionReset.into())
                };
                let half = futures_util::stream::iter([Ok(Frame::data(half))]);
                let frames = half.chain(futures_util::stream::once(rest));
                let mut reply = Response::new(BodyExt::boxed(StreamBody::new(frames)));
                reply.headers_mut().insert("content-length", data.len().into());
                reply
            }
            Some(Failure::Stall) => {
                let half = Bytes::from(data[..data.len() / 2].to_vec());
                let half = futures_util::stream::iter([Ok(Frame::data(half))]);
                let frames = half.chain(futures_util::stream::pending());
                Response::new(BodyExt::boxed(StreamBody::new(frames)))
            }
            None => match range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')) {
                Some(from) => {
                    let from: usize = from.parse().unwrap();
                    reply(StatusCode::PARTIAL_CONTENT, data[from..].to_vec())
                }
                None => reply(StatusCode::OK, data.clone()),
            },
        }
    }

    fn name(&self, version: &str) -> ImageReference {
        format!("{}/library/app{version}", self.address).parse().unwrap()
    }

    fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

fn reply(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = status;
    reply
}

/// The members of a layout as a registry serves them; `tags` are manifests by digest.
fn serve(members: &Members, tags: &[(&str, &str)]) -> Members {
    let mut served = Members::new();
    for (path, data) in members {
        let Some(hex) = path.strip_prefix("blobs/sha256/") else { continue };
        served.insert(format!("library/app/blobs/sha256:{hex}"), data.clone());
        served.insert(format!("library/app/manifests/sha256:{hex}"), data.clone());
    }
    for (tag, digest) in tags {
        let data = served[&format!("library/app/manifests/{digest}")].clone();
        served.insert(format!("library/app/manifests/{tag}"), data);
    }
    served
}

/// The sample image as `app:latest`, its manifest and the path of its lower layer.
fn sample(packing: fn(&[u8]) -> Vec<u8>) -> (Members, String, String) {
    let image = TestImage::sample();
    let mut members = Members::new();
    let entry = image_blobs(&mut members, &image, packing);
    let digest = entry["digest"].as_str().unwrap().to_owned();
    let layer = format!("library/app/blobs/{}", Digest::of(&packing(&image.layers[0])));
    (serve(&members, &[("latest", &digest)]), digest, layer)
}

fn registry(dir: &std::path::Path, login: bool, address: SocketAddr) -> Registry {
    let docker_config = login.then(|| {
        let path = dir.join("config.json");
        let auths = json!({"auths": {address.to_string(): {"auth": "dXNlcjpwYXNz"}}});
        std::fs::write(&path, auths.to_string()).unwrap();
        path
    });
    Registry::new(RegistryConfig { insecure_registries: Vec::new(), docker_config })
}

struct Room {
    dir: tempfile::TempDir,
    store: Arc<Store>,
}

impl Room {
    fn new() -> Room {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Room { dir, store }
    }

    async fn pull(&self, fake: &Fake, login: bool, version: &str) -> Result<Image, PullError> {
        let registry = registry(self.dir.path(), login, fake.address);
        registry.pull(&self.store, &fake.name(version), None, &|_| {}).await
    }

    /// Pulls what must fail and finds the store as it was.
    async fn refused(&self, fake: &Fake, login: bool, version: &str) -> (PullError, String) {
        let before = listing(self.store.root());
        let error = self.pull(fake, login, version).await.expect_err("must be refused");
        assert_eq!(listing(self.store.root()), before, "left behind after {error}");
        let text = chain(&error);
        (error, text)
    }
}

#[tokio::test]
async fn pulls_with_every_access_and_packing() {
    if !is_root("pulls_with_every_access_and_packing") {
        return;
    }
    let cases = [
        (Access::Anonymous, false, gzip as fn(&[u8]) -> Vec<u8>),
        (Access::Anonymous, true, zstd),
        (Access::Basic, true, plain),
        (Access::Bearer { login: false }, false, gzip),
        (Access::Bearer { login: true }, true, gzip),
    ];
    for (access, login, packing) in cases {
        let (members, digest, _) = sample(packing);
        let fake = Fake::start(access, &members, &[]).await;
        let room = Room::new();
        let image = room.pull(&fake, login, "").await.unwrap();
        assert_eq!(image.digest.to_string(), digest);
        assert_eq!(image.reference, fake.name(":latest").to_string());
        assert_eq!(room.store.find(&fake.name("")).as_ref(), Some(&image));
        let dirs = room.store.layer_dirs(&image);
        assert_eq!(std::fs::read(dirs[0].join("new")).unwrap(), b"new");
        assert_eq!(std::fs::read(dirs[1].join("etc/kept")).unwrap(), b"kept");
        let left = listing(room.store.root());
        assert!(!left.iter().any(|line| line.contains("pending")), "{left:?}");
        assert_eq!(std::fs::read_dir(room.store.root().join("tmp")).unwrap().count(), 0);
        // A second pull asks for the manifest and brings no layer again.
        let blobs = fake.count("/blobs/");
        room.pull(&fake, login, "").await.unwrap();
        assert_eq!(fake.count("/blobs/"), blobs + 1, "the configuration only");
        // And by digest.
        let by_digest = room.pull(&fake, login, &format!("@{digest}")).await.unwrap();
        assert_eq!(by_digest.digest.to_string(), digest);
    }
}

#[tokio::test]
async fn without_credentials_it_says_so() {
    for (access, login) in [(Access::Basic, false), (Access::Bearer { login: true }, false)] {
        let (members, _, _) = sample(gzip);
        let fake = Fake::start(access, &members, &[]).await;
        let (error, text) = Room::new().refused(&fake, login, "").await;
        assert!(matches!(error, PullError::Denied { status: 401, .. }), "{text}");
        assert!(text.contains("needs other credentials"), "{text}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (members, _, layer) = sample(gzip);
    let fake = Fake::start(Access::Anonymous, &members, &[]).await;
    let (error, text) = Room::new().refused(&fake, false, ":nope").await;
    assert!(matches!(error, PullError::NotFound { status: 404, .. }), "{text}");
    let expected = format!(
        "image {} does not exist at registry {} (status 404)",
        fake.name(":nope"),
        fake.address
    );
    assert_eq!(text, expected);
    assert_eq!(fake.count("manifests/nope"), 1, "an answer is not asked for again");
    // A manifest whose layer is gone.
    let mut gone = members;
    gone.remove(&layer);
    let fake = Fake::start(Access::Anonymous, &gone, &[]).await;
    let (error, text) = Room::new().refused(&fake, false, "").await;
    assert!(matches!(error, PullError::NotFound { .. }), "{text}");
}

#[tokio::test]
async fn an_unreachable_registry_is_named() {
    let room = Room::new();
    // Bound and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reference: ImageReference = format!("{address}/library/app").parse().unwrap();
    let registry = registry(room.dir.path(), false, address);
    let error = registry.pull(&room.store, &reference, None, &|_| {}).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error}");
    assert!(error.is_transient() && error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn the_right_platform_is_chosen() {
    if !is_root("the_right_platform_is_chosen") {
        return;
    }
    let host = Platform::host();
    let mut members = Members::new();
    let mut entry = |content: &str, platform: &Platform| {
        let layer = Tar::new().file("f", content).done();
        let image = TestImage::new(&platform.architecture, vec![layer]);
        let mut entry = image_blobs(&mut members, &image, gzip);
        entry["platform"] = json!({"os": platform.os, "architecture": platform.architecture,
                                   "variant": platform.variant});
        entry
    };
    let foreign = Platform::new("linux", "s390x", None);
    let entries = [
        entry("windows", &Platform::new("windows", &host.architecture, None)),
        entry("foreign", &foreign),
        entry("right", &host),
    ];
    let mut index = |entries: &[serde_json::Value]| {
        let text = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        let text = text.to_string();
        descriptor(&mut members, OCI_INDEX, text.as_bytes())["digest"].as_str().unwrap().to_owned()
    };
    let (all, none) = (index(&entries), index(&entries[..2]));
    let served = serve(&members, &[("latest", &all), ("none", &none)]);
    let fake = Fake::start(Access::Anonymous, &served, &[]).await;
    let room = Room::new();
    let image = room.pull(&fake, false, "").await.unwrap();
    assert_eq!(image.digest.to_string(), entries[2]["digest"]);
    assert_eq!(image.index_digest.as_ref().unwrap().to_string(), all);
    assert_eq!(std::fs::read(room.store.layer_dirs(&image)[0].join("f")).unwrap(), b"right");
    assert_eq!(room.store.find(&fake.name(&format!("@{all}"))), Some(image));
    let (_, text) = room.refused(&fake, false, ":none").await;
    assert!(text.contains(&format!("no image for {host}")), "{text}");
    assert!(text.contains("linux/s390x"), "{text}");
}

#[tokio::test]
async fn corrupt_content_is_refused() {
    if !is_root("corrupt_content_is_refused") {
        return;
    }
    let (members, digest, layer) = sample(gzip);
    let config = format!("library/app/blobs/{}", Digest::of(&TestImage::sample().config));
    let by_digest = format!("@{digest}");
    let manifest = format!("library/app/manifests/{digest}");
    let with = |path: &str, change: fn(&mut Vec<u8>)| {
        let mut members = members.clone();
        change(members.get_mut(path).unwrap());
        members
    };
    let cases = [
        (with(&layer, |data| data[30] ^= 1), "", "promised"),
        (with(&layer, |data| data.push(0)), "", "promised"),
        (with(&layer, |data| data.truncate(40)), "", "promised"),
        (with(&config, |data| *data = b"{}".to_vec()), "", "promised"),
        (with(&manifest, |data| data.push(b' ')), by_digest.as_str(), "igest"),
        (with("library/app/manifests/latest", |data| data.truncate(9)), "", "not valid JSON"),
        (with("library/app/manifests/latest", |data| *data = b"{}".to_vec()), "", "schema version"),
    ];
    for (number, (members, version, part)) in cases.into_iter().enumerate() {
        let fake = Fake::start(Access::Anonymous, &members, &[]).await;
        let (error, text) = Room::new().refused(&fake, false, version).await;
        assert!(text.contains(part), "case {number}: {text}");
        assert!(!error.is_transient(), "case {number}: {text}");
    }
}

#[tokio::test]
async fn broken_transfers_are_resumed_and_bounded() {
    if !is_root("broken_transfers_are_resumed_and_bounded") {
        return;
    }
    use Failure::{Half, Unavailable};
    let (members, _, layer) = sample(plain);
    let manifest = "library/app/manifests/latest";
    let failures = [(manifest, &[Unavailable][..]), (&layer, &[Unavailable, Half])];
    let fake = Fake::start(Access::Anonymous, &members, &failures).await;
    let room = Room::new();
    room.pull(&fake, false, "").await.unwrap();
    let half = members[&layer].len() / 2;
    assert_eq!(fake.count(&format!("/v2/{layer} bytes={half}-")), 1, "{:?}", fake.requests);
    assert_eq!(fake.count(&layer), 3);

    let fake = Fake::start(Access::Anonymous, &members, &[(manifest, &[Unavailable; 9])]).await;
    let (error, text) = Room::new().refused(&fake, false, "").await;
    assert!(matches!(error, PullError::Status { status: 503, .. }), "{text}");
    assert_eq!(fake.count(manifest), transfer::TRIES_MAX as usize);
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    if !is_root("a_dropped_pull_leaves_nothing") {
        return;
    }
    let (members, _, layer) = sample(gzip);
    let fake = Fake::start(Access::Anonymous, &members, &[(&layer, &[Failure::Stall])]).await;
    let room = Room::new();
    let before = listing(room.store.root());
    let (unpacking, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let progress = move |line: String| unpacking.send(line).unwrap();
    let registry = registry(room.dir.path(), false, fake.address);
    let reference = fake.name("");
    tokio::select! {
        result = registry.pull(&room.store, &reference, None, &progress) => panic!("{result:?}"),
        // The upper layer is being unpacked while the lower one stalls.
        () = async { while !seen.recv().await.unwrap().ends_with("unpacking") {} } => {}
    }
    // Work that runs ends first; it holds the store until then.
    while Arc::strong_count(&room.store) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(listing(room.store.root()), before);
    // And nothing stays locked.
    room.pull(&fake, false, "").await.unwrap();
}

#[test]
fn plain_http_only_where_it_is_meant() {
    let registry = Registry::new(RegistryConfig {
        insecure_registries: vec!["10.0.0.1:5000".into(), "pi.local".into()],
        docker_config: None,
    });
    let cases = [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.1.2.3:80", true),
        ("[::1]:5000", true),
        ("10.0.0.1:5000", true),
        ("10.0.0.1:5001", false),
        ("pi.local", true),
        ("pi.local:5000", true),
        ("docker.io", false),
        ("localhost.evil.local", false),
        ("[::2]:5000", false),
    ];
    for (name, expected) in cases {
        assert_eq!(registry.is_plain(name), expected, "{name}");
    }
}
