//! A node's life: start its parts in order, say what it is, and end on a signal.

mod agent;
mod banner;
mod down;
mod finder;
mod levels;
mod offline;
mod place;

pub use agent::run as agent;
pub use down::run as down;
pub use offline::{Restore, recover, restore};

use crate::config::NodeConfig;
use agent::{AgentPart, Masters};
use anyhow::{Context, Result};
use bramble_agent::Leader;
use bramble_core::model::NodeRole;
use bramble_master::api::{self, ApiConfig};
use bramble_master::artifacts::Artifacts;
use bramble_master::founding::Keys;
use bramble_master::server::{Master, MasterConfig};
use bramble_protocol::net::{Announced, Announcement, Discovery, Endpoint};
use levels::Levels;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads of a node's runtime: enough to keep two cores busy, few enough to stay small.
const WORKER_THREADS: usize = 2;

/// Run a node's main task on a runtime of its own, with logging to standard error.
pub fn serve<F>(start: impl FnOnce(Arc<Levels>) -> F) -> Result<u8>
where
    F: Future<Output = Result<u8>>,
{
    let levels = Levels::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(start(levels));
    // Blocking work (an image being unpacked) must not hold up the end; it is safe to cut off.
    runtime.shutdown_background();
    ended
}

/// `bramble up`: master and agent in one process.
pub async fn up(config: NodeConfig, levels: Arc<Levels>) -> Result<u8> {
    let mut signals = EndSignals::listen()?;
    let _claim = place::claim(&config)?;
    // Ports first: a taken one must be known before anything is written.
    let api_config = ApiConfig {
        http: config.http,
        socket: config.run_dir.join("bramble.sock"),
        open_api: config.open_api,
        hostname: config.name.clone(),
        allow_origins: config.allow_origins.clone(),
        artifacts: artifacts(&config)?,
        settings: config.settings.clone(),
    };
    let listeners = api::bind(&api_config).await?;
    let http = listeners.http();
    let endpoint = Endpoint::bind(config.quic, None)?;
    let quic = endpoint.local_addr().context("reading the cluster port")?;
    let keys = Arc::new(Keys::load_or_make(&config.data_dir)?);
    endpoint.set_identity(keys.identity.clone())?;
    let master = Master::start(MasterConfig {
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        api: api_config,
        listeners,
        endpoint: Arc::new(endpoint),
        keys: keys.clone(),
        levels,
        agent_timeout: config.agent_timeout,
    })
    .await?;
    let own = Leader { node_id: Some(keys.identity.key.node_id()), address: reachable(quic) };
    let agent = AgentPart::start(&config, keys.identity.clone(), Masters::At(own)).await?;
    let discovery = announce(&keys, &config, quic.port()).await;
    crate::output::tell(&banner::up(&config, http, &keys));

    let ended = tokio::select! {
        () = signals.received() => Ok(()),
        reason = master.failed() => Err(anyhow::anyhow!("the replicated log stopped: {reason}")),
    };
    drop(discovery);
    agent.stop(&config).await;
    master.stop().await;
    ended.map(|()| 0)
}

/// Open the store of artifacts, if this node is to keep some.
fn artifacts(config: &NodeConfig) -> Result<Option<Arc<Artifacts>>> {
    if !config.artifact_store {
        return Ok(None);
    }
    let dir = config.data_dir.join("artifacts");
    let store = Artifacts::open(&dir).with_context(|| format!("opening {}", dir.display()))?;
    Ok(Some(Arc::new(store)))
}

/// Where this machine's own processes reach a socket bound to `bound`.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// SIGINT and SIGTERM, heard from the moment this is made: a Ctrl-C while the node still starts
/// must end it in order as well.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    fn listen() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("watching SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("watching SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Resolves once one of them has come.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Announce this node by mDNS. A network without multicast is no reason not to run.
async fn announce(keys: &Keys, config: &NodeConfig, port: u16) -> Option<(Announced, Discovery)> {
    let announcement = Announcement {
        cluster: keys.cluster_id.clone(),
        node_id: keys.identity.key.node_id(),
        role: NodeRole::Full,
        port,
        name: config.name.clone(),
    };
    let started = async {
        let discovery = Discovery::start(agent::is_container_link).await?;
        let announced = discovery.announce(announcement).await?;
        Ok::<_, bramble_protocol::net::DiscoveryError>((announced, discovery))
    };
    match started.await {
        Ok(pair) => Some(pair),
        Err(error) => {
            tracing::warn!(%error, "this node is not announced; others need --join to find it");
            None
        }
    }
}
