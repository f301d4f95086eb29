//! Sections 3 to 5: fields of an app, legacy forms, limits; as a client posts and sees them.

use super::*;
use serde_json::json;

/// `/x` with these fields, as it is shown after it was made.
pub(super) fn made(name: &'static str, fields: Value) -> Line {
    line(name, "GET /v2/apps/x", 200).after("POST /v2/apps", whole(fields))
}

/// `/x` with these fields is refused, naming this path.
pub(super) fn refused(name: &'static str, fields: Value, path: &'static str) -> Line {
    let refused = line(name, "POST /v2/apps", 422).body(whole(fields));
    refused.part(path)
}

/// With `id`, and a command unless the fields have one or a container.
fn whole(fields: Value) -> Value {
    let mut body = json!({ "id": "/x" });
    let fields = fields.as_object().unwrap();
    let own = ["cmd", "args", "container"].iter().any(|key| fields.contains_key(*key));
    if !own {
        body["cmd"] = json!("sleep 5");
    }
    body.as_object_mut().unwrap().extend(fields.clone());
    body
}

pub(super) fn docker(rest: Value) -> Value {
    let mut docker = json!({ "image": "busybox" });
    docker.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({ "type": "DOCKER", "docker": docker })
}

#[tokio::test]
async fn defaults_are_shown() {
    table([
        made("amounts", json!({}))
            .is("/app/instances", 1)
            .is("/app/cpus", 1)
            .is("/app/mem", 128)
            .is("/app/disk", 0)
            .is("/app/gpus", 0)
            .is("/app/executor", ""),
        made("backoff", json!({}))
            .is("/app/backoffSeconds", 1)
            .is("/app/backoffFactor", 1.15)
            .is("/app/maxLaunchDelaySeconds", 300),
        made("strategies", json!({}))
            .is("/app/upgradeStrategy/minimumHealthCapacity", 1)
            .is("/app/upgradeStrategy/maximumOverCapacity", 1)
            .is("/app/killSelection", "YOUNGEST_FIRST")
            .is("/app/unreachableStrategy/inactiveAfterSeconds", 0)
            .is("/app/unreachableStrategy/expungeAfterSeconds", 0)
            .lacks("/app/taskKillGracePeriodSeconds")
            .lacks("/app/residency"),
        made("network and one port", json!({}))
            .is("/app/networks", json!([{ "mode": "host" }]))
            .is("/app/portDefinitions/0/name", "default")
            .is("/app/portDefinitions/0/protocol", "tcp")
            .is("/app/portDefinitions/0/port", 10_000)
            .is("/app/requirePorts", false)
            .lacks("/app/portDefinitions/1"),
        made("labels although empty", json!({})).is("/app/labels", json!({})),
        made("no ports", json!({ "portDefinitions": [] })).is("/app/portDefinitions", json!([])),
        made("nothing of the old forms", json!({ "ports": [0], "uris": [] }))
            .lacks("/app/ports")
            .lacks("/app/uris")
            .lacks("/app/ipAddress")
            .lacks("/app/container"),
        made("versions", json!({}))
            .has("/app/version")
            .has("/app/versionInfo/lastScalingAt")
            .has("/app/versionInfo/lastConfigChangeAt"),
        made("a health check", json!({ "healthChecks": [{}] })).is(
            "/app/healthChecks/0",
            json!({ "protocol": "HTTP", "portIndex": 0, "gracePeriodSeconds": 300,
                "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3,
                "delaySeconds": 15, "ignoreHttp1xx": false }),
        ),
        made(
            "a readiness check",
            json!({ "portDefinitions": [{ "port": 0, "name": "http-api" }],
                "readinessChecks": [{}] }),
        )
        .is(
            "/app/readinessChecks/0",
            json!({ "name": "readinessCheck", "protocol": "HTTP", "path": "/",
                "portName": "http-api", "intervalSeconds": 30, "timeoutSeconds": 10,
                "httpStatusCodesForReady": [200], "preserveLastResponse": false }),
        ),
        made("a container", json!({ "container": docker(json!({})) }))
            .is("/app/container/volumes", json!([]))
            .is("/app/container/docker/privileged", false)
            .is("/app/container/docker/forcePullImage", false),
        made(
            "a bridge has one mapping",
            json!({ "container": docker(json!({})), "networks": [{ "mode": "container/bridge" }] }),
        )
        .is("/app/container/portMappings/0/containerPort", 0)
        .is("/app/container/portMappings/0/hostPort", 0)
        .is("/app/container/portMappings/0/servicePort", 10_000)
        .is("/app/container/portMappings/0/name", "default")
        .is("/app/container/portMappings/0/labels", json!({}))
        .lacks("/app/container/portMappings/1")
        .lacks("/app/portDefinitions"),
        made(
            "one alone has no overlap",
            json!({
            "labels": { "MARATHON_SINGLE_INSTANCE_APP": "true" },
            "upgradeStrategy": { "minimumHealthCapacity": 0, "maximumOverCapacity": 0 } }),
        )
        .is("/app/upgradeStrategy/maximumOverCapacity", 0),
    ])
    .await;
}

