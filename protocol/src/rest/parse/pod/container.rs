//! One container of a pod.

use super::super::network::port;
use super::super::read::{self, Errors, Object};
use super::super::{count, cpus, env_value, fetch, mib, resource_limits, seconds};
use super::moment;
use crate::rest::parse::container::linux_info;
use bramble_core::model::{
    Endpoint, PodCheck, PodCommand, PodContainer, PodExec, PodHealthCheck, PodImage, PodProbe,
    Protocol, Resources, VolumeMount,
};
use serde_json::Value;

pub(super) fn container(errors: &mut Errors, path: &str, value: &Value) -> Option<PodContainer> {
    let object = Object::open(errors, path, value)?;
    let name = object.required(errors, "name", read::text);
    let resources = object.required(errors, "resources", resources);
    let endpoints = object.optional(errors, "endpoints", |e, p, v| read::list(e, p, v, endpoint));
    let environment =
        object.optional(errors, "environment", |e, p, v| read::map(e, p, v, env_value));
    let mounts = object.optional(errors, "volumeMounts", |e, p, v| read::list(e, p, v, mount));
    let artifacts = object.optional(errors, "artifacts", |e, p, v| read::list(e, p, v, fetch));
    let kill_grace_ms = object.optional(errors, "lifecycle", |e, p, v| {
        Object::open(e, p, v)?.optional(e, "killGracePeriodSeconds", moment)
    });
    let exec = object.optional(errors, "exec", exec);
    let resource_limits = object.optional(errors, "resourceLimits", resource_limits);
    let image = object.optional(errors, "image", image);
    let user = object.optional(errors, "user", read::text);
    let health_check = object.optional(errors, "healthCheck", health_check);
    let check = object.optional(errors, "check", check);
    let labels = object.optional(errors, "labels", read::text_map).unwrap_or_default();
    let tty = object.optional(errors, "tty", read::boolean);
    let linux_info = object.optional(errors, "linuxInfo", linux_info);
    Some(PodContainer {
        name: name?,
        exec,
        resources: resources?,
        resource_limits,
        endpoints: endpoints.unwrap_or_default(),
        image,
        environment: environment.unwrap_or_default(),
        user,
        health_check,
        check,
        volume_mounts: mounts.unwrap_or_default(),
        artifacts: artifacts.unwrap_or_default(),
        labels,
        kill_grace_ms,
        tty,
        linux_info,
    })
}

fn resources(errors: &mut Errors, path: &str, value: &Value) -> Option<Resources> {
    let object = Object::open(errors, path, value)?;
    let cpus_milli = object.required(errors, "cpus", |e, p, v| cpus(e, p, v, 0));
    let mem_bytes = object.required(errors, "mem", |e, p, v| mib(e, p, v, 0));
    let disk = object.optional(errors, "disk", |e, p, v| mib(e, p, v, 0));
    let gpus = object.optional(errors, "gpus", count);
    Some(Resources {
        cpus_milli: cpus_milli?,
        mem_bytes: mem_bytes?,
        disk_bytes: disk.unwrap_or(0),
        gpus: gpus.unwrap_or(0),
    })
}

fn exec(errors: &mut Errors, path: &str, value: &Value) -> Option<PodExec> {
    let object = Object::open(errors, path, value)?;
    let command = object.required(errors, "command", command);
    let override_entrypoint = object.optional(errors, "overrideEntrypoint", read::boolean);
    Some(PodExec { command: command?, override_entrypoint })
}

/// `{"shell":"line"}` or `{"argv":["word"]}`.
fn command(errors: &mut Errors, path: &str, value: &Value) -> Option<PodCommand> {
    let object = Object::open(errors, path, value)?;
    if object.has("shell") == object.has("argv") {
        let fix = "must have exactly one of shell, argv";
        return errors.note(path, "error.path.missing", Some(fix.into()));
    }
    let shell = object.optional(errors, "shell", read::text).map(PodCommand::Shell);
    let argv = object.optional(errors, "argv", read::texts).map(PodCommand::Argv);
    shell.or(argv)
}

