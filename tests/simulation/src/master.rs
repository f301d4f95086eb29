//! A master in the world: the real consensus over a disk in memory, the real dispatcher and the
//! leader's real loops. Of `master::server`, which also binds sockets, only the wiring is anew.

use crate::net::{Answer, Net, Packet, Place};
use crate::planted::{self, Planted};
use crate::port::Port;
use bramble_core::command::Command;
use bramble_core::model::NodeId;
use bramble_master::consensus::simulated::{Platter, register};
use bramble_master::consensus::{
    Consensus, ConsensusConfig, Members, PeerError, PeerFuture, PeerLink, RaftRequest,
};
use bramble_master::control::{self, Control, Heard};
use bramble_master::dispatcher::Dispatcher;
use bramble_master::propose::{Propose, ProposeError};
use bramble_master::store::Store;
use bramble_master::vault::Vault;
use bramble_protocol::codec;
use bramble_protocol::net::NodeKey;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::split;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Entries between two snapshots: few, so that falling behind means getting one.
const SNAPSHOT_EVERY: u64 = 60;
/// Silence after which a voter's vote goes to another: longer than any fault lasts.
const VOTER_GRACE: Duration = Duration::from_secs(60);
const GREET_EVERY: Duration = Duration::from_millis(500);
/// How long an agent may be without a session.
const AGENT_TIMEOUT: Duration = Duration::from_secs(2);

/// What outlives the master's process.
#[derive(Clone)]
pub struct MasterNode {
    pub id: NodeId,
    pub dir: PathBuf,
    pub platter: Arc<Platter>,
    /// Unused but for its type: the vault wants one.
    pub key: NodeKey,
    /// What the running master lets the world see.
    pub seen: Arc<Mutex<Option<Inside>>>,
}

/// A running master, as the world looks at it.
#[derive(Clone)]
pub struct Inside {
    pub consensus: Arc<Consensus>,
    pub store: Arc<Store>,
}

/// When other masters last said that they are there.
#[derive(Default)]
struct HeardOf(Mutex<BTreeMap<NodeId, Instant>>);

impl HeardOf {
    fn note(&self, node: &NodeId) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(node.clone(), Instant::now());
    }
}

impl Heard for HeardOf {
    fn of(&self, node: &NodeId) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }
}

/// Tell the other masters that this one is there, as `master::peers` does.
async fn greet(port: Arc<Port>, masters: usize) {
    loop {
        for to in (0..masters).filter(|to| *to != port.me) {
            port.net.send(port.me, to, Packet::Hello { from: port.me });
        }
        tokio::time::sleep(GREET_EVERY).await;
    }
}

struct Wire {
    port: Arc<Port>,
    masters: Arc<Vec<NodeId>>,
}

impl PeerLink for Wire {
    fn call<'a>(&'a self, peer: &'a NodeId, request: RaftRequest) -> PeerFuture<'a> {
        Box::pin(async move {
            let to = self.masters.iter().position(|id| id == peer);
            let to = to.ok_or_else(|| PeerError::NoLink(peer.clone()))?;
            let body = codec::to_bytes(&request).expect("a request can be encoded");
            let reply = self.port.ask(to, body).await;
            Ok(codec::from_bytes(&reply).expect("a reply can be decoded"))
        })
    }
}