#[tokio::test]
async fn legacy_forms_come_out_canonical() {
    let bridge = json!({ "network": "BRIDGE", "portMappings": [{ "containerPort": 80 }] });
    table([
        line("id without a slash", "GET /v2/apps/x", 200)
            .after("POST /v2/apps", r#"{"id":"x","cmd":"sleep 5"}"#)
            .is("/app/id", "/x"),
        made("uris", json!({ "uris": ["http://h/a.tgz", "http://h/b.txt"] }))
            .is("/app/fetch/0/uri", "http://h/a.tgz")
            .is("/app/fetch/0/extract", true)
            .is("/app/fetch/1/extract", false)
            .is("/app/fetch/1/executable", false)
            .is("/app/fetch/1/cache", false),
        made("ports", json!({ "ports": [8080, 0] }))
            .is("/app/portDefinitions/0/port", 8080)
            .is("/app/portDefinitions/1/port", 10_000)
            .lacks("/app/portDefinitions/2"),
        made("BRIDGE", json!({ "container": docker(bridge.clone()) }))
            .is("/app/networks", json!([{ "mode": "container/bridge" }]))
            .is("/app/container/portMappings/0/containerPort", 80)
            .is("/app/container/portMappings/0/hostPort", 0)
            .lacks("/app/container/docker/network")
            .lacks("/app/container/docker/portMappings"),
        made("HOST", json!({ "container": docker(json!({ "network": "HOST" })) }))
            .is("/app/networks", json!([{ "mode": "host" }])),
        made(
            "HOST drops mappings",
            json!({ "container": docker(json!({ "network": "HOST",
                "portMappings": [{ "containerPort": 80 }] })) }),
        )
        .lacks("/app/container/portMappings"),
        made("docker without a network", json!({ "container": docker(json!({})) }))
            .is("/app/networks", json!([{ "mode": "host" }])),
        made(
            "USER",
            json!({ "container": docker(json!({ "network": "USER" })),
                "ipAddress": { "networkName": "n" } }),
        )
        .is("/app/networks/0/mode", "container")
        .is("/app/networks/0/name", "n"),
        made("ipAddress alone", json!({ "ipAddress": { "networkName": "n", "labels": { "a": "b" } } }))
            .is("/app/networks/0", json!({ "mode": "container", "name": "n", "labels": { "a": "b" } }))
            .is("/app/container/type", "MESOS"),
        made(
            "ports of an ipAddress",
            json!({ "ipAddress": { "networkName": "n",
                "discovery": { "ports": [{ "number": 80, "name": "http", "protocol": "tcp" }] } } }),
        )
        .is("/app/container/portMappings/0/containerPort", 80)
        .is("/app/container/portMappings/0/name", "http")
        .lacks("/app/container/portMappings/0/hostPort"),
        made("ports on a bridge are dropped", json!({ "ports": [1], "container": docker(bridge.clone()) }))
            .lacks("/app/portDefinitions"),
        made("a check without a port", json!({ "healthChecks": [{ "protocol": "TCP" }] }))
            .is("/app/healthChecks/0/portIndex", 0),
        made("a constraint in lower case", json!({ "constraints": [["hostname", "unique"]] }))
            .is("/app/constraints", json!([["hostname", "UNIQUE"]])),
        made("requirePorts off the host", json!({ "requirePorts": true, "container": docker(bridge) }))
            .is("/app/requirePorts", false),
        refused("uris and fetch", json!({ "uris": ["http://h/a"], "fetch": [{ "uri": "http://h/b" }] }), "fetch"),
        refused("NONE", json!({ "container": docker(json!({ "network": "NONE" })) }), "network"),
        refused(
            "both networks",
            json!({ "networks": [{ "mode": "host" }], "container": docker(json!({ "network": "HOST" })) }),
            "must not specify both container.docker.network and networks",
        ),
        refused(
            "both APIs",
            json!({ "networks": [{ "mode": "host" }], "ipAddress": {} }),
            "cannot mix deprecated and canonical network APIs",
        ),
    ])
    .await;
}

#[tokio::test]
async fn every_limit_is_named_by_its_path() {
    let mapped = |mappings: Value| {
        json!({ "networks": [{ "mode": "container/bridge" }],
            "container": { "type": "DOCKER", "docker": { "image": "busybox" }, "portMappings": mappings } })
    };
    table([
        refused("cmd and args", json!({ "cmd": "sleep 5", "args": ["x"] }), "one of 'cmd' or 'args'"),
        line("neither", "POST /v2/apps", 422).body(r#"{"id":"/x"}"#),
        refused("cpus", json!({ "cpus": -1 }), r#""path":"/cpus""#),
        refused("executor", json!({ "executor": "a//b" }), r#""path":"/executor""#),
        refused("an operator", json!({ "constraints": [["a", "NEAR"]] }), "/constraints(0)"),
        refused("UNIQUE with a value", json!({ "constraints": [["a", "UNIQUE", "b"]] }), "UNIQUE does not accept a value"),
        refused("LIKE without", json!({ "constraints": [["a", "LIKE"]] }), "/constraints(0)"),
        refused("a broken regex", json!({ "constraints": [["a", "LIKE", "("]] }), "/constraints(0)"),
        refused("MAX_PER of text", json!({ "constraints": [["a", "MAX_PER", "x"]] }), "/constraints(0)"),
        refused("two equal ports", json!({ "ports": [80, 80] }), "ports must be unique"),
        refused("a port's name", json!({ "portDefinitions": [{ "name": "A_b" }] }), "/portDefinitions(0)/name"),
        refused("a port's protocol", json!({ "portDefinitions": [{ "protocol": "sctp" }] }), "/portDefinitions(0)/protocol"),
        refused("names of mappings", mapped(json!([{ "name": "a" }, { "name": "a" }])), "portMappings"),
        refused(
            "mappings on the host",
            json!({ "networks": [{ "mode": "host" }], "container": { "type": "MESOS", "portMappings": [{}] }, "cmd": "sleep 5" }),
            "portMappings are not allowed with host-networking",
        ),
        refused("a container network without a name", json!({ "networks": [{ "mode": "container" }] }), "/networks"),
        refused("two hosts", json!({ "networks": [{ "mode": "host" }, { "mode": "host" }] }), "/networks"),
        refused(
            "portIndex",
            json!({ "healthChecks": [{ "portIndex": 4 }] }),
            "Health check port indices must address an element of the ports array or container port mappings.",
        ),
        refused("a command check without", json!({ "healthChecks": [{ "protocol": "COMMAND" }] }), "/healthChecks(0)"),
        refused("portName", json!({ "readinessChecks": [{ "portName": "no" }] }), "No port definition reference for portName no"),
        refused(
            "readiness in time",
            json!({ "portDefinitions": [{ "name": "http-api" }],
                "readinessChecks": [{ "intervalSeconds": 5, "timeoutSeconds": 5 }] }),
            "/readinessChecks(0)",
        ),
        refused("backoff", json!({ "backoffFactor": 0.9 }), r#""path":"/backoffFactor""#),
        refused("capacity", json!({ "upgradeStrategy": { "maximumOverCapacity": 1.5 } }), "/upgradeStrategy/maximumOverCapacity"),
        refused("roles", json!({ "acceptedResourceRoles": [] }), "/acceptedResourceRoles"),
        refused("killSelection", json!({ "killSelection": "OLDEST" }), r#""path":"/killSelection""#),
        refused("unreachable", json!({ "unreachableStrategy": { "inactiveAfterSeconds": 9, "expungeAfterSeconds": 1 } }), "/unreachableStrategy"),
        refused("one alone", json!({ "instances": 2, "labels": { "MARATHON_SINGLE_INSTANCE_APP": "true" } }), "instances"),
        refused("a secret nobody defines", json!({ "env": { "A": { "secret": "s" } } }), "/env"),
        refused("a credential", json!({ "container": docker(json!({ "credential": { "principal": "p" } })) }), "credential"),
        refused("an id in upper case", json!({ "id": "/X" }), "must fully match regular expression"),
        refused("an id with a reserved end", json!({ "id": "/a/tasks" }), r#""path":"/id""#),
        refused("a fetch without a uri", json!({ "fetch": [{}] }), "/fetch(0)/uri"),
        refused("a cycle", json!({ "dependencies": ["/x"] }), "an app must not depend on itself"),
    ])
    .await;
}
