//! A node's life: start its parts in order, say what it is, and end on a signal.

mod agent;
mod banner;
mod down;
mod finder;
mod founder;
mod joining;
mod levels;
mod offline;
mod own;
mod place;
mod renewal;
mod uninstall;
mod waiting;

pub use down::run as down;
pub use offline::{Restore, recover, restore};
pub use renewal::{ResetArgs, run as reset_identity};
pub use uninstall::{Uninstall, run as uninstall};

use crate::config::NodeConfig;
use agent::AgentPart;
use anyhow::{Context, Result};
use bramble_agent::AgentHandle;
use bramble_core::model::NodeRole;
use bramble_master::api::{self, ApiConfig};
use bramble_master::artifacts::Artifacts;
use bramble_master::founding;
use bramble_master::masters::Distant;
use bramble_master::relay::{Relay, RelayConfig};
use bramble_master::server::{Master, MasterConfig};
use bramble_protocol::net::{
    Alpn, Announcement, Directory, Endpoint, EndpointOptions, Farewell, Identity, Link, Links,
    NodeKey, Port,
};
use finder::Finder;
use founder::Founder;
use levels::Levels;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
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

/// Run a node in `role` until it is told to end.
pub async fn run(mut config: NodeConfig, role: NodeRole, levels: Arc<Levels>) -> Result<u8> {
    let mut signals = EndSignals::listen()?;
    let _claim = place::claim(&config)?;
    renewal::check(&config.data_dir)?;
    // Ports first: a taken one must be known before anything is written.
    let api = api_config(&config)?;
    let listeners = api::bind(&api).await?;
    let http = listeners.http();
    let port = Port::take(config.quic)?;
    let key = node_key(&config.data_dir)?;
    if role != NodeRole::Master {
        // Before the cluster hears of a node that will not run.
        bramble_agent::check_run_dir(&config.run_dir, &key.node_id())?;
    }
    let endpoint = Arc::new(endpoint(port, &key)?);
    let quic = endpoint.local_addr().context("reading the cluster port")?;
    let directory = Arc::new(Directory::default());
    let seen_file = config.data_dir.join("masters-seen");
    let founder = founder::prepare(&config, role)?;
    let cluster = founder.as_ref().and_then(Founder::cluster_id);
    let seed = config.join.as_deref();
    let finder = Finder::start(seed, &seen_file, directory.clone(), cluster, quic).await?;
    let (keys, standing) = match founder {
        Some(founder) => founder.keys(&config, role, &finder, quic.port(), &mut signals).await?,
        None => (joining::keys(&config, role, &finder, &mut signals).await?, None),
    };
    if config.default_name
        && let Some(given) = joining::given_name(&config.data_dir)
    {
        config.name = given;
    }
    let identity = keys.identity.clone();
    endpoint.set_identity(identity.clone())?;
    endpoint.keep_in(&founding::identity_dir(&config.data_dir))?;
    let own = identity.key.node_id();
    let announcement = Announcement {
        cluster: keys.cluster_id.clone(),
        node_id: own.clone(),
        role,
        port: quic.port(),
        name: config.name.clone(),
    };
    let links = Arc::new(Links::new(endpoint.clone(), directory.clone()));
    // Whichever part of the node answers the API takes the listeners.
    let mut door = Some((api, listeners));
    let master = match door.take_if(|_| role != NodeRole::Agent) {
        None => None,
        Some((api, listeners)) => {
            directory.note(&own, role, reachable(quic));
            let config = MasterConfig {
                data_dir: config.data_dir.clone(),
                name: config.name.clone(),
                api,
                listeners,
                endpoint: endpoint.clone(),
                links: links.clone(),
                keys,
                levels: levels.clone(),
                agent_timeout: config.agent_timeout,
                rebalance: config.rebalance,
                voter_grace: config.voter_grace,
            };
            Some(Arc::new(Master::start(config).await?))
        }
    };
    let agents = Arc::new(OnceLock::new());
    let answering =
        tokio::spawn(answer(endpoint.clone(), directory.clone(), master.clone(), agents.clone()));
    let agent = match role {
        NodeRole::Master => None,
        NodeRole::Full | NodeRole::Agent => {
            let agent =
                AgentPart::start(&config, &identity, endpoint.clone(), links.clone()).await?;
            // Set once, here.
            let _ = agents.set(agent.handle());
            Some(agent)
        }
    };
    let relay = match (door, &agent) {
        (Some((api, listeners)), Some(agent)) => Some(Relay::start(RelayConfig {
            api,
            listeners,
            key: &identity.key,
            masters: Arc::new(Distant::new(endpoint.clone(), links)),
            own: own::own_state(agent.handle(), own.agent(), config.name.clone()),
            levels,
            verdict: endpoint.verdict(),
        })),
        _ => None,
    };
    founder::use_up(&config, &announcement.cluster);
    let announced = finder.announce(announcement).await;
    founder::retire(standing);
    crate::output::tell(&banner::up(&config, role, http, master.as_deref()));

    let failed = async {
        match &master {
            Some(master) => master.failed().await,
            None => std::future::pending().await,
        }
    };
    let outvoted = async {
        match &master {
            Some(master) => founder::outvoted(master, &finder, &own).await,
            None => std::future::pending().await,
        }
    };
    let mut anew = false;
    let ended = tokio::select! {
        () = signals.received() => Ok(()),
        reason = failed => Err(anyhow::anyhow!("the replicated log stopped: {reason}")),
        () = cloned(&endpoint) => Err(renewal::mark_cloned(&config.data_dir)),
        other = outvoted => {
            tracing::warn!(%other, "the cluster exists already, and nobody has joined this node's \
                founding of it: this node begins anew, to join");
            anew = true;
            Ok(())
        }
    };
    drop(announced);
    if let Some(relay) = relay {
        relay.stop().await;
    }
    if let Some(agent) = agent {
        agent.stop(&config).await;
    }
    answering.abort();
    if let Some(master) = master {
        master.stop().await;
    }
    endpoint.close().await;
    if anew {
        return Err(founder::begin_anew(&seen_file));
    }
    ended.map(|()| 0)
}

