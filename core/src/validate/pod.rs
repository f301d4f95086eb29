//! Pods: what is theirs alone, and the rules they have in common with apps under the names that
//! these things have in a pod (Marathon's contract, section 9).

use super::{
    Violation, Violations, all_unique, command, constraints, container, is_name, network,
    partition, rollout, strategy, volume,
};
use crate::model::{
    App, Endpoint, Limit, Pod, PodCommand, PodContainer, PodImage, PodProbe, PodVolume, Protocol,
    Volume, VolumeMode, VolumeSource,
};

/// Characters of a container's name: it is part of the names of tasks and directories.
const NAME_CHARS_MAX: usize = 63;
/// Bytes that the longest container's name and the pod's id may have together, for the same
/// reason: file systems end at 255.
const NAMES_BYTES_MAX: usize = super::APP_ID_BYTES_MAX;
/// Containers of one pod. Each is a process of its own beside the agent.
const CONTAINERS_MAX: usize = 64;

/// Nothing can be mounted there: the root of the container, and the files its output goes to.
const RESERVED_PATHS: [&str; 4] = ["", ".", "stdout", "stderr"];

const NAME_FORM: &str = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
const EXISTS: &str = "must refer to an existing secret";

/// Where a pod has what an app has elsewhere.
const PLACES: [(&str, &str); 6] = [
    ("/instances", "/scaling/instances"),
    ("/upgradeStrategy", "/scheduling/upgrade"),
    ("/backoffFactor", "/scheduling/backoff/backoffFactor"),
    ("/unreachableStrategy", "/scheduling/unreachableStrategy"),
    ("/constraints", "/scheduling/placement/constraints"),
    ("/acceptedResourceRoles", "/scheduling/placement/acceptedResourceRoles"),
];

pub(super) fn check(app: &App, pod: &Pod, found: &mut Violations) {
    let mut common = Violations::default();
    constraints::check(app, &mut common);
    strategy::check(app, &mut common);
    network::check(app, &mut common);
    command::roles(app, &mut common);
    rollout::check(app, &mut common);
    partition::check(app, &mut common);
    found.0.extend(common.0.into_iter().map(|mut violation| {
        let place = PLACES.iter().find(|(of_app, _)| violation.path.starts_with(of_app));
        if let Some((of_app, of_pod)) = place {
            violation.path = format!("{of_pod}{}", &violation.path[of_app.len()..]);
        }
        violation
    }));
    command::user(app.user.as_ref(), "/user", found);
    command::environment(&app.env, &app.secrets, "/environment", found);
    command::secrets(app, found);
    unique(pod, found);
    found.require(!pod.containers.is_empty(), "/containers", "must not be empty");
    found.require(
        pod.containers.len() <= CONTAINERS_MAX,
        "/containers",
        format!("must be at most {CONTAINERS_MAX}"),
    );
    for (i, volume) in pod.volumes.iter().enumerate() {
        one_volume(app, volume, &format!("/volumes({i})"), found);
    }
    for (i, container) in pod.containers.iter().enumerate() {
        one_container(app, pod, container, &format!("/containers({i})"), found);
    }
}

fn unique(pod: &Pod, found: &mut Violations) {
    let mut require = |holds, path, what: &str| {
        found.require(holds, path, format!("{what} must be unique"));
    };
    let containers = pod.containers.iter().map(|c| c.name.as_str());
    require(all_unique(containers), "/containers", "container names");
    require(all_unique(pod.volumes.iter().map(|v| v.name.as_str())), "/volumes", "volume names");
    let endpoints = || pod.endpoints().map(|(_, endpoint)| endpoint);
    require(all_unique(endpoints().map(|e| e.name.as_str())), "/", "endpoint names");
    require(all_unique(endpoints().flat_map(fixed)), "/", "host ports");
}

/// The fixed host ports that an endpoint takes, once per transport.
fn fixed(endpoint: &Endpoint) -> impl Iterator<Item = (u16, bool)> {
    let port = endpoint.host_port.filter(|port| *port != 0);
    let tcp = port.filter(|_| endpoint.protocol != Protocol::Udp).map(|port| (port, false));
    let udp = port.filter(|_| endpoint.protocol != Protocol::Tcp).map(|port| (port, true));
    tcp.into_iter().chain(udp)
}

