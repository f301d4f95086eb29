//! Where a pod stands: `::status` and the answers to `::instances` (Marathon's contract,
//! section 9).

use super::super::app::UnreachableJson;
use super::super::task::{LocalVolumeJson, local_volumes};
use super::container::{ResourcesJson, resources};
use super::{PodJson, pod, unreachable};
use crate::timestamp;
use bramble_core::model::{
    Agent, App, Goal, Instance, InstanceStanding, Network, Pod, PodContainer, PodProbe, State,
    Task, TaskContainer, TaskState, Time,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The bridge's name in answers (Marathon's `mesos_bridge_name`).
const BRIDGE_NAME: &str = "mesos-bridge";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Stable,
    Degraded,
    /// Removed; its last instances stop.
    Terminal,
}

impl Standing {
    /// Marathon's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Stable => "STABLE",
            Standing::Degraded => "DEGRADED",
            Standing::Terminal => "TERMINAL",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatusJson {
    pub id: String,
    pub spec: PodJson,
    pub status: &'static str,
    pub status_since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub instances: Vec<InstanceStatusJson>,
    /// Marathon fills it with ended instances; here what failed last is in `message`.
    pub termination_history: Vec<()>,
    pub last_updated: String,
    pub last_changed: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatusJson {
    pub id: String,
    pub status: &'static str,
    pub status_since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    pub resources: ResourcesJson,
    pub networks: Vec<NetworkStatusJson>,
    pub containers: Vec<ContainerStatusJson>,
    pub spec_reference: String,
    pub local_volumes: Vec<LocalVolumeJson>,
    pub last_updated: String,
    pub last_changed: String,
    pub role: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct NetworkStatusJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatusJson {
    pub name: String,
    pub status: &'static str,
    pub status_since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub conditions: Vec<ConditionJson>,
    pub container_id: String,
    pub endpoints: Vec<EndpointStatusJson>,
    pub resources: ResourcesJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination: Option<TerminationJson>,
    pub last_updated: String,
    pub last_changed: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionJson {
    pub name: &'static str,
    pub value: &'static str,
    pub reason: &'static str,
    pub last_updated: String,
    pub last_changed: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatusJson {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_host_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminationJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Write where the pod `app` stands; `None` when it is none. `message` says what went wrong last,
/// and is shown while the pod is not as it should be.
pub fn pod_status(
    state: &State,
    app: &App,
    removed: bool,
    message: Option<&str>,
) -> Option<PodStatusJson> {
    let spec = pod(app)?;
    let own: Vec<&Instance> = state.instances_of(&app.id).collect();
    let stable = own.iter().filter(|i| {
        let defined = state.app_of(i).unwrap_or(app);
        i.standing(state, defined) == InstanceStanding::Stable
    });
    let standing = match usize::try_from(app.instances) {
        _ if removed => Standing::Terminal,
        Ok(wanted) if stable.count() >= wanted => Standing::Stable,
        _ => Standing::Degraded,
    };
    let since = own.iter().map(|i| i.standing_since()).fold(app.version, Time::max);
    let changed = own.iter().map(|i| changed(i)).fold(since, Time::max);
    let message = message.filter(|text| !text.is_empty() && standing == Standing::Degraded);
    Some(PodStatusJson {
        id: app.id.0.clone(),
        spec,
        status: standing.as_str(),
        status_since: timestamp::format(since),
        message: message.map(str::to_string),
        instances: own.iter().filter_map(|i| instance_status(state, app, i)).collect(),
        termination_history: Vec::new(),
        last_updated: timestamp::format(changed),
        last_changed: timestamp::format(changed),
    })
}

fn changed(instance: &Instance) -> Time {
    instance.task.as_ref().map_or(instance.since, Task::changed_at)
}

/// One instance, by the definition that it runs.
fn instance_status(
    state: &State,
    current: &App,
    instance: &Instance,
) -> Option<InstanceStatusJson> {
    let app = state.app_of(instance).unwrap_or(current);
    let pod = app.pod.as_ref()?;
    let task = instance.task.as_ref();
    let message = task.map(|t| t.message.clone()).filter(|text| !text.is_empty());
    let changed = timestamp::format(changed(instance));
    Some(InstanceStatusJson {
        id: instance.id.0.clone(),
        status: instance.standing(state, app).as_str(),
        status_since: timestamp::format(instance.standing_since()),
        message,
        agent_hostname: task.map(|t| t.host.clone()),
        agent_id: task.map(|t| t.agent_id.0.clone()),
        resources: resources(&app.resources),
        networks: task.map(|t| networks(app, t)).unwrap_or_default(),
        containers: task.map(|t| containers(pod, t)).unwrap_or_default(),
        spec_reference: format!("/v2/pods{}::versions/{}", app.id, timestamp::format(app.version)),
        local_volumes: local_volumes(instance),
        last_updated: changed.clone(),
        last_changed: changed,
        role: app.role.clone().unwrap_or_else(|| "*".into()),
    })
}

/// The networks that give an instance an address of its own.
fn networks(app: &App, task: &Task) -> Vec<NetworkStatusJson> {
    let name = |network: &Network| match network {
        Network::Host => None,
        Network::Bridge => Some(Some(BRIDGE_NAME.to_string())),
        Network::Container { name, .. } => Some(name.clone()),
    };
    let addresses: Vec<String> = task.ip.iter().cloned().collect();
    let with_address = |name| NetworkStatusJson { name, addresses: addresses.clone() };
    app.networks.iter().filter_map(name).map(with_address).collect()
}

fn containers(pod: &Pod, task: &Task) -> Vec<ContainerStatusJson> {
    let known = |name: &str| task.containers.iter().find(|c| c.status.name == name);
    let both = pod.containers.iter().filter_map(|c| Some((c, known(&c.name)?)));
    both.map(|(defined, known)| container(pod, task, defined, known)).collect()
}

fn container(
    pod: &Pod,
    task: &Task,
    defined: &PodContainer,
    known: &TaskContainer,
) -> ContainerStatusJson {
    let status = &known.status;
    let changed = timestamp::format(known.changed);
    let message = Some(status.message.clone()).filter(|text| !text.is_empty());
    let own = pod.allocated(&task.ports).filter(|(c, ..)| c.name == defined.name);
    let endpoints = own.map(|(_, endpoint, host_port)| EndpointStatusJson {
        name: endpoint.name.clone(),
        allocated_host_port: host_port,
        healthy: status.healthy.filter(|_| asks(defined, &endpoint.name)),
    });
    ContainerStatusJson {
        name: defined.name.clone(),
        status: status.state.as_str(),
        status_since: timestamp::format(known.since),
        conditions: conditions(defined, status.healthy, &changed),
        // Ids of tasks are made by this cluster and always have the form that names containers.
        container_id: task.id.of_container(&defined.name).map(|id| id.0).unwrap_or_default(),
        endpoints: endpoints.collect(),
        resources: resources(&defined.resources),
        termination: status
            .state
            .is_terminal()
            .then(|| TerminationJson { exit_code: status.exit_code, message: message.clone() }),
        message,
        last_updated: changed.clone(),
        last_changed: changed,
    }
}

/// Whether the health check of a container probes this endpoint of it.
fn asks(container: &PodContainer, name: &str) -> bool {
    match container.health_check.as_ref().map(|check| &check.probe) {
        Some(PodProbe::Http { endpoint, .. } | PodProbe::Tcp { endpoint }) => endpoint == name,
        Some(PodProbe::Exec { .. }) | None => false,
    }
}

fn conditions(
    container: &PodContainer,
    healthy: Option<bool>,
    changed: &str,
) -> Vec<ConditionJson> {
    let condition = |_| ConditionJson {
        name: "healthy",
        value: if healthy == Some(true) { "true" } else { "false" },
        reason: if healthy.is_some() {
            "health-reported-by-mesos"
        } else {
            "health-unreported-by-mesos"
        },
        last_updated: changed.to_string(),
        last_changed: changed.to_string(),
    };
    container.health_check.iter().map(condition).collect()
}

/// An instance as the answer to its removal shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceJson {
    pub instance_id: String,
    pub state: InstanceStateJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_info: Option<AgentInfoJson>,
    pub run_spec_version: String,
    pub unreachable_strategy: UnreachableJson,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStateJson {
    pub condition: String,
    pub since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    pub goal: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentInfoJson {
    pub host: String,
    pub agent_id: String,
    pub attributes: Vec<BTreeMap<&'static str, String>>,
}

/// Write an instance of the pod `app`.
pub fn instance(state: &State, app: &App, instance: &Instance) -> InstanceJson {
    let task = instance.task.as_ref();
    let attribute = |(name, text): (&String, &String)| {
        BTreeMap::from([("name", name.clone()), ("text", text.clone())])
    };
    let attributes = |agent: &Agent| agent.attributes.iter().map(attribute).collect();
    InstanceJson {
        instance_id: instance.id.0.clone(),
        state: InstanceStateJson {
            condition: task.map_or_else(|| "Scheduled".into(), |t| condition(t.state)),
            since: timestamp::format(instance.standing_since()),
            active_since: task.and_then(|t| t.started_at).map(timestamp::format),
            healthy: task.and_then(|t| t.healthy),
            goal: match instance.goal {
                Goal::Running => "Running",
                Goal::Stopped => "Stopped",
                Goal::Decommissioned => "Decommissioned",
            },
        },
        agent_info: task.map(|t| AgentInfoJson {
            host: t.host.clone(),
            agent_id: t.agent_id.0.clone(),
            attributes: state.agents.get(&t.agent_id).map(attributes).unwrap_or_default(),
        }),
        run_spec_version: timestamp::format(instance.version),
        unreachable_strategy: unreachable(app.unreachable),
    }
}

/// Marathon's word for an instance whose task is in this state: `Running` for `TASK_RUNNING`.
pub fn condition(state: TaskState) -> String {
    let name = match state {
        // Marathon has no instance that is lost: what will not come back is gone.
        TaskState::Lost => "TASK_GONE",
        other => other.as_str(),
    };
    let word = name.trim_start_matches("TASK_").to_ascii_lowercase();
    let (first, rest) = word.split_at(1);
    first.to_ascii_uppercase() + rest
}
