//! Checks in the canonical form: every field with its default is printed.

use bramble_core::model::{Check, CheckProbe, HealthCheck, HealthCheckKind, ReadinessCheck};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<LineJson>,
    pub grace_period_seconds: u64,
    pub ignore_http1xx: bool,
    pub interval_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_protocol: Option<String>,
    pub max_consecutive_failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u32>,
    pub protocol: &'static str,
    pub timeout_seconds: u64,
    pub delay_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct LineJson {
    pub value: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpJson>,
    pub interval_seconds: u64,
    pub timeout_seconds: u64,
    pub delay_seconds: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ExecJson {
    pub command: ShellJson,
}

#[derive(Clone, Debug, Serialize)]
pub struct ShellJson {
    pub shell: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u32>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u32>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessCheckJson {
    pub name: String,
    pub protocol: &'static str,
    pub path: String,
    pub port_name: String,
    pub interval_seconds: u64,
    pub timeout_seconds: u64,
    pub http_status_codes_for_ready: Vec<u16>,
    pub preserve_last_response: bool,
}

/// Write a health check. `delaySeconds` belongs to every kind, as in Marathon's own output.
pub fn health_check(check: &HealthCheck) -> HealthCheckJson {
    let command = check.command.clone().map(|value| LineJson { value });
    HealthCheckJson {
        command: command.filter(|_| check.kind == HealthCheckKind::Command),
        grace_period_seconds: check.grace_ms / 1000,
        ignore_http1xx: check.ignore_http_1xx,
        interval_seconds: check.interval_ms / 1000,
        ip_protocol: check.ip_protocol.clone(),
        max_consecutive_failures: check.max_consecutive_failures,
        path: check.path.clone(),
        port: check.port,
        port_index: check.port_index,
        protocol: check.kind.as_str(),
        timeout_seconds: check.timeout_ms / 1000,
        delay_seconds: check.delay_ms / 1000,
    }
}

pub(super) fn check(check: &Check) -> CheckJson {
    let mut json = CheckJson {
        interval_seconds: check.interval_ms / 1000,
        timeout_seconds: check.timeout_ms / 1000,
        delay_seconds: check.delay_ms / 1000,
        ..CheckJson::default()
    };
    match &check.probe {
        CheckProbe::Exec { command } => {
            json.exec = Some(ExecJson { command: ShellJson { shell: command.clone() } });
        }
        CheckProbe::Http { path, port_index, port, .. } => {
            json.http = Some(HttpJson { path: path.clone(), port: *port, port_index: *port_index });
        }
        CheckProbe::Tcp { port_index, port } => {
            json.tcp = Some(TcpJson { port: *port, port_index: *port_index });
        }
    }
    json
}

pub(super) fn readiness_check(check: &ReadinessCheck) -> ReadinessCheckJson {
    ReadinessCheckJson {
        name: check.name.clone(),
        protocol: if check.https { "HTTPS" } else { "HTTP" },
        path: check.path.clone(),
        port_name: check.port_name.clone(),
        interval_seconds: check.interval_ms / 1000,
        timeout_seconds: check.timeout_ms / 1000,
        http_status_codes_for_ready: check.ready_status_codes.clone(),
        preserve_last_response: check.preserve_last_response,
    }
}
