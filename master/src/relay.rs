//! The API of a node that has no master: everything about the cluster is answered by one elsewhere.
//!
//! Owns no state but what the node's own tasks are, and that only while nobody else answers.

use crate::api::{
    self, Abdicate, Api, ApiConfig, Listeners, OwnState, RELAYED_WAITING_MAX, ServeError,
};
use crate::backup::BackupError;
use crate::events::Hub;
use crate::levels::LogLevels;
use crate::masters::{Masters, ReadError, ReadFuture, ReadGate};
use crate::offers::OfferBook;
use crate::propose::{Propose, ProposeError, ProposeFuture};
use crate::queue_view::{QueueEntry, QueueView};
use crate::store::Store;
use crate::streams::{OpenStream, StreamError, StreamFuture};
use crate::vault::Vault;
use bramble_core::command::Command;
use bramble_core::model::{AgentId, AppId, State};
use bramble_protocol::message::StreamRequest;
use bramble_protocol::net::{Farewell, NodeKey};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a relay is started with. Listeners are bound already, so that a taken port is known before
/// anything else is done.
pub struct RelayConfig<'a> {
    pub api: ApiConfig,
    pub listeners: Listeners,
    pub key: &'a NodeKey,
    pub masters: Arc<dyn Masters>,
    /// What this node knows by itself.
    pub own: OwnState,
    pub levels: Arc<dyn LogLevels>,
    /// What the cluster said of this node.
    pub verdict: watch::Receiver<Option<Farewell>>,
}

/// A running relay.
pub struct Relay {
    stop: CancellationToken,
    api: JoinHandle<Result<(), ServeError>>,
}

impl Relay {
    /// Answer the API. Must be called inside a tokio runtime.
    pub fn start(config: RelayConfig<'_>) -> Relay {
        let store = Arc::new(Store::new(State::default()));
        let nobody = Arc::new(Nobody);
        let abdicate: Abdicate = Arc::new(|| {});
        let api = Api {
            store: store.clone(),
            propose: nobody.clone(),
            streams: nobody.clone(),
            queue: nobody.clone(),
            offers: Arc::new(OfferBook::default()),
            events: Arc::new(Hub::new(store.clock().clone())),
            vault: Arc::new(Vault::new(config.key, store, nobody.clone())),
            token: Arc::new(|| None),
            masters: config.masters,
            gate: nobody,
            own: Some(config.own),
            abdicate,
            backup: Arc::new(|| Err(BackupError::NoMaster)),
            levels: config.levels,
            administration: None,
            roster: None,
            callers: Arc::default(),
            verdict: config.verdict,
        };
        // Nobody passes anything on to a node that is no master.
        let (_, relayed) = mpsc::channel(RELAYED_WAITING_MAX);
        let stop = CancellationToken::new();
        let serving = api::serve(api, config.api, config.listeners, relayed, stop.clone());
        Relay { stop, api: tokio::spawn(serving) }
    }

    /// Stop answering.
    pub async fn stop(self) {
        self.stop.cancel();
        match self.api.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the API did not end cleanly"),
            Err(error) => tracing::error!(%error, "the API ended with a panic"),
        }
    }
}

/// The rooms of a master, where there is none.
struct Nobody;

impl Propose for Nobody {
    fn propose(&self, _command: Command) -> ProposeFuture<'_> {
        Box::pin(std::future::ready(Err(ProposeError::NotLeader)))
    }
}

impl ReadGate for Nobody {
    fn fresh(&self) -> ReadFuture<'_> {
        Box::pin(std::future::ready(Err(ReadError::NotLeader)))
    }
}

impl OpenStream for Nobody {
    fn open(&self, agent: &AgentId, _request: StreamRequest) -> StreamFuture<'_> {
        Box::pin(std::future::ready(Err(StreamError::AgentAway(agent.clone()))))
    }

    fn connected(&self) -> Vec<AgentId> {
        Vec::new()
    }
}

impl QueueView for Nobody {
    fn refusals(&self, _app: &AppId) -> Option<QueueEntry> {
        None
    }
}
