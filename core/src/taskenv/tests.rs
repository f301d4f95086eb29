//! Tables of what tasks are told.

use super::*;
use crate::model::{
    AppId, Container, DockerImage, InstanceId, Network, PortDefinition, PortMapping,
    ResourceLimits, Resources, Time,
};

fn base() -> App {
    let mut app = App::with_defaults(AppId::new("/prod/web"));
    app.cmd = Some("run".into());
    app.version = Time(1_423_136_731_026);
    app.resources =
        Resources { cpus_milli: 100, mem_bytes: 2 * BYTES_PER_MIB, disk_bytes: 0, gpus: 0 };
    app
}

fn instance(app: &App, ports: &[u16]) -> Instance {
    let id = InstanceId::compose(&app.id, "u1");
    let task = Task {
        ports: ports.to_vec(),
        resources: app.resources,
        ..Task::staging(id.task(2), AgentId::new("n1"), "pi-1", Time(1))
    };
    Instance {
        incarnation: 2,
        task: Some(task),
        ..Instance::waiting(id, app.id.clone(), app.version, Time(1))
    }
}

fn env(app: &App, ports: &[u16]) -> Vec<String> {
    let instance = instance(app, ports);
    let task = instance.task.as_ref().expect("it has one");
    environment(app, &instance, task).into_iter().map(|(k, v)| format!("{k}={v}")).collect()
}

fn definition(port: u16, name: Option<&str>) -> PortDefinition {
    PortDefinition {
        port,
        protocol: Protocol::Tcp,
        name: name.map(String::from),
        labels: BTreeMap::new(),
    }
}

fn mapping(container_port: u16, host_port: Option<u16>, protocol: Protocol) -> PortMapping {
    PortMapping {
        container_port,
        host_port,
        service_port: 10_000,
        protocol,
        name: Some(format!("p{container_port}-x")),
        labels: BTreeMap::new(),
        network_names: vec![],
    }
}

fn docker(mappings: Vec<PortMapping>) -> Container {
    let image = DockerImage {
        image: "nginx".into(),
        privileged: true,
        force_pull: true,
        parameters: vec![("hostname".into(), "a".into())],
        pull_config_secret: None,
    };
    Container {
        kind: ContainerKind::Docker,
        docker: Some(image),
        port_mappings: Some(mappings),
        volumes: vec![],
        linux_info: None,
    }
}

#[test]
fn the_environment_of_a_plain_task() {
    assert_eq!(
        env(&base(), &[]),
        [
            "HOST=pi-1",
            "MARATHON_APP_ENFORCE_GROUP_ROLE=FALSE",
            "MARATHON_APP_ID=/prod/web",
            "MARATHON_APP_LABELS=",
            "MARATHON_APP_RESOURCE_CPUS=0.1",
            "MARATHON_APP_RESOURCE_DISK=0.0",
            "MARATHON_APP_RESOURCE_GPUS=0",
            "MARATHON_APP_RESOURCE_MEM=2.0",
            "MARATHON_APP_VERSION=2015-02-05T11:45:31.026Z",
            "MESOS_TASK_ID=prod_web.instance-u1._app.2",
        ]
    );
}

/// Variables of `app` beyond those of the plain one.
fn beyond(app: &App, ports: &[u16]) -> Vec<String> {
    let plain = env(&base(), &[]);
    env(app, ports).into_iter().filter(|line| !plain.contains(line)).collect()
}

#[test]
fn ports_by_index_number_and_name() {
    let mut host = base();
    host.port_definitions = vec![definition(10_000, Some("http-api")), definition(0, None)];
    assert_eq!(
        beyond(&host, &[31_001, 31_007]),
        [
            "PORT=31001",
            "PORT0=31001",
            "PORT1=31007",
            "PORTS=31001,31007",
            "PORT_10000=31001",
            "PORT_31007=31007",
            "PORT_HTTP-API=31001",
        ]
    );
    let mut bridge = base();
    bridge.networks = vec![Network::Bridge];
    bridge.container = Some(docker(vec![
        mapping(80, Some(0), Protocol::Tcp),
        mapping(443, None, Protocol::Tcp),
        mapping(0, Some(0), Protocol::Udp),
    ]));
    assert_eq!(
        beyond(&bridge, &[31_001, 31_002]),
        [
            "MARATHON_APP_DOCKER_IMAGE=nginx",
            "PORT=31001",
            "PORT0=31001",
            "PORT1=31002",
            "PORTS=31001,31002",
            "PORT_31002=31002",
            "PORT_80=31001",
            "PORT_P0-X=31002",
            "PORT_P443-X=443",
            "PORT_P80-X=31001",
        ]
    );
}

#[test]
fn labels_and_the_users_own_values() {
    let mut app = base();
    app.labels = BTreeMap::from([
        ("a.b--c".to_string(), "1".to_string()),
        ("k".repeat(493), "too long a key".to_string()),
        ("long".to_string(), "v".repeat(512)),
        ("ok_2".to_string(), "v".repeat(511)),
    ]);
    app.env = BTreeMap::from([
        ("HOST".to_string(), EnvValue::Plain("mine".into())),
        ("PORT0".to_string(), EnvValue::Plain("7".into())),
        ("SECRET".to_string(), EnvValue::Secret("s".into())),
    ]);
    app.port_definitions = vec![definition(9000, None)];
    assert_eq!(
        beyond(&app, &[31_000]),
        [
            "HOST=mine".to_string(),
            "MARATHON_APP_LABELS=A_B_C OK_2".to_string(),
            "MARATHON_APP_LABEL_A_B_C=1".to_string(),
            format!("MARATHON_APP_LABEL_OK_2={}", "v".repeat(511)),
            "PORT=31000".to_string(),
            "PORT0=7".to_string(),
            "PORTS=31000".to_string(),
            "PORT_9000=31000".to_string(),
        ]
    );
}

