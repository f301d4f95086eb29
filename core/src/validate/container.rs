//! The container: its image, volumes and Linux settings.

use super::{Violations, all_unique, volume};
use crate::model::{App, Container, ContainerKind, DockerImage, LinuxInfo, Volume};

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
    found.require(
        all_unique(app.local_volumes().map(|(path, _)| path)),
        "/container/volumes",
        "persistent volumes must have different container paths",
    );
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
        Volume::Persistent { .. } => volume::persistent(app, volume, path, found),
        Volume::External { .. } => found.add(format!("{path}/external"), volume::EXTERNAL),
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
