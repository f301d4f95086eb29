//! Test support: a whole API over real sockets, with a log that is only memory.

pub(crate) mod agent;
pub(crate) mod client;
mod members;
pub(crate) mod state;
pub(crate) mod wire;

// All of this file is for tests; the mark also says so to the tidy test, which lets nothing else
// but consensus apply commands.
#[cfg(test)]
use bramble_core::machine;

use super::limits::RELAYED_WAITING_MAX;
use super::{Api, ApiConfig, Listeners, OwnState, bind, serve};
use crate::artifacts::Artifacts;
use crate::events::{self, Hub};
use crate::levels::{LogLevel, LogLevels, LogLevelsError, ROOT_LOGGER};
use crate::masters::{Lead, Relayed};
use crate::offers::OfferBook;
use crate::propose::{Committed, Propose, ProposeError, ProposeFuture};
use crate::queue_view::{QueueEntry, QueueView};
use crate::store::Store;
use crate::vault::Vault;
use bramble_core::command::{Command, Entry};
use bramble_core::model::{AppId, State};
use bramble_protocol::net::{Farewell, NodeKey};
use client::{Answer, Client};
use members::Rooms;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use wire::Wire;

/// Applies every command at once.
pub(crate) struct Memory {
    store: Arc<Store>,
    /// Taken by the next proposal instead of applying it.
    pub(crate) fail_next: Mutex<Option<ProposeError>>,
    pub(crate) commands: Mutex<Vec<Command>>,
    /// While closed (no permits), proposals wait; each arrival is told on `arrived`.
    pub(crate) gate: Semaphore,
    pub(crate) arrived: Semaphore,
}

impl Propose for Memory {
    fn propose(&self, command: Command) -> ProposeFuture<'_> {
        Box::pin(async move {
            self.arrived.add_permits(1);
            let _open = self.gate.acquire().await.unwrap();
            let failure = self.fail_next.lock().unwrap().take();
            if let Some(error) = failure {
                return Err(error);
            }
            self.commands.lock().unwrap().push(command.clone());
            let now = self.store.now();
            self.store.write(|state| {
                let entry = Entry { index: state.applied_index + 1, now, command };
                match machine::apply(state, &entry) {
                    Ok(events) => {
                        (Ok(Committed { index: entry.index, events: events.clone() }), events)
                    }
                    Err(rejection) => (Err(ProposeError::Rejected(rejection)), Vec::new()),
                }
            })
        })
    }
}

/// What a placer would say.
#[derive(Default)]
pub(crate) struct Refusals(pub(crate) Mutex<BTreeMap<AppId, QueueEntry>>);

impl QueueView for Refusals {
    fn refusals(&self, app: &AppId) -> Option<QueueEntry> {
        self.0.lock().unwrap().get(app).cloned()
    }
}

/// Levels that are only written down.
pub(crate) struct Written(pub(crate) Mutex<Vec<(String, LogLevel, Option<Duration>)>>);

impl LogLevels for Written {
    fn all(&self) -> BTreeMap<String, LogLevel> {
        [(ROOT_LOGGER.to_string(), LogLevel::Info), ("quinn".to_string(), LogLevel::Off)].into()
    }

    fn most(&self) -> LogLevel {
        LogLevel::Info
    }

    fn set(
        &self,
        logger: &str,
        level: LogLevel,
        lasting: Option<Duration>,
    ) -> Result<(), LogLevelsError> {
        if logger == "full" {
            return Err(LogLevelsError::Full);
        }
        self.0.lock().unwrap().push((logger.to_string(), level, lasting));
        Ok(())
    }
}

/// What a test's node is started with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) agents: agent::Agents,
    pub(crate) allow_origins: Vec<String>,
    pub(crate) keeps_artifacts: bool,
    pub(crate) follows: bool,
    /// Not the name that all others have.
    pub(crate) name: Option<&'static str>,
    /// This node is no master, and knows this much.
    pub(crate) own: Option<OwnState>,
}

