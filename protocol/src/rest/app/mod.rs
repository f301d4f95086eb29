//! Apps in JSON: Marathon's canonical form of 1.5 and later, in its key order.
//!
//! Unset keys and the empty collections that Marathon leaves out are left out; `labels` and a
//! container's `volumes` are always there, because clients index them unguarded.

mod checks;
mod container;
mod view;

pub use checks::{CheckJson, HealthCheckJson, ReadinessCheckJson, health_check};
pub use container::{
    ContainerJson, LinuxInfoJson, PersistentJson, PortMappingJson, PullConfigJson, VolumeJson,
};
pub(super) use container::{linux_info, persistent};
pub use view::{AppView, Counts};

use super::number::Decimal;
use crate::timestamp;
use bramble_core::model::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// One app.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppJson {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_resource_roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    pub backoff_factor: Decimal,
    pub backoff_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerJson>,
    pub cpus: Decimal,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    pub disk: Decimal,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvJson>,
    pub executor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_resources: Option<ExecutorResourcesJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<FetchJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheckJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readiness_checks: Vec<ReadinessCheckJson>,
    pub instances: u32,
    pub labels: BTreeMap<String, String>,
    pub max_launch_delay_seconds: u64,
    pub mem: Decimal,
    pub gpus: u32,
    pub networks: Vec<NetworkJson>,
    /// Only on the host network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_definitions: Option<Vec<PortDefinitionJson>>,
    pub require_ports: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residency: Option<ResidencyJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimitsJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    pub upgrade_strategy: UpgradeStrategyJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub version: String,
    /// Left out of the answer to a `POST`, which knows the version only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_info: Option<VersionInfoJson>,
    pub kill_selection: &'static str,
    pub unreachable_strategy: UnreachableJson,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum EnvJson {
    Plain(String),
    Secret { secret: String },
}

