//! Pods: as requests give them and as answers show them (Marathon's contract, section 9).
//!
//! Unset keys and empty collections of containers are left out; the pod's own collections and
//! everything that has a default are always there, because clients index them unguarded.

mod container;
mod status;

pub use container::PodContainerJson;
pub use status::{InstanceJson, PodStatusJson, condition, instance, pod_status};

use super::app::{
    EnvJson, ExecutorResourcesJson, NetworkJson, PersistentJson, SecretJson, UnreachableJson,
    UpgradeStrategyJson, env, executor_resources, kill_selection, network, operator, persistent,
    unreachable, upgrade_strategy,
};
use super::number::Decimal;
use super::update::AppUpdate;
use crate::timestamp;
use bramble_core::model::{App, Constraint, Pod, PodVolume, VolumeSource};
use serde::Serialize;
use std::collections::BTreeMap;

/// A pod as a request gives it: what it has as apps do, and what only pods have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUpdate {
    pub common: AppUpdate,
    pub pod: Pod,
}

/// One pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodJson {
    pub id: String,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub environment: BTreeMap<String, EnvJson>,
    pub containers: Vec<PodContainerJson>,
    pub secrets: BTreeMap<String, SecretJson>,
    pub volumes: Vec<PodVolumeJson>,
    pub networks: Vec<NetworkJson>,
    pub scaling: ScalingJson,
    pub scheduling: SchedulingJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_resources: Option<ExecutorResourcesJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ScalingJson {
    pub kind: &'static str,
    pub instances: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingJson {
    pub backoff: BackoffJson,
    pub upgrade: UpgradeStrategyJson,
    pub placement: PlacementJson,
    pub kill_selection: &'static str,
    pub unreachable_strategy: UnreachableJson,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackoffJson {
    pub backoff: Decimal,
    pub backoff_factor: Decimal,
    pub max_launch_delay: Decimal,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementJson {
    pub constraints: Vec<PodConstraintJson>,
    pub accepted_resource_roles: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodConstraintJson {
    pub field_name: String,
    pub operator: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct PodVolumeJson {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<PersistentJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Write a pod; `None` when `app` is none.
pub fn pod(app: &App) -> Option<PodJson> {
    let pod = app.pod.as_ref()?;
    Some(PodJson {
        id: app.id.0.clone(),
        version: timestamp::format(app.version),
        labels: app.labels.clone(),
        user: app.user.clone(),
        environment: app.env.iter().map(|(k, v)| (k.clone(), env(v))).collect(),
        containers: pod.containers.iter().map(container::write).collect(),
        secrets: app
            .secrets
            .iter()
            .map(|(name, source)| (name.clone(), SecretJson { source: source.clone() }))
            .collect(),
        volumes: pod.volumes.iter().map(volume).collect(),
        networks: app.networks.iter().map(network).collect(),
        scaling: ScalingJson { kind: "fixed", instances: app.instances },
        scheduling: scheduling(app),
        executor_resources: app.executor_resources.as_ref().map(executor_resources),
        role: app.role.clone(),
    })
}

fn scheduling(app: &App) -> SchedulingJson {
    SchedulingJson {
        backoff: BackoffJson {
            backoff: Decimal::from_milli(app.backoff.initial_ms),
            backoff_factor: Decimal::from_ppm(app.backoff.factor_ppm),
            max_launch_delay: Decimal::from_milli(app.backoff.max_ms),
        },
        upgrade: upgrade_strategy(&app.upgrade),
        placement: PlacementJson {
            constraints: app.constraints.iter().map(constraint).collect(),
            accepted_resource_roles: app.accepted_resource_roles.clone().unwrap_or_default(),
        },
        kill_selection: kill_selection(app.kill_selection),
        unreachable_strategy: unreachable(app.unreachable),
    }
}

fn constraint(constraint: &Constraint) -> PodConstraintJson {
    PodConstraintJson {
        field_name: constraint.field.clone(),
        operator: operator(constraint.operator),
        value: constraint.value.clone(),
    }
}

fn volume(volume: &PodVolume) -> PodVolumeJson {
    let json = PodVolumeJson { name: volume.name.clone(), ..PodVolumeJson::default() };
    match &volume.source {
        VolumeSource::Ephemeral => json,
        VolumeSource::Host(path) => PodVolumeJson { host: Some(path.clone()), ..json },
        VolumeSource::Secret(name) => PodVolumeJson { secret: Some(name.clone()), ..json },
        VolumeSource::Persistent { kind, size_mib, max_size_mib, profile_name, constraints } => {
            let persistent =
                persistent(kind, *size_mib, *max_size_mib, profile_name.as_ref(), constraints);
            PodVolumeJson { persistent: Some(persistent), ..json }
        }
    }
}

#[cfg(test)]
mod tests;
