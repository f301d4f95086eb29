use super::*;
use crate::images::tests::{archive, is_root, nobody};
use crate::images::{ImageError, ImageOnDisk, ImagesConfig};
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::message::Sighting;
use bramble_protocol::net::{
    Alpn, ClusterCa, Directory, Endpoint, Identity, Links, NodeKey, read_frame,
};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncReadExt;

/// Longest wait for anything that must happen; passing it is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the one large file in the test's image.
const CONTENT_BYTES: usize = 1_500_000;

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

/// How a node gives out blobs.
#[derive(Clone)]
enum Manner {
    /// By the agent's own code.
    Agent,
    Well,
    /// The stream ends after so many bytes of the blob.
    Cut(u64),
    /// The node is gone once so many bytes are in the file of whom it gives to.
    Vanishing(u64, PathBuf),
    /// One byte is another.
    Wrongly,
    /// The first time, it is busy.
    BusyOnce,
}

struct Node {
    id: NodeId,
    images: Arc<Images>,
    peers: Arc<Peers>,
    endpoint: Arc<Endpoint>,
    links: Arc<Links>,
    /// Offsets from which large blobs were asked for.
    asked: Mutex<Vec<u64>>,
    busy: AtomicUsize,
    dir: tempfile::TempDir,
}

fn node(ca: &ClusterCa, name: &str, manner: Manner) -> Arc<Node> {
    let key = NodeKey::generate().unwrap();
    let id = key.node_id();
    let certificate = ca.issue(key.public_key(), &id, NodeRole::Agent).unwrap();
    let identity = Identity::new(key, certificate, ca.certificate().to_vec()).unwrap();
    let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(identity)).unwrap();
    let endpoint = Arc::new(endpoint);
    let dir = tempfile::tempdir().unwrap();
    let images = Arc::new(Images::open(dir.path(), ImagesConfig::default()).unwrap());
    let links = Arc::new(Links::new(Arc::clone(&endpoint), Arc::new(Directory::default())));
    images.meet(Arc::clone(&links), id.clone());
    let peers = Arc::new(Peers::new(Arc::clone(&images), name.to_owned()));
    let (asked, busy) = (Mutex::default(), AtomicUsize::new(0));
    let node = Arc::new(Node { id, images, peers, endpoint, links, asked, busy, dir });
    let serving = Arc::clone(&node);
    tokio::spawn(async move {
        while let Some(link) = serving.endpoint.accept().await {
            let (node, manner) = (Arc::clone(&serving), manner.clone());
            tokio::spawn(async move { node.serve(link, manner).await });
        }
    });
    node
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Know where another node is, as if it had been seen.
    fn sees(&self, other: &Node) {
        self.links.directory().note(&other.id, NodeRole::Agent, other.address());
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn load(&self, name: &str, content: &str) {
        self.images.load(&archive(name, content)[..], &|_| {}).await.unwrap();
    }

    async fn ensure(&self, name: &str) -> Result<ImageOnDisk, ImageError> {
        within(self.images.ensure(name, false, None, &|_| {})).await
    }

    fn partial(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("partial")).unwrap();
        entries.map(|entry| entry.unwrap().path()).next()
    }

    async fn serve(self: &Arc<Self>, link: Link, manner: Manner) {
        if matches!(manner, Manner::Agent) {
            return self.peers.serve(link).await;
        }
        while let Ok((send, receive)) = link.connection.accept_bi().await {
            let (node, manner) = (Arc::clone(self), manner.clone());
            let connection = link.connection.clone();
            tokio::spawn(async move { node.misserve(connection, send, receive, manner).await });
        }
    }

    /// Answer as an agent does, but for what the test wants.
    async fn misserve(
        &self,
        connection: quinn::Connection,
        mut send: SendStream,
        mut receive: RecvStream,
        manner: Manner,
    ) {
        let request = read_frame::<PeerRequest>(&mut receive).await.unwrap().unwrap();
        let PeerRequest::Blob { digest, offset } = request else {
            let PeerRequest::Image { reference } = request else { unreachable!() };
            let reply = blobs::describe(&self.images, "scripted", &reference).await;
            write_frame(&mut send, &reply).await.unwrap();
            return send.finish().unwrap();
        };
        let (file, size) = self.images.blob(&digest).await.unwrap().expect("it holds it");
        let mut bytes = Vec::new();
        tokio::fs::File::from_std(file).read_to_end(&mut bytes).await.unwrap();
        if bytes.len() < CONTENT_BYTES {
            blobs::send(&self.images, &digest, offset, &mut send).await.unwrap();
            return send.finish().unwrap();
        }
        if matches!(manner, Manner::BusyOnce) && self.busy.fetch_add(1, Ordering::SeqCst) == 0 {
            write_frame(&mut send, &PeerReply::Busy).await.unwrap();
            return send.finish().unwrap();
        }
        self.asked.lock().unwrap().push(offset);
        write_frame(&mut send, &PeerReply::Blob { size }).await.unwrap();
        let start = offset as usize;
        match manner {
            Manner::Agent | Manner::Well | Manner::BusyOnce => {
                send.write_all(&bytes[start..]).await.unwrap()
            }
            Manner::Cut(end) => send.write_all(&bytes[start..end as usize]).await.unwrap(),
            Manner::Wrongly => {
                *bytes.last_mut().unwrap() ^= 1;
                send.write_all(&bytes[start..]).await.unwrap();
            }
            Manner::Vanishing(end, partials) => {
                send.write_all(&bytes[start..end as usize]).await.unwrap();
                within(async {
                    while length_in(&partials) < end {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                })
                .await;
                connection.close(9u32.into(), b"the plug is pulled");
                return;
            }
        }
        send.finish().unwrap();
    }
}

