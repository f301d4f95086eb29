//! From a launch to an OCI runtime configuration. Pure: the same launch and host give the same
//! configuration, and nothing is touched.

use super::launch::{Host, Launch, LaunchDevice, LaunchImage};
use super::limits;
use super::parameters::{ParameterError, Parameters, Ulimit};
use super::view::{self, SANDBOX};
use crate::hardware::Node;
use bramble_core::model::{TaskCommand, TaskImage};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::path::Path;
use std::str::FromStr;
use thiserror::Error;

/// Most processes and threads of one container: enough for a large JVM, too few for a fork bomb
/// to hurt a Raspberry Pi.
pub const PIDS_MAX: i64 = 2048;
/// `umask` of a container's first process.
const UMASK: u32 = 0o022;
/// Mode of a device node in a container.
const DEVICE_MODE: u32 = 0o666;
/// Environment variable with the path of the first device, followed by others' numbers.
const DEVICE_VARIABLE: &str = "BRAMBLE_DEVICE_";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's default set without CAP_MKNOD: on v2 nothing else would keep a made device node from
/// being opened.
const CAPABILITIES: [&str; 13] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// All capabilities in the order of their kernel numbers.
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error("mounting host directory {path} needs a node started with --allow-host-volumes")]
    HostVolume { path: String },
    #[error("host path {path:?} of a volume must be absolute")]
    VolumePath { path: String },
    #[error("container path {path:?} of a volume must not be the root itself")]
    VolumeTarget { path: String },
    #[error("{path} of a volume does not exist on this node")]
    VolumeAbsent { path: String },
    #[error("{0} volumes are not supported")]
    VolumeKind(&'static str),
    #[error("privileged containers need a node started with --allow-privileged")]
    Privileged,
    #[error("the app has no command: give cmd or args, or an image with its own")]
    NoCommand,
    #[error(
        "{path} lies below {root}, which command tasks can read; choose another data directory"
    )]
    DataDirVisible { path: String, root: String },
    #[error("environment variable {0:?} has a name or value that no process can have")]
    Environment(String),
    #[error("the OCI configuration is malformed")]
    Malformed(#[source] serde_json::Error),
}

/// A launch made concrete.
#[derive(Clone, Debug)]
pub struct Configured {
    pub spec: Spec,
    /// Still a name: looked up in the container's own files.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub stop_signal: Option<i32>,
    /// Whether the seccomp profile applies.
    pub confined: bool,
    pub parameters: Parameters,
}

/// Make the configuration of a task whose run directory is `task_dir` and whose cgroup path is
/// `cgroup`.
///
/// # Errors
/// What the app asks for is unknown or not allowed on this node.
pub fn oci_config(
    launch: &Launch,
    host: &Host,
    task_dir: &Path,
    cgroup: &str,
) -> Result<Configured, ConfigError> {
    let task = &launch.assignment.spec;
    let given = task.image.as_ref().map(|i| i.parameters.as_slice()).unwrap_or_default();
    let parameters = Parameters::parse(given)?;
    let privileged = task.privileged || parameters.privileged;
    if privileged && !launch.allow_privileged {
        return Err(ConfigError::Privileged);
    }
    let mounts = match &launch.image {
        Some(_) => view::of_image(launch, host, &parameters, task_dir, cgroup)?,
        None => view::of_command(launch, host)?,
    };
    let capabilities = capabilities(&parameters, privileged, launch, host)?;
    let hostname = parameters.hostname.as_deref().unwrap_or(&launch.hostname);
    let config = json!({
        "ociVersion": "1.0.2",
        "hostname": hostname,
        // The executor puts the mounted root here.
        "root": { "path": "/", "readonly": launch.image.is_none() || parameters.read_only },
        "annotations": annotations(launch, &parameters),
        "process": {
            "terminal": task.tty,
            "user": { "uid": 0, "gid": 0, "umask": UMASK },
            "args": command(launch, &parameters)?,
            "env": environment(launch, &parameters, hostname)?,
            "cwd": working_dir(launch, &parameters),
            "noNewPrivileges": !privileged,
            "capabilities": capabilities,
            "rlimits": parameters.ulimits.iter().map(rlimit).collect::<Vec<_>>(),
            "oomScoreAdj": parameters.oom_score_adj,
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces(launch),
            "resources": resources(launch, host, &parameters, privileged),
            "devices": devices(launch),
            "sysctl": sysctls(launch, &parameters),
            "maskedPaths": view::masked(privileged),
            "readonlyPaths": view::read_only(privileged),
        },
    });
    let spec = serde_json::from_value(config).map_err(ConfigError::Malformed)?;
    let image_user = launch.image.as_ref().and_then(|i| i.user.clone());
    let user = task.user.clone().or(parameters.user.clone()).or(image_user);
    Ok(Configured {
        spec,
        user: user.filter(|u| !u.is_empty()),
        groups: parameters.groups.clone(),
        stop_signal: stop_signal(launch, &parameters),
        confined: !privileged,
        parameters,
    })
}

