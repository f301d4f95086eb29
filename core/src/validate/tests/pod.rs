//! Pods.

use super::*;

fn container(name: &str) -> PodContainer {
    PodContainer {
        name: name.into(),
        exec: Some(PodExec {
            command: PodCommand::Shell("sleep 1".into()),
            override_entrypoint: None,
        }),
        resources: Resources { cpus_milli: 100, mem_bytes: MIB, disk_bytes: 0, gpus: 0 },
        resource_limits: None,
        endpoints: vec![],
        image: None,
        environment: BTreeMap::new(),
        user: None,
        health_check: None,
        check: None,
        volume_mounts: vec![],
        artifacts: vec![],
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
        network_names: vec![],
    }
}

/// A sound pod: two containers on the bridge, one endpoint each.
fn sound() -> App {
    let with_endpoint =
        |name: &str, endpoint| PodContainer { endpoints: vec![endpoint], ..container(name) };
    App {
        cmd: None,
        networks: vec![Network::Bridge],
        port_definitions: vec![],
        pod: Some(Pod {
            containers: vec![
                with_endpoint("a", endpoint("web", Some(80), Some(0))),
                with_endpoint("b", endpoint("own", Some(81), None)),
            ],
            volumes: vec![PodVolume { name: "v".into(), source: VolumeSource::Ephemeral }],
        }),
        ..app()
    }
}

fn changed(change: impl FnOnce(&mut Pod)) -> App {
    with(sound(), |app| change(app.pod.as_mut().expect("it is a pod")))
}

fn first(change: impl FnOnce(&mut PodContainer)) -> App {
    changed(|pod| change(&mut pod.containers[0]))
}

#[test]
fn sound_pods_break_no_rule() {
    let host = with(
        changed(|pod| {
            for (container, port) in pod.containers.iter_mut().zip([Some(0), Some(80)]) {
                container.endpoints[0].container_port = None;
                container.endpoints[0].host_port = port;
            }
        }),
        |app| app.networks = vec![Network::Host],
    );
    let by_image = first(|c| {
        c.exec = None;
        c.image = Some(image("nginx"));
    });
    let both_transports = changed(|pod| {
        let udp = Endpoint { protocol: Protocol::Udp, ..endpoint("dns", Some(53), Some(53)) };
        pod.containers[0].endpoints.push(udp);
        pod.containers[1].endpoints.push(endpoint("dns-tcp", Some(53), Some(53)));
    });
    for app in [sound(), host, by_image, both_transports] {
        assert_eq!(validate(&app), vec![], "{app:?}");
    }
}

fn image(id: &str) -> PodImage {
    PodImage { id: id.into(), force_pull: None, pull_config_secret: None, labels: BTreeMap::new() }
}

#[test]
fn what_a_pod_is_made_of_is_checked() {
    let argv = |words: Vec<&str>| {
        let command = PodCommand::Argv(words.into_iter().map(str::to_string).collect());
        first(|c| c.exec = Some(PodExec { command, override_entrypoint: None }))
    };
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: None,
    };
    let at = "/containers(0)";
    let c = |rest: &str| format!("{at}{rest}");
    let rows: Vec<(App, String, &str)> = vec![
        (changed(|p| p.containers.clear()), "/containers".into(), "must not be empty"),
        (
            changed(|p| p.containers[1].name = "a".into()),
            "/containers".into(),
            "container names must be unique",
        ),
        (
            changed(|p| p.volumes.push(p.volumes[0].clone())),
            "/volumes".into(),
            "volume names must be unique",
        ),
        (
            changed(|p| p.containers[1].endpoints[0].name = "web".into()),
            "/".into(),
            "endpoint names must be unique",
        ),
        (
            changed(|p| p.containers.iter_mut().for_each(|c| c.endpoints[0].host_port = Some(99))),
            "/".into(),
            "host ports must be unique",
        ),
        (first(|c| c.name = "A".into()), c("/name"), "must fully match"),
        (first(|c| c.name = "a".repeat(64)), c("/name"), "must be at most 63"),
        (first(|c| c.exec = None), at.into(), "must have an exec"),
        (argv(vec![]), c("/exec/command/argv"), "must not be empty"),
        (argv(vec!["a", "b\0"]), c("/exec/command/argv(1)"), "must not contain a NUL"),
        (first(|c| c.image = Some(image(""))), c("/image/id"), "must not be empty"),
        (first(|c| c.image = Some(image("a b"))), c("/image/id"), "must not contain spaces"),
        (
            first(|c| {
                c.image = Some(PodImage { pull_config_secret: Some("s".into()), ..image("a") })
            }),
            c("/image/pullConfig"),
            EXISTING,
        ),
        (
            first(|c| c.environment = [("A".into(), EnvValue::Secret("s".into()))].into()),
            c("/environment/A/secret"),
            "references an undefined secret",
        ),
        (first(|c| c.user = Some(String::new())), c("/user"), "must not be an empty string"),
        (
            first(|c| {
                let mem = Some(Limit::At(1));
                c.resource_limits = Some(ResourceLimits { cpus: None, mem });
            }),
            c("/resourceLimits/mem"),
            "must be greater than or equal to mem",
        ),
        (
            first(|c| c.volume_mounts = vec![mount("w", "x")]),
            c("/volumeMounts(0)/name"),
            "references an undefined volume 'w'",
        ),
        (
            first(|c| c.volume_mounts = vec![mount("v", "")]),
            c("/volumeMounts(0)/mountPath"),
            "must not be empty",
        ),
        (
            changed(|p| p.volumes[0].name = "V".into()),
            "/volumes(0)/name".into(),
            "must fully match",
        ),
        (
            changed(|p| p.volumes[0].source = VolumeSource::Secret("s".into())),
            "/volumes(0)/secret".into(),
            EXISTING,
        ),
    ];
    assert_breaks(rows.iter().map(|(app, at, m)| (app.clone(), at.as_str(), *m)).collect());
}

