//! Sections 3 and 3.2 again: the rules of the definition that few clients meet, each with what it
//! takes and what it refuses, by path.

use super::definition::{docker, made, refused};
use super::table;
use serde_json::{Value, json};

/// A container without an image.
fn mesos(rest: Value) -> Value {
    let mut app = json!({ "cmd": "sleep 5", "container": { "type": "MESOS" } });
    app["container"].as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    app
}

fn volume(rest: Value) -> Value {
    let mut volume = json!({ "containerPath": "data", "mode": "RW" });
    volume.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    mesos(json!({ "volumes": [volume] }))
}

fn with(mut app: Value, fields: Value) -> Value {
    app.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app
}

#[tokio::test]
async fn amounts_and_their_bounds() {
    let limits = |limits: Value| json!({ "cpus": 0.5, "mem": 64, "resourceLimits": limits });
    table([
        made("an executor's own", json!({ "executorResources": { "cpus": 0.2 } }))
            .is("/app/executorResources/cpus", 0.2)
            .is("/app/executorResources/mem", 32)
            .is("/app/executorResources/disk", 10),
        refused(
            "its cpus",
            json!({ "executorResources": { "cpus": 0.05 } }),
            r#""path":"/executorResources/cpus""#,
        ),
        refused(
            "its memory",
            json!({ "executorResources": { "mem": 31 } }),
            r#""path":"/executorResources/mem""#,
        ),
        refused(
            "its disk",
            json!({ "executorResources": { "disk": 9 } }),
            r#""path":"/executorResources/disk""#,
        ),
        made("limits", limits(json!({ "cpus": 0.5, "mem": "unlimited" })))
            .is("/app/resourceLimits/cpus", 0.5)
            .is("/app/resourceLimits/mem", "unlimited"),
        refused(
            "a cpu limit below",
            limits(json!({ "cpus": 0.4 })),
            r#""path":"/resourceLimits/cpus""#,
        ),
        refused(
            "a memory limit below",
            limits(json!({ "mem": 63 })),
            r#""path":"/resourceLimits/mem""#,
        ),
        refused(
            "a limit in words",
            limits(json!({ "mem": "much" })),
            r#""path":"/resourceLimits/mem""#,
        ),
        made("gpus", with(mesos(json!({})), json!({ "gpus": 1 }))).is("/app/gpus", 1),
        refused(
            "gpus in DOCKER",
            json!({ "gpus": 1, "container": docker(json!({})) }),
            r#""path":"/gpus""#,
        ),
        refused("half a gpu", json!({ "gpus": 0.5 }), r#""path":"/gpus""#),
        refused("memory below zero", json!({ "mem": -1 }), r#""path":"/mem""#),
        refused("disk below zero", json!({ "disk": -0.1 }), r#""path":"/disk""#),
        refused("instances below zero", json!({ "instances": -1 }), r#""path":"/instances""#),
        refused("half an instance", json!({ "instances": 1.5 }), r#""path":"/instances""#),
        refused(
            "a delay below zero",
            json!({ "maxLaunchDelaySeconds": -1 }),
            r#""path":"/maxLaunchDelaySeconds""#,
        ),
        refused(
            "a grace below zero",
            json!({ "taskKillGracePeriodSeconds": -1 }),
            r#""path":"/taskKillGracePeriodSeconds""#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn commands_secrets_and_files() {
    let long = format!("http://h/{}", "x".repeat(1024));
    table([
        refused("a command of one letter", json!({ "cmd": "x" }), r#""path":"/cmd""#),
        refused("args that are no list", json!({ "args": "x" }), r#""path":"/args""#),
        refused("an empty user", json!({ "user": "" }), r#""path":"/user""#),
        refused("an empty name", json!({ "env": { "": "x" } }), r#""path":"/env""#),
        refused("a value that is a number", json!({ "env": { "A": 1 } }), r#""path":"/env/A""#),
        made(
            "a secret",
            json!({ "env": { "A": { "secret": "s" } }, "secrets": { "s": { "source": "db" } } }),
        )
        .is("/app/env/A/secret", "s")
        .is("/app/secrets/s/source", "db"),
        refused(
            "a secret without a source",
            json!({ "secrets": { "s": { "source": "" } } }),
            "/secrets/s/source",
        ),
        refused("a long uri", json!({ "fetch": [{ "uri": long }] }), "/fetch(0)/uri"),
        refused(
            "a uri with a space",
            json!({ "fetch": [{ "uri": "http://h/a b" }] }),
            "URI has invalid syntax.",
        ),
        refused(
            "a file outside",
            json!({ "fetch": [{ "uri": "http://h/a", "destPath": "../a" }] }),
            "/fetch(0)/destPath",
        ),
        made("a terminal", json!({ "tty": true })).is("/app/tty", true),
        refused(
            "a label that is a number",
            json!({ "labels": { "a": 1 } }),
            r#""path":"/labels/a""#,
        ),
        refused("no field", json!({ "constraints": [["", "UNIQUE"]] }), "/constraints(0)"),
        refused(
            "four words",
            json!({ "constraints": [["a", "LIKE", "b", "c"]] }),
            "/constraints(0)",
        ),
        refused("residency without volumes", json!({ "residency": {} }), r#""path":"/residency""#),
    ])
    .await;
}

#[tokio::test]
async fn networks_ports_and_checks() {
    let two = json!([{ "mode": "container", "name": "a" }, { "mode": "container", "name": "b" }]);
    let on_two = |mapping: Value| {
        with(mesos(json!({ "portMappings": [mapping] })), json!({ "networks": two }))
    };
    let check = |check: Value| json!({ "healthChecks": [check] });
    let named = json!({ "portDefinitions": [{ "name": "http-api" }] });
    table([
        refused("a name of the host", json!({ "networks": [{ "mode": "host", "name": "x" }] }), "may not have names"),
        refused("a name of the bridge", json!({ "networks": [{ "mode": "container/bridge", "name": "x" }] }), "may not have names"),
        refused("a network twice", json!({ "networks": [{ "mode": "container", "name": "a" }, { "mode": "container", "name": "a" }] }), "/networks"),
        refused("a host and a bridge", json!({ "networks": [{ "mode": "host" }, { "mode": "container/bridge" }] }), "/networks"),
        made("a port on one of two", on_two(json!({ "hostPort": 0, "networkNames": ["b"] })))
            .is("/app/container/portMappings/0/networkNames", json!(["b"])),
        refused("a port on which of two", on_two(json!({ "hostPort": 0 })), "/container/portMappings(0)"),
        refused("a port on neither", on_two(json!({ "networkNames": ["c"] })), "/container/portMappings(0)/networkNames(0)"),
        refused("a port too high", json!({ "portDefinitions": [{ "port": 65536 }] }), "/portDefinitions(0)/port"),
        refused("names of ports", json!({ "portDefinitions": [{ "name": "a" }, { "name": "a" }] }), r#""path":"/portDefinitions""#),
        refused("definitions off the host", json!({ "networks": [{ "mode": "container/bridge" }], "portDefinitions": [{}] }), "portDefinitions are only allowed with host-networking"),
        refused("two Mesos checks", json!({ "healthChecks": [{ "protocol": "MESOS_TCP" }, { "protocol": "MESOS_HTTP" }] }), r#""path":"/healthChecks""#),
        refused("IPv6 without DOCKER", check(json!({ "protocol": "MESOS_TCP", "ipProtocol": "IPv6" })), "/healthChecks(0)/ipProtocol"),
        refused("a command of a TCP check", check(json!({ "protocol": "TCP", "command": { "value": "x" } })), "/healthChecks(0)/command"),
        refused("a check in DOCKER", json!({ "container": docker(json!({})), "check": { "exec": { "command": { "shell": "true" } } } }), r#""path":"/check""#),
        refused("two readiness checks", with(named.clone(), json!({ "readinessChecks": [{}, {}] })), r#""path":"/readinessChecks""#),
        made("one readiness check", with(named, json!({ "readinessChecks": [{}] })))
            .is("/app/readinessChecks/0/httpStatusCodesForReady", json!([200])),
    ])
    .await;
}

#[tokio::test]
async fn containers_and_volumes() {
    let linux = |info: Value| mesos(json!({ "linuxInfo": info }));
    let pull = json!({ "image": "busybox", "pullConfig": { "secret": "s" } });
    table([
        refused("DOCKER without an image", json!({ "container": { "type": "DOCKER" } }), "/container/docker"),
        refused("another containerizer", json!({ "container": { "type": "APPC" } }), "/container/type"),
        refused("no image", json!({ "container": { "type": "DOCKER", "docker": {} } }), "/container/docker/image"),
        made("an image's secret", with(mesos(json!({ "docker": pull })), json!({ "secrets": { "s": { "source": "x" } } })))
            .is("/app/container/docker/pullConfig/secret", "s"),
        refused("an unknown image's secret", mesos(json!({ "docker": pull })), "/container/docker/pullConfig"),
        refused("a network in MESOS", mesos(json!({ "docker": { "image": "i", "network": "HOST" } })), "/container/docker/network"),
        made("seccomp", linux(json!({ "seccomp": { "unconfined": true } })))
            .is("/app/container/linuxInfo/seccomp/unconfined", true),
        refused("seccomp of neither kind", linux(json!({ "seccomp": {} })), "/container/linuxInfo/seccomp"),
        refused("a shared memory's size", linux(json!({ "ipcInfo": { "mode": "SHARE_PARENT", "shmSize": 1 } })), "/container/linuxInfo/ipcInfo/shmSize"),
        made("a persistent volume", volume(json!({ "persistent": { "size": 5 } })))
            .is("/app/container/volumes/0/persistent/type", "root")
            .is("/app/container/volumes/0/persistent/constraints", json!([]))
            .is("/app/residency/taskLostBehavior", "WAIT_FOREVER")
            .is("/app/residency/relaunchEscalationTimeoutSeconds", 3600)
            .is("/app/upgradeStrategy/minimumHealthCapacity", 0.5)
            .is("/app/upgradeStrategy/maximumOverCapacity", 0)
            .is("/app/unreachableStrategy", "disabled"),
        refused("no size", volume(json!({ "persistent": { "size": 0 } })), "/container/volumes(0)/persistent/size"),
        refused("a path in it", volume(json!({ "persistent": { "size": 5 }, "containerPath": "a/b" })), "value must not contain"),
        refused("a volume to read", volume(json!({ "persistent": { "size": 5 }, "mode": "RO" })), "/container/volumes(0)/mode"),
        refused("more of a root disk", volume(json!({ "persistent": { "size": 5, "maxSize": 9 } })), "/container/volumes(0)/persistent/maxSize"),
        refused("rules of a root disk", volume(json!({ "persistent": { "size": 5, "constraints": [["path", "LIKE", "x"]] } })), "/container/volumes(0)/persistent/constraints"),
        refused("more instances than wanted", with(volume(json!({ "persistent": { "size": 5 } })), json!({ "upgradeStrategy": { "maximumOverCapacity": 0.5 } })), "must be 0 for resident tasks"),
        refused("giving up on an agent", with(volume(json!({ "persistent": { "size": 5 } })), json!({ "unreachableStrategy": { "inactiveAfterSeconds": 1, "expungeAfterSeconds": 2 } })), "must be disabled for resident tasks"),
        refused("a volume of nothing", volume(json!({})), "/container/volumes(0)/hostPath"),
        refused("a secret nobody has", volume(json!({ "secret": "s" })), "/container/volumes(0)"),
        refused("a driver's volume", volume(json!({ "external": { "name": "v", "provider": "dvdi", "options": {} } })), "Feature external_volumes is not enabled"),
    ])
    .await;
}
