//! The HTTP side of the master: reads the store, proposes changes, relays streams to agents.
//!
//! It never applies a command itself, never talks to an agent but through [`OpenStream`] nor to
//! another master but through [`Masters`], and keeps nothing that a restart would lose.

mod accept;
mod access;
mod apps;
mod artifacts;
mod body;
mod change;
mod compress;
mod cors;
mod deployments;
mod dispatch;
mod editing;
mod error;
mod events;
mod groups;
mod limits;
mod listen;
mod logging;
mod native;
mod pages;
mod pods;
mod query;
mod queue;
mod relay;
mod reply;
mod route;
mod selector;
mod system;
mod tasks;

pub use limits::RELAYED_WAITING_MAX;
pub use listen::{BindError, Listeners, bind};
pub use relay::answers;

use crate::administration::Administration;
use crate::artifacts::Artifacts;
use crate::backup::BackupError;
use crate::callers::Callers;
use crate::events::Hub;
use crate::levels::LogLevels;
use crate::masters::{Masters, ReadGate, Relayed};
use crate::offers::OfferBook;
use crate::propose::Propose;
use crate::queue_view::QueueView;
use crate::roster::Roster;
use crate::store::Store;
use crate::streams::OpenStream;
use crate::vault::Vault;
use bramble_core::model::State;
use bramble_protocol::net::Farewell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Where the API listens and how it names its node.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// TCP address to bind; port 0 takes any (see [`Listeners::http`]).
    pub http: SocketAddr,
    /// Path of the local socket, made with mode 0600.
    pub socket: PathBuf,
    /// Answer other machines too (`--open-api`).
    pub open_api: bool,
    /// The node's name, as the leader's address shows it.
    pub hostname: String,
    /// Origins of web pages that may read answers (`--access-control-allow-origin`).
    pub allow_origins: Vec<String>,
    /// Where artifacts are kept, if they are.
    pub artifacts: Option<Arc<Artifacts>>,
    /// Every setting of the node, as `/config` shows it.
    pub settings: serde_json::Value,
}

#[derive(Debug, Error)]
pub enum ServeError {
    #[error("removing the local socket {}", path.display())]
    RemoveSocket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Answers the join token of this cluster, if this node holds it.
pub type TokenSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;
/// Tells what a node that is no master knows by itself: a state of its own tasks alone.
pub type OwnState = Arc<dyn Fn() -> OwnFuture + Send + Sync>;
pub type OwnFuture = Pin<Box<dyn Future<Output = State> + Send>>;
/// Makes an unsealed backup of the cluster.
pub type BackupSource = Arc<dyn Fn() -> Result<Vec<u8>, BackupError> + Send + Sync>;

/// Makes this master let go of its leadership, soon.
pub type Abdicate = Arc<dyn Fn() + Send + Sync>;

/// The rooms the API reads and calls.
#[derive(Clone)]
pub struct Api {
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub streams: Arc<dyn OpenStream>,
    pub queue: Arc<dyn QueueView>,
    pub offers: Arc<OfferBook>,
    pub events: Arc<Hub>,
    pub vault: Arc<Vault>,
    pub token: TokenSource,
    pub masters: Arc<dyn Masters>,
    pub gate: Arc<dyn ReadGate>,
    /// Shown while no master answers; `None` on a master, which shows its store.
    pub own: Option<OwnState>,
    pub backup: BackupSource,
    pub abdicate: Abdicate,
    pub levels: Arc<dyn LogLevels>,
    /// Only on a master.
    pub administration: Option<Arc<Administration>>,
    /// Only on a master.
    pub roster: Option<Arc<Roster>>,
    pub callers: Arc<Callers>,
    /// What the cluster said of this node, if it does not want it.
    pub verdict: watch::Receiver<Option<Farewell>>,
}

impl Api {
    /// What the cluster said of this node, if it does not want it; a master may read it in its log.
    pub(crate) fn farewell(&self) -> Option<Farewell> {
        let own = self.roster.as_ref().map(|roster| &roster.own);
        let removed = self.store.read(|s| own.is_some_and(|own| s.removed.contains_key(own)));
        (*self.verdict.borrow()).or(removed.then_some(Farewell::Removed))
    }
}

/// Answer requests on `listeners`, and those that other nodes pass on, until `shutdown`; requests
/// under way get a few seconds more.
///
/// # Errors
/// When the local socket could not be removed at the end.
pub async fn serve(
    api: Api,
    config: ApiConfig,
    listeners: Listeners,
    relayed: mpsc::Receiver<Relayed>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let router = dispatch::router(api, &config, listeners.http(), shutdown.clone());
    listen::run(listeners, relayed, router, shutdown).await
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
