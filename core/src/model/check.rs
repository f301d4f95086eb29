//! Health, generic and readiness checks as an app defines them (Marathon's contract, section 5).

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    pub path: Option<String>,
    pub port_index: Option<u32>,
    pub port: Option<u16>,
    /// The shell line of a COMMAND check.
    pub command: Option<String>,
    pub grace_ms: u64,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// 0 = never kill.
    pub max_consecutive_failures: u32,
    pub delay_ms: u64,
    pub ignore_http_1xx: bool,
    /// `IPv4` or `IPv6`, where given.
    pub ip_protocol: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheckKind {
    Http,
    Https,
    Tcp,
    Command,
    MesosHttp,
    MesosHttps,
    MesosTcp,
}

impl HealthCheckKind {
    /// The text of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthCheckKind::Http => "HTTP",
            HealthCheckKind::Https => "HTTPS",
            HealthCheckKind::Tcp => "TCP",
            HealthCheckKind::Command => "COMMAND",
            HealthCheckKind::MesosHttp => "MESOS_HTTP",
            HealthCheckKind::MesosHttps => "MESOS_HTTPS",
            HealthCheckKind::MesosTcp => "MESOS_TCP",
        }
    }

    /// Read the text of the API.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "HTTP" => HealthCheckKind::Http,
            "HTTPS" => HealthCheckKind::Https,
            "TCP" => HealthCheckKind::Tcp,
            "COMMAND" => HealthCheckKind::Command,
            "MESOS_HTTP" => HealthCheckKind::MesosHttp,
            "MESOS_HTTPS" => HealthCheckKind::MesosHttps,
            "MESOS_TCP" => HealthCheckKind::MesosTcp,
            _ => return None,
        })
    }
}

/// A generic check (Marathon 1.6): its result is shown, nothing is killed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub probe: CheckProbe,
    pub delay_ms: u64,
    pub interval_ms: u64,
    pub timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckProbe {
    Exec {
        command: String,
    },
    Http {
        path: Option<String>,
        port_index: Option<u32>,
        port: Option<u16>,
        /// Only pods can ask for it.
        #[serde(default)]
        https: bool,
    },
    Tcp {
        port_index: Option<u32>,
        port: Option<u16>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessCheck {
    pub name: String,
    /// HTTPS instead of HTTP.
    pub https: bool,
    pub path: String,
    pub port_name: String,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub ready_status_codes: Vec<u16>,
    pub preserve_last_response: bool,
}
