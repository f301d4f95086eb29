//! Puts the master's rooms together: starts them in order, gives the leader its loops, and stops
//! everything again.

use crate::administration::Administration;
use crate::admission::{Admission, Connected};
use crate::api::{self, Api, ApiConfig, Listeners, ServeError};
use crate::authority::Authority;
use crate::backup::Backups;
use crate::callers::Callers;
use crate::certification::Certification;
use crate::consensus::{Consensus, ConsensusConfig, ConsensusError, Members};
use crate::control::{self, Control, PlacerView};
use crate::dispatcher::Dispatcher;
use crate::door::Door;
use crate::events::{self, Hub};
use crate::founding::{FoundingError, Keys};
use crate::levels::LogLevels;
use crate::masters::{self, Others, Relayed};
use crate::membership::Membership;
use crate::offers::OfferBook;
use crate::peers::Peers;
use crate::peers::answer::Answering;
use crate::propose::{Propose, ProposeError};
use crate::provisional::Provisional;
use crate::revocation::Revocation;
use crate::roster::Roster;
use crate::store::Store;
use crate::streams::OpenStream;
use crate::vault::Vault;
use bramble_core::command::{Command, Rejection};
use bramble_core::model::NodeId;
use bramble_protocol::net::{Alpn, Endpoint, JoinToken, Link, Links, answer_join};
use bramble_protocol::rest::event::EventBody;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time between the answer to a request to abdicate and doing it, so that the answer arrives.
const ABDICATE_AFTER: Duration = Duration::from_millis(500);
/// A master that answered within this time counts as connected.
const PRESENT: Duration = Duration::from_secs(5);
/// Longest wait for a leader at start before saying so.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// Longest wait of a leader that goes for another to lead.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
pub enum MasterError {
    #[error("the replicated log")]
    Consensus(#[from] ConsensusError),
    #[error("the node's keys")]
    Keys(#[source] Box<FoundingError>),
    #[error("writing the founding of the cluster")]
    Found(#[source] ProposeError),
    #[error("{data_dir} holds the keys of cluster {keys} and the log of cluster {log}; \
        they do not belong together", data_dir = .data_dir.display())]
    OtherCluster { data_dir: PathBuf, keys: String, log: String },
}

/// What a master is started with. Listeners and endpoint are bound already, so that a taken port
/// is known before anything is written.
pub struct MasterConfig {
    pub data_dir: PathBuf,
    pub name: String,
    pub api: ApiConfig,
    pub listeners: Listeners,
    pub endpoint: Arc<Endpoint>,
    pub links: Arc<Links>,
    pub keys: Keys,
    pub levels: Arc<dyn LogLevels>,
    /// How long an agent may be without a session before its tasks count as unreachable.
    pub agent_timeout: Duration,
    /// Whether this master, while it leads, moves tasks onto agents that came lately.
    pub rebalance: bool,
    /// How long a voter may be silent before its vote goes to another master.
    pub voter_grace: Duration,
}

/// A running master.
pub struct Master {
    consensus: Arc<Consensus>,
    dispatcher: Arc<Dispatcher>,
    authority: Arc<Authority>,
    answering: Arc<Answering>,
    provisional: Arc<Provisional>,
    callers: Arc<Callers>,
    door: Door,
    /// The way of other nodes' requests into the API.
    relay: mpsc::Sender<Relayed>,
    stop: CancellationToken,
    /// Taken when it stops.
    running: Mutex<Option<Running>>,
}

struct Running {
    api: JoinHandle<Result<(), ServeError>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Master {
    /// Open the log and answer the API: a founder once its cluster is written down, another at
    /// once, since it may be long before it hears of a leader.
    ///
    /// # Errors
    /// The log cannot be opened or written, or belongs to another cluster than the keys.
    pub async fn start(mut config: MasterConfig) -> Result<Master, MasterError> {
        let key = config.keys.identity.key.clone();
        let own = key.node_id();
        let callers = Arc::new(Callers::default());
        let peers = Arc::new(Peers::new(own.clone(), config.links.clone(), callers.clone()));
        let mut log = ConsensusConfig::new(config.data_dir.join("master/raft"), own.clone());
        log.founds = config.keys.founding.is_some();
        let (consensus, store) = Consensus::open(log, peers.clone()).await?;
        let propose: Arc<dyn Propose> = consensus.clone();
        if config.keys.founding.is_some() {
            consensus.found().await?;
        }
        if consensus.is_alone() {
            consensus.wait_for_leader(LEADER_WAIT).await?;
        }
        found(&config, &store, &consensus).await?;

        let stop = CancellationToken::new();
        let leadership = consensus.leadership();
        let directory = config.links.directory().clone();
        let offers = Arc::new(OfferBook::default());
        let view = Arc::new(PlacerView::default());
        let vault = Arc::new(Vault::new(&key, store.clone(), propose.clone()));
        let authority = Arc::new(Authority {
            store: store.clone(),
            propose: propose.clone(),
            vault: vault.clone(),
            founding: config.keys.founding.take(),
            peers: Some(peers.clone()),
        });
        let dispatcher = Dispatcher::new(
            store.clone(),
            propose.clone(),
            offers.clone(),
            vault.clone(),
            consensus.clone(),
            leadership.clone(),
            directory.clone(),
        );
        let dispatcher = dispatcher.certifying_with(authority.clone(), callers.clone());
        let dispatcher = Arc::new(dispatcher.looking_with(config.endpoint.clone(), own.clone()));
        let membership: Arc<dyn Membership> = Arc::new(Members(consensus.clone()));
        let administration = Arc::new(Administration {
            own: own.clone(),
            store: store.clone(),
            propose: propose.clone(),
            authority: authority.clone(),
            membership: membership.clone(),
            peers: peers.clone(),
            leadership: leadership.clone(),
        });
        let provisional = Arc::new(Provisional::of(&config.data_dir));
        let roster = Arc::new(Roster {
            own: own.clone(),
            membership: membership.clone(),
            heard: peers.clone(),
            directory: directory.clone(),
            leadership: leadership.clone(),
        });
        let revocation = Revocation {
            own: own.clone(),
            store: store.clone(),
            consensus: consensus.clone(),
            membership: membership.clone(),
            callers: callers.clone(),
            dispatcher: dispatcher.clone(),
            links: config.links.clone(),
        };
        let admission = Arc::new(Admission {
            own: own.clone(),
            store: store.clone(),
            propose: propose.clone(),
            authority: authority.clone(),
            peers: peers.clone(),
            leadership: leadership.clone(),
            provisional: provisional.clone(),
            connected: connected(dispatcher.clone(), peers.clone()),
        });
        let answering = Arc::new(Answering {
            store: store.clone(),
            consensus: consensus.clone(),
            vault: vault.clone(),
            admission,
            directory,
            administration: administration.clone(),
            callers: callers.clone(),
            life: config.endpoint.life(),
        });
        let control = Control {
            store: store.clone(),
            propose: propose.clone(),
            offers: offers.clone(),
            view: view.clone(),
            own: own.clone(),
            membership,
            heard: peers.clone(),
            voter_grace: config.voter_grace,
            rebalance: config.rebalance,
        };
        let hub = Arc::new(Hub::new(store.clock().clone()));
        let leading = Leading {
            consensus: consensus.clone(),
            control,
            dispatcher: dispatcher.clone(),
            authority: authority.clone(),
            agent_timeout: config.agent_timeout,
            hub: hub.clone(),
            address: format!("{}:{}", config.api.hostname, config.listeners.http().port()),
        };
        let verdict = config.endpoint.verdict();
        let certification = Certification {
            store: store.clone(),
            authority: authority.clone(),
            peers: peers.clone(),
            endpoint: config.endpoint.clone(),
            leadership: leadership.clone(),
        };
        let tasks = vec![
            tokio::spawn(events::relay(hub.clone(), store.events(), stop.clone())),
            tokio::spawn(leading.run(stop.clone())),
            tokio::spawn(revocation.run(stop.clone())),
            tokio::spawn(certification.run(stop.clone())),
            tokio::spawn(consensus.clone().watch_weather(stop.clone())),
            tokio::spawn(provisional.clone().watch(store.clone(), stop.clone())),
            tokio::spawn(make_known(peers, config.endpoint, answering.clone(), stop.clone())),
        ];
        let led = consensus.clone();
        let others = Others::new(own, config.links, store.clone(), leadership);
        let (relay, relayed) = mpsc::channel(api::RELAYED_WAITING_MAX);
        let tokens = authority.clone();
        let backups = Backups {
            consensus: consensus.clone(),
            vault: vault.clone(),
            authority: authority.clone(),
        };
        let api = Api {
            store,
            propose,
            streams: dispatcher.clone(),
            queue: view,
            offers,
            events: hub,
            vault,
            token: Arc::new(move || tokens.token().ok().map(|token| token.to_string())),
            masters: Arc::new(others),
            gate: consensus.clone(),
            own: None,
            backup: Arc::new(move || backups.make()),
            abdicate: Arc::new(move || drop(tokio::spawn(abdicate(led.clone())))),
            levels: config.levels,
            administration: Some(administration),
            roster: Some(roster),
            callers: callers.clone(),
            verdict,
        };
        let api = api::serve(api, config.api, config.listeners, relayed, stop.clone());
        let api = tokio::spawn(api);
        let running = Mutex::new(Some(Running { api, tasks }));
        let door = Door::new(answering.store.clone(), consensus.clone());
        Ok(Master {
            consensus,
            dispatcher,
            authority,
            answering,
            provisional,
            callers,
            door,
            relay,
            stop,
            running,
        })
    }

    /// Answer a link that somebody dialled, until it ends.
    pub async fn answer(&self, link: Link) {
        if let Some(peer) = &link.peer {
            if !self.door.lets_in(&link, &peer.node_id) {
                return;
            }
            self.callers.enter(&peer.node_id, &link.connection);
            let address = link.connection.remote_address();
            self.answering.directory.note(&peer.node_id, peer.role, address);
        }
        match link.alpn {
            Alpn::Agent => {
                let dispatcher = self.dispatcher.clone();
                tokio::spawn(async move { dispatcher.serve(link).await });
            }
            Alpn::Raft => {
                tokio::spawn(self.answering.clone().serve(link, self.stop.clone()));
            }
            Alpn::Join => {
                let admission = self.answering.admission.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer_join(link, admission.as_ref()).await {
                        tracing::info!(%error, "a node did not join");
                    }
                });
            }
            Alpn::Api => {
                let store = self.answering.store.clone();
                tokio::spawn(masters::answer(link, store, self.relay.clone()));
            }
            Alpn::Peer => {
                link.connection.close(1u32.into(), b"this node does not answer that yet");
            }
        }
    }

    /// The join token, once this master has it.
    pub fn token(&self) -> Option<JoinToken> {
        self.authority.token().ok()
    }

    /// Whether the cluster could still be given up for another one.
    pub fn provisional(&self) -> &Provisional {
        &self.provisional
    }

    /// Whether a node belongs to the cluster, as far as this master has heard.
    pub fn knows(&self, node_id: &NodeId) -> bool {
        self.answering.store.read(|state| state.nodes.contains_key(node_id))
    }

    /// Resolves with the reason when the master cannot go on and the process should restart.
    pub async fn failed(&self) -> String {
        self.consensus.failed().await
    }

    /// Hand over leadership, stop answering, end every session, and let go of the log.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { api, tasks }) = running else { return };
        self.consensus.leave(HAND_OVER_MAX).await;
        self.stop.cancel();
        match api.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the API did not end cleanly"),
            Err(error) => tracing::error!(%error, "the API ended with a panic"),
        }
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the master ended with a panic");
            }
        }
        self.consensus.shutdown().await;
    }
}