impl MasterNode {
    pub fn inside(&self) -> Option<Inside> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Live until the runtime is dropped. The first life of the first master founds.
    pub async fn live(
        self,
        net: Net,
        me: Place,
        nodes: Arc<Vec<NodeId>>,
        masters: Arc<Vec<NodeId>>,
        founds: bool,
        planted: Option<Planted>,
    ) {
        let port = Port::new(net, me);
        let (sender, mut inbox) = mpsc::unbounded_channel();
        register(&self.dir, self.platter.clone());
        let mut config = ConsensusConfig::new(&self.dir, self.id.clone());
        config.snapshot_every = SNAPSHOT_EVERY;
        config.disk_reserve_bytes = 0;
        config.founds = founds;
        let link = Arc::new(Wire { port: port.clone(), masters: masters.clone() });
        let apply = planted::apply(planted);
        let (consensus, store) =
            Consensus::open_applying(config, link, apply).await.expect("its own log is readable");
        if founds {
            consensus.found().await.expect("an empty log takes its founding");
        }
        let propose: Arc<dyn Propose> = consensus.clone();
        let statuses = planted::statuses(planted, &propose);
        let offers = Arc::new(planted::offers(planted));
        let vault = Arc::new(Vault::new(&self.key, store.clone(), propose.clone()));
        let (leadership, directory) = (consensus.leadership(), Arc::default());
        let dispatcher = Dispatcher::new(
            store.clone(),
            statuses,
            offers.clone(),
            vault,
            consensus.clone(),
            leadership,
            directory,
        );
        let dispatcher = Arc::new(dispatcher);
        let heard = Arc::new(HeardOf::default());
        let control = Control {
            store: store.clone(),
            propose,
            offers,
            view: Arc::default(),
            own: self.id,
            membership: Arc::new(Members(consensus.clone())),
            heard: heard.clone(),
            voter_grace: VOTER_GRACE,
            rebalance: true,
        };
        tokio::spawn(greet(port.clone(), masters.len()));
        tokio::spawn(lead(consensus.clone(), control, dispatcher.clone()));
        let inside = Inside { consensus: consensus.clone(), store };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(inside);
        port.net.plug(me, sender);
        while let Some(packet) = inbox.recv().await {
            match port.take(packet) {
                Some(Packet::Request { from, id, body }) => {
                    tokio::spawn(answer(consensus.clone(), port.clone(), from, id, body));
                }
                Some(Packet::Hello { from }) => heard.note(&masters[from]),
                Some(Packet::Ask { from, id, command }) => {
                    tokio::spawn(propose_for(consensus.clone(), port.clone(), from, id, *command));
                }
                Some(Packet::Open { line, from }) => {
                    let (stream, packets) = port.attach(line);
                    let (dispatcher, peer) = (dispatcher.clone(), nodes[from].clone());
                    tokio::spawn(async move {
                        let (receive, send) = split(stream);
                        dispatcher.serve_streams(&peer, send, receive, packets).await;
                    });
                }
                _ => {}
            }
        }
    }
}

/// Answer another master.
async fn answer(consensus: Arc<Consensus>, port: Arc<Port>, from: Place, id: u64, body: Vec<u8>) {
    let request: RaftRequest = codec::from_bytes(&body).expect("a request can be decoded");
    let reply = consensus.handle(request).await;
    let body = codec::to_bytes(&reply).expect("a reply can be encoded");
    port.net.send(port.me, from, Packet::Reply { id, body });
}

/// Propose what a client asks for.
async fn propose_for(
    consensus: Arc<Consensus>,
    port: Arc<Port>,
    from: Place,
    id: u64,
    command: Command,
) {
    let answer = match consensus.propose(command).await {
        Ok(committed) => Answer::Committed(committed.index),
        Err(ProposeError::Rejected(rejection)) => Answer::Rejected(rejection.to_string()),
        Err(ProposeError::NotLeader) => Answer::NotLeader,
        Err(ProposeError::Unavailable(why)) => Answer::Unknown(why),
    };
    port.net.send(port.me, from, Packet::Answer { id, answer });
}

/// Run the leader's loops while this master leads, as `master::server` does.
async fn lead(consensus: Arc<Consensus>, control: Control, dispatcher: Arc<Dispatcher>) {
    let mut leadership = consensus.leadership();
    loop {
        let own = match leadership.wait_for(|seen| seen.here).await {
            Ok(seen) => seen.term,
            Err(_) => return,
        };
        let term = CancellationToken::new();
        let loops = tokio::spawn(control::run(control.clone(), term.clone()));
        let (watch, ended) = (dispatcher.clone(), term.clone());
        let watch = tokio::spawn(async move { watch.watch(AGENT_TIMEOUT, ended).await });
        // A later term began with a moment of not leading, however short.
        if leadership.wait_for(|seen| !seen.here || seen.term != own).await.is_err() {
            return;
        }
        term.cancel();
        dispatcher.dismiss();
        loops.await.expect("the loops end");
        watch.await.expect("the watch ends");
    }
}