fn one_volume(app: &App, volume: &PodVolume, path: &str, found: &mut Violations) {
    found.require(is_name(&volume.name), format!("{path}/name"), NAME_FORM);
    match &volume.source {
        VolumeSource::Ephemeral => {}
        VolumeSource::Host(host) => {
            found.require(!host.is_empty(), format!("{path}/host"), "must not be empty");
        }
        VolumeSource::Secret(secret) => {
            let known = app.secrets.contains_key(secret);
            found.require(known, format!("{path}/secret"), EXISTS);
        }
        VolumeSource::Persistent { .. } => persistent(app, volume, path, found),
    }
}

/// An app's persistent volume is told from its others by its path, a pod's by its name.
fn persistent(app: &App, named: &PodVolume, path: &str, found: &mut Violations) {
    let VolumeSource::Persistent { kind, size_mib, max_size_mib, profile_name, constraints } =
        named.source.clone()
    else {
        return;
    };
    let (container_path, mode) = (named.name.clone(), VolumeMode::ReadWrite);
    let as_of_app = Volume::Persistent {
        container_path,
        mode,
        kind,
        size_mib,
        max_size_mib,
        profile_name,
        constraints,
    };
    let mut broken = Violations::default();
    volume::persistent(app, &as_of_app, path, &mut broken);
    let place = format!("{path}/containerPath");
    found.0.extend(broken.0.into_iter().map(|violation| match violation.path == place {
        true => Violation { path: format!("{path}/name"), ..violation },
        false => violation,
    }));
}

fn one_container(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    path: &str,
    found: &mut Violations,
) {
    let name = format!("{path}/name");
    found.require(is_name(&container.name), &name, NAME_FORM);
    found.require(
        container.name.len() <= NAME_CHARS_MAX,
        &name,
        format!("must be at most {NAME_CHARS_MAX} characters long"),
    );
    found.require(
        container.name.len() + app.id.as_str().len() <= NAMES_BYTES_MAX,
        &name,
        format!("must be, with the pod's id, at most {NAMES_BYTES_MAX} characters long"),
    );
    what_runs(container, path, found);
    amounts(container, path, found);
    command::user(container.user.as_ref(), &format!("{path}/user"), found);
    let env = format!("{path}/environment");
    command::environment(&container.environment, &app.secrets, &env, found);
    command::fetch(&container.artifacts, &format!("{path}/artifacts"), found);
    container::linux_info(container.linux_info.as_ref(), &format!("{path}/linuxInfo"), found);
    if let Some(image) = &container.image {
        one_image(app, image, &format!("{path}/image"), found);
    }
    for (i, endpoint) in container.endpoints.iter().enumerate() {
        one_endpoint(app, endpoint, &format!("{path}/endpoints({i})"), found);
    }
    mounts(pod, container, path, found);
    if let Some(check) = &container.health_check {
        probe(container, &check.probe, &format!("{path}/healthCheck"), found);
    }
    if let Some(check) = &container.check {
        probe(container, &check.probe, &format!("{path}/check"), found);
    }
}

fn what_runs(container: &PodContainer, path: &str, found: &mut Violations) {
    found.require(
        container.exec.is_some() || container.image.is_some(),
        path,
        "must have an exec, an image, or both",
    );
    if let Some(exec) = &container.exec {
        a_command(&exec.command, &format!("{path}/exec/command"), found);
    }
}

fn a_command(command: &PodCommand, path: &str, found: &mut Violations) {
    match command {
        PodCommand::Shell(line) => {
            let at = format!("{path}/shell");
            found.require(!line.is_empty(), &at, "must not be empty");
            command::clean(line, at, found);
        }
        PodCommand::Argv(words) => {
            let filled = words.first().is_some_and(|word| !word.is_empty());
            found.require(filled, format!("{path}/argv"), "must not be empty");
            for (i, word) in words.iter().enumerate() {
                command::clean(word, format!("{path}/argv({i})"), found);
            }
        }
    }
}