/// Nodes that speak to this master, as agents or as masters.
fn connected(dispatcher: Arc<Dispatcher>, peers: Arc<Peers>) -> Connected {
    Arc::new(move || {
        let agents = dispatcher.connected().into_iter().map(|id| NodeId::new(id.as_str()));
        agents.chain(peers.answered_within(PRESENT)).collect()
    })
}

async fn abdicate(consensus: Arc<Consensus>) {
    tokio::time::sleep(ABDICATE_AFTER).await;
    match consensus.abdicate().await {
        Ok(()) => tracing::info!("this master gave up its leadership, as it was asked to"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "this master could not give up its leadership");
        }
    }
}

/// Write the founding into a new log; check that an old one is this cluster's.
async fn found(
    config: &MasterConfig,
    store: &Store,
    consensus: &Consensus,
) -> Result<(), MasterError> {
    if let Some(log) = store.read(|state| state.cluster.as_ref().map(|c| c.id.clone())) {
        if log == config.keys.cluster_id {
            return Ok(());
        }
        let (data_dir, keys) = (config.data_dir.clone(), config.keys.cluster_id.clone());
        return Err(MasterError::OtherCluster { data_dir, keys, log });
    }
    // Only the leader of a log in which nothing is founded can be the founder of it; a founder
    // whose log holds more is told by others what it holds.
    let Some(founding) = config.keys.founding.as_ref().filter(|_| consensus.is_leader()) else {
        return Ok(());
    };
    let role = config.keys.role().map_err(|e| MasterError::Keys(Box::new(e)))?;
    let founder = founding.founder(&config.keys.identity, &config.name, role);
    let command = Command::Found { cluster: founding.cluster(&config.keys.cluster_id), founder };
    match consensus.propose(command).await {
        Ok(_) | Err(ProposeError::Rejected(Rejection::AlreadyFounded)) => Ok(()),
        Err(error) => Err(MasterError::Found(error)),
    }
}