#[derive(Clone, Debug, Serialize)]
pub struct ExecutorResourcesJson {
    pub cpus: Decimal,
    pub mem: Decimal,
    pub disk: Decimal,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchJson {
    pub uri: String,
    pub extract: bool,
    pub executable: bool,
    pub cache: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_path: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NetworkJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub mode: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PortDefinitionJson {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub port: u16,
    pub protocol: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResidencyJson {
    pub relaunch_escalation_timeout_seconds: u64,
    pub task_lost_behavior: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct ResourceLimitsJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<LimitJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<LimitJson>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum LimitJson {
    At(Decimal),
    Unlimited(&'static str),
}

#[derive(Clone, Debug, Serialize)]
pub struct SecretJson {
    pub source: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStrategyJson {
    pub maximum_over_capacity: Decimal,
    pub minimum_health_capacity: Decimal,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfoJson {
    pub last_scaling_at: String,
    pub last_config_change_at: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum UnreachableJson {
    Disabled(&'static str),
    #[serde(rename_all = "camelCase")]
    After {
        inactive_after_seconds: u64,
        expunge_after_seconds: u64,
    },
}

/// Write an app in the canonical form.
pub fn canonical(app: &App) -> AppJson {
    AppJson {
        id: app.id.0.clone(),
        accepted_resource_roles: app.accepted_resource_roles.clone(),
        args: app.args.clone().unwrap_or_default(),
        backoff_factor: Decimal::from_ppm(app.backoff.factor_ppm),
        backoff_seconds: app.backoff.initial_ms / 1000,
        cmd: app.cmd.clone(),
        constraints: app.constraints.iter().map(constraint).collect(),
        container: app.container.as_ref().map(container::write),
        cpus: Decimal::from_milli(app.resources.cpus_milli),
        dependencies: app.dependencies.iter().map(|id| id.0.clone()).collect(),
        disk: Decimal::from_bytes(app.resources.disk_bytes),
        env: app.env.iter().map(|(k, v)| (k.clone(), env(v))).collect(),
        executor: app.executor.clone(),
        executor_resources: app.executor_resources.as_ref().map(executor_resources),
        fetch: app.fetch.iter().map(fetch).collect(),
        health_checks: app.health_checks.iter().map(checks::health_check).collect(),
        check: app.check.as_ref().map(checks::check),
        readiness_checks: app.readiness_checks.iter().map(checks::readiness_check).collect(),
        instances: app.instances,
        labels: app.labels.clone(),
        max_launch_delay_seconds: app.backoff.max_ms / 1000,
        mem: Decimal::from_bytes(app.resources.mem_bytes),
        gpus: app.resources.gpus,
        networks: app.networks.iter().map(network).collect(),
        port_definitions: app
            .is_host_network()
            .then(|| app.port_definitions.iter().map(port_definition).collect()),
        require_ports: app.require_ports,
        residency: app.residency.as_ref().map(residency),
        resource_limits: app.resource_limits.as_ref().map(resource_limits),
        role: app.role.clone(),
        secrets: app
            .secrets
            .iter()
            .map(|(name, source)| (name.clone(), SecretJson { source: source.clone() }))
            .collect(),
        task_kill_grace_period_seconds: app.kill_grace_ms.map(|ms| ms / 1000),
        tty: app.tty,
        upgrade_strategy: upgrade_strategy(&app.upgrade),
        user: app.user.clone(),
        version: timestamp::format(app.version),
        version_info: Some(VersionInfoJson {
            last_scaling_at: timestamp::format(app.last_scaling),
            last_config_change_at: timestamp::format(app.last_config_change),
        }),
        kill_selection: kill_selection(app.kill_selection),
        unreachable_strategy: unreachable(app.unreachable),
    }
}

pub(super) fn upgrade_strategy(upgrade: &UpgradeStrategy) -> UpgradeStrategyJson {
    UpgradeStrategyJson {
        maximum_over_capacity: Decimal::from_ppm(upgrade.max_over_ppm),
        minimum_health_capacity: Decimal::from_ppm(upgrade.min_health_ppm),
    }
}

pub(super) fn kill_selection(selection: KillSelection) -> &'static str {
    match selection {
        KillSelection::YoungestFirst => "YOUNGEST_FIRST",
        KillSelection::OldestFirst => "OLDEST_FIRST",
    }
}

pub(super) fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Unique => "UNIQUE",
        Operator::Cluster => "CLUSTER",
        Operator::GroupBy => "GROUP_BY",
        Operator::Like => "LIKE",
        Operator::Unlike => "UNLIKE",
        Operator::MaxPer => "MAX_PER",
        Operator::Is => "IS",
    }
}

fn constraint(constraint: &Constraint) -> Vec<String> {
    let parts = [constraint.field.clone(), operator(constraint.operator).to_string()];
    parts.into_iter().chain(constraint.value.clone()).collect()
}

pub(super) fn env(value: &EnvValue) -> EnvJson {
    match value {
        EnvValue::Plain(text) => EnvJson::Plain(text.clone()),
        EnvValue::Secret(name) => EnvJson::Secret { secret: name.clone() },
    }
}

pub(super) fn executor_resources(resources: &Resources) -> ExecutorResourcesJson {
    ExecutorResourcesJson {
        cpus: Decimal::from_milli(resources.cpus_milli),
        mem: Decimal::from_bytes(resources.mem_bytes),
        disk: Decimal::from_bytes(resources.disk_bytes),
    }
}

pub(super) fn fetch(fetch: &Fetch) -> FetchJson {
    FetchJson {
        uri: fetch.uri.clone(),
        extract: fetch.extract,
        executable: fetch.executable,
        cache: fetch.cache,
        dest_path: fetch.dest_path.clone(),
    }
}

pub(super) fn network(network: &Network) -> NetworkJson {
    let (mode, name, labels) = match network {
        Network::Host => ("host", None, BTreeMap::new()),
        Network::Bridge => ("container/bridge", None, BTreeMap::new()),
        Network::Container { name, labels } => ("container", name.clone(), labels.clone()),
    };
    NetworkJson { name, mode, labels }
}

fn port_definition(definition: &PortDefinition) -> PortDefinitionJson {
    PortDefinitionJson {
        labels: definition.labels.clone(),
        name: definition.name.clone(),
        port: definition.port,
        protocol: definition.protocol.as_str(),
    }
}

fn residency(residency: &Residency) -> ResidencyJson {
    ResidencyJson {
        relaunch_escalation_timeout_seconds: residency.relaunch_escalation_ms / 1000,
        task_lost_behavior: residency.task_lost_behavior.clone(),
    }
}

pub(super) fn resource_limits(limits: &ResourceLimits) -> ResourceLimitsJson {
    let write = |limit: Option<Limit>, decimal: fn(u64) -> Decimal| {
        limit.map(|limit| match limit {
            Limit::Unlimited => LimitJson::Unlimited("unlimited"),
            Limit::At(value) => LimitJson::At(decimal(value)),
        })
    };
    ResourceLimitsJson {
        cpus: write(limits.cpus, Decimal::from_milli),
        mem: write(limits.mem, Decimal::from_bytes),
    }
}

pub(super) fn unreachable(strategy: UnreachableStrategy) -> UnreachableJson {
    match strategy {
        UnreachableStrategy::Disabled => UnreachableJson::Disabled("disabled"),
        UnreachableStrategy::After { inactive_ms, expunge_ms } => UnreachableJson::After {
            inactive_after_seconds: inactive_ms / 1000,
            expunge_after_seconds: expunge_ms / 1000,
        },
    }
}
