use super::*;
use serde_json::json;

// The replies themselves are tested where an app can be made of a request: in the master's
// `normalize`, with the golden ones among its fixtures.

#[test]
fn only_requests_of_0_7_are_classic() {
    let docker = |extra: Value| {
        let mut docker = json!({"image": "i"});
        docker.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"id": "a", "container": {"type": "DOCKER", "docker": docker}})
    };
    let cases = [
        (json!({"id": "a", "ports": [0]}), true),
        (json!({"id": "a", "uris": []}), true),
        (docker(json!({"network": "BRIDGE"})), true),
        (docker(json!({"portMappings": [{"containerPort": 80}]})), true),
        (docker(json!({"network": "HOST", "parameters": {"a": "b"}})), true),
        (docker(json!({"network": "HOST", "parameters": [{"key": "a", "value": "b"}]})), true),
        // No classic key.
        (json!({"id": "a", "cmd": "sleep 1"}), false),
        (docker(json!({})), false),
        // A newer key, at any depth.
        (json!({"ports": [0], "labels": {}}), false),
        (json!({"ports": [0], "acceptedResourceRoles": ["*"]}), false),
        (json!({"ports": [0], "maxLaunchDelaySeconds": 1}), false),
        (json!({"ports": [0], "fetch": []}), false),
        (json!({"ports": [0], "unheardOf": 1}), false),
        (json!({"ports": [0], "upgradeStrategy": {"maximumOverCapacity": 1}}), false),
        (json!({"ports": [0], "env": {"A": {"secret": "s"}}}), false),
        (json!({"ports": [0], "healthChecks": [{"port": 80}]}), false),
        (json!({"ports": [0], "container": {"portMappings": []}}), false),
        (docker(json!({"network": "BRIDGE", "forcePullImage": true})), false),
        (docker(json!({"network": "BRIDGE", "portMappings": [{"name": "x"}]})), false),
        (docker(json!({"network": "HOST", "parameters": [{"key": "a", "x": 1}]})), false),
        // A key of the caller's own choice is none of the API's.
        (json!({"ports": [0], "env": {"labels": "x"}}), true),
        (json!([{"ports": [0]}]), false),
        (json!("ports"), false),
        (Value::Null, false),
    ];
    for (request, expected) in cases {
        assert_eq!(is_classic(&request), expected, "{request}");
    }
}