fn amounts(container: &PodContainer, path: &str, found: &mut Violations) {
    let limits = container.resource_limits.unwrap_or_default();
    let rows = [
        ("cpus", limits.cpus, container.resources.cpus_milli),
        ("mem", limits.mem, container.resources.mem_bytes),
    ];
    for (key, limit, request) in rows {
        found.require(
            !matches!(limit, Some(Limit::At(limit)) if limit < request),
            format!("{path}/resourceLimits/{key}"),
            format!("must be greater than or equal to {key}"),
        );
    }
}

fn one_image(app: &App, image: &PodImage, path: &str, found: &mut Violations) {
    found.require(!image.id.is_empty(), format!("{path}/id"), "must not be empty");
    let spaced = image.id.chars().any(|c| c.is_whitespace() || c.is_control());
    found.require(!spaced, format!("{path}/id"), "must not contain spaces");
    let known = image.pull_config_secret.as_ref().is_none_or(|s| app.secrets.contains_key(s));
    found.require(known, format!("{path}/pullConfig"), EXISTS);
}

fn one_endpoint(app: &App, endpoint: &Endpoint, path: &str, found: &mut Violations) {
    let name = format!("{path}/name");
    found.require(is_name(&endpoint.name), &name, NAME_FORM);
    found.require(
        endpoint.name.len() <= NAME_CHARS_MAX,
        name,
        format!("must be at most {NAME_CHARS_MAX} characters long"),
    );
    let (inside, outside) = (format!("{path}/containerPort"), format!("{path}/hostPort"));
    if app.is_host_network() {
        found.require(
            endpoint.container_port.is_none(),
            inside,
            "is not allowed when using host-mode networking",
        );
        found.require(
            endpoint.host_port.is_some(),
            outside,
            "is required when using host-mode networking",
        );
        return;
    }
    found.require(
        endpoint.container_port.is_some(),
        inside,
        "is required when using container-mode networking",
    );
    found.require(
        endpoint.container_port != Some(0) || endpoint.host_port.is_some(),
        outside,
        "is required when containerPort is 0",
    );
    network::named(app, &endpoint.network_names, endpoint.host_port, path, found);
}

/// A path without what means nothing at its ends.
fn place(mount_path: &str) -> &str {
    let path = mount_path.trim_end_matches('/');
    path.strip_prefix("./").unwrap_or(path)
}

fn mounts(pod: &Pod, container: &PodContainer, path: &str, found: &mut Violations) {
    let paths = container.volume_mounts.iter().map(|mount| place(&mount.mount_path));
    found.require(
        all_unique(paths),
        format!("{path}/volumeMounts"),
        "mount paths must be unique in a container",
    );
    for (i, mount) in container.volume_mounts.iter().enumerate() {
        let path = format!("{path}/volumeMounts({i})");
        found.require(
            !mount.mount_path.is_empty(),
            format!("{path}/mountPath"),
            "must not be empty",
        );
        found.require(
            mount.mount_path.is_empty() || !RESERVED_PATHS.contains(&place(&mount.mount_path)),
            format!("{path}/mountPath"),
            "must not be the root, nor where the output of the container goes",
        );
        let Some(volume) = pod.volume(&mount.name) else {
            let message = format!("references an undefined volume '{}'", mount.name);
            found.add(format!("{path}/name"), message);
            continue;
        };
        if matches!(volume.source, VolumeSource::Persistent { .. }) {
            found.require(
                !mount.mount_path.contains('/'),
                format!("{path}/mountPath"),
                "value must not contain \"/\" for a persistent volume",
            );
            let writable = mount.mode() == VolumeMode::ReadWrite;
            found.require(
                writable,
                format!("{path}/readOnly"),
                "must be false for a persistent volume",
            );
        }
    }
}

fn probe(container: &PodContainer, probe: &PodProbe, path: &str, found: &mut Violations) {
    let (key, endpoint) = match probe {
        PodProbe::Exec { command } => {
            return a_command(command, &format!("{path}/exec/command"), found);
        }
        PodProbe::Http { endpoint, .. } => ("http", endpoint),
        PodProbe::Tcp { endpoint } => ("tcp", endpoint),
    };
    found.require(
        container.endpoints.iter().any(|e| e.name == *endpoint),
        format!("{path}/{key}/endpoint"),
        format!("'{endpoint}' must be an endpoint of this container"),
    );
}