/// Bytes of the files in a directory.
fn length_in(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |m| m.len())).sum()
}

fn large() -> String {
    (0..CONTENT_BYTES / 8).map(|n| format!("{n:08}")).collect()
}

fn file_of(image: &ImageOnDisk) -> Vec<u8> {
    std::fs::read(image.layers[0].join("f")).unwrap()
}

#[tokio::test]
async fn an_image_is_fetched_from_a_node_that_was_seen_and_can_be_passed_on() {
    if !is_root("an_image_is_fetched_from_a_node_that_was_seen_and_can_be_passed_on") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|n| node(&ca, n, Manner::Agent));
    let name = format!("{}/app:1", nobody().await);
    first.load(&name, &large()).await;
    second.sees(&first);
    let lines = Mutex::new(Vec::new());
    let progress = |line: String| lines.lock().unwrap().push(line);
    let image = within(second.images.ensure(&name, false, None, &progress)).await.unwrap();
    assert_eq!(file_of(&image), large().as_bytes());
    let lines = lines.into_inner().unwrap();
    let fetching = format!("{name}: fetching image from first: ");
    assert!(lines.iter().any(|line| line.starts_with(&fetching)), "{lines:?}");
    assert_eq!(second.images.exchange().held().borrow()[0].reference, name);
    assert_eq!(second.images.list()[0].digest, first.images.list()[0].digest);

    first.endpoint.close().await;
    third.sees(&first);
    third.sees(&second);
    assert_eq!(third.ensure(&name).await.unwrap().digest, image.digest);
}

#[tokio::test]
async fn the_leader_says_who_holds_it_and_where_that_is() {
    if !is_root("the_leader_says_who_holds_it_and_where_that_is") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let [holder, other] = ["holder", "other"].map(|n| node(&ca, n, Manner::Well));
    let name = format!("{}/app:1", nobody().await);
    holder.load(&name, "x").await;
    let exchange = Arc::clone(other.images.exchange());
    let (node_id, address) = (holder.id.clone(), holder.address());
    let reference = name.clone();
    tokio::spawn(async move {
        let (mut session, mut news) = (exchange.attend(), exchange.inquiries());
        loop {
            for inquiry in session.unasked() {
                assert_eq!(inquiry.reference, reference);
                let (node_id, role) = (node_id.clone(), NodeRole::Agent);
                let holder = Sighting { node_id, role, addresses: vec![address] };
                exchange.answer(inquiry.number, vec![holder]);
            }
            news.changed().await.unwrap();
        }
    });
    tokio::task::yield_now().await;
    assert_eq!(file_of(&other.ensure(&name).await.unwrap()), b"x");
}

