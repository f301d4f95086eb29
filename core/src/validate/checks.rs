//! Health checks, the generic check and readiness checks.

use super::Violations;
use crate::model::{App, CheckProbe, ContainerKind, HealthCheck, HealthCheckKind};

const PORT_INDEX: &str = "Health check port indices must address an element of the ports array or \
                          container port mappings.";

pub(super) fn check(app: &App, found: &mut Violations) {
    let ports = port_count(app);
    for (i, check) in app.health_checks.iter().enumerate() {
        health_check(app, check, ports, &format!("/healthChecks({i})"), found);
    }
    let by_agent = app.health_checks.iter().filter(|c| is_probed_by_mesos(c.kind)).count();
    found.require(
        by_agent <= 1,
        "/healthChecks",
        "AppDefinition can contain at most one Mesos health check",
    );
    generic_check(app, ports, found);
    readiness(app, found);
}

/// How many ports an index can address.
fn port_count(app: &App) -> usize {
    if app.is_host_network() { app.port_definitions.len() } else { app.port_mappings().len() }
}

fn addresses(index: u32, ports: usize) -> bool {
    usize::try_from(index).is_ok_and(|i| i < ports)
}

fn is_probed_by_mesos(kind: HealthCheckKind) -> bool {
    matches!(
        kind,
        HealthCheckKind::MesosHttp | HealthCheckKind::MesosHttps | HealthCheckKind::MesosTcp
    )
}

fn health_check(app: &App, check: &HealthCheck, ports: usize, path: &str, found: &mut Violations) {
    let is_command = check.kind == HealthCheckKind::Command;
    found.require(
        check.command.as_ref().is_some_and(|c| !c.is_empty()) == is_command,
        format!("{path}/command"),
        if is_command { "must be given for protocol COMMAND" } else { "only for protocol COMMAND" },
    );
    let is_reachable = match check.port_index {
        Some(index) => addresses(index, ports),
        None => check.port.is_some() || is_probed_by_mesos(check.kind),
    };
    found.require(is_command || is_reachable, format!("{path}/portIndex"), PORT_INDEX);
    if check.ip_protocol.as_deref() == Some("IPv6") {
        let is_docker = app.container.as_ref().is_some_and(|c| c.kind == ContainerKind::Docker);
        found.require(
            is_docker && is_probed_by_mesos(check.kind),
            format!("{path}/ipProtocol"),
            "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health \
             checks",
        );
    }
}

fn generic_check(app: &App, ports: usize, found: &mut Violations) {
    let Some(check) = &app.check else { return };
    let is_docker = app.container.as_ref().is_some_and(|c| c.kind == ContainerKind::Docker);
    found.require(!is_docker, "/check", "AppDefinition with Docker container can not have a check");
    let (path, index) = match &check.probe {
        CheckProbe::Exec { command } => {
            found.require(!command.is_empty(), "/check/exec/command/shell", "must not be empty");
            return;
        }
        CheckProbe::Http { port_index, .. } => ("/check/http/portIndex", *port_index),
        CheckProbe::Tcp { port_index, .. } => ("/check/tcp/portIndex", *port_index),
    };
    found.require(index.is_none_or(|i| addresses(i, ports)), path, PORT_INDEX);
}

fn readiness(app: &App, found: &mut Violations) {
    found.require(
        app.readiness_checks.len() <= 1,
        "/readinessChecks",
        "must have at most one readiness check",
    );
    let definitions = app.port_definitions.iter().filter_map(|d| d.name.as_deref());
    let mappings = app.port_mappings().iter().filter_map(|m| m.name.as_deref());
    let names: Vec<&str> = definitions.chain(mappings).collect();
    for (i, check) in app.readiness_checks.iter().enumerate() {
        let name = check.port_name.as_str();
        found.require(
            names.contains(&name),
            format!("/readinessChecks({i})/portName"),
            format!("No port definition reference for portName {name}"),
        );
        found.require(
            check.timeout_ms < check.interval_ms,
            format!("/readinessChecks({i})/timeoutSeconds"),
            "must be less than intervalSeconds",
        );
    }
}