fn endpoint(errors: &mut Errors, path: &str, value: &Value) -> Option<Endpoint> {
    let object = Object::open(errors, path, value)?;
    let name = object.required(errors, "name", read::text);
    let protocols = object.optional(errors, "protocol", |e, p, v| {
        const WORDS: [(&str, bool); 2] = [("tcp", false), ("udp", true)];
        read::list(e, p, v, |e, p, v| read::word(e, p, v, &WORDS))
    });
    let protocols = protocols.unwrap_or_default();
    Some(Endpoint {
        container_port: object.optional(errors, "containerPort", port),
        host_port: object.optional(errors, "hostPort", port),
        protocol: match (protocols.contains(&false), protocols.contains(&true)) {
            (true, true) => Protocol::UdpTcp,
            (false, true) => Protocol::Udp,
            (_, false) => Protocol::Tcp,
        },
        labels: object.optional(errors, "labels", read::text_map).unwrap_or_default(),
        network_names: object.optional(errors, "networkNames", read::texts).unwrap_or_default(),
        name: name?,
    })
}

fn image(errors: &mut Errors, path: &str, value: &Value) -> Option<PodImage> {
    let object = Object::open(errors, path, value)?;
    object.optional(errors, "kind", |e, p, v| read::word(e, p, v, &[("DOCKER", ())]));
    let id = object.required(errors, "id", read::text);
    let force_pull = object.optional(errors, "forcePull", read::boolean);
    let pull_config_secret = object.optional(errors, "pullConfig", |e, p, v| {
        Object::open(e, p, v)?.required(e, "secret", read::text)
    });
    let labels = object.optional(errors, "labels", read::text_map).unwrap_or_default();
    Some(PodImage { id: id?, force_pull, pull_config_secret, labels })
}

fn mount(errors: &mut Errors, path: &str, value: &Value) -> Option<VolumeMount> {
    let object = Object::open(errors, path, value)?;
    let name = object.required(errors, "name", read::text);
    let mount_path = object.required(errors, "mountPath", read::text);
    let read_only = object.optional(errors, "readOnly", read::boolean);
    Some(VolumeMount { name: name?, mount_path: mount_path?, read_only })
}

fn health_check(errors: &mut Errors, path: &str, value: &Value) -> Option<PodHealthCheck> {
    let object = Object::open(errors, path, value)?;
    let failures = object.optional(errors, "maxConsecutiveFailures", count);
    Some(PodHealthCheck {
        grace_ms: object.optional(errors, "gracePeriodSeconds", moment).unwrap_or(300_000),
        interval_ms: object.optional(errors, "intervalSeconds", seconds).unwrap_or(60_000),
        timeout_ms: object.optional(errors, "timeoutSeconds", seconds).unwrap_or(20_000),
        delay_ms: object.optional(errors, "delaySeconds", seconds).unwrap_or(15_000),
        max_consecutive_failures: failures.unwrap_or(3),
        probe: probe(errors, path, &object)?,
    })
}

fn check(errors: &mut Errors, path: &str, value: &Value) -> Option<PodCheck> {
    let object = Object::open(errors, path, value)?;
    Some(PodCheck {
        interval_ms: object.optional(errors, "intervalSeconds", seconds).unwrap_or(60_000),
        timeout_ms: object.optional(errors, "timeoutSeconds", seconds).unwrap_or(20_000),
        delay_ms: object.optional(errors, "delaySeconds", seconds).unwrap_or(15_000),
        probe: probe(errors, path, &object)?,
    })
}

/// Exactly one of `http`, `tcp`, `exec`.
fn probe(errors: &mut Errors, path: &str, object: &Object<'_>) -> Option<PodProbe> {
    let probes = ["exec", "http", "tcp"].into_iter().filter(|key| object.has(key)).count();
    if probes != 1 {
        let fix = "must have exactly one of exec, http, tcp";
        return errors.note(path, "error.path.missing", Some(fix.into()));
    }
    let exec = object.optional(errors, "exec", |e, p, v| {
        let command = Object::open(e, p, v)?.required(e, "command", command)?;
        Some(PodProbe::Exec { command })
    });
    let tcp = object.optional(errors, "tcp", |e, p, v| {
        let endpoint = Object::open(e, p, v)?.required(e, "endpoint", read::text)?;
        Some(PodProbe::Tcp { endpoint })
    });
    let http = object.optional(errors, "http", |e, p, v| {
        let object = Object::open(e, p, v)?;
        let endpoint = object.required(e, "endpoint", read::text);
        let path = object.optional(e, "path", read::text);
        let https = object.optional(e, "scheme", |e, p, v| {
            read::word(e, p, v, &[("HTTP", false), ("HTTPS", true)])
        });
        Some(PodProbe::Http { endpoint: endpoint?, path, https: https.unwrap_or(false) })
    });
    exec.or(tcp).or(http)
}
