//! Which file systems a container sees. Pure but for looks at the host; owns mount lists, and
//! must never let a command task see more of the host than DESIGN 2.14 names.

use super::config::ConfigError;
use super::launch::{Host, Launch};
use super::parameters::Parameters;
use bramble_core::model::{TaskNetwork, Volume, VolumeMode};
use bramble_protocol::executor::ExecutorSecrets;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};

/// Where a task finds its sandbox, as in Mesos.
pub const SANDBOX: &str = "/mnt/mesos/sandbox";
/// Host directories whose programs a command task may run.
const PROGRAM_DIRS: [&str; 2] = ["/bin", "/sbin"];
/// Host files and directories below `/etc` that programs need and that hold no secret. Small
/// ones that every task gets as its own copy are in `files.rs`.
const ETC_VISIBLE: [&str; 8] = [
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/alternatives",
    "/etc/localtime",
];
/// Size of `/dev/shm` unless an app asks for another, in bytes (Docker's).
const SHM_BYTES: u64 = 64 * 1024 * 1024;
/// Size of a command task's `/run`, in bytes.
const RUN_BYTES: u64 = 16 * 1024 * 1024;
/// v1 controllers whose files a container may read, for runtimes that size themselves by them.
const CGROUP_VIEW_V1: [&str; 5] = ["memory", "cpu", "cpuacct", "cpuset", "pids"];

/// The host paths a command task sees, in mount order. Symlinks (`/bin` on a merged-usr system)
/// are left to the root's own symlinks.
pub fn visible_on_host() -> Vec<PathBuf> {
    let mut visible: Vec<PathBuf> = host_roots()
        .into_iter()
        .filter(|p| p.symlink_metadata().is_ok_and(|m| m.is_dir()))
        .collect();
    visible.extend(ETC_VISIBLE.iter().map(PathBuf::from).filter(|p| p.exists()));
    visible
}

/// `/usr`, the program directories and every `/lib*` of the host, symlink or not.
pub fn host_roots() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/usr")];
    roots.extend(PROGRAM_DIRS.iter().map(PathBuf::from));
    if let Ok(entries) = std::fs::read_dir("/") {
        let libraries = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("lib"))
            .map(|e| e.path());
        roots.extend(libraries);
    }
    roots.sort();
    roots
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    mount(destination, "bind", &source.to_string_lossy(), options)
}

fn kernel_mounts(shm_bytes: u64) -> Vec<Value> {
    let shm = format!("size={shm_bytes}");
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ]
}

fn sandbox(launch: &Launch) -> Value {
    bind(&launch.sandbox, SANDBOX, &["rbind", "rw", "nosuid", "nodev"])
}

/// Mounts of an image task.
///
/// # Errors
/// A volume that this node does not allow or know.
pub fn of_image(
    launch: &Launch,
    host: &Host,
    parameters: &Parameters,
    task_dir: &Path,
    cgroup: &str,
) -> Result<Vec<Value>, ConfigError> {
    let mut mounts = kernel_mounts(parameters.shm_bytes.unwrap_or(SHM_BYTES));
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
    mounts.extend(cgroup_view(host, cgroup));
    // Read-only, unlike Docker's: they live in memory, which a task shall not fill.
    let file = ["bind", "ro", "nosuid", "nodev", "noexec"];
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(bind(&task_dir.join(name), &format!("/etc/{name}"), &file));
    }
    mounts.push(sandbox(launch));
    for (path, options) in &parameters.tmpfs {
        let mut all = vec!["nosuid", "nodev"];
        all.extend(options.iter().map(String::as_str));
        mounts.push(mount(path, "tmpfs", "tmpfs", &all));
    }
    mounts.extend(volumes(launch, parameters)?);
    Ok(mounts)
}