#[tokio::test]
async fn a_fetch_that_was_cut_goes_on_also_after_a_restart() {
    if !is_root("a_fetch_that_was_cut_goes_on_also_after_a_restart") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let cut = node(&ca, "cut", Manner::Cut(700_000));
    let well = node(&ca, "well", Manner::Well);
    let asking = node(&ca, "asking", Manner::Well);
    let name = format!("{}/app:1", nobody().await);
    cut.load(&name, &large()).await;
    well.load(&name, &large()).await;
    asking.sees(&cut);
    let error = asking.ensure(&name).await.unwrap_err().reason();
    assert!(error.contains("cannot be reached"), "the registry: {error}");
    assert!(error.contains("scripted: transfer of layer"), "the node: {error}");
    assert_eq!(cut.asked(), [0]);
    assert_eq!(asking.partial().unwrap().metadata().unwrap().len(), 700_000);

    // Another life of the agent, with the same store and another node to ask.
    let dir = tempfile::tempdir().unwrap();
    let copied = dir.path().join("partial");
    std::fs::create_dir(&copied).unwrap();
    let partial = asking.partial().unwrap();
    std::fs::copy(&partial, copied.join(partial.file_name().unwrap())).unwrap();
    let images = Images::open(dir.path(), ImagesConfig::default()).unwrap();
    asking.sees(&well);
    images.meet(Arc::clone(&asking.links), asking.id.clone());
    let image = within(images.ensure(&name, false, None, &|_| {})).await.unwrap();
    assert_eq!(file_of(&image), large().as_bytes());
    assert_eq!((cut.asked(), well.asked()).1, [700_000]);
}

#[tokio::test]
async fn when_the_giving_node_vanishes_the_next_one_goes_on() {
    if !is_root("when_the_giving_node_vanishes_the_next_one_goes_on") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let asking = node(&ca, "asking", Manner::Well);
    let partials = asking.dir.path().join("partial");
    let vanishing = node(&ca, "vanishing", Manner::Vanishing(500_000, partials));
    let well = node(&ca, "well", Manner::Well);
    let name = format!("{}/app:1", nobody().await);
    // The one whose image came last is asked first.
    well.load(&name, &large()).await;
    within(async {
        let earlier = well.images.list()[0].created_unix_s;
        while vanishing.images.list().first().is_none_or(|i| i.created_unix_s == earlier) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            vanishing.load(&name, &large()).await;
        }
    })
    .await;
    asking.sees(&vanishing);
    asking.sees(&well);
    let image = asking.ensure(&name).await.unwrap();
    assert_eq!(file_of(&image), large().as_bytes());
    assert_eq!((vanishing.asked(), well.asked()), (vec![0], vec![500_000]));
}

#[tokio::test]
async fn a_corrupt_node_is_asked_once_and_not_again_for_a_while() {
    if !is_root("a_corrupt_node_is_asked_once_and_not_again_for_a_while") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let corrupt = node(&ca, "corrupt", Manner::Wrongly);
    let asking = node(&ca, "asking", Manner::Well);
    let name = format!("{}/app:1", nobody().await);
    corrupt.load(&name, &large()).await;
    asking.sees(&corrupt);
    let error = asking.ensure(&name).await.unwrap_err().reason();
    assert!(error.contains("what it gives is not what it should be"), "{error}");
    assert_eq!(corrupt.asked(), [0]);
    assert_eq!(length_in(&asking.dir.path().join("partial")), 0, "thrown away");
    asking.ensure(&name).await.unwrap_err();
    assert!(corrupt.asked().is_empty(), "not asked again");
    let well = node(&ca, "well", Manner::Well);
    well.load(&name, &large()).await;
    asking.sees(&well);
    asking.ensure(&name).await.unwrap();
    assert!(asking.images.exchange().held().borrow().len() == 1);
}

