//! Tables of what the containers of pods are told.

use super::super::assignment;
use super::*;
use crate::model::{
    AgentId, AppId, Assignment, BYTES_PER_MIB, Endpoint, Instance, InstanceId, Network, PodCommand,
    PodExec, PodImage, Resources, SecretUse, TaskSecret, Time, VolumeMode,
};

fn container_of(name: &str, endpoints: Vec<Endpoint>) -> PodContainer {
    PodContainer {
        name: name.into(),
        exec: Some(PodExec {
            command: PodCommand::Shell(format!("run {name}")),
            override_entrypoint: None,
        }),
        resources: Resources {
            cpus_milli: 100,
            mem_bytes: 32 * BYTES_PER_MIB,
            disk_bytes: 0,
            gpus: 0,
        },
        resource_limits: None,
        endpoints,
        image: None,
        environment: BTreeMap::new(),
        user: None,
        health_check: None,
        check: None,
        volume_mounts: Vec::new(),
        artifacts: Vec::new(),
        labels: BTreeMap::new(),
        kill_grace_ms: None,
        tty: None,
        linux_info: None,
    }
}

fn endpoint(name: &str, container_port: Option<u16>, host_port: Option<u16>) -> Endpoint {
    Endpoint {
        name: name.into(),
        container_port,
        host_port,
        protocol: Protocol::Tcp,
        labels: BTreeMap::new(),
        network_names: Vec::new(),
    }
}

fn pod(containers: Vec<PodContainer>) -> App {
    let pod = Pod { containers, volumes: Vec::new() };
    App {
        version: Time(1_423_136_731_026),
        resources: pod.resources(),
        networks: vec![Network::Bridge],
        pod: Some(pod),
        ..App::with_defaults(AppId::new("/prod/pair"))
    }
}

fn told(app: &App, ports: &[u16]) -> Assignment {
    let id = InstanceId::compose(&app.id, "u1");
    let task = Task {
        ports: ports.to_vec(),
        resources: app.resources,
        ..Task::staging(id.pod_task(2), AgentId::new("n1"), "pi-1", Time(1))
    };
    let instance = Instance {
        incarnation: 2,
        task: Some(task),
        ..Instance::waiting(id, app.id.clone(), app.version, Time(1))
    };
    assignment(app, &instance).expect("it has a task")
}

fn env(task: &PodTask) -> Vec<String> {
    task.spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect()
}

#[test]
fn containers_share_the_network_and_know_all_endpoints() {
    let web = vec![endpoint("web-1", Some(80), Some(0)), endpoint("own", Some(81), None)];
    let mut app = pod(vec![
        container_of("a", web),
        container_of("b", vec![endpoint("same", Some(0), Some(9000))]),
    ]);
    app.labels = [("tier".to_string(), "x".to_string())].into();
    let assignment = told(&app, &[31_005, 9000]);
    assert_eq!(assignment.task_id.0, "prod_pair.instance-u1._pod.2");
    let spec = assignment.spec;
    let published = |host_port, container_port| PublishedPort {
        host_port,
        container_port,
        tcp: true,
        udp: false,
    };
    assert_eq!(
        spec.network,
        TaskNetwork::Bridge(vec![published(31_005, 80), published(9000, 9000)])
    );
    assert_eq!(spec.host_ports, [31_005, 9000]);
    assert_eq!(spec.resources.cpus_milli, 200);
    assert_eq!((spec.cpu_limit_milli, spec.mem_limit_bytes), (Some(200), Some(64 * BYTES_PER_MIB)));
    let ids: Vec<&str> = spec.pod.iter().map(|c| c.task_id.as_str()).collect();
    assert_eq!(ids, ["prod_pair.instance-u1.a.2", "prod_pair.instance-u1.b.2"]);
    assert_eq!(
        env(&spec.pod[0]),
        [
            "EP_CONTAINER_OWN=81",
            "EP_CONTAINER_SAME=9000",
            "EP_CONTAINER_WEB_1=80",
            "EP_HOST_SAME=9000",
            "EP_HOST_WEB_1=31005",
            "HOST=pi-1",
            "MARATHON_APP_ENFORCE_GROUP_ROLE=FALSE",
            "MARATHON_APP_ID=/prod/pair",
            "MARATHON_APP_LABELS=TIER",
            "MARATHON_APP_LABEL_TIER=x",
            "MARATHON_APP_VERSION=2015-02-05T11:45:31.026Z",
            "MARATHON_CONTAINER_ID=a",
            "MARATHON_CONTAINER_RESOURCE_CPUS=0.1",
            "MARATHON_CONTAINER_RESOURCE_DISK=0.0",
            "MARATHON_CONTAINER_RESOURCE_GPUS=0",
            "MARATHON_CONTAINER_RESOURCE_MEM=32.0",
            "MESOS_TASK_ID=prod_pair.instance-u1.a.2",
        ]
    );
}