fn command(launch: &Launch, parameters: &Parameters) -> Result<Vec<String>, ConfigError> {
    let none = LaunchImage::default();
    let image = launch.image.as_ref().unwrap_or(&none);
    let entrypoint = parameters.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let args: Vec<String> = match &launch.assignment.spec.command {
        // Mesos replaces the entrypoint too: the user means the shell's language.
        TaskCommand::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        TaskCommand::Args(args) => entrypoint.iter().chain(args).cloned().collect(),
        // An entrypoint given by hand drops the image's command, as in Docker.
        TaskCommand::ImageDefault if parameters.entrypoint.is_some() => entrypoint.clone(),
        TaskCommand::ImageDefault => entrypoint.iter().chain(&image.cmd).cloned().collect(),
    };
    if args.first().is_none_or(|a| a.is_empty()) || args.iter().any(|a| a.contains('\0')) {
        return Err(ConfigError::NoCommand);
    }
    Ok(args)
}

/// Later ones win: the image, `--env` parameters, the app, and what the sandbox needs.
fn environment(
    launch: &Launch,
    parameters: &Parameters,
    hostname: &str,
) -> Result<Vec<String>, ConfigError> {
    let image = launch.image.as_ref().map(|i| i.env.as_slice()).unwrap_or_default();
    let own = parameters.env.iter().chain(&launch.assignment.spec.env);
    let mut env: Vec<String> = vec![PATH.into(), format!("HOSTNAME={hostname}")];
    if launch.assignment.spec.tty {
        env.push("TERM=xterm".into());
    }
    if launch.image.is_none() {
        env.push(format!("HOME={SANDBOX}"));
    }
    let given = image.iter().cloned().chain(own.map(|(name, value)| format!("{name}={value}")));
    let firsts = launch.devices.iter().filter_map(|device| device.placed().next());
    let devices = firsts.enumerate().map(|(at, (path, _))| format!("{DEVICE_VARIABLE}{at}={path}"));
    for entry in given.chain([format!("MESOS_SANDBOX={SANDBOX}")]).chain(devices) {
        let name = entry.split_once('=').map(|(name, _)| name).unwrap_or_default();
        if name.is_empty() || entry.contains('\0') {
            return Err(ConfigError::Environment(entry));
        }
        let same = format!("{name}=");
        env.retain(|e| !e.starts_with(&same));
        env.push(entry);
    }
    Ok(env)
}

fn working_dir(launch: &Launch, parameters: &Parameters) -> String {
    let image = match &launch.image {
        None => return SANDBOX.to_string(),
        Some(image) => image.working_dir.as_deref().filter(|d| !d.is_empty()),
    };
    let default = match &launch.assignment.spec.image {
        Some(TaskImage { in_sandbox: true, .. }) => SANDBOX,
        _ => "/",
    };
    let dir = parameters.workdir.as_deref().or(image).unwrap_or(default);
    // Old images have relative ones; Docker takes them from the root.
    if dir.starts_with('/') { dir.to_string() } else { format!("/{dir}") }
}

fn stop_signal(launch: &Launch, parameters: &Parameters) -> Option<i32> {
    let image = launch.image.as_ref().and_then(|i| i.stop_signal.as_deref());
    let text = parameters.stop_signal.as_deref().or(image)?.to_ascii_uppercase();
    let name = if text.starts_with("SIG") { text.clone() } else { format!("SIG{text}") };
    let number = nix::sys::signal::Signal::from_str(&name).map(|s| s as i32).ok();
    number.or_else(|| text.parse().ok()).filter(|n| (1..=64).contains(n))
}