/// This node's key; the first start makes one.
fn node_key(data_dir: &Path) -> Result<NodeKey> {
    let directory = founding::identity_dir(data_dir);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;
    Ok(NodeKey::load_or_create(&Identity::key_path(&directory))?)
}

/// Speak QUIC on the port, as who has this node's key.
fn endpoint(port: Port, key: &NodeKey) -> Result<Endpoint> {
    let options =
        EndpointOptions { link_seed: Some(key.link_seed()), ..EndpointOptions::default() };
    Ok(Endpoint::at(port, None, options)?)
}

/// Resolves once the cluster has said that another machine is this node.
async fn cloned(endpoint: &Endpoint) {
    let mut verdict = endpoint.verdict();
    if verdict.wait_for(|said| *said == Some(Farewell::Cloned)).await.is_err() {
        std::future::pending().await
    }
}

fn is_removed(directory: &Directory, link: &Link) -> bool {
    link.peer.as_ref().is_some_and(|peer| directory.refuses(&peer.node_id))
}

/// Answer every link that somebody dials, each by the part of the node that it is for.
/// The agent's comes later than the rest: it takes over its tasks first.
async fn answer(
    endpoint: Arc<Endpoint>,
    directory: Arc<Directory>,
    master: Option<Arc<Master>>,
    agent: Arc<OnceLock<AgentHandle>>,
) {
    while let Some(link) = endpoint.accept().await {
        match (&master, link.alpn) {
            (_, Alpn::Peer) if is_removed(&directory, &link) => {
                link.connection.close(1u32.into(), Farewell::Removed.reason().as_bytes());
            }
            (_, Alpn::Peer) if agent.get().is_some() => {
                let agent = agent.get().cloned();
                tokio::spawn(async move {
                    if let Some(agent) = agent {
                        agent.serve_peer(link).await;
                    }
                });
            }
            (Some(master), Alpn::Agent | Alpn::Raft | Alpn::Join | Alpn::Api) => {
                master.answer(link).await;
            }
            _ => link.connection.close(1u32.into(), b"this node does not answer that"),
        }
    }
}

/// What the node's API is told of its settings.
fn api_config(config: &NodeConfig) -> Result<ApiConfig> {
    Ok(ApiConfig {
        http: config.http,
        socket: config.run_dir.join("bramble.sock"),
        open_api: config.open_api,
        hostname: config.name.clone(),
        allow_origins: config.allow_origins.clone(),
        artifacts: artifacts(config)?,
        settings: config.settings.clone(),
    })
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