#[test]
fn a_containers_own_values_win() {
    let plain = |pairs: &[(&str, &str)]| -> BTreeMap<String, EnvValue> {
        pairs.iter().map(|(k, v)| (k.to_string(), EnvValue::Plain(v.to_string()))).collect()
    };
    let mut own = container_of("a", vec![]);
    own.environment = plain(&[("B", "own"), ("HOST", "mine")]);
    own.environment.insert("C".into(), EnvValue::Secret("s".into()));
    own.user = Some("web".into());
    own.kill_grace_ms = Some(9000);
    own.image =
        Some(PodImage { id: "nginx".into(), force_pull: Some(true), ..image_without_name() });
    own.exec = None;
    let mut app = pod(vec![own, container_of("b", vec![])]);
    app.env = plain(&[("A", "pod"), ("B", "pod"), ("C", "pod")]);
    app.user = Some("nobody".into());
    let spec = told(&app, &[]).spec;
    assert_eq!(spec.kill_grace_ms, 9000, "the longest");
    let [a, b] = spec.pod.as_slice() else { panic!("{:?}", spec.pod) };
    let own: Vec<String> =
        env(a).into_iter().filter(|l| "ABCH".contains(&l[..1]) && l.len() < 10).collect();
    assert_eq!(own, ["A=pod", "B=own", "HOST=mine"]);
    assert!(env(b).contains(&"C=pod".to_string()));
    let secret = TaskSecret { source: "s".into(), usage: SecretUse::Env("C".into()), value: None };
    assert_eq!((&a.spec.secrets, &b.spec.secrets), (&vec![secret], &vec![]));
    assert_eq!((a.spec.user.as_deref(), b.spec.user.as_deref()), (Some("web"), Some("nobody")));
    assert_eq!(a.spec.command, TaskCommand::ImageDefault);
    assert_eq!(b.spec.command, TaskCommand::Shell("run b".into()));
    let image = a.spec.image.as_ref().expect("it has one");
    assert_eq!((image.reference.as_str(), image.force_pull), ("nginx", true));
    assert_eq!((a.spec.kill_grace_ms, b.spec.kill_grace_ms), (9000, KILL_GRACE_DEFAULT_MS));
}

fn image_without_name() -> PodImage {
    PodImage {
        id: String::new(),
        force_pull: None,
        pull_config_secret: None,
        labels: BTreeMap::new(),
    }
}

#[test]
fn mounts_go_where_their_volumes_are() {
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
    };
    let mut one = container_of("a", vec![]);
    one.volume_mounts = vec![mount("v", "data", None), mount("etc", "/host", Some(true))];
    let mut two = container_of("b", vec![]);
    two.volume_mounts = vec![mount("v", "/in", Some(true)), mount("key", "k", None)];
    let mut app = pod(vec![one, two]);
    let volume = |name: &str, source| PodVolume { name: name.into(), source };
    app.pod.as_mut().expect("it is a pod").volumes = vec![
        volume("v", VolumeSource::Ephemeral),
        volume("etc", VolumeSource::Host("/etc".into())),
        volume("key", VolumeSource::Secret("s".into())),
    ];
    let spec = told(&app, &[]).spec;
    let shared =
        |path: &str, mode| SharedMount { volume: "v".into(), container_path: path.into(), mode };
    assert_eq!(spec.pod[0].shared, [shared("data", VolumeMode::ReadWrite)]);
    assert_eq!(spec.pod[1].shared, [shared("/in", VolumeMode::ReadOnly)]);
    let host = Volume::Host {
        container_path: "/host".into(),
        host_path: "/etc".into(),
        mode: VolumeMode::ReadOnly,
    };
    assert_eq!(spec.pod[0].spec.volumes, [host]);
    let secret = Volume::Secret { container_path: "k".into(), secret: "s".into() };
    assert_eq!(spec.pod[1].spec.volumes, [secret]);
    let told: Vec<&TaskSecret> = spec.all_secrets().collect();
    let usage = SecretUse::File("k".into());
    assert_eq!(told, [&TaskSecret { source: "s".into(), usage, value: None }]);
}

#[test]
fn checks_name_real_ports() {
    let http = |endpoint: &str, https| PodProbe::Http {
        endpoint: endpoint.into(),
        path: Some("/up".into()),
        https,
    };
    let argv = PodCommand::Argv(vec!["test".into(), "-f".into(), "a b".into()]);
    let rows = [
        (http("web", false), Some((HealthCheckKind::Http, Some(31_001), None))),
        (http("web", true), Some((HealthCheckKind::Https, Some(31_001), None))),
        (PodProbe::Tcp { endpoint: "own".into() }, Some((HealthCheckKind::Tcp, Some(81), None))),
        (
            PodProbe::Exec { command: argv },
            Some((HealthCheckKind::Command, None, Some("'test' '-f' 'a b'"))),
        ),
        (PodProbe::Tcp { endpoint: "other".into() }, None),
    ];
    for (probe, expected) in rows {
        let endpoints = vec![endpoint("own", Some(81), None), endpoint("web", Some(80), Some(0))];
        let mut checked = container_of("a", endpoints);
        checked.health_check = Some(PodHealthCheck {
            probe: probe.clone(),
            grace_ms: 1,
            interval_ms: 2,
            timeout_ms: 3,
            delay_ms: 4,
            max_consecutive_failures: 5,
        });
        checked.check =
            Some(PodCheck { probe: probe.clone(), interval_ms: 2, timeout_ms: 3, delay_ms: 4 });
        let app = pod(vec![container_of("first", vec![]), checked]);
        assert!(app.has_health_checks());
        let spec = &told(&app, &[31_001]).spec.pod[1].spec;
        let found = spec.health_checks.first();
        let shown = found.map(|c| (c.kind, c.port, c.command.as_deref()));
        assert_eq!(shown, expected, "{probe:?}");
        assert_eq!(spec.check.is_some(), expected.is_some(), "{probe:?}");
    }
}
