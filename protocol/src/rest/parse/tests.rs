use super::super::update::{DockerNetwork, Field, NetworkMode};
use super::*;
use serde_json::json;

#[test]
fn every_mistake_is_named_at_its_path() {
    let cases: [(Value, &str, &str); 44] = [
        (json!([]), "/", "error.expected.jsobject"),
        (json!({"id": 5}), "/id", "error.expected.jsstring"),
        (json!({"cmd": ["x"]}), "/cmd", "error.expected.jsstring"),
        (json!({"args": "x"}), "/args", "error.expected.jsarray"),
        (json!({"args": ["a", 1]}), "/args(1)", "error.expected.jsstring"),
        (json!({"env": []}), "/env", "error.expected.jsobject"),
        (json!({"env": {"A": 1}}), "/env/A", "error.expected.jsstring"),
        (json!({"env": {"A": {}}}), "/env/A/secret", "error.path.missing"),
        (json!({"instances": "3"}), "/instances", "error.expected.jsnumber"),
        (json!({"instances": 1.5}), "/instances", "error.expected.int"),
        (json!({"instances": -1}), "/instances", "error.min"),
        (json!({"instances": 1e10}), "/instances", "error.max"),
        (json!({"cpus": "1"}), "/cpus", "error.expected.jsnumber"),
        (json!({"cpus": -0.5}), "/cpus", "error.min"),
        (json!({"cpus": 1e300}), "/cpus", "error.max"),
        (json!({"mem": -2}), "/mem", "error.min"),
        (json!({"disk": 1e18}), "/disk", "error.max"),
        (json!({"backoffFactor": 0.5}), "/backoffFactor", "error.min"),
        (json!({"backoffSeconds": -1}), "/backoffSeconds", "error.min"),
        (json!({"requirePorts": "yes"}), "/requirePorts", "error.expected.jsboolean"),
        (json!({"ports": [0, 70000]}), "/ports(1)", "error.max"),
        (json!({"ports": {"a": 1}}), "/ports", "error.expected.jsarray"),
        (
            json!({"portDefinitions": [{"protocol": "sctp"}]}),
            "/portDefinitions(0)/protocol",
            "error.unknown.enum.literal",
        ),
        (json!({"constraints": ["hostname"]}), "/constraints(0)", "error.expected.jsarray"),
        (json!({"constraints": [["hostname"]]}), "/constraints(0)", "error.minLength"),
        (json!({"constraints": [["a", "LIKE", "b", "c"]]}), "/constraints(0)", "error.maxLength"),
        (
            json!({"constraints": [["a", "ALIKE"]]}),
            "/constraints(0)(1)",
            "error.unknown.enum.literal",
        ),
        (
            json!({"constraints": [["a", "MAX_PER", 2]]}),
            "/constraints(0)(2)",
            "error.expected.jsstring",
        ),
        (json!({"fetch": [{}]}), "/fetch(0)/uri", "error.path.missing"),
        (json!({"container": {"type": "RKT"}}), "/container/type", "error.unknown.enum.literal"),
        (json!({"container": {"docker": {}}}), "/container/docker/image", "error.path.missing"),
        (
            json!({"container": {"docker": {"image": 1}}}),
            "/container/docker/image",
            "error.expected.jsstring",
        ),
        (
            json!({"container": {"docker": {"image": "i", "network": "NAT"}}}),
            "/container/docker/network",
            "error.unknown.enum.literal",
        ),
        (
            json!({"container": {"docker": {"image": "i", "parameters": [{"key": "a"}]}}}),
            "/container/docker/parameters(0)/value",
            "error.path.missing",
        ),
        (
            json!({"container": {"portMappings": [{"hostPort": -1}]}}),
            "/container/portMappings(0)/hostPort",
            "error.min",
        ),
        (
            json!({"container": {"volumes": [{"hostPath": "/a"}]}}),
            "/container/volumes(0)/containerPath",
            "error.path.missing",
        ),
        (
            json!({"container": {"volumes": [{"containerPath": "a", "persistent": {}}]}}),
            "/container/volumes(0)/persistent/size",
            "error.path.missing",
        ),
        (
            json!({"healthChecks": [{"protocol": "ICMP"}]}),
            "/healthChecks(0)/protocol",
            "error.unknown.enum.literal",
        ),
        (
            json!({"healthChecks": [{"command": {}}]}),
            "/healthChecks(0)/command/value",
            "error.path.missing",
        ),
        (json!({"check": {}}), "/check", "error.path.missing"),
        (
            json!({"unreachableStrategy": "off"}),
            "/unreachableStrategy",
            "error.unknown.enum.literal",
        ),
        (
            json!({"resourceLimits": {"cpus": "none"}}),
            "/resourceLimits/cpus",
            "error.expected.jsnumber",
        ),
        (json!({"executorResources": {"mem": 16}}), "/executorResources/mem", "error.min"),
        (
            json!({"version": "yesterday"}),
            "/version",
            "Invalid timestamp provided 'yesterday'. \
            Expecting ISO-8601 datetime string.",
        ),
    ];
    for (body, path, code) in cases {
        let errors = app_update(&body).expect_err(&body.to_string());
        assert_eq!(errors.len(), 1, "{body}: {errors:?}");
        assert_eq!((errors[0].path.as_str(), errors[0].errors[0].as_str()), (path, code), "{body}");
    }
}

