//! What the configuration of a container must say, case by case.

use super::*;
use crate::runtime::cgroup::{Hierarchies, V1Mount};
use crate::runtime::{PodPlace, SharedDirectory};
use crate::samples;
use bramble_core::model::{Resources, TaskImage, TaskNetwork, Volume, VolumeMode};
use bramble_protocol::executor::ExecutorSecrets;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn v1_host() -> Host {
    let mount = |name: &str| V1Mount {
        controllers: vec![name.to_string()],
        mount: PathBuf::from(format!("/sys/fs/cgroup/{name}")),
    };
    Host {
        hierarchies: Hierarchies {
            v1: ["cpu", "memory", "pids", "devices"].map(mount).to_vec(),
            ..Hierarchies::default()
        },
        swap_accounting_v1: false,
        visible: vec!["/usr".into(), "/etc/ssl/certs".into()],
        capability_bound: u64::MAX,
    }
}

fn launch(image: bool) -> Launch {
    let mut assignment = samples::assignment("web.instance-1._app.1", true);
    assignment.spec.image = image.then(|| TaskImage {
        reference: "nginx".into(),
        force_pull: false,
        parameters: Vec::new(),
        in_sandbox: false,
    });
    assignment.spec.resources =
        Resources { cpus_milli: 250, mem_bytes: 1 << 21, disk_bytes: 0, gpus: 0 };
    assignment.spec.mem_limit_bytes = Some(1 << 21);
    Launch {
        pod: PodPlace::default(),
        assignment,
        image: image.then(|| LaunchImage {
            layers: vec!["/layers/a".into()],
            entrypoint: vec!["/entry".into()],
            cmd: vec!["default".into()],
            env: vec!["A=image".into(), "B=image".into()],
            user: Some("web".into()),
            working_dir: Some("/srv".into()),
            stop_signal: Some("SIGQUIT".into()),
        }),
        sandbox: "/data/sandboxes/web".into(),
        work_dir: "/data/work/web".into(),
        volumes: BTreeMap::new(),
        resolv_conf: None,
        hostname: "box".into(),
        secrets: ExecutorSecrets::default(),
        devices: vec![],
        allow_host_volumes: false,
        allow_privileged: false,
    }
}

fn parameter(launch: &mut Launch, key: &str, value: &str) {
    let image = launch.assignment.spec.image.as_mut().expect("an image task");
    image.parameters.push((key.into(), value.into()));
}

fn configure(launch: &Launch, host: &Host) -> Result<Configured, ConfigError> {
    oci_config(launch, host, Path::new("/run/bramble/tasks/web"), "/bramble/web")
}

