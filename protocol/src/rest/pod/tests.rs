//! What is written reads back, and what is wrong is named.

use super::super::error::FieldError;
use super::super::parse::pod_update;
use super::*;
use bramble_core::model::{AppId, Network, Time};
use serde_json::{Value, json};

fn full() -> Value {
    json!({
        "id": "/prod/pair",
        "version": "1970-01-01T00:00:00.001Z",
        "labels": {"a": "b"},
        "user": "root",
        "environment": {"A": "1", "S": {"secret": "key"}},
        "containers": [
            {
                "name": "web",
                "exec": {"command": {"argv": ["serve", "-v"]}, "overrideEntrypoint": true},
                "resources": {"cpus": 0.1, "mem": 32, "disk": 1, "gpus": 0},
                "resourceLimits": {"cpus": "unlimited", "mem": 64},
                "endpoints": [
                    {"name": "http", "containerPort": 80, "hostPort": 0, "protocol": ["tcp"],
                     "labels": {"VIP_0": "/x:80"}, "networkNames": ["n"]},
                    {"name": "dns", "containerPort": 53, "protocol": ["tcp", "udp"]}
                ],
                "image": {"kind": "DOCKER", "id": "nginx", "forcePull": true,
                          "pullConfig": {"secret": "key"}, "labels": {"l": "m"}},
                "environment": {"B": "2"},
                "user": "web",
                "healthCheck": {
                    "http": {"endpoint": "http", "path": "/up", "scheme": "HTTP"},
                    "gracePeriodSeconds": 1.5, "intervalSeconds": 2, "maxConsecutiveFailures": 3,
                    "timeoutSeconds": 4, "delaySeconds": 5
                },
                "check": {"tcp": {"endpoint": "dns"}, "intervalSeconds": 60, "timeoutSeconds": 20,
                          "delaySeconds": 15},
                "volumeMounts": [{"name": "v", "mountPath": "data", "readOnly": true}],
                "artifacts": [{"uri": "http://x/a.tgz", "extract": true, "executable": false,
                               "cache": true, "destPath": "a"}],
                "labels": {"c": "d"},
                "lifecycle": {"killGracePeriodSeconds": 2.5},
                "tty": true,
                "linuxInfo": {"seccomp": {"unconfined": true}}
            },
            {
                "name": "side",
                "exec": {"command": {"shell": "sleep 1"}},
                "resources": {"cpus": 1, "mem": 2, "disk": 0, "gpus": 0},
                "healthCheck": {
                    "exec": {"command": {"shell": "true"}},
                    "gracePeriodSeconds": 300, "intervalSeconds": 60, "maxConsecutiveFailures": 3,
                    "timeoutSeconds": 20, "delaySeconds": 15
                }
            }
        ],
        "secrets": {"key": {"source": "/k"}},
        "volumes": [
            {"name": "v"},
            {"name": "h", "host": "/etc"},
            {"name": "p", "persistent": {"type": "root", "size": 10, "constraints": []}},
            {"name": "s", "secret": "key"}
        ],
        "networks": [{"name": "n", "mode": "container", "labels": {"x": "y"}}],
        "scaling": {"kind": "fixed", "instances": 2},
        "scheduling": {
            "backoff": {"backoff": 0.5, "backoffFactor": 1.15, "maxLaunchDelay": 300},
            "upgrade": {"maximumOverCapacity": 0.5, "minimumHealthCapacity": 1},
            "placement": {
                "constraints": [{"fieldName": "hostname", "operator": "UNIQUE"},
                                {"fieldName": "rack", "operator": "LIKE", "value": "r.*"}],
                "acceptedResourceRoles": ["*"]
            },
            "killSelection": "OLDEST_FIRST",
            "unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2}
        },
        "executorResources": {"cpus": 0.1, "mem": 32, "disk": 10},
        "role": "dev"
    })
}

/// The pod that an update means where everything is given.
fn app_of(update: PodUpdate) -> App {
    let common = update.common;
    let backoff = bramble_core::model::BackoffStrategy {
        initial_ms: common.backoff_initial_ms.or(0),
        factor_ppm: common.backoff_factor_ppm.or(0),
        max_ms: common.backoff_max_ms.or(0),
    };
    let ratios = common.upgrade.or(<_>::default());
    let networks = common.networks.or(vec![]);
    App {
        labels: common.labels.or(<_>::default()),
        user: common.user.or_option(None),
        env: common.env.or(<_>::default()),
        secrets: common.secrets.or(<_>::default()),
        networks: networks
            .into_iter()
            .map(|n| Network::Container { name: n.name, labels: n.labels })
            .collect(),
        instances: common.instances.or(0),
        backoff,
        upgrade: bramble_core::model::UpgradeStrategy {
            min_health_ppm: ratios.min_health_ppm.unwrap(),
            max_over_ppm: ratios.max_over_ppm.unwrap(),
        },
        constraints: common.constraints.or(vec![]),
        accepted_resource_roles: common.accepted_resource_roles.or_option(None),
        kill_selection: common.kill_selection.given().copied().unwrap(),
        unreachable: common.unreachable.given().copied().unwrap(),
        executor_resources: common.executor_resources.or_option(None),
        role: common.role.or_option(None),
        version: Time(1),
        pod: Some(update.pod),
        ..App::with_defaults(AppId::new(common.id.given().unwrap().as_str()))
    }
}

#[test]
fn a_pod_is_written_as_it_was_read() {
    let update = pod_update(&full()).unwrap();
    let written = serde_json::to_value(pod(&app_of(update)).unwrap()).unwrap();
    assert_eq!(written, full());
}

#[test]
fn what_is_no_pod_has_no_form() {
    assert!(pod(&App::with_defaults(AppId::new("/a"))).is_none());
}

#[test]
fn every_mistake_is_named_by_its_place() {
    let body = json!({
        "id": 1,
        "containers": [
            {"resources": {"cpus": "x"}, "endpoints": [{"protocol": ["sctp"]}],
             "exec": {"command": {"shell": "a", "argv": ["b"]}},
             "healthCheck": {"http": {"path": "/"}, "tcp": {}}},
            {"name": "b", "resources": {"cpus": 1, "mem": -1},
             "image": {"kind": "APPC", "id": "x"}, "healthCheck": {"tcp": {}}}
        ],
        "volumes": [{"name": "v", "host": "/a", "secret": "s"}],
        "scaling": {"kind": "elastic", "instances": -1},
        "scheduling": {"placement": {"constraints": [{"fieldName": "a", "operator": "NEAR"}]},
                       "killSelection": "ANY"}
    });
    let found: Vec<String> =
        pod_update(&body).unwrap_err().into_iter().map(|error| error.path).collect();
    for path in [
        "/id",
        "/containers(0)/name",
        "/containers(0)/resources/cpus",
        "/containers(0)/resources/mem",
        "/containers(0)/endpoints(0)/name",
        "/containers(0)/endpoints(0)/protocol(0)",
        "/containers(0)/exec/command",
        "/containers(0)/healthCheck",
        "/containers(1)/resources/mem",
        "/containers(1)/image/kind",
        "/containers(1)/healthCheck/tcp/endpoint",
        "/volumes(0)",
        "/scaling/kind",
        "/scaling/instances",
        "/scheduling/placement/constraints(0)/operator",
        "/scheduling/killSelection",
    ] {
        assert!(found.iter().any(|f| f == path), "{path} in {found:?}");
    }
    let missing = pod_update(&json!({"id": "/a"})).unwrap_err();
    assert_eq!(missing, [FieldError::new("/containers", "error.path.missing")]);
}