/// Mounts of a command task: the host's programs read-only, everything else fresh.
///
/// # Errors
/// A volume that this node does not allow or know; a sandbox below a directory the task can read.
pub fn of_command(launch: &Launch, host: &Host) -> Result<Vec<Value>, ConfigError> {
    for private in [&launch.sandbox, &launch.work_dir] {
        if let Some(root) = host_roots().iter().find(|root| private.starts_with(root)) {
            let (path, root) = (private.display().to_string(), root.display().to_string());
            return Err(ConfigError::DataDirVisible { path, root });
        }
    }
    let mut mounts = kernel_mounts(SHM_BYTES);
    for path in &host.visible {
        // Recursive flags: a writable disk mounted below /usr must not stay writable.
        let options = ["rbind", "rro", "rnosuid", "rnodev"];
        mounts.push(bind(path, &path.to_string_lossy(), &options));
    }
    let run = format!("size={RUN_BYTES}");
    mounts.push(mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755", &run]));
    // On disk, not in memory: what a task spools here shall not count against its memory limit.
    mounts.push(bind(&launch.work_dir.join("tmp"), "/tmp", &["rbind", "rw", "nosuid", "nodev"]));
    mounts.push(sandbox(launch));
    mounts.extend(volumes(launch, &Parameters::default())?);
    Ok(mounts)
}

/// The container's own cgroup, read-only. libcontainer's `cgroup` mount is used on v2 only: on v1
/// it scans mountinfo once per controller.
fn cgroup_view(host: &Host, cgroup: &str) -> Vec<Value> {
    let root = "/sys/fs/cgroup";
    let flags = ["nosuid", "noexec", "nodev", "ro"];
    if host.hierarchies.is_unified() {
        return vec![mount(root, "cgroup", "cgroup", &flags)];
    }
    let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"];
    let mut mounts = vec![mount(root, "tmpfs", "tmpfs", &options)];
    for controller in CGROUP_VIEW_V1 {
        if let Some(mounted) = host.hierarchies.v1_mount(controller) {
            let own = mounted.join(cgroup.trim_start_matches('/'));
            let flags = ["rbind", "ro", "nosuid", "noexec", "nodev"];
            mounts.push(bind(&own, &format!("{root}/{controller}"), &flags));
        }
    }
    mounts
}

fn volumes(launch: &Launch, parameters: &Parameters) -> Result<Vec<Value>, ConfigError> {
    let mut mounts = Vec::new();
    for volume in &launch.assignment.spec.volumes {
        mounts.push(match volume {
            Volume::Host { container_path, host_path, mode } => {
                let writable = *mode == VolumeMode::ReadWrite;
                match own_volume(launch, host_path) {
                    Some(directory) => bind_volume(directory, container_path, writable)?,
                    None => host_volume(launch, host_path, container_path, writable)?,
                }
            }
            Volume::Persistent { container_path, mode, .. } => {
                let directory = launch.volumes.get(container_path);
                let directory = directory.ok_or(ConfigError::VolumeKind("persistent"))?;
                bind_volume(directory, container_path, *mode == VolumeMode::ReadWrite)?
            }
            Volume::External { .. } => return Err(ConfigError::VolumeKind("external")),
            // The executor mounts them ([`secrets`]), once it knows the task's user.
            Volume::Secret { .. } => continue,
        });
    }
    for (host_path, container_path, writable) in &parameters.volumes {
        mounts.push(host_volume(launch, host_path, container_path, *writable)?);
    }
    for shared in &launch.pod.shared {
        let writable = shared.mode == VolumeMode::ReadWrite;
        mounts.push(bind_volume(&shared.host_path, &shared.container_path, writable)?);
    }
    Ok(mounts)
}

/// One of the task's own volumes, which a relative host path shows a second time (as in Mesos).
/// Only as a whole: what is in it the task has written, and a link there could lead anywhere.
fn own_volume<'a>(launch: &'a Launch, host_path: &str) -> Option<&'a PathBuf> {
    launch.volumes.get(host_path).filter(|_| !host_path.starts_with('/'))
}

/// Find a volume whose host path is missing. The container's creation would fail too, without
/// naming it.
pub fn absent_volume(launch: &Launch, parameters: &Parameters) -> Option<String> {
    let of_app = launch.assignment.spec.volumes.iter().filter_map(|volume| match volume {
        Volume::Host { host_path, .. } => {
            own_volume(launch, host_path).is_none().then_some(host_path)
        }
        _ => None,
    });
    let all = of_app.chain(parameters.volumes.iter().map(|(host_path, ..)| host_path));
    all.into_iter().find(|path| !Path::new(path).exists()).cloned()
}

fn host_volume(
    launch: &Launch,
    host_path: &str,
    container_path: &str,
    writable: bool,
) -> Result<Value, ConfigError> {
    if !launch.allow_host_volumes {
        return Err(ConfigError::HostVolume { path: host_path.to_string() });
    }
    if !host_path.starts_with('/') {
        return Err(ConfigError::VolumePath { path: host_path.to_string() });
    }
    bind_volume(Path::new(host_path), container_path, writable)
}

fn bind_volume(
    directory: &Path,
    container_path: &str,
    writable: bool,
) -> Result<Value, ConfigError> {
    let destination = destination(container_path)?;
    let mut options = vec!["rbind", "nosuid", "nodev"];
    options.push(if writable { "rw" } else { "rro" });
    Ok(bind(directory, &destination, &options))
}

/// Where a container finds a path. A relative one lies in the sandbox, as in Mesos.
fn destination(container_path: &str) -> Result<String, ConfigError> {
    let destination = match container_path.starts_with('/') {
        true => container_path.to_string(),
        false => format!("{SANDBOX}/{container_path}"),
    };
    if !Path::new(&destination).components().any(|c| matches!(c, Component::Normal(_))) {
        return Err(ConfigError::VolumeTarget { path: container_path.to_string() });
    }
    Ok(destination)
}

/// Secrets with the files where the container finds them.
///
/// # Errors
/// A file would take the place of the root.
pub fn secrets(launch: &Launch) -> Result<ExecutorSecrets, ConfigError> {
    let files = launch.secrets.files.iter();
    let files = files.map(|(path, content)| Ok((destination(path)?, content.clone())));
    let files = files.collect::<Result<_, ConfigError>>()?;
    Ok(ExecutorSecrets { env: launch.secrets.env.clone(), files })
}

/// Paths below `/proc` and `/sys` that tell about or reach the host (Docker's lists).
pub fn masked(privileged: bool) -> Vec<&'static str> {
    if privileged {
        return Vec::new();
    }
    vec![
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
}

/// Paths below `/proc` that change the host (Docker's list).
pub fn read_only(privileged: bool) -> Vec<&'static str> {
    if privileged {
        return Vec::new();
    }
    vec!["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
}

/// Whether the task has a network namespace of its own.
pub fn own_network(launch: &Launch) -> bool {
    matches!(launch.assignment.spec.network, TaskNetwork::Bridge(_))
}
