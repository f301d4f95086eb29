//! Health, generic and readiness checks of a request, with their defaults (section 5).

use super::network::port;
use super::read::{self, Errors, Object};
use super::{INT_MAX, count, seconds};
use bramble_core::model::{Check, CheckProbe, HealthCheck, HealthCheckKind, ReadinessCheck};
use serde_json::Value;

pub(super) fn health_check(errors: &mut Errors, path: &str, value: &Value) -> Option<HealthCheck> {
    let object = Object::open(errors, path, value)?;
    let time = |errors: &mut Errors, key: &str, default_s: u64| {
        object.optional(errors, key, seconds).unwrap_or(default_s * 1000)
    };
    let failures = object.optional(errors, "maxConsecutiveFailures", count);
    let kind = object.optional(errors, "protocol", kind).unwrap_or(HealthCheckKind::Http);
    Some(HealthCheck {
        kind,
        path: object.optional(errors, "path", read::text),
        port_index: object.optional(errors, "portIndex", count),
        port: object.optional(errors, "port", port),
        command: object.optional(errors, "command", health_command),
        grace_ms: time(errors, "gracePeriodSeconds", 300),
        interval_ms: time(errors, "intervalSeconds", 60),
        timeout_ms: time(errors, "timeoutSeconds", 20),
        max_consecutive_failures: failures.unwrap_or(3),
        delay_ms: time(errors, "delaySeconds", 15),
        ignore_http_1xx: object.optional(errors, "ignoreHttp1xx", read::boolean).unwrap_or(false),
        ip_protocol: object
            .optional(errors, "ipProtocol", |e, p, v| {
                read::word(e, p, v, &[("IPv4", "IPv4"), ("IPv6", "IPv6")])
            })
            .map(str::to_string),
    })
}

fn kind(errors: &mut Errors, path: &str, value: &Value) -> Option<HealthCheckKind> {
    const KINDS: [HealthCheckKind; 7] = [
        HealthCheckKind::Http,
        HealthCheckKind::Https,
        HealthCheckKind::Tcp,
        HealthCheckKind::Command,
        HealthCheckKind::MesosHttp,
        HealthCheckKind::MesosHttps,
        HealthCheckKind::MesosTcp,
    ];
    read::word(errors, path, value, &KINDS.map(|kind| (kind.as_str(), kind)))
}

/// `{"value":"line"}`.
fn health_command(errors: &mut Errors, path: &str, value: &Value) -> Option<String> {
    Object::open(errors, path, value)?.required(errors, "value", read::text)
}

pub(super) fn check(errors: &mut Errors, path: &str, value: &Value) -> Option<Check> {
    let object = Object::open(errors, path, value)?;
    let time = |errors: &mut Errors, key: &str, default_s: u64| {
        object.optional(errors, key, seconds).unwrap_or(default_s * 1000)
    };
    let delay_ms = time(errors, "delaySeconds", 15);
    let interval_ms = time(errors, "intervalSeconds", 60);
    let timeout_ms = time(errors, "timeoutSeconds", 20);
    let probes = ["exec", "http", "tcp"].into_iter().filter(|key| object.has(key)).count();
    if probes != 1 {
        let fix = "must have exactly one of exec, http, tcp";
        return errors.note(path, "error.path.missing", Some(fix.into()));
    }
    let exec = object.optional(errors, "exec", exec_probe);
    let http = object.optional(errors, "http", http_probe);
    let tcp = object.optional(errors, "tcp", tcp_probe);
    Some(Check { probe: exec.or(http).or(tcp)?, delay_ms, interval_ms, timeout_ms })
}

fn exec_probe(errors: &mut Errors, path: &str, value: &Value) -> Option<CheckProbe> {
    let object = Object::open(errors, path, value)?;
    let command = object.required(errors, "command", |e, p, v| {
        Object::open(e, p, v)?.required(e, "shell", read::text)
    })?;
    Some(CheckProbe::Exec { command })
}

fn http_probe(errors: &mut Errors, path: &str, value: &Value) -> Option<CheckProbe> {
    let object = Object::open(errors, path, value)?;
    Some(CheckProbe::Http {
        path: object.optional(errors, "path", read::text),
        port_index: object.optional(errors, "portIndex", count),
        port: object.optional(errors, "port", port),
        https: false,
    })
}

fn tcp_probe(errors: &mut Errors, path: &str, value: &Value) -> Option<CheckProbe> {
    let object = Object::open(errors, path, value)?;
    Some(CheckProbe::Tcp {
        port_index: object.optional(errors, "portIndex", count),
        port: object.optional(errors, "port", port),
    })
}

pub(super) fn readiness_check(
    errors: &mut Errors,
    path: &str,
    value: &Value,
) -> Option<ReadinessCheck> {
    let object = Object::open(errors, path, value)?;
    let time = |errors: &mut Errors, key: &str, default_s: u64| {
        object
            .optional(errors, key, |e, p, v| read::integer(e, p, v, (1, INT_MAX)))
            .unwrap_or(default_s)
            * 1000
    };
    let text = |errors: &mut Errors, key: &str, default: &str| {
        object.optional(errors, key, read::filled).unwrap_or_else(|| default.to_string())
    };
    let https = object.optional(errors, "protocol", |e, p, v| {
        read::word(e, p, v, &[("HTTP", false), ("HTTPS", true)])
    });
    let codes = object.optional(errors, "httpStatusCodesForReady", |e, p, v| {
        read::list(e, p, v, |e, p, v| {
            read::integer(e, p, v, (100, 999)).and_then(|n| u16::try_from(n).ok())
        })
    });
    let preserve = object.optional(errors, "preserveLastResponse", read::boolean);
    Some(ReadinessCheck {
        name: text(errors, "name", "readinessCheck"),
        https: https.unwrap_or(false),
        path: text(errors, "path", "/"),
        port_name: text(errors, "portName", "http-api"),
        interval_ms: time(errors, "intervalSeconds", 30),
        timeout_ms: time(errors, "timeoutSeconds", 10),
        ready_status_codes: codes.filter(|c| !c.is_empty()).unwrap_or_else(|| vec![200]),
        preserve_last_response: preserve.unwrap_or(false),
    })
}