#[tokio::test]
async fn many_who_want_one_image_share_a_fetch_and_wait_while_its_holder_is_busy() {
    if !is_root("many_who_want_one_image_share_a_fetch_and_wait_while_its_holder_is_busy") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let holder = node(&ca, "holder", Manner::BusyOnce);
    let asking = node(&ca, "asking", Manner::Well);
    let name = format!("{}/app:1", nobody().await);
    holder.load(&name, &large()).await;
    asking.sees(&holder);
    let many = (0..20).map(|_| asking.ensure(&name));
    for image in futures_util::future::join_all(many).await {
        assert_eq!(image.unwrap().layers.len(), 1);
    }
    assert_eq!(holder.asked(), [0], "one fetch for all");
    assert_eq!(holder.busy.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_nobody_holds_is_told_with_all_that_was_tried() {
    let ca = ClusterCa::mint("c").unwrap();
    let [one, other] = ["one", "other"].map(|n| node(&ca, n, Manner::Well));
    let name = format!("{}/app:1", nobody().await);
    let alone = one.ensure(&name).await.unwrap_err().reason();
    assert!(alone.contains("cannot be reached") && !alone.contains("node"), "{alone}");
    one.sees(&other);
    let error = one.ensure(&name).await.unwrap_err().reason();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(error.ends_with("; no other node gives the image"), "{error}");
    other.endpoint.close().await;
    let error = one.ensure(&name).await.unwrap_err().reason();
    assert!(error.contains("; from other nodes: "), "{error}");
}

#[tokio::test]
async fn a_forced_pull_asks_nodes_only_when_the_registry_does_not_deliver() {
    if !is_root("a_forced_pull_asks_nodes_only_when_the_registry_does_not_deliver") {
        return;
    }
    let ca = ClusterCa::mint("c").unwrap();
    let [holder, asking] = ["holder", "asking"].map(|n| node(&ca, n, Manner::Well));
    let name = format!("{}/app:1", nobody().await);
    holder.load(&name, "x").await;
    asking.sees(&holder);
    let lines = Mutex::new(Vec::new());
    let progress = |line: String| lines.lock().unwrap().push(line);
    within(asking.images.ensure(&name, true, None, &progress)).await.unwrap();
    let lines = lines.into_inner().unwrap();
    let told = |line: &String| {
        line.starts_with("warning: ") && line.ends_with("the image of another node is used")
    };
    assert!(lines.iter().any(told), "{lines:?}");
}

#[tokio::test]
async fn what_is_asked_is_bounded_and_what_is_not_understood_is_said_to_be() {
    let ca = ClusterCa::mint("c").unwrap();
    let [one, other] = ["one", "other"].map(|n| node(&ca, n, Manner::Agent));
    one.sees(&other);
    let ask = |request: PeerRequest| {
        let (links, to) = (Arc::clone(&one.links), other.id.clone());
        async move { links.call::<_, PeerReply>(&to, Alpn::Peer, &request).await.unwrap() }
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        within(ask(PeerRequest::Blob { digest: digest.clone(), offset: 0 })).await,
        PeerReply::NotHeld
    );
    let odd = PeerRequest::Blob { digest: "../../etc/shadow".into(), offset: 0 };
    assert!(matches!(within(ask(odd)).await, PeerReply::Failed(_)));
    let unknown = one.links.call::<_, PeerReply>(&other.id, Alpn::Peer, &"Sing");
    assert_eq!(within(unknown).await.unwrap(), PeerReply::NotUnderstood);
    let long = PeerRequest::Image { reference: "x".repeat(PEER_REQUEST_BYTES_MAX) };
    let refused = one.links.call::<_, PeerReply>(&other.id, Alpn::Peer, &long);
    assert!(within(refused).await.is_err());

    // All places are taken: the next is told so, not left waiting.
    let taken = other.peers.blobs.acquire_many(BLOBS_MAX as u32).await.unwrap();
    let busy = within(ask(PeerRequest::Blob { digest: digest.clone(), offset: 0 })).await;
    assert_eq!(busy, PeerReply::Busy);
    drop(taken);
    assert_eq!(within(ask(PeerRequest::Blob { digest, offset: 0 })).await, PeerReply::NotHeld);
}
