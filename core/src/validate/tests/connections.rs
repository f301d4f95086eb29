//! Networks, ports and checks.

use super::*;

#[test]
fn networks_and_ports_are_checked() {
    let networks = |networks: Vec<Network>| {
        with(app(), |a| {
            a.networks = networks;
            a.port_definitions = vec![];
        })
    };
    let ports = |ports: Vec<PortDefinition>| with(app(), |a| a.port_definitions = ports);
    let single = "Must specify either a single host network";
    assert_breaks(vec![
        (networks(vec![Network::Host, Network::Host]), "/networks", single),
        (networks(vec![Network::Host, Network::Bridge]), "/networks", single),
        (networks(vec![Network::Bridge, named("x")]), "/networks", single),
        (networks(vec![]), "/networks", single),
        (networks(vec![named("x"), named("x")]), "/networks", "Duplicate networks"),
        (networks(vec![named("")]), "/networks", "Network name must be specified"),
        (
            with(bridged(vec![]), |a| a.networks = vec![named("x"), named("y")]),
            "/networks",
            "may only specify a single container network",
        ),
        (
            with(bridged(vec![mapping(80, None)]), |a| a.networks = vec![Network::Host]),
            "/",
            "portMappings are not allowed with host-networking",
        ),
        (
            with(bridged(vec![]), |a| a.port_definitions = vec![definition(0, None)]),
            "/",
            "portDefinitions are only allowed with host-networking",
        ),
        (
            ports(vec![definition(80, None), definition(80, None)]),
            "/portDefinitions",
            "Ports must be unique.",
        ),
        (
            ports(vec![definition(0, Some("x")), definition(0, Some("x"))]),
            "/portDefinitions",
            "Port names must be unique.",
        ),
        (ports(vec![definition(0, Some("X_"))]), "/portDefinitions(0)/name", "must fully match"),
        (ports(vec![definition(0, Some("x-"))]), "/portDefinitions(0)/name", "must fully match"),
        (
            bridged(vec![mapping(80, Some(8080)), mapping(81, Some(8080))]),
            "/container/portMappings",
            "Host ports must be unique.",
        ),
        (
            bridged(vec![PortMapping { name: Some("".into()), ..mapping(80, None) }]),
            "/container/portMappings(0)/name",
            "must fully match",
        ),
        (
            bridged(vec![PortMapping { network_names: vec!["z".into()], ..mapping(80, None) }]),
            "/container/portMappings(0)/networkNames(0)",
            "must be one of",
        ),
        (
            with(bridged(vec![mapping(80, Some(0))]), |a| {
                a.networks = vec![named("x"), named("y")];
                container(a).kind = ContainerKind::Mesos;
            }),
            "/container/portMappings(0)",
            "networkNames must be a single item list",
        ),
    ]);
}

#[test]
fn checks_are_checked() {
    let checks = |checks: Vec<HealthCheck>| with(app(), |a| a.health_checks = checks);
    let index = "Health check port indices must address an element of the ports array or container";
    assert_breaks(vec![
        (checks(vec![health(HealthCheckKind::Http, Some(1))]), "/healthChecks(0)/portIndex", index),
        (
            checks(vec![
                health(HealthCheckKind::Http, Some(0)),
                health(HealthCheckKind::Https, None),
            ]),
            "/healthChecks(1)/portIndex",
            index,
        ),
        (
            with(bridged(vec![]), |a| {
                a.health_checks = vec![health(HealthCheckKind::Tcp, Some(0))];
            }),
            "/healthChecks(0)/portIndex",
            index,
        ),
        (
            checks(vec![health(HealthCheckKind::Command, None)]),
            "/healthChecks(0)/command",
            "must be given for protocol COMMAND",
        ),
        (
            checks(vec![HealthCheck {
                command: Some("x".into()),
                ..health(HealthCheckKind::Http, Some(0))
            }]),
            "/healthChecks(0)/command",
            "only for protocol COMMAND",
        ),
        (
            checks(vec![HealthCheck {
                ip_protocol: Some("IPv6".into()),
                ..health(HealthCheckKind::Http, Some(0))
            }]),
            "/healthChecks(0)/ipProtocol",
            "IPv6 can only be used",
        ),
        (
            checks(vec![health(HealthCheckKind::MesosHttp, None); 2]),
            "/healthChecks",
            "AppDefinition can contain at most one Mesos health check",
        ),
        (
            with(app(), |a| a.readiness_checks = vec![ready("http")]),
            "/readinessChecks(0)/portName",
            "No port definition reference for portName http",
        ),
        (
            with(app(), |a| a.readiness_checks = vec![ready("default"), ready("default")]),
            "/readinessChecks",
            "must have at most one",
        ),
        (
            with(app(), |a| {
                a.readiness_checks =
                    vec![ReadinessCheck { timeout_ms: 30_000, ..ready("default") }];
            }),
            "/readinessChecks(0)/timeoutSeconds",
            "must be less than intervalSeconds",
        ),
        (
            with(bridged(vec![]), |a| {
                let probe = CheckProbe::Exec { command: "x".into() };
                a.check = Some(Check { probe, delay_ms: 0, interval_ms: 0, timeout_ms: 0 });
            }),
            "/check",
            "AppDefinition with Docker container can not have a check",
        ),
        (
            with(app(), |a| {
                let probe = CheckProbe::Tcp { port_index: Some(7), port: None };
                a.check = Some(Check { probe, delay_ms: 0, interval_ms: 0, timeout_ms: 0 });
            }),
            "/check/tcp/portIndex",
            index,
        ),
    ]);
}
