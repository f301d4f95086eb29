//! What runs, in which container.

use super::*;

#[test]
fn what_runs_is_checked() {
    const EITHER: &str = "AppDefinition must either contain one of 'cmd' or 'args'";
    let fetch = |uri: &str, dest: Option<&str>| {
        let fetch = Fetch {
            uri: uri.into(),
            extract: true,
            executable: false,
            cache: false,
            dest_path: dest.map(str::to_string),
        };
        with(app(), |a| a.fetch = vec![fetch])
    };
    let secret = || EnvValue::Secret("s".into());
    assert_breaks(vec![
        (with(app(), |a| a.id = AppId::new("/A_b")), "/id", "must fully match"),
        (with(app(), |a| a.id = AppId::new("/")), "/id", "must not be root"),
        (with(app(), |a| a.id = AppId::new("/a/tasks")), "/id", "must not end with"),
        (with(app(), |a| a.id = AppId("/a".repeat(91))), "/id", "must be at most 180"),
        (with(app(), |a| a.cmd = None), "/", EITHER),
        (with(app(), |a| a.args = Some(vec!["x".into()])), "/", EITHER),
        (with(bridged(vec![]), |a| a.args = Some(vec!["x".into()])), "/", EITHER),
        (with(app(), |a| a.cmd = Some("x".into())), "/cmd", "must not be an empty string"),
        (with(app(), |a| a.cmd = Some("a\0b".into())), "/cmd", "must not contain a NUL"),
        (with(app(), |a| a.user = Some(String::new())), "/user", "must not be an empty string"),
        (with(app(), |a| a.executor = "/a//b".into()), "/executor", "must fully match"),
        (
            with(app(), |a| drop(a.env.insert("A=B".into(), EnvValue::Plain("x".into())))),
            "/env/A=B",
            "must not contain '='",
        ),
        (
            with(app(), |a| drop(a.env.insert(String::new(), EnvValue::Plain("x".into())))),
            "/env",
            "must not contain an empty name",
        ),
        (
            with(app(), |a| drop(a.env.insert("K".into(), secret()))),
            "/env/K/secret",
            "references an undefined secret 's'",
        ),
        (
            with(app(), |a| drop(a.secrets.insert("s".into(), String::new()))),
            "/secrets/s/source",
            "must not be empty",
        ),
        (
            with(app(), |a| drop(a.secrets.insert("s".into(), "a/../b".into()))),
            "/secrets/s/source",
            "must name a secret",
        ),
        (fetch("", None), "/fetch(0)/uri", "URI has invalid syntax."),
        (fetch("http://a b", None), "/fetch(0)/uri", "URI has invalid syntax."),
        (fetch(&"x".repeat(1025), None), "/fetch(0)/uri", "must be at most 1024"),
        (fetch("http://a", Some("../x")), "/fetch(0)/destPath", "must be a relative path"),
        (fetch("http://a", Some("/etc/x")), "/fetch(0)/destPath", "must be a relative path"),
        (
            with(app(), |a| a.accepted_resource_roles = Some(vec![])),
            "/acceptedResourceRoles",
            "must not be empty",
        ),
        (
            with(app(), |a| {
                let limits = ResourceLimits { cpus: Some(Limit::At(99)), mem: None };
                a.resource_limits = Some(limits);
            }),
            "/resourceLimits/cpus",
            "must be greater than or equal to cpus",
        ),
        (
            with(app(), |a| {
                let limits = ResourceLimits { cpus: None, mem: Some(Limit::At(MIB)) };
                a.resource_limits = Some(limits);
            }),
            "/resourceLimits/mem",
            "must be greater than or equal to mem",
        ),
        (with(bridged(vec![]), |a| a.resources.gpus = 1), "/gpus", "GPU resources only work"),
    ]);
}

#[test]
fn the_longest_id_makes_a_task_whose_id_is_a_file_name() {
    let id = AppId::new(format!("/{}", "a".repeat(APP_ID_BYTES_MAX - 1)));
    assert!(id_violations(id.as_str()).is_empty());
    let task = InstanceId::compose(&id, &"f".repeat(36)).task(u32::MAX);
    assert!(task.as_str().len() <= 255, "{}", task.as_str().len());
}