#[test]
fn all_mistakes_come_in_one_answer() {
    let body = json!({"id": 1, "cpus": -1, "container": {"docker": {"network": 1},
        "volumes": [1, {"containerPath": 2, "hostPath": 3}]}, "healthChecks": [{"port": "x"}]});
    let errors = app_update(&body).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/id",
            "/cpus",
            "/container/volumes(0)",
            "/container/volumes(1)/containerPath",
            "/container/volumes(1)/hostPath",
            "/container/docker/network",
            "/container/docker/image",
            "/healthChecks(0)/port",
        ]
    );
    let many = json!({"args": vec![1; 100_000]});
    assert_eq!(app_update(&many).unwrap_err().len(), 200);
}

#[test]
fn absent_null_and_given_are_told_apart() {
    let update = app_update(&json!({"cmd": null, "cpus": 0.1, "unheardOf": {"x": 1}})).unwrap();
    assert_eq!((&update.cmd, &update.user), (&Field::Null, &Field::Absent));
    assert_eq!(update.cpus_milli, Field::Given(100));
    assert_eq!(app_update(&json!({})).unwrap(), AppUpdate::default());
}

#[test]
fn old_forms_are_read() {
    let update = app_update(&json!({
        "uris": ["http://a"], "storeUrls": ["http://b"], "ports": [0, 8080.0],
        "ipAddress": {"groups": ["dev"], "networkName": "n", "discovery": {}},
        "container": {"docker": {"image": "i", "network": "USER",
            "parameters": {"hostname": "a", "add-host": "b:1.2.3.4"},
            "portMappings": [{"containerPort": 80}]}},
        "constraints": [["hostname", "unique"]],
        "networks": [{}],
    }))
    .unwrap();
    assert_eq!(update.ports, Field::Given(vec![0, 8080]));
    let docker = update.container.given().unwrap().docker.clone().unwrap();
    assert_eq!(docker.network, Some(DockerNetwork::User));
    let keys: Vec<&str> = docker.parameters.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["hostname", "add-host"], "in the order they were sent");
    assert_eq!(docker.port_mappings.unwrap()[0].host_port, None);
    assert_eq!(update.ip_address.given().unwrap().discovery, Some(vec![]));
    assert_eq!(update.constraints.given().unwrap()[0].operator, Operator::Unique);
    assert_eq!(update.networks.given().unwrap()[0].mode, NetworkMode::Container);
}

#[test]
fn amounts_are_exact() {
    let update =
        app_update(&json!({"cpus": 0.1, "mem": 0.5, "disk": 1e1, "backoffFactor": 1.15})).unwrap();
    assert_eq!(update.cpus_milli, Field::Given(100));
    assert_eq!(update.mem_bytes, Field::Given(MIB / 2));
    assert_eq!(update.disk_bytes, Field::Given(10 * MIB));
    assert_eq!(update.backoff_factor_ppm, Field::Given(1_150_000));
}
