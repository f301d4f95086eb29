//! Writing the 0.7 form. The request has passed `parse`, so a value of a wrong type cannot come;
//! should one, its default is printed.

use crate::timestamp;
use bramble_core::model::{App, AppId};
use serde_json::{Number, Value};

/// Grows one JSON object, in order.
struct Writer {
    out: String,
}

impl Writer {
    fn open() -> Self {
        Self { out: "{".into() }
    }

    /// Append a key and a value that is JSON already.
    fn raw(&mut self, key: &str, json: &str) {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        self.out.push_str(&text(key));
        self.out.push(':');
        self.out.push_str(json);
    }

    fn close(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

pub(super) fn app(app: &App, request: &Value) -> String {
    let get = |key: &str| given(&request[key]);
    let mut w = Writer::open();
    w.raw("id", &text(app.id.as_str()));
    w.raw("cmd", &plain(get("cmd"), "null"));
    w.raw("args", &plain(get("args"), "null"));
    w.raw("user", &plain(get("user"), "null"));
    w.raw("env", &plain(get("env"), "{}"));
    w.raw("instances", &int(get("instances"), 1));
    w.raw("cpus", &double(get("cpus"), 1.0));
    w.raw("mem", &double(get("mem"), 128.0));
    w.raw("disk", &double(get("disk"), 0.0));
    w.raw("executor", &plain(get("executor"), "\"\""));
    w.raw("constraints", &set(get("constraints"), constraint));
    w.raw("uris", &plain(get("uris"), "[]"));
    w.raw("storeUrls", &plain(get("storeUrls"), "[]"));
    w.raw("ports", &list(get("ports"), |port| int(Some(port), 0)));
    w.raw("requirePorts", &plain(get("requirePorts"), "false"));
    w.raw("backoffSeconds", &int(get("backoffSeconds"), 1));
    w.raw("backoffFactor", &double(get("backoffFactor"), 1.15));
    w.raw("container", &get("container").map_or_else(|| "null".into(), container));
    w.raw("healthChecks", &set(get("healthChecks"), health_check));
    w.raw("dependencies", &dependencies(&app.dependencies));
    w.raw("upgradeStrategy", &upgrade(get("upgradeStrategy")));
    w.raw("version", &text(&timestamp::format(app.version)));
    w.close()
}

fn container(value: &Value) -> String {
    let mut w = Writer::open();
    w.raw("type", &plain(given(&value["type"]), "\"DOCKER\""));
    w.raw("volumes", &list(given(&value["volumes"]), volume));
    w.raw("docker", &given(&value["docker"]).map_or_else(|| "null".into(), docker));
    w.close()
}

fn volume(value: &Value) -> String {
    let mut w = Writer::open();
    w.raw("containerPath", &plain(given(&value["containerPath"]), "null"));
    w.raw("hostPath", &plain(given(&value["hostPath"]), "null"));
    w.raw("mode", &plain(given(&value["mode"]), "\"RW\""));
    w.close()
}

fn docker(value: &Value) -> String {
    let mappings = given(&value["portMappings"]).map(|v| list(Some(v), port_mapping));
    let mut w = Writer::open();
    w.raw("image", &plain(given(&value["image"]), "\"\""));
    w.raw("network", &plain(given(&value["network"]), "null"));
    w.raw("portMappings", mappings.as_deref().unwrap_or("null"));
    w.raw("privileged", &plain(given(&value["privileged"]), "false"));
    w.raw("parameters", &parameters(given(&value["parameters"])));
    w.close()
}

/// No parameters are `{}` in whatever form none were sent.
fn parameters(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(items)) if !items.is_empty() => list(value, |item| {
            let mut w = Writer::open();
            w.raw("key", &plain(given(&item["key"]), "\"\""));
            w.raw("value", &plain(given(&item["value"]), "\"\""));
            w.close()
        }),
        Some(Value::Object(_)) => plain(value, "{}"),
        _ => "{}".into(),
    }
}

fn port_mapping(value: &Value) -> String {
    let mut w = Writer::open();
    w.raw("containerPort", &int(given(&value["containerPort"]), 0));
    w.raw("hostPort", &int(given(&value["hostPort"]), 0));
    w.raw("servicePort", &int(given(&value["servicePort"]), 0));
    w.raw("protocol", &plain(given(&value["protocol"]), "\"tcp\""));
    w.close()
}

