//! A request's app definition as it was sent: every key absent, null or given.
//!
//! Units are already core's (millicpu, bytes, parts per million, milliseconds); legacy keys stand
//! beside the canonical ones. What they mean together is decided by the master's `normalize`.

use bramble_core::model::*;
use std::collections::BTreeMap;

/// A key of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Not there: an update keeps the current value.
    #[default]
    Absent,
    /// `null`: an update clears what can be unset, and keeps the rest.
    Null,
    Given(T),
}

impl<T> Field<T> {
    /// The value, if one was given.
    pub fn given(&self) -> Option<&T> {
        match self {
            Field::Given(value) => Some(value),
            _ => None,
        }
    }

    /// Whether a value was given.
    pub fn is_given(&self) -> bool {
        matches!(self, Field::Given(_))
    }
}

impl<T: Clone> Field<T> {
    /// A value that always exists: the given one, else `base`.
    pub fn or(&self, base: T) -> T {
        self.given().cloned().unwrap_or(base)
    }

    /// A value that can be unset: the given one, nothing for `null`, else `base`.
    pub fn or_option(&self, base: Option<T>) -> Option<T> {
        match self {
            Field::Given(value) => Some(value.clone()),
            Field::Null => None,
            Field::Absent => base,
        }
    }
}

/// One app as a request gives it (Marathon's contract, sections 3 and 4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppUpdate {
    pub id: Field<String>,
    pub cmd: Field<String>,
    pub args: Field<Vec<String>>,
    pub user: Field<String>,
    pub env: Field<BTreeMap<String, EnvValue>>,
    pub instances: Field<u32>,
    pub cpus_milli: Field<u64>,
    pub mem_bytes: Field<u64>,
    pub disk_bytes: Field<u64>,
    pub gpus: Field<u32>,
    pub executor: Field<String>,
    pub executor_resources: Field<Resources>,
    pub constraints: Field<Vec<Constraint>>,
    pub fetch: Field<Vec<Fetch>>,
    /// Legacy: becomes `fetch`.
    pub uris: Field<Vec<String>>,
    pub store_urls: Field<Vec<String>>,
    pub container: Field<ContainerUpdate>,
    pub networks: Field<Vec<NetworkUpdate>>,
    /// Legacy: becomes `networks` and port mappings.
    pub ip_address: Field<IpAddressUpdate>,
    /// Legacy: becomes `portDefinitions`.
    pub ports: Field<Vec<u16>>,
    pub port_definitions: Field<Vec<PortDefinition>>,
    pub require_ports: Field<bool>,
    pub health_checks: Field<Vec<HealthCheck>>,
    pub check: Field<Check>,
    pub readiness_checks: Field<Vec<ReadinessCheck>>,
    /// As written: relative or absolute.
    pub dependencies: Field<Vec<String>>,
    pub backoff_initial_ms: Field<u64>,
    pub backoff_factor_ppm: Field<u64>,
    pub backoff_max_ms: Field<u64>,
    pub upgrade: Field<UpgradeUpdate>,
    pub labels: Field<BTreeMap<String, String>>,
    pub accepted_resource_roles: Field<Vec<String>>,
    pub role: Field<String>,
    pub kill_selection: Field<KillSelection>,
    pub unreachable: Field<UnreachableStrategy>,
    pub kill_grace_ms: Field<u64>,
    pub secrets: Field<BTreeMap<String, String>>,
    pub residency: Field<Residency>,
    pub resource_limits: Field<ResourceLimits>,
    pub tty: Field<bool>,
    /// In an update: the version to go back to. Ignored on create.
    pub version: Field<Time>,
}

impl AppUpdate {
    /// The version to roll back to, if the request asks for that: `version` with nothing but `id`.
    pub fn rollback(&self) -> Option<Time> {
        self.version.given().copied().filter(|_| self.has_only_version_and_id())
    }

    /// Whether nothing but `version` and `id` is given (else `version` is a mistake in an update).
    pub fn has_only_version_and_id(&self) -> bool {
        let bare = AppUpdate {
            id: self.id.clone(),
            version: self.version.clone(),
            ..AppUpdate::default()
        };
        *self == bare
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUpdate {
    pub kind: ContainerKind,
    pub docker: Option<DockerUpdate>,
    pub port_mappings: Option<Vec<PortMapping>>,
    pub volumes: Vec<Volume>,
    pub linux_info: Option<LinuxInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerUpdate {
    pub image: String,
    /// Legacy: becomes `networks`.
    pub network: Option<DockerNetwork>,
    /// Legacy: becomes the container's.
    pub port_mappings: Option<Vec<PortMapping>>,
    pub privileged: bool,
    pub force_pull: bool,
    pub parameters: Vec<(String, String)>,
    pub pull_config_secret: Option<String>,
    /// The removed key `credential` was given.
    pub has_credential: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerNetwork {
    Bridge,
    Host,
    User,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    Host,
    Bridge,
    Container,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkUpdate {
    pub mode: NetworkMode,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpAddressUpdate {
    pub network_name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// `None`: no `discovery` given.
    pub discovery: Option<Vec<DiscoveryPort>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryPort {
    pub number: u16,
    pub name: String,
    pub protocol: Protocol,
    pub labels: BTreeMap<String, String>,
}

/// Parts per million; `None` = the key is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpgradeUpdate {
    pub min_health_ppm: Option<u64>,
    pub max_over_ppm: Option<u64>,
}
