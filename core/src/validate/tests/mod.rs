//! A sound app, ways to break it, and what holds for all rules together.

mod command;
mod connections;
mod pod;
mod strategy;

use super::*;
use crate::model::*;
use std::collections::BTreeMap;

const MIB: u64 = BYTES_PER_MIB;

fn app() -> App {
    App {
        id: AppId::new("/a"),
        cmd: Some("sleep 60".into()),
        args: None,
        user: None,
        env: BTreeMap::new(),
        instances: 1,
        resources: Resources { cpus_milli: 100, mem_bytes: 2 * MIB, disk_bytes: 0, gpus: 0 },
        resource_limits: None,
        executor: String::new(),
        executor_resources: None,
        constraints: vec![],
        fetch: vec![],
        store_urls: vec![],
        container: None,
        networks: vec![Network::Host],
        port_definitions: vec![definition(0, Some("default"))],
        require_ports: false,
        health_checks: vec![],
        check: None,
        readiness_checks: vec![],
        dependencies: vec![],
        backoff: BackoffStrategy { initial_ms: 1000, factor_ppm: 1_150_000, max_ms: 300_000 },
        upgrade: UpgradeStrategy { min_health_ppm: PPM, max_over_ppm: PPM },
        labels: BTreeMap::new(),
        accepted_resource_roles: None,
        role: None,
        kill_selection: KillSelection::YoungestFirst,
        unreachable: UnreachableStrategy::After { inactive_ms: 0, expunge_ms: 0 },
        kill_grace_ms: None,
        secrets: BTreeMap::new(),
        residency: None,
        tty: None,
        version: Time(0),
        last_scaling: Time(0),
        last_config_change: Time(0),
        pod: None,
        last_restart: Time(0),
    }
}

fn definition(port: u16, name: Option<&str>) -> PortDefinition {
    PortDefinition {
        port,
        protocol: Protocol::Tcp,
        name: name.map(str::to_string),
        labels: BTreeMap::new(),
    }
}

fn mapping(container_port: u16, host_port: Option<u16>) -> PortMapping {
    PortMapping {
        container_port,
        host_port,
        service_port: 0,
        protocol: Protocol::Tcp,
        name: None,
        labels: BTreeMap::new(),
        network_names: vec![],
    }
}

fn docker() -> Container {
    Container {
        kind: ContainerKind::Docker,
        docker: Some(DockerImage {
            image: "nginx".into(),
            privileged: false,
            force_pull: false,
            parameters: vec![],
            pull_config_secret: None,
        }),
        port_mappings: None,
        volumes: vec![],
        linux_info: None,
    }
}

fn bridged(mappings: Vec<PortMapping>) -> App {
    App {
        networks: vec![Network::Bridge],
        port_definitions: vec![],
        container: Some(Container { port_mappings: Some(mappings), ..docker() }),
        ..app()
    }
}

fn named(name: &str) -> Network {
    Network::Container { name: Some(name.into()), labels: BTreeMap::new() }
}

fn persistent() -> Volume {
    Volume::Persistent {
        container_path: "data".into(),
        mode: VolumeMode::ReadWrite,
        kind: "root".into(),
        size_mib: 10,
        max_size_mib: None,
        profile_name: None,
        constraints: vec![],
    }
}

fn resident() -> App {
    App {
        container: Some(Container {
            kind: ContainerKind::Mesos,
            docker: None,
            volumes: vec![persistent()],
            ..docker()
        }),
        residency: Some(Residency {
            relaunch_escalation_ms: 3_600_000,
            task_lost_behavior: "WAIT_FOREVER".into(),
        }),
        upgrade: UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 },
        unreachable: UnreachableStrategy::Disabled,
        ..app()
    }
}

fn health(kind: HealthCheckKind, port_index: Option<u32>) -> HealthCheck {
    HealthCheck {
        kind,
        path: None,
        port_index,
        port: None,
        command: None,
        grace_ms: 300_000,
        interval_ms: 60_000,
        timeout_ms: 20_000,
        max_consecutive_failures: 3,
        delay_ms: 15_000,
        ignore_http_1xx: false,
        ip_protocol: None,
    }
}

fn ready(port_name: &str) -> ReadinessCheck {
    ReadinessCheck {
        name: "r".into(),
        https: false,
        path: "/".into(),
        port_name: port_name.into(),
        interval_ms: 30_000,
        timeout_ms: 10_000,
        ready_status_codes: vec![200],
        preserve_last_response: false,
    }
}