fn health_check(value: &Value) -> String {
    let command = given(&value["command"]).map(|command| {
        let mut w = Writer::open();
        w.raw("value", &plain(given(&command["value"]), "\"\""));
        w.close()
    });
    let mut w = Writer::open();
    w.raw("path", &plain(value.get("path"), "\"/\""));
    w.raw("protocol", &plain(given(&value["protocol"]), "\"HTTP\""));
    w.raw("portIndex", &int(given(&value["portIndex"]), 0));
    w.raw("command", command.as_deref().unwrap_or("null"));
    w.raw("gracePeriodSeconds", &int(given(&value["gracePeriodSeconds"]), 300));
    w.raw("intervalSeconds", &int(given(&value["intervalSeconds"]), 60));
    w.raw("timeoutSeconds", &int(given(&value["timeoutSeconds"]), 20));
    w.raw("maxConsecutiveFailures", &int(given(&value["maxConsecutiveFailures"]), 3));
    w.close()
}

/// Operators are printed as 0.7 stored them: in capitals.
fn constraint(value: &Value) -> String {
    let parts: Vec<String> = value
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(i, part)| match part.as_str() {
            Some(operator) if i == 1 => text(&operator.to_uppercase()),
            _ => part.to_string(),
        })
        .collect();
    format!("[{}]", parts.join(","))
}

fn dependencies(ids: &[AppId]) -> String {
    let mut seen: Vec<String> = Vec::new();
    for id in ids.iter().map(|id| text(id.as_str())) {
        if !seen.contains(&id) {
            seen.push(id);
        }
    }
    format!("[{}]", seen.join(","))
}

fn upgrade(value: Option<&Value>) -> String {
    let capacity = value.and_then(|v| given(&v["minimumHealthCapacity"]));
    let mut w = Writer::open();
    w.raw("minimumHealthCapacity", &double(capacity, 1.0));
    w.close()
}

fn given(value: &Value) -> Option<&Value> {
    Some(value).filter(|v| !v.is_null())
}

/// A value as it came, or its default.
fn plain(value: Option<&Value>, default: &str) -> String {
    value.map_or_else(|| default.to_string(), Value::to_string)
}

fn list(value: Option<&Value>, item: impl Fn(&Value) -> String) -> String {
    let items: Vec<String> =
        value.and_then(Value::as_array).into_iter().flatten().map(item).collect();
    format!("[{}]", items.join(","))
}

/// A list in which an equal item is printed once.
fn set(value: Option<&Value>, item: impl Fn(&Value) -> String) -> String {
    let mut items: Vec<String> = Vec::new();
    for one in value.and_then(Value::as_array).into_iter().flatten().map(item) {
        if !items.contains(&one) {
            items.push(one);
        }
    }
    format!("[{}]", items.join(","))
}

fn int(value: Option<&Value>, default: u64) -> String {
    let number = value.and_then(Value::as_number);
    number.and_then(|n| super::super::number::whole(n).ok()).unwrap_or(default).to_string()
}

fn double(value: Option<&Value>, default: f64) -> String {
    java_double(value.and_then(Value::as_number).and_then(Number::as_f64).unwrap_or(default))
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Write a number as Java's `Double.toString` does: always a fraction, and powers of ten outside
/// of 10^-3 to 10^7.
fn java_double(value: f64) -> String {
    /// Below this Java writes a power of ten.
    const PLAIN_MIN: f64 = 1e-3;
    /// From here on Java writes a power of ten.
    const PLAIN_MAX: f64 = 1e7;
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    if (PLAIN_MIN..PLAIN_MAX).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let fraction = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{fraction}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_like_java() {
        let cases = [
            (0.0, "0.0"),
            (0.1, "0.1"),
            (2.0, "2.0"),
            (256.0, "256.0"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.00025, "2.5E-4"),
            (1234567.5, "1234567.5"),
            (9999999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (12345678.0, "1.2345678E7"),
        ];
        for (value, expected) in cases {
            assert_eq!(java_double(value), expected);
        }
    }
}