/// Greet the other masters, and keep a copy of the data key.
async fn make_known(
    peers: Arc<Peers>,
    endpoint: Arc<Endpoint>,
    own: Arc<Answering>,
    stop: CancellationToken,
) {
    let leadership = own.consensus.leadership();
    let consensus = own.consensus.as_ref();
    tokio::join!(
        peers.greet(endpoint, leadership.clone(), stop.clone()),
        peers.keep_copy(&own.store, &own.vault, consensus, leadership, stop.clone()),
    );
}

/// What a master does while it leads.
struct Leading {
    consensus: Arc<Consensus>,
    control: Control,
    dispatcher: Arc<Dispatcher>,
    authority: Arc<Authority>,
    agent_timeout: Duration,
    hub: Arc<Hub>,
    /// `host:port` of its API, as it tells who leads.
    address: String,
}

impl Leading {
    /// Run the leader's loops while this master leads.
    async fn run(self, stop: CancellationToken) {
        let mut leadership = self.consensus.leadership();
        loop {
            let own = tokio::select! {
                () = stop.cancelled() => return,
                led = leadership.wait_for(|seen| seen.here) => match led {
                    Ok(seen) => seen.term,
                    Err(_) => return,
                },
            };
            let term = stop.child_token();
            let loops = self.begin(&term);
            events::leads(&self.hub, &self.control.store, &self.address);
            tokio::select! {
                () = stop.cancelled() => {}
                // A later term began with a moment of not leading, however short.
                _ = leadership.wait_for(|seen| !seen.here || seen.term != own) => {}
            }
            term.cancel();
            self.dispatcher.dismiss();
            for (what, running) in loops {
                if let Err(error) = running.await {
                    tracing::error!(%error, what, "a part of the leader ended with a panic");
                }
            }
            self.hub.publish(EventBody::SchedulerDisconnected {});
        }
    }

    fn begin(&self, term: &CancellationToken) -> [(&'static str, JoinHandle<()>); 4] {
        let (dispatcher, timeout, ended) =
            (self.dispatcher.clone(), self.agent_timeout, term.clone());
        let (authority, provided) = (self.authority.clone(), term.clone());
        let (hub, store) = (self.hub.clone(), self.control.store.clone());
        [
            ("loops", tokio::spawn(control::run(self.control.clone(), term.clone()))),
            (
                "watch over agents",
                tokio::spawn(async move { dispatcher.watch(timeout, ended).await }),
            ),
            ("delivery of events", tokio::spawn(events::deliver(hub, store, term.clone()))),
            ("authority", tokio::spawn(async move { authority.provide(provided).await })),
        ]
    }
}