const EXISTING: &str = "must refer to an existing secret";

#[test]
fn endpoints_and_checks_are_checked() {
    let at = "/containers(0)/endpoints(0)";
    let port = |container_port, host_port| {
        first(|c| c.endpoints[0] = endpoint("web", container_port, host_port))
    };
    let host = |container_port, host_port| {
        with(port(container_port, host_port), |app| {
            app.networks = vec![Network::Host];
            app.pod.as_mut().expect("it is a pod").containers.truncate(1);
        })
    };
    let health = |probe| {
        first(|c| {
            c.health_check = Some(PodHealthCheck {
                probe,
                grace_ms: 0,
                interval_ms: 1,
                timeout_ms: 1,
                delay_ms: 0,
                max_consecutive_failures: 0,
            });
        })
    };
    let rows = [
        (port(None, Some(0)), format!("{at}/containerPort"), "is required"),
        (port(Some(0), None), format!("{at}/hostPort"), "is required when containerPort is 0"),
        (host(Some(80), Some(0)), format!("{at}/containerPort"), "is not allowed"),
        (host(None, None), format!("{at}/hostPort"), "is required"),
        (
            first(|c| c.endpoints[0].network_names = vec!["n".into()]),
            format!("{at}/networkNames(0)"),
            "must be one of",
        ),
        (first(|c| c.endpoints[0].name = "W".into()), format!("{at}/name"), "must fully match"),
        (
            health(PodProbe::Tcp { endpoint: "own".into() }),
            "/containers(0)/healthCheck/tcp/endpoint".into(),
            "'own' must be an endpoint of this container",
        ),
        (
            health(PodProbe::Exec { command: PodCommand::Shell(String::new()) }),
            "/containers(0)/healthCheck/exec/command/shell".into(),
            "must not be empty",
        ),
    ];
    assert_breaks(rows.iter().map(|(app, at, m)| (app.clone(), at.as_str(), *m)).collect());
}

#[test]
fn common_rules_have_the_names_of_pods() {
    let unique = Constraint {
        field: "hostname".into(),
        operator: Operator::Unique,
        value: Some("x".into()),
    };
    assert_breaks(vec![
        (
            with(sound(), |a| a.constraints = vec![unique]),
            "/scheduling/placement/constraints(0)",
            "UNIQUE does not accept a value",
        ),
        (
            with(sound(), |a| a.upgrade.min_health_ppm = PPM + 1),
            "/scheduling/upgrade/minimumHealthCapacity",
            "must be between",
        ),
        (
            with(sound(), |a| a.backoff.factor_ppm = 1),
            "/scheduling/backoff/backoffFactor",
            "must be greater",
        ),
        (with(sound(), |a| a.instances = 10_001), "/scaling/instances", "must be at most"),
        (
            with(sound(), |a| a.env = [("A=".into(), EnvValue::Plain("".into()))].into()),
            "/environment/A=",
            "must not contain '='",
        ),
        (
            with(sound(), |a| a.networks = vec![Network::Bridge; 2]),
            "/networks",
            "Must specify either",
        ),
    ]);
}