fn capabilities(
    parameters: &Parameters,
    privileged: bool,
    launch: &Launch,
    host: &Host,
) -> Result<Value, ConfigError> {
    let bound = |name: &&str| {
        let bit = ALL_CAPABILITIES.iter().position(|c| c == name);
        bit.is_some_and(|bit| host.capability_bound & (1 << bit) != 0)
    };
    let mut set: Vec<&str> = match privileged {
        true => ALL_CAPABILITIES.to_vec(),
        false => CAPABILITIES.to_vec(),
    };
    let drop_all = parameters.cap_drop.iter().any(|c| c == "ALL");
    set.retain(|c| !drop_all && !parameters.cap_drop.iter().any(|d| d == c));
    for added in &parameters.cap_add {
        let known = ALL_CAPABILITIES.iter().find(|c| *c == added).copied();
        let usual = CAPABILITIES.iter().any(|c| c == added);
        if !usual && !launch.allow_privileged {
            let key = format!("cap-add={added}");
            return Err(ParameterError::NotAllowed { key, flag: "privileged apps" }.into());
        }
        set.extend(known.filter(|c| !set.contains(c)));
    }
    set.retain(bound);
    // No inheritable and no ambient ones: a task that becomes another user keeps nothing.
    Ok(json!({ "bounding": set, "effective": set, "permitted": set }))
}

fn rlimit(limit: &Ulimit) -> Value {
    json!({ "type": limit.kind, "soft": limit.soft, "hard": limit.hard })
}

fn annotations(launch: &Launch, parameters: &Parameters) -> Value {
    let mut all = serde_json::Map::new();
    for (name, value) in &parameters.labels {
        all.insert(name.clone(), value.clone().into());
    }
    all.insert("bramble.task".into(), launch.assignment.task_id.as_str().into());
    Value::Object(all)
}

fn namespaces(launch: &Launch) -> Vec<Value> {
    let mut kinds = vec!["pid", "mount", "ipc", "uts", "cgroup"];
    if view::own_network(launch) {
        kinds.push("network");
    }
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn sysctls(launch: &Launch, parameters: &Parameters) -> Value {
    let mut all = serde_json::Map::new();
    if view::own_network(launch) {
        // As Docker: in its own network a user may bind port 80 and ping.
        all.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        all.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    for (name, value) in &parameters.sysctls {
        all.insert(name.clone(), value.clone().into());
    }
    Value::Object(all)
}

/// Device nodes to make in the container. Whoever a program runs as there, these are its to use.
fn devices(launch: &Launch) -> Vec<Value> {
    let placed = launch.devices.iter().flat_map(LaunchDevice::placed);
    let node = |(path, node): (String, &Node)| {
        json!({ "path": path, "type": "c", "major": node.major, "minor": node.minor,
            "fileMode": DEVICE_MODE, "uid": 0, "gid": 0 })
    };
    placed.map(node).collect()
}

/// What of devices it may open: nothing but the usual ones, or everything, and its own. Not `m`:
/// making further nodes is never asked for.
fn device_rules(launch: &Launch, privileged: bool) -> Vec<Value> {
    let mut rules = vec![json!({ "allow": privileged, "access": "rwm" })];
    let nodes = launch.devices.iter().flat_map(|device| &device.nodes);
    rules.extend(nodes.map(|node| {
        json!({ "allow": true, "type": "c", "major": node.major, "minor": node.minor,
            "access": "rw" })
    }));
    rules
}

/// Limits that hold from the first instruction. The CPU quota is missing: start-up shall not be
/// throttled, so the executor sets it afterwards.
fn resources(launch: &Launch, host: &Host, parameters: &Parameters, privileged: bool) -> Value {
    let task = &launch.assignment.spec;
    let mut all = json!({ "devices": device_rules(launch, privileged) });
    if host.hierarchies.has("cpu") {
        all["cpu"] = json!({ "shares": limits::shares(task.resources.cpus_milli) });
    }
    if host.hierarchies.has("pids") {
        let limit = parameters.pids_limit.filter(|l| (1..PIDS_MAX).contains(l));
        all["pids"] = json!({ "limit": limit.unwrap_or(PIDS_MAX) });
    }
    if let (true, Some(bytes)) = (host.hierarchies.has("memory"), task.mem_limit_bytes) {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        all["memory"] = json!({ "limit": limit });
        if host.swap_accounting_v1 {
            all["memory"]["swap"] = limit.into();
        }
    }
    all
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
