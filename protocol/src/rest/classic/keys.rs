//! Whether a request is one that Marathon 0.7.6 would have understood whole.

use serde_json::Value;

/// What may stand at a key.
enum Shape {
    /// Any value without keys of its own.
    Plain,
    /// An object whose keys are the caller's names, with plain values.
    Names,
    Object(&'static [(&'static str, Shape)]),
    List(&'static Shape),
    /// Either of two.
    Either(&'static Shape, &'static Shape),
}

use Shape::{Either, List, Names, Object, Plain};

const APP: Shape = Object(&[
    ("id", Plain),
    ("cmd", Plain),
    ("args", LIST),
    ("user", Plain),
    ("env", Names),
    ("instances", Plain),
    ("cpus", Plain),
    ("mem", Plain),
    ("disk", Plain),
    ("executor", Plain),
    ("constraints", List(&LIST)),
    ("uris", LIST),
    ("storeUrls", LIST),
    ("ports", LIST),
    ("requirePorts", Plain),
    ("backoffSeconds", Plain),
    ("backoffFactor", Plain),
    ("container", CONTAINER),
    ("healthChecks", List(&HEALTH_CHECK)),
    ("dependencies", LIST),
    ("upgradeStrategy", Object(&[("minimumHealthCapacity", Plain)])),
    ("version", Plain),
]);

const LIST: Shape = List(&Plain);

const CONTAINER: Shape = Object(&[
    ("type", Plain),
    ("volumes", List(&Object(&[("containerPath", Plain), ("hostPath", Plain), ("mode", Plain)]))),
    (
        "docker",
        Object(&[
            ("image", Plain),
            ("network", Plain),
            ("portMappings", List(&PORT_MAPPING)),
            ("privileged", Plain),
            ("parameters", Either(&Names, &List(&PARAMETER))),
        ]),
    ),
]);

const PORT_MAPPING: Shape = Object(&[
    ("containerPort", Plain),
    ("hostPort", Plain),
    ("servicePort", Plain),
    ("protocol", Plain),
]);

const PARAMETER: Shape = Object(&[("key", Plain), ("value", Plain)]);

const HEALTH_CHECK: Shape = Object(&[
    ("path", Plain),
    ("protocol", Plain),
    ("portIndex", Plain),
    ("command", Object(&[("value", Plain)])),
    ("gracePeriodSeconds", Plain),
    ("intervalSeconds", Plain),
    ("timeoutSeconds", Plain),
    ("maxConsecutiveFailures", Plain),
]);

/// Whether the answer takes the 0.7 form: the request has a classic key, and every key at every
/// depth existed in 0.7.6.
pub fn is_classic(request: &Value) -> bool {
    let docker = &request["container"]["docker"];
    let has = |object: &Value, key: &str| object.get(key).is_some();
    let has_classic_key = has(request, "ports")
        || has(request, "uris")
        || has(docker, "network")
        || has(docker, "portMappings");
    has_classic_key && fits(request, &APP)
}

fn fits(value: &Value, shape: &Shape) -> bool {
    match (shape, value) {
        (_, Value::Null) => true,
        (Plain, value) => !value.is_object() && !value.is_array(),
        (Names, Value::Object(map)) => map.values().all(|v| fits(v, &Plain)),
        (Object(keys), Value::Object(map)) => map.iter().all(|(key, value)| {
            keys.iter().any(|(known, shape)| known == key && fits(value, shape))
        }),
        (List(item), Value::Array(items)) => items.iter().all(|v| fits(v, item)),
        (Either(one, other), value) => fits(value, one) || fits(value, other),
        _ => false,
    }
}
