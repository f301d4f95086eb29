//! The agent as a whole: opens what it owns, takes over from its earlier life, then serves.

use crate::clock::{self, ClockError};
use crate::config::AgentConfig;
use crate::fetch::{Fetcher, OpenError};
use crate::hardware::{Claims, Hardware, Watcher};
use crate::images::{ImageError, Images, ImagesConfig};
use crate::inventory::{self, ATTRIBUTE_NO_MEMORY_CGROUP, InventoryError};
use crate::ledger::{Ledger, LedgerError};
use crate::machine::Machine;
use crate::network::{Network, NetworkConfig, NetworkError};
use crate::peers::Peers;
use crate::reconciler::{OwnTask, ReconcileError, Reconciler, Reconciling};
use crate::runtime::{Runtime, RuntimeConfig, RuntimeError, tasks_in};
use crate::sandboxes::{SandboxError, Sandboxes};
use crate::secrets::Safe;
use crate::session::{self, Speaker};
use crate::streams::{Streams, System};
use crate::volumes::{VolumeError, Volumes};
use bramble_core::model::{Agent as AgentRecord, NodeId};
use bramble_protocol::net::{Endpoint, Link, Links, NodeKey};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// File of the run directory with the id of the node whose tasks are in it.
const OWNER_FILE: &str = "node";

