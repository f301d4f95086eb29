//! Puts the master's rooms together: starts them in order, gives the leader its loops, and stops
//! everything again.

use crate::admission::Admission;
use crate::api::{self, Api, ApiConfig, Listeners, ServeError};
use crate::consensus::{Consensus, ConsensusConfig, ConsensusError, NoPeers};
use crate::control::{self, Control, PlacerView};
use crate::dispatcher::Dispatcher;
use crate::events::{self, Hub};
use crate::founding::Keys;
use crate::levels::LogLevels;
use crate::offers::OfferBook;
use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use crate::vault::Vault;
use bramble_core::command::{Command, Rejection};
use bramble_protocol::net::{Alpn, Endpoint, answer_join};
use bramble_protocol::rest::event::EventBody;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time between the answer to a request to abdicate and doing it, so that the answer arrives.
const ABDICATE_AFTER: Duration = Duration::from_millis(500);
/// Longest wait for a leader at start before saying so.
const LEADER_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum MasterError {
    #[error("the replicated log")]
    Consensus(#[from] ConsensusError),
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
    pub keys: Arc<Keys>,
    pub levels: Arc<dyn LogLevels>,
    /// How long an agent may be without a session before its tasks count as unreachable.
    pub agent_timeout: Duration,
}

/// A running master.
pub struct Master {
    consensus: Arc<Consensus>,
    stop: CancellationToken,
    api: JoinHandle<Result<(), ServeError>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Master {
    /// Open the log, found the cluster if it is new, and answer the API once there is a leader.
    ///
    /// # Errors
    /// The log cannot be opened or written, or belongs to another cluster than the keys.
    pub async fn start(config: MasterConfig) -> Result<Master, MasterError> {
        let node = config.keys.identity.key.node_id();
        let log = ConsensusConfig::new(config.data_dir.join("master/raft"), node);
        let (consensus, store) = Consensus::open(log, Arc::new(NoPeers)).await?;
        consensus.found().await?;
        consensus.wait_for_leader(LEADER_WAIT).await?;
        let propose: Arc<dyn Propose> = consensus.clone();
        found(&config, &store, propose.as_ref()).await?;

        let stop = CancellationToken::new();
        let offers = Arc::new(OfferBook::default());
        let view = Arc::new(PlacerView::default());
        let key = &config.keys.identity.key;
        let vault = Arc::new(Vault::new(key, store.clone(), propose.clone()));
        let dispatcher = Arc::new(Dispatcher::new(
            store.clone(),
            propose.clone(),
            offers.clone(),
            vault.clone(),
        ));
        let admission = Arc::new(Admission {
            store: store.clone(),
            propose: propose.clone(),
            keys: config.keys.clone(),
        });
        let watching = (dispatcher.clone(), config.agent_timeout);
        let known_offers = offers.clone();
        let control =
            Control { store: store.clone(), propose: propose.clone(), offers, view: view.clone() };
        let hub = Arc::new(Hub::default());
        let changes = store.events();
        let voice = Voice {
            hub: hub.clone(),
            store: store.clone(),
            address: format!("{}:{}", config.api.hostname, config.listeners.http().port()),
        };
        let (leads, led) = (consensus.clone(), consensus.clone());
        let token = config.keys.token.to_string();
        let api = Api {
            store,
            propose,
            streams: dispatcher.clone(),
            queue: view,
            offers: known_offers,
            events: hub.clone(),
            vault,
            token: Arc::new(move || Some(token.clone())),
            leads: Arc::new(move || leads.is_leader()),
            abdicate: Arc::new(move || drop(tokio::spawn(abdicate(led.clone())))),
            levels: config.levels,
        };
        let tasks = vec![
            tokio::spawn(events::relay(hub, changes, stop.clone())),
            tokio::spawn(lead(consensus.clone(), control, voice, watching, stop.clone())),
            tokio::spawn(accept(config.endpoint, dispatcher, admission, stop.clone())),
        ];
        let api = tokio::spawn(api::serve(api, config.api, config.listeners, stop.clone()));
        Ok(Master { consensus, stop, api, tasks })
    }

    /// Resolves with the reason when the master cannot go on and the process should restart.
    pub async fn failed(&self) -> String {
        self.consensus.failed().await
    }

    /// Stop answering, end every session, and let go of the log.
    pub async fn stop(self) {
        self.stop.cancel();
        match self.api.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the API did not end cleanly"),
            Err(error) => tracing::error!(%error, "the API ended with a panic"),
        }
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the master ended with a panic");
            }
        }
        self.consensus.shutdown().await;
    }
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
    propose: &dyn Propose,
) -> Result<(), MasterError> {
    if let Some(log) = store.read(|state| state.cluster.as_ref().map(|c| c.id.clone())) {
        if log == config.keys.cluster_id {
            return Ok(());
        }
        let (data_dir, keys) = (config.data_dir.clone(), config.keys.cluster_id.clone());
        return Err(MasterError::OtherCluster { data_dir, keys, log });
    }
    let founder = config.keys.founder(&config.name);
    let command = Command::Found { cluster: config.keys.cluster(), founder };
    match propose.propose(command).await {
        Ok(_) | Err(ProposeError::Rejected(Rejection::AlreadyFounded)) => Ok(()),
        Err(error) => Err(MasterError::Found(error)),
    }
}

