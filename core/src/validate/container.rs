//! The container: its image, volumes and Linux settings, and what persistent volumes ask for.

use super::{Violations, all_unique, constraints};
use crate::model::{
    App, Constraint, Container, ContainerKind, DockerImage, LinuxInfo, Operator, Volume, VolumeMode,
};

pub(super) fn check(app: &App, found: &mut Violations) {
    found.require(
        app.is_resident() == app.residency.is_some(),
        "/residency",
        "App must contain persistent volumes and define residency",
    );
    let Some(container) = &app.container else { return };
    match &container.docker {
        Some(docker) => image(app, container.kind, docker, found),
        None => found.require(
            container.kind == ContainerKind::Mesos,
            "/container/docker",
            "must be defined for a container of type DOCKER",
        ),
    }
    volumes(app, container, found);
    linux_info(container.linux_info.as_ref(), "/container/linuxInfo", found);
}

fn image(app: &App, kind: ContainerKind, docker: &DockerImage, found: &mut Violations) {
    found.require(!docker.image.is_empty(), "/container/docker/image", "must not be empty");
    found.require(
        !docker.image.chars().any(|c| c.is_whitespace() || c.is_control()),
        "/container/docker/image",
        "must not contain spaces",
    );
    for (i, (key, _)) in docker.parameters.iter().enumerate() {
        let path = format!("/container/docker/parameters({i})/key");
        found.require(!key.is_empty(), path, "must not be empty");
    }
    let Some(secret) = &docker.pull_config_secret else { return };
    let path = "/container/docker/pullConfig";
    if kind == ContainerKind::Docker {
        found.add(path, "pullConfig is not supported with Docker containerizer");
    }
    found.require(
        app.secrets.contains_key(secret),
        path,
        "pullConfig.secret must refer to an existing secret",
    );
}

fn volumes(app: &App, container: &Container, found: &mut Violations) {
    let names = container.volumes.iter().filter_map(|v| match v {
        Volume::External { name, .. } => name.as_ref(),
        _ => None,
    });
    found.require(all_unique(names), "/container/volumes", "Volume names must be unique");
    for (i, volume) in container.volumes.iter().enumerate() {
        one_volume(app, volume, &format!("/container/volumes({i})"), found);
    }
}

fn one_volume(app: &App, volume: &Volume, path: &str, found: &mut Violations) {
    let not_empty = |found: &mut Violations, key: &str, text: &str| {
        found.require(!text.is_empty(), format!("{path}/{key}"), "must not be empty");
    };
    match volume {
        Volume::Host { container_path, host_path, .. } => {
            not_empty(found, "containerPath", container_path);
            not_empty(found, "hostPath", host_path);
        }
        Volume::Persistent { .. } => persistent_of_app(volume, path, found),
        Volume::External { container_path, name, provider, .. } => {
            not_empty(found, "containerPath", container_path);
            not_empty(found, "external/name", name.as_deref().unwrap_or(""));
            not_empty(found, "external/provider", provider.as_deref().unwrap_or(""));
        }
        Volume::Secret { container_path, secret } => {
            not_empty(found, "containerPath", container_path);
            found.require(
                app.secrets.contains_key(secret),
                path,
                "volume.secret must refer to an existing secret",
            );
        }
    }
}

fn persistent_of_app(volume: &Volume, path: &str, found: &mut Violations) {
    let Volume::Persistent {
        container_path, mode, kind, size_mib, max_size_mib, constraints, ..
    } = volume
    else {
        return;
    };
    let inside = format!("{path}/containerPath");
    found.require(!container_path.contains('/'), &inside, "value must not contain \"/\"");
    found.require(
        !matches!(container_path.as_str(), "" | "." | ".."),
        &inside,
        "must not be empty or a dot path",
    );
    found.require(*mode == VolumeMode::ReadWrite, format!("{path}/mode"), "must be equal to RW");
    let (size_mib, max_size_mib) = (*size_mib, *max_size_mib);
    let volume = Persistent { kind, size_mib, max_size_mib, constraints };
    persistent(&volume, &format!("{path}/persistent"), found);
}

/// What a persistent volume of an app and one of a pod have in common.
pub(super) struct Persistent<'a> {
    pub kind: &'a str,
    pub size_mib: u64,
    pub max_size_mib: Option<u64>,
    pub constraints: &'a [Constraint],
}

pub(super) fn persistent(volume: &Persistent<'_>, at: &str, found: &mut Violations) {
    let Persistent { kind, size_mib, max_size_mib, constraints } = *volume;
    found.require(size_mib > 0, format!("{at}/size"), "must be greater than 0");
    found.require(
        max_size_mib.is_none() || kind == "mount",
        format!("{at}/maxSize"),
        "Only mount volumes can have maxSize",
    );
    found.require(
        max_size_mib.is_none_or(|max| max > size_mib),
        format!("{at}/maxSize"),
        "Max size must be larger than size",
    );
    found.require(
        constraints.is_empty() || kind != "root",
        format!("{at}/constraints"),
        "Constraints on root volumes are not supported",
    );
    for (i, constraint) in constraints.iter().enumerate() {
        let path = format!("{at}/constraints({i})");
        found.require(constraint.field == "path", &path, "Unsupported constraint: must be on path");
        let is_like = matches!(constraint.operator, Operator::Like | Operator::Unlike);
        found.require(is_like, &path, "Operator must be one of LIKE, UNLIKE");
        constraints::one(constraint, &path, found);
    }
}

pub(super) fn linux_info(info: Option<&LinuxInfo>, path: &str, found: &mut Violations) {
    let Some(info) = info else { return };
    if let Some(seccomp) = &info.seccomp {
        let is_unconfined = seccomp.unconfined.unwrap_or(false);
        found.require(
            is_unconfined != seccomp.profile_name.is_some(),
            format!("{path}/seccomp"),
            "Seccomp must be either unconfined or have a profileName, not both",
        );
    }
    if let Some(ipc) = &info.ipc {
        found.require(
            ipc.shm_size_mib.is_none() || ipc.mode == "PRIVATE",
            format!("{path}/ipcInfo/shmSize"),
            "can only be set when mode is PRIVATE",
        );
    }
}