#[derive(Debug, Error)]
pub enum AgentError {
    #[error("making {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("asking for this boot's name")]
    Clock(#[from] ClockError),
    #[error("measuring this machine")]
    Inventory(#[from] InventoryError),
    #[error("opening the agent's ledger")]
    Ledger(#[from] LedgerError),
    #[error("opening the sandboxes")]
    Sandboxes(#[from] SandboxError),
    #[error("opening the volumes")]
    Volumes(#[from] VolumeError),
    #[error("opening the container runtime")]
    Runtime(#[from] RuntimeError),
    #[error("opening the image store")]
    Images(#[from] ImageError),
    #[error(
        "the run directory {} holds tasks of another node ({owner}): start with another \
         --run-dir, or run `bramble down` with that node's data directory first",
        path.display()
    )]
    RunDirectory { path: PathBuf, owner: String },
    #[error("noting whose run directory {} is", path.display())]
    Owner {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("opening the fetcher of tasks' files")]
    Fetcher(#[from] OpenError),
    #[error("opening the containers' network")]
    Network(#[source] NetworkError),
    #[error("closing the containers' network")]
    CloseNetwork(#[source] NetworkError),
    #[error("asking the agent")]
    Reconcile(#[from] ReconcileError),
}

/// An agent that has taken over its machine. Dropping it leaves containers running.
pub struct Agent {
    record: AgentRecord,
    reconciler: Reconciler<Machine>,
    reconciling: Reconciling,
    streams: Arc<Streams>,
    network: Arc<Network>,
    peers: Arc<Peers>,
    watcher: Watcher,
}

/// Reaches an agent that runs: stops all its tasks, hands it other nodes' links.
#[derive(Clone)]
pub struct AgentHandle {
    reconciling: Reconciling,
    network: Arc<Network>,
    peers: Arc<Peers>,
}

impl AgentHandle {
    /// Stop every task with its grace and wait for all; nothing is started any more. They end as
    /// killed ("node went down"), and the assignments stay: when the node comes back, the cluster
    /// replaces them without delay.
    ///
    /// # Errors
    /// When the agent is gone, or its network cannot be removed.
    pub async fn stop_all(&self) -> Result<(), AgentError> {
        self.reconciling.stop_all().await?;
        self.network.close().await.map(drop).map_err(AgentError::CloseNetwork)
    }

    /// Answer a link of another node until it ends.
    pub async fn serve_peer(&self, link: Link) {
        self.peers.serve(link).await;
    }

    /// Everything assigned to this agent, as far as it knows by itself.
    ///
    /// # Errors
    /// When the agent is gone.
    pub async fn tasks(&self) -> Result<Vec<OwnTask>, AgentError> {
        Ok(self.reconciling.tasks().await?)
    }

    /// Count the tasks that have not ended.
    pub fn running(&self) -> usize {
        self.reconciling.roster.living()
    }

    /// Whether a task among them runs only for as long as a master can be reached.
    pub fn has_leases(&self) -> bool {
        self.reconciling.held.borrow().leased
    }
}

impl Agent {
    /// Open everything and take over: adopt what runs, report what ended, clean what is dead.
    ///
    /// # Errors
    /// When a part cannot be opened, also because another agent has it.
    pub async fn open(config: AgentConfig, key: &NodeKey) -> Result<Agent, AgentError> {
        let node_id = &key.node_id();
        let data = config.data_dir.join("agent");
        std::fs::create_dir_all(&data)
            .map_err(|source| AgentError::Directory { path: data.clone(), source })?;
        let boot_id = clock::boot_id()?;
        let (record, memory_limits) = record(&config, node_id)?;
        let watcher = Watcher::new(&config.sysfs, memory_limits);
        let (ledger, contents) = Ledger::open(&data.join("ledger"))?;
        let sandboxes = Sandboxes::open(&config.data_dir)?;
        let volumes = Volumes::open(&config.data_dir)?;
        let runtime = Runtime::open(RuntimeConfig {
            run_dir: config.run_dir.clone(),
            executable: config.executable,
            cgroup_parent: config.cgroup_parent,
            allow_host_volumes: config.allow_host_volumes,
            allow_privileged: config.allow_privileged,
            log_bytes_max: config.log_bytes_max,
        })?;
        claim(&config.run_dir, node_id)?;
        let images = ImagesConfig {
            insecure_registries: config.insecure_registries,
            docker_config: config.docker_config,
        };
        let images = Arc::new(Images::open(&config.data_dir.join("images"), images)?);
        let network =
            NetworkConfig { bridge: config.bridge, subnet: config.subnet, state_dir: data };
        let network = Arc::new(Network::open(network).map_err(AgentError::Network)?);
        let machine = Arc::new(Machine {
            runtime: runtime.clone(),
            network: Arc::clone(&network),
            images: Arc::clone(&images),
            fetcher: Fetcher::open(&config.data_dir.join("fetch"), config.allow_host_volumes)?,
            sandboxes: sandboxes.clone(),
            safe: Safe::new(key),
            volumes: volumes.clone(),
            hardware: watcher.watch(),
            claims: Claims::default(),
            name: config.name,
            allow_host_volumes: config.allow_host_volumes,
            allow_privileged: config.allow_privileged,
        });
        let (reconciler, reconciling) =
            Reconciler::recover(machine, ledger, contents, boot_id).await;
        let roster = Arc::clone(&reconciling.roster);
        let peers = Arc::new(Peers::new(Arc::clone(&images), record.name.clone()));
        let streams = Arc::new(Streams {
            runtime,
            images,
            sandboxes,
            volumes,
            roster,
            system: System::new(&config.data_dir),
            endpoint: OnceLock::new(),
        });
        Ok(Agent { record, reconciler, reconciling, streams, network, peers, watcher })
    }

    /// A handle that can stop all tasks while the agent runs.
    pub fn handle(&self) -> AgentHandle {
        AgentHandle {
            reconciling: self.reconciling.clone(),
            network: Arc::clone(&self.network),
            peers: Arc::clone(&self.peers),
        }
    }

    /// Serve until `leave` is cancelled, with whichever leader there is, and without one. What this
    /// machine lacks it asks other nodes for over `links`.
    pub async fn serve(self, endpoint: Arc<Endpoint>, links: Arc<Links>, leave: CancellationToken) {
        let Agent { record: agent, reconciling, streams, watcher, .. } = self;
        let hardware = watcher.watch();
        let following = tokio::spawn(follow_devices(hardware.clone(), reconciling.clone()));
        let watching = tokio::spawn(watcher.run());
        let directory = Arc::clone(links.directory());
        streams.images.meet(links, NodeId::new(agent.id.as_str()));
        // Set once: an agent serves once.
        let _ = streams.endpoint.set(endpoint.clone());
        let speaker = Speaker { agent, hardware, reconciling, streams, directory };
        // The session first: its end must not hold up the reconciler, nor the other way round.
        let session = tokio::spawn(session::keep(endpoint, speaker, leave.clone()));
        self.reconciler.run(leave).await;
        if let Err(error) = session.await {
            tracing::error!(%error, "the session's task ended early");
        }
        watching.abort();
        following.abort();
    }

    /// Stop every task of a node whose agent does not run (`bramble down` after Ctrl-C). Gives
    /// how many there were.
    ///
    /// # Errors
    /// As [`Agent::open`] and [`AgentHandle::stop_all`].
    pub async fn stop_all(config: AgentConfig, key: &NodeKey) -> Result<usize, AgentError> {
        let mut agent = Agent::open(config, key).await?;
        agent.reconciler.start_nothing();
        let handle = agent.handle();
        let runtime = agent.streams.runtime.clone();
        let living = handle.running();
        let leave = CancellationToken::new();
        let running = tokio::spawn(agent.reconciler.run(leave.clone()));
        let stopped = handle.stop_all().await;
        leave.cancel();
        if let Err(error) = running.await {
            tracing::error!(%error, "the reconciler ended early");
        }
        runtime.remove_parent();
        stopped.map(|()| living)
    }
}

/// Have tasks end whose devices are pulled, also while the agent was away.
async fn follow_devices(mut hardware: watch::Receiver<Arc<Hardware>>, reconciling: Reconciling) {
    loop {
        let here = hardware.borrow_and_update().clone();
        let keys = here.devices.iter().map(|device| device.offered.key.clone()).collect();
        reconciling.devices(keys).await;
        if hardware.changed().await.is_err() {
            return;
        }
    }
}

/// Whether a node may run in a run directory. Tasks in it that another node has started would be
/// taken for nobody's, and stopped.
///
/// # Errors
/// It holds tasks of another node, or cannot be read.
pub fn check_run_dir(run_dir: &Path, node_id: &NodeId) -> Result<(), AgentError> {
    if let Ok(owner) = std::fs::read_to_string(run_dir.join(OWNER_FILE))
        && owner != node_id.as_str()
        && !tasks_in(run_dir)?.is_empty()
    {
        return Err(AgentError::RunDirectory { path: run_dir.to_path_buf(), owner });
    }
    Ok(())
}

/// Note whose run directory this is.
fn claim(run_dir: &Path, node_id: &NodeId) -> Result<(), AgentError> {
    check_run_dir(run_dir, node_id)?;
    let path = run_dir.join(OWNER_FILE);
    std::fs::write(&path, node_id.as_str()).map_err(|source| AgentError::Owner { path, source })
}

/// What the cluster is told of this agent, and whether memory limits are enforced.
fn record(config: &AgentConfig, node_id: &NodeId) -> Result<(AgentRecord, bool), AgentError> {
    let found = inventory::measure(&config.data_dir, &config.resources)?;
    let mut attributes = config.attributes.clone();
    if !found.memory_cgroup {
        let (name, value) = ATTRIBUTE_NO_MEMORY_CGROUP;
        attributes.entry(name.into()).or_insert_with(|| value.into());
    }
    let record = AgentRecord {
        id: node_id.agent(),
        name: config.name.clone(),
        total: found.total,
        ports: found.ports,
        attributes,
        reachable: true,
    };
    Ok((record, found.memory_cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_with_tasks_stays_with_its_node() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (one, other) = (NodeId::new("one"), NodeId::new("other"));
        claim(dir.path(), &one).expect("nobody's");
        std::fs::create_dir_all(dir.path().join("tasks/web.1")).expect("a task");
        claim(dir.path(), &one).expect("its own");
        let refused = claim(dir.path(), &other).expect_err("another's").to_string();
        assert!(refused.contains("(one)"), "{refused}");
        std::fs::remove_dir_all(dir.path().join("tasks")).expect("no task any more");
        claim(dir.path(), &other).expect("an empty one may change hands");
        std::fs::create_dir_all(dir.path().join("tasks/web.2")).expect("a task");
        assert!(claim(dir.path(), &one).is_err());
    }
}