/// How the leader says what it does.
struct Voice {
    hub: Arc<Hub>,
    store: Arc<Store>,
    /// `host:port` of its API.
    address: String,
}

/// Run the leader's loops while this master leads.
async fn lead(
    consensus: Arc<Consensus>,
    control: Control,
    voice: Voice,
    (dispatcher, agent_timeout): (Arc<Dispatcher>, Duration),
    stop: CancellationToken,
) {
    let mut leadership = consensus.leadership();
    loop {
        let own = tokio::select! {
            () = stop.cancelled() => return,
            led = leadership.wait_for(|seen| seen.here) => match led {
                Ok(seen) => seen.term,
                Err(_) => return,
            },
        };
        let term = stop.child_token();
        let loops = tokio::spawn(control::run(control.clone(), term.clone()));
        let (watch, ended) = (dispatcher.clone(), term.clone());
        let watch = tokio::spawn(async move { watch.watch(agent_timeout, ended).await });
        let delivery = events::deliver(voice.hub.clone(), voice.store.clone(), term.clone());
        let delivery = tokio::spawn(delivery);
        events::leads(&voice.hub, &voice.store, &voice.address);
        tokio::select! {
            () = stop.cancelled() => {}
            // A later term began with a moment of not leading, however short.
            _ = leadership.wait_for(|seen| !seen.here || seen.term != own) => {}
        }
        term.cancel();
        if let Err(error) = loops.await {
            tracing::error!(%error, "a loop of the leader ended with a panic");
        }
        if let Err(error) = watch.await {
            tracing::error!(%error, "the watch over agents ended with a panic");
        }
        if let Err(error) = delivery.await {
            tracing::error!(%error, "the delivery of events ended with a panic");
        }
        voice.hub.publish(EventBody::SchedulerDisconnected {});
    }
}

/// Answer every link that somebody dials.
async fn accept(
    endpoint: Arc<Endpoint>,
    dispatcher: Arc<Dispatcher>,
    admission: Arc<Admission>,
    stop: CancellationToken,
) {
    loop {
        let link = tokio::select! {
            () = stop.cancelled() => return,
            link = endpoint.accept() => match link {
                Some(link) => link,
                None => return,
            },
        };
        match link.alpn {
            Alpn::Agent => {
                let dispatcher = dispatcher.clone();
                tokio::spawn(async move { dispatcher.serve(link).await });
            }
            Alpn::Join => {
                let admission = admission.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer_join(link, admission.as_ref()).await {
                        tracing::info!(%error, "a node did not join");
                    }
                });
            }
            Alpn::Raft | Alpn::Api | Alpn::Peer => {
                link.connection.close(1u32.into(), b"this cluster has one master");
            }
        }
    }
}