fn json_of(launch: &Launch, host: &Host) -> Value {
    let configured = configure(launch, host).expect("configures");
    serde_json::to_value(configured.spec).expect("is JSON")
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn command_lines_follow_docker_and_mesos() {
    let args = |words: &[&str]| TaskCommand::Args(words.iter().map(|w| w.to_string()).collect());
    let shell = ["/bin/sh", "-c", "x y"];
    let cases: [(bool, TaskCommand, Option<&str>, &[&str]); 7] = [
        (true, TaskCommand::ImageDefault, None, &["/entry", "default"]),
        (true, TaskCommand::ImageDefault, Some("/other"), &["/other"]),
        (true, args(&["a", "b"]), None, &["/entry", "a", "b"]),
        (true, args(&["a", "b"]), Some(""), &["a", "b"]),
        (true, TaskCommand::Shell("x y".into()), None, &shell),
        (false, TaskCommand::Shell("x y".into()), None, &shell),
        (false, args(&["/bin/ls", "-l"]), None, &["/bin/ls", "-l"]),
    ];
    for (image, command, entrypoint, want) in cases {
        let mut launch = launch(image);
        launch.assignment.spec.command = command;
        if let Some(entrypoint) = entrypoint {
            parameter(&mut launch, "entrypoint", entrypoint);
        }
        assert_eq!(strings(&json_of(&launch, &v1_host())["process"]["args"]), want);
    }
    for command in [TaskCommand::ImageDefault, args(&[]), args(&["a\0b"])] {
        let mut launch = launch(false);
        launch.assignment.spec.command = command;
        assert!(matches!(configure(&launch, &v1_host()), Err(ConfigError::NoCommand)));
    }
}

#[test]
fn devices_are_given_without_privileges() {
    let node = |name: &str, minor| Node { name: name.into(), major: 188, minor };
    let stick = LaunchDevice {
        nodes: vec![node("ttyUSB0", 0), node("bus/usb/001/004", 3)],
        path: Some("/dev/zigbee".into()),
    };
    let bus = LaunchDevice { nodes: vec![node("i2c-1", 1)], path: None };
    for image in [true, false] {
        let mut launch = launch(image);
        launch.devices = vec![stick.clone(), bus.clone()];
        let config = json_of(&launch, &v1_host());
        let made = config["linux"]["devices"].as_array().expect("a list");
        let paths: Vec<&str> = made.iter().filter_map(|d| d["path"].as_str()).collect();
        assert_eq!(paths, ["/dev/zigbee", "/dev/bus/usb/001/004", "/dev/i2c-1"]);
        assert!(made.iter().all(|device| device["type"] == "c" && device["fileMode"] == 0o666));
        let rules = config["linux"]["resources"]["devices"].as_array().expect("a list");
        assert_eq!((rules.len(), &rules[0]["allow"]), (4, &false.into()));
        let minors: Vec<i64> = rules[1..].iter().filter_map(|r| r["minor"].as_i64()).collect();
        assert_eq!(minors, [0, 3, 1]);
        assert!(rules[1..].iter().all(|rule| rule["access"] == "rw" && rule["major"] == 188));
        let env = strings(&config["process"]["env"]);
        for variable in ["BRAMBLE_DEVICE_0=/dev/zigbee", "BRAMBLE_DEVICE_1=/dev/i2c-1"] {
            assert!(env.contains(&variable), "{env:?}");
        }
        assert!(!strings(&config["process"]["capabilities"]["effective"]).contains(&"CAP_MKNOD"));
    }
}

#[test]
fn later_environments_win() {
    let mut launch = launch(true);
    launch.assignment.spec.env =
        vec![("B".into(), "app".into()), ("MESOS_SANDBOX".into(), "/evil".into())];
    parameter(&mut launch, "env", "A=parameter");
    let config = json_of(&launch, &v1_host());
    let env = strings(&config["process"]["env"]);
    for want in ["A=parameter", "B=app", "MESOS_SANDBOX=/mnt/mesos/sandbox", "HOSTNAME=box"] {
        assert_eq!(env.iter().filter(|e| **e == want).count(), 1, "{want} in {env:?}");
    }
    assert_eq!(env.iter().filter(|e| e.starts_with("PATH=")).count(), 1);
    assert!(!env.iter().any(|e| e.starts_with("HOME=")), "the image's passwd tells");
    launch.assignment.spec.env = vec![("".into(), "x".into())];
    assert!(matches!(configure(&launch, &v1_host()), Err(ConfigError::Environment(_))));
}

#[test]
fn every_container_is_confined() {
    for image in [true, false] {
        let configured = configure(&launch(image), &v1_host()).expect("configures");
        assert!(configured.confined);
        let config = serde_json::to_value(configured.spec).expect("is JSON");
        assert_eq!(config["process"]["noNewPrivileges"], true);
        assert_eq!(config["linux"]["cgroupsPath"], "/bramble/web");
        assert_eq!(config["linux"]["resources"]["devices"][0]["allow"], false);
        assert!(config["linux"]["seccomp"].is_null(), "the executor loads the compiled one");
        let bounding = strings(&config["process"]["capabilities"]["bounding"]);
        assert_eq!(bounding.len(), CAPABILITIES.len());
        assert!(!bounding.contains(&"CAP_MKNOD") && !bounding.contains(&"CAP_SYS_ADMIN"));
        assert!(strings(&config["process"]["capabilities"]["ambient"]).is_empty());
        assert!(strings(&config["process"]["capabilities"]["inheritable"]).is_empty());
        assert!(strings(&config["linux"]["maskedPaths"]).contains(&"/proc/kcore"));
        let kinds: Vec<&str> = config["linux"]["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|n| n["type"].as_str())
            .collect();
        assert_eq!(kinds, ["pid", "mount", "ipc", "uts", "cgroup"], "on the host's network");
    }
}

#[test]
fn limits_follow_what_the_machine_has() {
    let resources = |host: &Host| json_of(&launch(false), host)["linux"]["resources"].clone();
    let mut host = v1_host();
    let full = resources(&host);
    assert_eq!(full["memory"]["limit"], 1 << 21);
    assert!(full["memory"]["swap"].is_null(), "never without swap accounting");
    assert_eq!(full["cpu"]["shares"], 256);
    assert!(full["cpu"]["quota"].is_null(), "start-up is not throttled");
    assert_eq!(full["pids"]["limit"], PIDS_MAX);
    host.swap_accounting_v1 = true;
    assert_eq!(resources(&host)["memory"]["swap"], 1 << 21);
    host.hierarchies.v1.retain(|m| m.controllers != ["memory"]);
    assert!(resources(&host)["memory"].is_null(), "Raspberry Pi OS without the memory cgroup");
}

#[test]
fn command_tasks_see_only_what_is_listed() {
    let config = json_of(&launch(false), &v1_host());
    let mounts: Vec<&str> = config["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| m["destination"].as_str())
        .collect();
    let want = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/usr",
        "/etc/ssl/certs",
        "/run",
        "/tmp",
        SANDBOX,
    ];
    assert_eq!(mounts, want);
    assert_eq!(config["root"]["readonly"], true);
    assert_eq!(config["process"]["cwd"], SANDBOX);
    let mut below = launch(false);
    below.sandbox = "/usr/local/bramble/sandbox".into();
    let refused = configure(&below, &v1_host());
    assert!(matches!(refused, Err(ConfigError::DataDirVisible { .. })));
}

#[test]
fn users_and_signals_have_an_order() {
    let mut launch = launch(true);
    let of = |launch: &Launch| configure(launch, &v1_host()).expect("configures");
    assert_eq!(of(&launch).user.as_deref(), Some("web"));
    assert_eq!(of(&launch).stop_signal, Some(libc::SIGQUIT));
    parameter(&mut launch, "user", "other");
    parameter(&mut launch, "stop-signal", "usr1");
    assert_eq!(of(&launch).user.as_deref(), Some("other"));
    assert_eq!(of(&launch).stop_signal, Some(libc::SIGUSR1));
    launch.assignment.spec.user = Some("app".into());
    assert_eq!(of(&launch).user.as_deref(), Some("app"));
    for (text, want) in [("9", Some(9)), ("nonsense", None), ("0", None), ("200", None)] {
        launch.assignment.spec.image.as_mut().expect("image").parameters.clear();
        parameter(&mut launch, "stop-signal", text);
        assert_eq!(of(&launch).stop_signal, want, "{text}");
    }
}

#[test]
fn what_the_node_forbids_is_refused_by_name() {
    let volume = Volume::Host {
        container_path: "data".into(),
        host_path: "/srv/data".into(),
        mode: VolumeMode::ReadOnly,
    };
    let mut with_volume = launch(true);
    with_volume.assignment.spec.volumes = vec![volume];
    let message = configure(&with_volume, &v1_host()).expect_err("refused").to_string();
    assert!(message.contains("--allow-host-volumes") && message.contains("/srv/data"), "{message}");
    with_volume.allow_host_volumes = true;
    let config = json_of(&with_volume, &v1_host());
    let last = config["mounts"].as_array().and_then(|m| m.last()).expect("mounts").clone();
    assert_eq!(last["destination"], format!("{SANDBOX}/data"));
    assert!(strings(&last["options"]).contains(&"rro"));

    let mut privileged = launch(true);
    privileged.assignment.spec.privileged = true;
    assert!(matches!(configure(&privileged, &v1_host()), Err(ConfigError::Privileged)));
    privileged.allow_privileged = true;
    let allowed = configure(&privileged, &v1_host()).expect("allowed");
    assert!(!allowed.confined);
    assert_eq!(allowed.spec.process().as_ref().and_then(|p| p.no_new_privileges()), Some(false));

    let mut added = launch(true);
    parameter(&mut added, "cap-add", "SYS_ADMIN");
    let message = configure(&added, &v1_host()).expect_err("refused").to_string();
    assert!(message.contains("CAP_SYS_ADMIN"), "{message}");
    let mut dropped = launch(true);
    parameter(&mut dropped, "cap-drop", "ALL");
    parameter(&mut dropped, "cap-add", "net_bind_service");
    let config = json_of(&dropped, &v1_host());
    let kept = strings(&config["process"]["capabilities"]["bounding"]);
    assert_eq!(kept, ["CAP_NET_BIND_SERVICE"]);
}

#[test]
fn bridge_tasks_have_their_own_network() {
    let mut launch = launch(true);
    launch.assignment.spec.network = TaskNetwork::Bridge(Vec::new());
    let config = json_of(&launch, &v1_host());
    let namespaces = config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    assert!(namespaces.iter().any(|n| n["type"] == "network" && n["path"].is_null()));
    assert_eq!(config["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
}

#[test]
fn a_container_starts_where_its_image_its_app_or_its_kind_says() {
    // (image's directory, started as Mesos does, directory)
    let rows = [
        (Some("/srv"), true, "/srv"),
        (Some("srv"), false, "/srv"),
        (None, false, "/"),
        (None, true, SANDBOX),
    ];
    for (given, in_sandbox, want) in rows {
        let mut launch = launch(true);
        launch.image.as_mut().expect("an image").working_dir = given.map(str::to_string);
        launch.assignment.spec.image.as_mut().expect("an image").in_sandbox = in_sandbox;
        let config = json_of(&launch, &v1_host());
        assert_eq!(config["process"]["cwd"], want, "{given:?} {in_sandbox}");
    }
}

#[test]
fn a_volume_cannot_replace_the_root() {
    for path in ["/", "//", "/.", "/./"] {
        let mut launch = launch(true);
        launch.allow_host_volumes = true;
        launch.assignment.spec.volumes = vec![Volume::Host {
            container_path: path.into(),
            host_path: "/srv".into(),
            mode: VolumeMode::ReadWrite,
        }];
        let refused = configure(&launch, &v1_host());
        assert!(matches!(refused, Err(ConfigError::VolumeTarget { .. })), "{path}: {refused:?}");
    }
}

#[test]
fn directories_of_a_pod_need_no_leave_and_follow_their_mode() {
    for image in [true, false] {
        let mut launch = launch(image);
        launch.allow_host_volumes = false;
        let shared = |path: &str, mode| SharedDirectory {
            host_path: "/data/sandboxes/pod/html".into(),
            container_path: path.into(),
            mode,
        };
        launch.pod.shared =
            vec![shared("/srv", VolumeMode::ReadWrite), shared("relative", VolumeMode::ReadOnly)];
        let configured = oci_config(&launch, &v1_host(), Path::new("/run/t"), "/c").expect("given");
        let config = serde_json::to_value(&configured.spec).expect("encodes");
        let mounts = config["mounts"].as_array().expect("mounts").clone();
        let of = |path: &str| {
            let mount = mounts.iter().find(|m| m["destination"] == path).expect("mounted");
            assert_eq!(mount["source"], "/data/sandboxes/pod/html");
            mount["options"].clone()
        };
        assert_eq!(of("/srv"), json!(["rbind", "nosuid", "nodev", "rw"]));
        assert_eq!(of("/mnt/mesos/sandbox/relative"), json!(["rbind", "nosuid", "nodev", "rro"]));
    }
}

#[test]
fn persistent_volumes_lie_in_the_sandbox_and_where_a_host_volume_shows_them() {
    for image in [false, true] {
        let mut launch = launch(image);
        launch.volumes.insert("data".into(), "/data/volumes/db#data#1".into());
        let shown = |host_path: &str| Volume::Host {
            container_path: "/var/lib/db".into(),
            host_path: host_path.into(),
            mode: VolumeMode::ReadOnly,
        };
        let persistent = Volume::Persistent {
            container_path: "data".into(),
            mode: VolumeMode::ReadWrite,
            kind: "root".into(),
            size_mib: 1,
            max_size_mib: None,
            profile_name: None,
            constraints: vec![],
        };
        launch.assignment.spec.volumes = vec![persistent, shown("data")];
        let config = json_of(&launch, &v1_host());
        let mounts = config["mounts"].as_array().expect("mounts");
        let of = |path: &str| {
            let mount = mounts.iter().find(|m| m["destination"] == path).expect("mounted");
            assert_eq!(mount["source"], "/data/volumes/db#data#1");
            strings(&mount["options"]).contains(&"rw")
        };
        assert!(of("/mnt/mesos/sandbox/data") && !of("/var/lib/db"), "image {image}");
        assert_eq!(crate::runtime::view::absent_volume(&launch, &Parameters::default()), None);
        // What is in a volume the task has written: a path through it could lead anywhere.
        launch.assignment.spec.volumes[1] = shown("data/link");
        assert!(configure(&launch, &v1_host()).is_err());
    }
}