#[test]
fn numbers_print_as_doubles_do() {
    for (value, unit, text) in [
        (0, 1000, "0.0"),
        (250, 1000, "0.25"),
        (1000, 1000, "1.0"),
        (12_345, 1000, "12.345"),
        (128 * BYTES_PER_MIB, BYTES_PER_MIB, "128.0"),
        (BYTES_PER_MIB / 2, BYTES_PER_MIB, "0.5"),
        // 0.1 MiB in whole bytes is not quite a tenth.
        (104_858, BYTES_PER_MIB, "0.1"),
        (u64::MAX, 1, "18446744073709551615.0"),
    ] {
        assert_eq!(decimal(value, unit), text);
    }
}

#[test]
fn an_assignment_carries_everything() {
    let mut app = base();
    app.networks = vec![Network::Bridge];
    app.container = Some(docker(vec![
        mapping(80, Some(8080), Protocol::UdpTcp),
        mapping(443, None, Protocol::Tcp),
        mapping(0, Some(0), Protocol::Udp),
    ]));
    app.kill_grace_ms = Some(7);
    app.tty = Some(true);
    let mut instance = instance(&app, &[8080, 31_000]);
    instance.goal = Goal::Decommissioned;
    let assignment = assignment(&app, &instance).expect("it has a task");
    assert!(!assignment.run);
    assert_eq!(assignment.app_version, app.version);
    let spec = assignment.spec;
    assert_eq!(spec.command, TaskCommand::Shell("run".into()));
    let published =
        |host_port, container_port, tcp, udp| PublishedPort { host_port, container_port, tcp, udp };
    assert_eq!(
        spec.network,
        TaskNetwork::Bridge(vec![
            published(8080, 80, true, true),
            published(31_000, 31_000, false, true)
        ])
    );
    let image = spec.image.expect("it has an image");
    assert_eq!((image.reference.as_str(), image.force_pull), ("nginx", true));
    assert_eq!((spec.kill_grace_ms, spec.privileged, spec.tty), (7, true, true));
    assert_eq!(spec.host_ports, [8080, 31_000]);
    instance.task = None;
    assert_eq!(super::assignment(&app, &instance), None);
}

#[test]
fn commands_and_ceilings() {
    let of = |app: &App| assignment(app, &instance(app, &[])).expect("it has a task").spec;
    let mut app = base();
    let spec = of(&app);
    assert_eq!((spec.cpu_limit_milli, spec.mem_limit_bytes), (Some(100), Some(2 * BYTES_PER_MIB)));
    assert_eq!((spec.network, spec.image), (TaskNetwork::Host, None));
    assert_eq!((spec.kill_grace_ms, spec.privileged), (KILL_GRACE_DEFAULT_MS, false));
    app.resource_limits =
        Some(ResourceLimits { cpus: Some(Limit::Unlimited), mem: Some(Limit::At(5)) });
    app.cmd = None;
    app.args = Some(vec!["a".into(), "b".into()]);
    let spec = of(&app);
    assert_eq!((spec.cpu_limit_milli, spec.mem_limit_bytes), (None, Some(5)));
    assert_eq!(spec.command, TaskCommand::Args(vec!["a".into(), "b".into()]));
    app.args = None;
    app.container = Some(Container { docker: None, ..docker(vec![]) });
    let spec = of(&app);
    assert_eq!((spec.command, spec.image), (TaskCommand::ImageDefault, None));
}

fn readiness_of(app: &App, ports: &[u16], port_name: &str) -> Option<u16> {
    let check = ReadinessCheck {
        name: "readinessCheck".into(),
        https: false,
        path: "/".into(),
        port_name: port_name.into(),
        interval_ms: 30_000,
        timeout_ms: 10_000,
        ready_status_codes: vec![200],
        preserve_last_response: false,
    };
    let app = App { readiness_checks: vec![check], ..app.clone() };
    let assignment = assignment(&app, &instance(&app, ports)).expect("it has a task");
    assignment.spec.readiness.first().map(|probe| probe.port)
}

#[test]
fn readiness_checks_name_ports() {
    let mut host = base();
    host.port_definitions = vec![definition(0, Some("admin")), definition(0, Some("http"))];
    let mut bridge = base();
    bridge.networks = vec![Network::Bridge];
    bridge.container =
        Some(docker(vec![mapping(80, Some(0), Protocol::Tcp), mapping(81, None, Protocol::Tcp)]));
    let cases = [
        ("host port", &host, vec![31_000, 31_001], "http", Some(31_001)),
        ("unknown name", &host, vec![31_000, 31_001], "other", None),
        ("published", &bridge, vec![31_002], "p80-x", Some(31_002)),
        ("the container's own", &bridge, vec![31_002], "p81-x", Some(81)),
    ];
    for (name, app, ports, port_name, expected) in cases {
        assert_eq!(readiness_of(app, &ports, port_name), expected, "{name}");
    }
}
