//! What an instance keeps on one agent while tasks come and go: its volumes.
//!
//! An instance and its volumes stay together until somebody gives them up by name (a wipe, the
//! removal of the app). Nothing else may free them: data is not lost by a count or a restart.

use super::{
    Agent, AgentId, App, AppId, BYTES_PER_MIB, Goal, Instance, InstanceId, Resources, State,
    Volume, VolumeId, VolumeSource,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Room on an agent that belongs to one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub agent_id: AgentId,
    /// The agent's name when it was reserved.
    pub host: String,
    /// In the order of the definition.
    pub volumes: Vec<LocalVolume>,
}

/// A persistent volume of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalVolume {
    pub id: VolumeId,
    /// As the app writes it, relative to the sandbox; of a pod the volume's name.
    pub container_path: String,
    /// What is reserved; nothing keeps the task from writing more.
    pub size_bytes: u64,
}

impl VolumeId {
    /// Compose the id of a volume: `<safe app id>#<container path>#<uuid of the instance>`.
    ///
    /// The instance's UUID is never given twice and no two of its volumes have one path, so the id
    /// is unique for all time, and one that was given up can never be wanted again.
    pub fn compose(instance: &InstanceId, app: &AppId, container_path: &str) -> Self {
        let prefix = InstanceId::prefix(app);
        let uuid = instance.0.strip_prefix(&prefix).unwrap_or(&instance.0);
        Self(format!("{}#{container_path}#{uuid}", app.safe()))
    }

    /// The UUID at its end.
    pub fn uuid(&self) -> &str {
        self.0.rsplit_once('#').map_or("", |(_, uuid)| uuid)
    }
}

impl Reservation {
    /// What `instance` needs on `agent` besides its tasks; `None` for an app without volumes.
    pub fn of(app: &App, instance: &InstanceId, agent: &Agent) -> Option<Self> {
        let volumes: Vec<LocalVolume> = app
            .local_volumes()
            .map(|(path, size_bytes)| LocalVolume {
                id: VolumeId::compose(instance, &app.id, path),
                container_path: path.to_string(),
                size_bytes,
            })
            .collect();
        (!volumes.is_empty()).then(|| Self {
            agent_id: agent.id.clone(),
            host: agent.name.clone(),
            volumes,
        })
    }

    /// What it takes of its agent.
    pub fn resources(&self) -> Resources {
        disk(self.volumes.iter().map(|v| v.size_bytes))
    }

    /// Whether these are the volumes that an app defines.
    pub fn fits(&self, app: &App) -> bool {
        let own = self.volumes.iter().map(|v| (v.container_path.as_str(), v.size_bytes));
        own.eq(app.local_volumes())
    }
}

impl App {
    /// Path (of a pod: name) and bytes of each persistent volume, in the order of the definition.
    pub fn local_volumes(&self) -> impl Iterator<Item = (&str, u64)> {
        let own = self.container.iter().flat_map(|c| &c.volumes).filter_map(|v| match v {
            Volume::Persistent { container_path, size_mib, .. } => Some((container_path, size_mib)),
            _ => None,
        });
        let of_pod = self.pod.iter().flat_map(|pod| &pod.volumes).filter_map(|v| match &v.source {
            VolumeSource::Persistent { size_mib, .. } => Some((&v.name, size_mib)),
            _ => None,
        });
        own.chain(of_pod).map(|(path, mib)| (path.as_str(), mib.saturating_mul(BYTES_PER_MIB)))
    }

    /// What the volumes of a new instance take.
    pub fn volume_resources(&self) -> Resources {
        disk(self.local_volumes().map(|(_, bytes)| bytes))
    }
}

impl Instance {
    /// Whether it rests: no task, none wanted, only what is reserved.
    pub fn is_parked(&self) -> bool {
        self.goal == Goal::Stopped && self.task.is_none()
    }
}

impl State {
    /// What is reserved on each agent besides tasks: volumes of instances, and volumes given up
    /// whose data the agent has not removed yet.
    pub fn reserved(&self) -> BTreeMap<&AgentId, Resources> {
        let kept = self.instances.values().filter_map(|i| i.reservation.as_ref());
        let kept = kept.map(|r| (&r.agent_id, r.resources()));
        let given_up = self.given_up.iter().map(|(id, sizes)| (id, disk(sizes.values().copied())));
        let mut reserved: BTreeMap<&AgentId, Resources> = BTreeMap::new();
        for (agent_id, resources) in kept.chain(given_up) {
            let sum = reserved.entry(agent_id).or_default();
            *sum = sum.plus(&resources);
        }
        reserved
    }
}

fn disk(sizes: impl Iterator<Item = u64>) -> Resources {
    let disk_bytes = sizes.fold(0, u64::saturating_add);
    Resources { disk_bytes, ..Resources::default() }
}
