//! `/v2/info` and `/v2/leader` in JSON (Marathon's contract, section 2.6).
//!
//! Clients that model these reject unknown keys: every key is Marathon's, and what has no meaning
//! here is null.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The version of Marathon whose form of answers this API gives; clients branch on it.
pub const MARATHON_VERSION: &str = "1.10.26";

/// `{"leader":"host:port"}`, without a scheme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderJson {
    pub leader: String,
}

/// What a node knows of itself and its cluster, in plain values.
#[derive(Clone, Debug)]
pub struct System<'a> {
    /// The build of this program.
    pub build: &'a str,
    /// Whether this node leads or, as Marathon means it, is part of a led cluster.
    pub elected: bool,
    /// `host:port`.
    pub leader: Option<&'a str>,
    /// The cluster's id.
    pub framework_id: Option<&'a str>,
    pub hostname: &'a str,
    pub http_port: u16,
    /// Origins of web pages that may read answers.
    pub allow_origins: &'a [String],
    pub service_ports: (u16, u16),
    /// Marathon's `features` that are on.
    pub features: &'a [&'a str],
    /// Number of masters, of which more than one makes the cluster highly available.
    pub masters: u32,
}

/// Keys of `marathon_config` that have no meaning here.
const UNSET: [&str; 14] = [
    "decline_offer_duration",
    "default_network_name",
    "env_vars_prefix",
    "launch_token",
    "launch_token_refresh_interval",
    "mesos_heartbeat_failure_threshold",
    "mesos_heartbeat_interval",
    "mesos_leader_ui_url",
    "mesos_role",
    "mesos_user",
    "offer_matching_timeout",
    "on_elected_prepare_timeout",
    "store_cache",
    "webui_url",
];

/// Write `/v2/info`.
pub fn info(system: &System<'_>) -> Value {
    json!({
        "name": "marathon",
        "version": MARATHON_VERSION,
        "buildref": system.build,
        "elected": system.elected,
        "leader": system.leader,
        "frameworkId": system.framework_id,
        "marathon_config": marathon_config(system),
        "zookeeper_config": {
            "zk": null,
            "zk_compression": null,
            "zk_compression_threshold": null,
            "zk_connection_timeout": null,
            "zk_max_node_size": null,
            "zk_max_versions": bramble_core::model::APP_VERSIONS_MAX,
            "zk_session_timeout": null,
            "zk_timeout": null,
        },
        "http_config": { "http_port": system.http_port, "https_port": null },
    })
}

fn marathon_config(system: &System<'_>) -> Map<String, Value> {
    let origins = Some(system.allow_origins).filter(|origins| !origins.is_empty());
    let set = json!({
        "access_control_allow_origin": origins,
        "checkpoint": true,
        "executor": "//cmd",
        "failover_timeout": null,
        "features": system.features,
        "framework_name": "marathon",
        "ha": system.masters > 1,
        "hostname": system.hostname,
        "leader_proxy_connection_timeout_ms": 5000,
        "leader_proxy_read_timeout_ms": 10000,
        "local_port_max": system.service_ports.1,
        "local_port_min": system.service_ports.0,
        "master": null,
        "max_instances_per_offer": null,
        "mesos_bridge_name": "mesos-bridge",
        "new_group_enforce_role": null,
        "min_revive_offers_interval": null,
        "reconciliation_initial_delay": null,
        "reconciliation_interval": null,
        "scale_apps_initial_delay": null,
        "scale_apps_interval": null,
        "task_launch_confirm_timeout": null,
        "task_launch_timeout": null,
        "task_lost_expunge_initial_delay": null,
        "task_lost_expunge_interval": null,
        "task_reservation_timeout": null,
        "maintenance_mode": null,
    });
    let mut config: Map<String, Value> =
        UNSET.iter().map(|key| ((*key).to_string(), Value::Null)).collect();
    if let Value::Object(set) = set {
        config.extend(set);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_has_exactly_marathons_keys() {
        let system = System {
            build: "0.1.0",
            elected: true,
            leader: Some("node:8080"),
            framework_id: Some("id"),
            hostname: "node",
            http_port: 8080,
            allow_origins: &[],
            service_ports: (10_000, 20_000),
            features: &[],
            masters: 1,
        };
        let info = info(&system);
        let mut keys: Vec<&String> = info["marathon_config"].as_object().unwrap().keys().collect();
        keys.sort();
        let expected = "access_control_allow_origin checkpoint decline_offer_duration \
            default_network_name env_vars_prefix executor failover_timeout features \
            framework_name ha hostname launch_token launch_token_refresh_interval \
            leader_proxy_connection_timeout_ms leader_proxy_read_timeout_ms local_port_max \
            local_port_min maintenance_mode master max_instances_per_offer mesos_bridge_name \
            mesos_heartbeat_failure_threshold mesos_heartbeat_interval mesos_leader_ui_url \
            mesos_role mesos_user min_revive_offers_interval new_group_enforce_role \
            offer_matching_timeout on_elected_prepare_timeout reconciliation_initial_delay \
            reconciliation_interval scale_apps_initial_delay scale_apps_interval store_cache \
            task_launch_confirm_timeout task_launch_timeout task_lost_expunge_initial_delay \
            task_lost_expunge_interval task_reservation_timeout webui_url";
        assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
        assert!(info["marathon_config"]["access_control_allow_origin"].is_null());
        assert_eq!(info["leader"], "node:8080");
        assert_eq!(info["http_config"]["http_port"], 8080);
        assert_eq!(info["marathon_config"]["local_port_min"], 10_000);
    }
}