#[test]
fn containers_and_volumes_are_checked() {
    let volume = |volume: Volume| with(bridged(vec![]), |a| container(a).volumes = vec![volume]);
    let durable =
        |change: fn(&mut Volume)| with(resident(), |a| change(&mut container(a).volumes[0]));
    let host = |inside: &str, outside: &str| Volume::Host {
        container_path: inside.into(),
        host_path: outside.into(),
        mode: VolumeMode::ReadOnly,
    };
    let external = |name: &str| Volume::External {
        container_path: "/x".into(),
        mode: VolumeMode::ReadWrite,
        name: Some(name.into()),
        provider: Some("dvdi".into()),
        options: BTreeMap::new(),
        size_mib: None,
        shared: false,
    };
    assert_breaks(vec![
        (
            with(bridged(vec![]), |a| container(a).docker = None),
            "/container/docker",
            "must be defined",
        ),
        (
            with(bridged(vec![]), |a| image(a).image.clear()),
            "/container/docker/image",
            "must not be empty",
        ),
        (
            with(bridged(vec![]), |a| image(a).image = "a b".into()),
            "/container/docker/image",
            "must not contain spaces",
        ),
        (
            with(bridged(vec![]), |a| {
                image(a).pull_config_secret = Some("s".into());
                a.secrets.insert("s".into(), "x".into());
            }),
            "/container/docker/pullConfig",
            "pullConfig is not supported",
        ),
        (
            with(bridged(vec![]), |a| {
                image(a).pull_config_secret = Some("s".into());
                container(a).kind = ContainerKind::Mesos;
            }),
            "/container/docker/pullConfig",
            "pullConfig.secret must refer",
        ),
        (volume(host("", "/x")), "/container/volumes(0)/containerPath", "must not be empty"),
        (volume(host("/x", "")), "/container/volumes(0)/hostPath", "must not be empty"),
        (
            volume(Volume::Secret { container_path: "x".into(), secret: "s".into() }),
            "/container/volumes(0)",
            "volume.secret must refer to an existing secret",
        ),
        (
            volume(external("v")),
            "/container/volumes(0)/external",
            "Feature external_volumes is not enabled",
        ),
        (
            with(resident(), |a| container(a).volumes.push(persistent())),
            "/container/volumes",
            "persistent volumes must have different container paths",
        ),
        (
            durable(|v| {
                let Volume::Persistent { container_path, .. } = v else { return };
                *container_path = "a\nb".into();
            }),
            "/container/volumes(0)/containerPath",
            "must not contain control characters",
        ),
        (
            durable(|v| {
                let Volume::Persistent { container_path, .. } = v else { return };
                *container_path = "x".repeat(217);
            }),
            "/container/volumes(0)/containerPath",
            "must be at most 216 bytes long",
        ),
        (
            durable(|v| {
                let Volume::Persistent { kind, .. } = v else { return };
                *kind = "path".into();
            }),
            "/container/volumes(0)/persistent/type",
            "must be root",
        ),
        (
            durable(|v| {
                let Volume::Persistent { profile_name, .. } = v else { return };
                *profile_name = Some("ssd".into());
            }),
            "/container/volumes(0)/persistent/profileName",
            "disk profiles are not supported",
        ),
        (
            durable(|v| {
                let Volume::Persistent { constraints, .. } = v else { return };
                *constraints = constrained(Operator::Like, Some("x")).constraints;
                constraints[0].field = "path".into();
            }),
            "/container/volumes(0)/persistent/constraints",
            "Constraints on root volumes are not supported",
        ),
        (
            durable(|v| {
                let Volume::Persistent { container_path, .. } = v else { return };
                *container_path = "a/b".into();
            }),
            "/container/volumes(0)/containerPath",
            "value must not contain",
        ),
        (
            durable(|v| {
                let Volume::Persistent { mode, .. } = v else { return };
                *mode = VolumeMode::ReadOnly;
            }),
            "/container/volumes(0)/mode",
            "must be equal to RW",
        ),
        (
            durable(|v| {
                let Volume::Persistent { size_mib, .. } = v else { return };
                *size_mib = 0;
            }),
            "/container/volumes(0)/persistent/size",
            "must be greater than 0",
        ),
        (
            durable(|v| {
                let Volume::Persistent { max_size_mib, .. } = v else { return };
                *max_size_mib = Some(20);
            }),
            "/container/volumes(0)/persistent/maxSize",
            "Only mount volumes",
        ),
        (
            with(resident(), |a| a.residency = None),
            "/residency",
            "App must contain persistent volumes and define residency",
        ),
        (
            with(bridged(vec![]), |a| {
                let seccomp =
                    SeccompInfo { profile_name: Some("p".into()), unconfined: Some(true) };
                container(a).linux_info = Some(LinuxInfo { seccomp: Some(seccomp), ipc: None });
            }),
            "/container/linuxInfo/seccomp",
            "Seccomp must be either",
        ),
        (
            with(bridged(vec![]), |a| {
                let ipc = IpcInfo { mode: "SHARE_PARENT".into(), shm_size_mib: Some(1) };
                container(a).linux_info = Some(LinuxInfo { seccomp: None, ipc: Some(ipc) });
            }),
            "/container/linuxInfo/ipcInfo/shmSize",
            "can only be set when mode is PRIVATE",
        ),
    ]);
}

/// Disks that no agent lends are refused as such, and for what is wrong with them besides.
#[test]
fn volumes_of_other_disks_are_refused() {
    let other = |disk: &str, most: Option<u64>, rules: Vec<Constraint>| {
        with(resident(), |a| {
            let Volume::Persistent { kind, max_size_mib, constraints, .. } =
                &mut container(a).volumes[0]
            else {
                return;
            };
            (*kind, *max_size_mib, *constraints) = (disk.into(), most, rules);
        })
    };
    let on = |field: &str, operator| Constraint {
        field: field.into(),
        operator,
        value: Some("x".into()),
    };
    let at = |app: &App| -> Vec<String> {
        let prefix = "/container/volumes(0)/persistent/";
        validate(app).into_iter().map(|v| v.path.replace(prefix, "")).collect()
    };
    assert_eq!(at(&other("mount", Some(11), vec![on("path", Operator::Like)])), ["type"]);
    assert_eq!(at(&other("mount", Some(10), vec![])), ["type", "maxSize"]);
    assert_eq!(at(&other("path", Some(20), vec![])), ["type", "maxSize"]);
    let rules = vec![on("hostname", Operator::Like), on("path", Operator::Unique)];
    let paths = at(&other("path", None, rules));
    assert_eq!(paths[0], "type");
    assert!(paths.contains(&"constraints(0)".to_string()), "{paths:?}");
    assert!(paths.contains(&"constraints(1)".to_string()), "{paths:?}");
}