/// A served API. Ends with the test's runtime.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) http: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) store: Arc<Store>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) offers: Arc<OfferBook>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) levels: Arc<Written>,
    pub(crate) abdicated: Arc<AtomicU64>,
    pub(crate) agents: Arc<agent::Agents>,
    pub(crate) wire: Arc<Wire>,
    /// What the cluster said of this node.
    pub(crate) verdict: watch::Sender<Option<Farewell>>,
    /// The way in for other nodes.
    pub(crate) relay: Sender<Relayed>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Node {
        Node::set_up(Setup::default()).await
    }

    pub(crate) async fn start_with(agents: agent::Agents) -> Node {
        Node::set_up(Setup { agents, ..Setup::default() }).await
    }

    pub(crate) async fn set_up(setup: Setup) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let config = ApiConfig {
            http: "127.0.0.1:0".parse().unwrap(),
            socket: directory.path().join("bramble.sock"),
            open_api: false,
            hostname: setup.name.unwrap_or("node1").into(),
            allow_origins: setup.allow_origins,
            artifacts: setup
                .keeps_artifacts
                .then(|| Arc::new(Artifacts::open(&directory.path().join("artifacts")).unwrap())),
            settings: serde_json::json!({ "http": { "value": "x", "origin": "flag" } }),
        };
        let listeners: Listeners = bind(&config).await.unwrap();
        let http = listeners.http();
        let store = Arc::new(Store::new(State::default()));
        let memory = Arc::new(Memory {
            store: store.clone(),
            fail_next: Mutex::default(),
            commands: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            arrived: Semaphore::new(0),
        });
        let refusals = Arc::new(Refusals::default());
        let offers = Arc::new(OfferBook::default());
        let hub = Arc::new(Hub::new(store.clock().clone()));
        let agents = Arc::new(setup.agents);
        let levels = Arc::new(Written(Mutex::default()));
        let abdicated = Arc::new(AtomicU64::new(0));
        let count = abdicated.clone();
        let lead = if setup.follows { Lead::Nobody } else { Lead::Here { term: 1 } };
        let wire = Arc::new(Wire::new(lead));
        let (relay, relayed) = mpsc::channel(RELAYED_WAITING_MAX);
        let key = NodeKey::generate().unwrap();
        let vault = Arc::new(Vault::new(&key, store.clone(), memory.clone()));
        let members = Rooms::new(&key, &store, memory.clone(), &vault, !setup.follows);
        let verdict = watch::Sender::new(None);
        let api = Api {
            store: store.clone(),
            propose: memory.clone(),
            streams: agents.clone(),
            queue: refusals.clone(),
            offers: offers.clone(),
            events: hub.clone(),
            vault,
            token: Arc::new(|| Some("BRAMBLE-1-aa-bb".into())),
            masters: wire.clone(),
            gate: wire.clone(),
            own: setup.own,
            backup: Arc::new(|| Ok(b"everything".to_vec())),
            abdicate: Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            levels: levels.clone(),
            administration: Some(members.administration),
            roster: Some(members.roster),
            callers: Arc::default(),
            verdict: verdict.subscribe(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(events::relay(hub.clone(), store.events(), stop.clone()));
        let socket = config.socket.clone();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move { serve(api, config, listeners, relayed, stop).await.unwrap() }
        });
        let _directory = directory;
        Node {
            name: setup.name.unwrap_or("node1"),
            http,
            socket,
            store,
            memory,
            refusals,
            offers,
            hub,
            levels,
            abdicated,
            agents,
            wire,
            verdict,
            relay,
            stop,
            served,
            _directory,
        }
    }

    /// Change the state behind the API's back, as the loops would.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut State)) {
        self.store.write(|state| (change(state), Vec::new()));
    }

    /// A client over TCP.
    pub(crate) async fn tcp(&self) -> Client {
        Client::tcp(self.http).await
    }

    /// A client over the local socket.
    pub(crate) async fn unix(&self) -> Client {
        Client::unix(&self.socket).await
    }

    /// One request over TCP; a body is sent as JSON.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers: &[(&str, &str)] =
            if body.is_empty() { &[] } else { &[("Content-Type", "application/json")] };
        self.tcp().await.ask(method, path, headers, body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
}
