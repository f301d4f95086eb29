//! The app: Marathon's definition, normalised to its 1.5+ form and to integers.

use super::{
    AppId, Check, Container, HealthCheck, Pod, ReadinessCheck, Resources, Time, Volume,
    VolumeSource,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Label that makes an app a singleton (Marathon).
pub const LABEL_SINGLE_INSTANCE: &str = "MARATHON_SINGLE_INSTANCE_APP";

/// One app as the user wants it (Marathon v2 `AppDefinition`, section 3 of its contract).
///
/// Every field of the definition is kept, also those that only a later feature acts on, so that
/// an answer loses nothing of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    /// Run by `/bin/sh -c`. `None` together with `args: None` runs the image's own command.
    pub cmd: Option<String>,
    pub args: Option<Vec<String>>,
    pub user: Option<String>,
    pub env: BTreeMap<String, EnvValue>,
    pub instances: u32,
    pub resources: Resources,
    pub resource_limits: Option<ResourceLimits>,
    pub executor: String,
    pub executor_resources: Option<Resources>,
    pub constraints: Vec<Constraint>,
    pub fetch: Vec<Fetch>,
    pub store_urls: Vec<String>,
    pub container: Option<Container>,
    /// Never empty after normalising; `[Host]` by default.
    pub networks: Vec<Network>,
    /// Ports of an app on the host network; port mappings live in the container.
    pub port_definitions: Vec<PortDefinition>,
    pub require_ports: bool,
    pub health_checks: Vec<HealthCheck>,
    pub check: Option<Check>,
    pub readiness_checks: Vec<ReadinessCheck>,
    pub dependencies: Vec<AppId>,
    pub backoff: BackoffStrategy,
    pub upgrade: UpgradeStrategy,
    pub labels: BTreeMap<String, String>,
    pub accepted_resource_roles: Option<Vec<String>>,
    pub role: Option<String>,
    pub kill_selection: KillSelection,
    pub unreachable: UnreachableStrategy,
    /// `None`: the agent's default applies.
    pub kill_grace_ms: Option<u64>,
    /// Secret name -> source.
    pub secrets: BTreeMap<String, String>,
    pub residency: Option<Residency>,
    pub tty: Option<bool>,
    /// Time of the last change of any kind.
    pub version: Time,
    pub last_scaling: Time,
    pub last_config_change: Time,
    /// What only a pod has. Its container and ports stand here, and none in this app.
    #[serde(default)]
    pub pod: Option<Pod>,
    /// Time of the last change that asks for new tasks: of more than their size, or a restart. 0 in
    /// apps stored before there was a difference.
    #[serde(default)]
    pub last_restart: Time,
}

/// A value of `env`: text, or the name of an entry in `secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    Plain(String),
    Secret(String),
}

/// Upper bounds above the request (Marathon 1.10). `None` = not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    pub cpus: Option<Limit>,
    pub mem: Option<Limit>,
}

/// A limit in the resource's base unit (millicpu or bytes), or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Unlimited,
    At(u64),
}

/// A placement rule: `[field, operator, value?]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub field: String,
    pub operator: Operator,
    pub value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    Unique,
    Cluster,
    GroupBy,
    Like,
    Unlike,
    MaxPer,
    Is,
}

/// A file to bring into the sandbox before start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    pub uri: String,
    pub extract: bool,
    pub executable: bool,
    pub cache: bool,
    pub dest_path: Option<String>,
}

/// The network a task joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    Host,
    Bridge,
    Container { name: Option<String>, labels: BTreeMap<String, String> },
}

/// A port on the host network. `port` 0 = any from the agent's range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDefinition {
    pub port: u16,
    pub protocol: Protocol,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    /// Both, written `udp,tcp`.
    UdpTcp,
}

impl Protocol {
    /// The text of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::UdpTcp => "udp,tcp",
        }
    }
}

/// Delay between launches of an app whose tasks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackoffStrategy {
    pub initial_ms: u64,
    /// Parts per million, >= 1,000,000.
    pub factor_ppm: u64,
    pub max_ms: u64,
}

/// Bounds of a rolling change, in parts per million of the instances wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStrategy {
    pub min_health_ppm: u64,
    pub max_over_ppm: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KillSelection {
    YoungestFirst,
    OldestFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnreachableStrategy {
    Disabled,
    After { inactive_ms: u64, expunge_ms: u64 },
}

/// Kept for answers; resident behaviour follows from persistent volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    pub relaunch_escalation_ms: u64,
    pub task_lost_behavior: String,
}

impl App {
    /// Whether the app keeps data on its agent (has a persistent volume).
    pub fn is_resident(&self) -> bool {
        let of_pod = self.pod.iter().flat_map(|pod| &pod.volumes);
        self.container
            .iter()
            .flat_map(|c| &c.volumes)
            .any(|v| matches!(v, Volume::Persistent { .. }))
            || of_pod.into_iter().any(|v| matches!(v.source, VolumeSource::Persistent { .. }))
    }

    /// Whether at most one task of this app may exist at a time.
    pub fn is_single_instance(&self) -> bool {
        self.labels.get(LABEL_SINGLE_INSTANCE).is_some_and(|v| v == "true") || self.is_resident()
    }

    /// Whether tasks share the host's network.
    pub fn is_host_network(&self) -> bool {
        self.networks.iter().all(|n| matches!(n, Network::Host))
    }

    /// The port mappings, empty on the host network.
    pub fn port_mappings(&self) -> &[super::PortMapping] {
        self.container.as_ref().and_then(|c| c.port_mappings.as_deref()).unwrap_or(&[])
    }

    /// Service ports in definition order (Marathon's legacy `ports`).
    pub fn service_ports(&self) -> Vec<u16> {
        if self.is_host_network() {
            self.port_definitions.iter().map(|p| p.port).collect()
        } else {
            self.port_mappings().iter().map(|m| m.service_port).collect()
        }
    }

    /// The same definition but for what scaling and bookkeeping change: two apps that are equal
    /// after this need no new tasks.
    pub fn config(&self) -> App {
        App {
            instances: 0,
            version: Time(0),
            last_scaling: Time(0),
            last_config_change: Time(0),
            last_restart: Time(0),
            ..self.clone()
        }
    }
}