fn constrained(operator: Operator, value: Option<&str>) -> App {
    let value = value.map(str::to_string);
    App { constraints: vec![Constraint { field: "hostname".into(), operator, value }], ..app() }
}

fn with(base: App, change: impl FnOnce(&mut App)) -> App {
    let mut app = base;
    change(&mut app);
    app
}

fn container(app: &mut App) -> &mut Container {
    app.container.as_mut().unwrap()
}

fn image(app: &mut App) -> &mut DockerImage {
    container(app).docker.as_mut().unwrap()
}

#[test]
fn sound_apps_break_no_rule() {
    let sound = [
        ("cmd", app()),
        (
            "args",
            with(app(), |a| {
                a.cmd = None;
                a.args = Some(vec!["sleep".into()]);
            }),
        ),
        ("image alone", with(bridged(vec![mapping(80, Some(0))]), |a| a.cmd = None)),
        (
            "image and args",
            with(bridged(vec![]), |a| {
                a.cmd = None;
                a.args = Some(vec!["x".into()]);
            }),
        ),
        ("resident", resident()),
        ("unique", constrained(Operator::Unique, None)),
        ("cluster", constrained(Operator::Cluster, None)),
        ("group by", constrained(Operator::GroupBy, Some("3"))),
        ("like", constrained(Operator::Like, Some("rack-[1-3]"))),
        ("max per", constrained(Operator::MaxPer, Some("2"))),
        ("is", constrained(Operator::Is, Some("a/b_c.d-e"))),
        ("tcp and udp share a number", {
            let mut app = bridged(vec![mapping(53, Some(53)), mapping(53, Some(53))]);
            container(&mut app).port_mappings.as_mut().unwrap()[1].protocol = Protocol::Udp;
            app
        }),
        (
            "two container networks",
            with(app(), |a| {
                a.networks = vec![named("x"), named("y")];
                a.port_definitions = vec![];
            }),
        ),
        (
            "unlimited",
            with(app(), |a| {
                a.resource_limits = Some(ResourceLimits {
                    cpus: Some(Limit::Unlimited),
                    mem: Some(Limit::At(2 * MIB)),
                });
            }),
        ),
        (
            "checks",
            with(app(), |a| {
                a.health_checks = vec![
                    health(HealthCheckKind::Http, Some(0)),
                    health(HealthCheckKind::MesosTcp, None),
                    HealthCheck {
                        command: Some("true".into()),
                        ..health(HealthCheckKind::Command, None)
                    },
                    HealthCheck { port: Some(80), ..health(HealthCheckKind::Tcp, None) },
                ];
                a.readiness_checks = vec![ready("default")];
            }),
        ),
        ("executor", with(app(), |a| a.executor = "//cmd".into())),
        ("executor path", with(app(), |a| a.executor = "/opt/run".into())),
    ];
    for (name, app) in sound {
        assert_eq!(validate(&app), [], "{name}");
    }
}

/// Every broken app breaks exactly one rule, at exactly this path.
fn assert_breaks(cases: Vec<(App, &str, &str)>) {
    for (app, path, message) in cases {
        let found = validate(&app);
        assert_eq!(found.len(), 1, "{path} {message}: {found:?}");
        assert_eq!(found[0].path, path, "{message}");
        assert!(found[0].message.starts_with(message), "{path}: {found:?}");
    }
}

#[test]
fn everything_wrong_is_named_at_once() {
    let wrong = with(constrained(Operator::Unique, Some("x")), |a| {
        a.id = AppId::new("/A");
        a.cmd = None;
        a.health_checks = vec![health(HealthCheckKind::Http, Some(9))];
        a.upgrade.max_over_ppm = 2 * PPM;
    });
    let paths: Vec<String> = validate(&wrong).into_iter().map(|v| v.path).collect();
    assert_eq!(
        paths,
        [
            "/id",
            "/",
            "/healthChecks(0)/portIndex",
            "/constraints(0)",
            "/upgradeStrategy/maximumOverCapacity"
        ]
    );
}

#[test]
fn resident_apps_keep_what_is_reserved() {
    let old = resident();
    assert_eq!(validate_change(&old, &with(resident(), |a| a.instances = 3)), []);
    assert_eq!(validate_change(&app(), &with(app(), |a| a.resources.cpus_milli = 5)), []);
    let bigger = with(resident(), |a| a.resources.mem_bytes = 1);
    assert_eq!(validate_change(&old, &bigger)[0].path, "/");
    let moved = with(resident(), |a| container(a).volumes.clear());
    assert_eq!(validate_change(&old, &moved)[0].path, "/container/volumes");
}
