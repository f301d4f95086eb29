//! Running containers, seen from the agent: one run directory and one executor process per task.
//! Owns `<run-dir>/tasks` and the cgroups below the agent's parent; must never touch a process,
//! cgroup or directory that is not a task's own.

pub mod cgroup;
pub mod config;
mod delegation;
mod error;
pub mod exec;
mod files;
mod handle;
pub mod launch;
mod limits;
pub mod parameters;
pub mod process;
pub mod seccomp;
mod view;

pub use error::RuntimeError;
pub use exec::{ExecRequest, ExecSession, ExecStreams};
pub use handle::{Ended, Phase, TaskHandle};
pub use launch::{Host, Launch, LaunchDevice, LaunchImage, PodPlace, SharedDirectory};
pub use view::SANDBOX;

use bramble_core::model::TaskSpec;
use bramble_protocol::codec;
use bramble_protocol::executor::{
    EXECUTOR_PROTOCOL, EXIT_FILE, ExecutorSecrets, ExecutorSpec, ExitRecord, PID_FILE, ProcessKey,
    RootFs, SPEC_FILE,
};
use bramble_protocol::secret::Secret;
use handle::{Greeting, read_file};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time a container may take to be created, in seconds: a cold SD card and a large image
/// on a busy Pi Zero need a few.
const CREATE_LIMIT_S: u64 = 60;
/// Longest time an executor may take to answer an agent that came back, in seconds.
const ADOPT_LIMIT_S: u64 = 10;
/// Longest time a killed executor may take to disappear.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Longest task id that names its directory itself, in bytes; file names end at 255.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of a longer task id that stay readable.
const NAME_PREFIX_BYTES: usize = 120;
/// Stands between the readable part of a longer id and its hash; no task id contains it.
const NAME_HASH_MARK: char = '~';

/// Directory of a run directory with one of each task's.
const TASKS_DIR: &str = "tasks";

/// What the runtime needs to know of its node.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// On tmpfs: state with pids in it must not survive a reboot.
    pub run_dir: PathBuf,
    /// The binary whose verbs `executor DIR` and `exec-in DIR` are [`crate::executor`]'s.
    pub executable: PathBuf,
    /// Absolute cgroup path below which every task gets its own.
    pub cgroup_parent: String,
    pub allow_host_volumes: bool,
    pub allow_privileged: bool,
    /// Each log file is rotated at this size in bytes.
    pub log_bytes_max: u64,
}

/// What an agent finds of a task after it came back.
#[derive(Debug)]
pub enum Adopted {
    /// It goes on; [`TaskHandle::phase`] tells whether it was started.
    Live(TaskHandle),
    Ended(ExitRecord),
    /// No executor and no record of an end: killed, or never created.
    Dead,
}

/// The runtime of one agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RuntimeConfig,
    host: Host,
    seccomp: PathBuf,
    tasks: PathBuf,
}

impl Runtime {
    /// Prepare the run directory, look at the machine and compile the seccomp profile.
    ///
    /// # Errors
    /// The run directory cannot be written, no cgroups are mounted, libseccomp fails.
    pub fn open(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let tasks = config.run_dir.join(TASKS_DIR);
        make_private(&tasks)?;
        let host = Host::detect(&config.cgroup_parent)?;
        let seccomp = seccomp::compiled(&config.run_dir)?;
        if !host.hierarchies.has("memory") {
            let fix = match host.hierarchies.is_unified() {
                true => "let cgroup.subtree_control of every level above hand down memory",
                false => "add cgroup_enable=memory to the kernel's command line",
            };
            tracing::warn!(fix, "no memory cgroup: tasks run without a hard memory limit");
        }
        Ok(Self { shared: Arc::new(Shared { config, host, seccomp, tasks }) })
    }

    /// Whether memory limits are enforced on this machine.
    pub fn limits_memory(&self) -> bool {
        self.shared.host.hierarchies.has("memory")
    }

    /// Create a container whose init waits to be started. On failure nothing is left behind.
    ///
    /// # Errors
    /// The configuration is refused, or the container cannot be created.
    pub async fn create(&self, launch: Launch) -> Result<TaskHandle, RuntimeError> {
        let task_id = launch.assignment.task_id.as_str().to_string();
        let dir = self.task_dir(&task_id)?;
        if dir.exists() {
            return Err(RuntimeError::Exists(task_id));
        }
        let shared = self.shared.clone();
        let secrets = view::secrets(&launch)?;
        let prepare_dir = dir.clone();
        let prepared = run_blocking(move || shared.prepare(&launch, &prepare_dir)).await;
        let created = match prepared {
            Ok(()) => self.launch_executor(&dir, &secrets).await,
            Err(e) => Err(e),
        };
        if let Err(error) = &created {
            tracing::debug!(task_id, %error, "creation failed, cleaning");
            if let Err(error) = self.clean(&task_id).await {
                tracing::error!(task_id, %error, "a failed creation could not be cleaned");
            }
        }
        created
    }

    async fn launch_executor(
        &self,
        dir: &Path,
        secrets: &ExecutorSecrets,
    ) -> Result<TaskHandle, RuntimeError> {
        let executable = &self.shared.config.executable;
        let mut child = Command::new(executable)
            .arg("executor")
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(if secrets.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| RuntimeError::Spawn { executable: executable.clone(), source })?;
        let ready = child.stdout.take();
        let feed = child.stdin.take();
        let secrets = Secret::new(codec::to_bytes(secrets).map_err(RuntimeError::Frame)?);
        // Reaps the executor whenever it ends; the handle hears of it through its connection.
        tokio::spawn(async move { child.wait().await });
        let greeting = timeout(Duration::from_secs(CREATE_LIMIT_S), async {
            if let Some(mut feed) = feed {
                // An executor that is gone already says why below.
                let _broken = feed.write_all(secrets.expose()).await;
            }
            // Ends when the executor has bound its socket, or is gone: no polling for a file.
            if let Some(mut ready) = ready {
                let _nothing_is_written = ready.read_u8().await;
            }
            handle::connect(dir).await
        });
        match greeting.await {
            Ok(Ok(Greeting::Alive(handle))) => Ok(handle),
            Ok(Ok(Greeting::Failed(reason))) => Err(RuntimeError::NotCreated(reason)),
            Ok(Ok(Greeting::Ended(record))) => {
                let reason = record.failure.unwrap_or_else(|| "it ended at once".to_string());
                Err(RuntimeError::NotCreated(reason))
            }
            // An executor that fails early leaves only its record.
            Ok(Err(error)) => match read_file::<ExitRecord>(&dir.join(EXIT_FILE)) {
                Some(ExitRecord { failure: Some(reason), .. }) => {
                    Err(RuntimeError::NotCreated(reason))
                }
                _ => Err(error),
            },
            Err(_elapsed) => Err(RuntimeError::Silent(CREATE_LIMIT_S)),
        }
    }

    /// Find out what became of a task while no agent was there.
    ///
    /// # Errors
    /// The id names no directory.
    pub async fn adopt(&self, task_id: &str) -> Result<Adopted, RuntimeError> {
        let dir = self.task_dir(task_id)?;
        let key: Option<ProcessKey> = read_file(&dir.join(PID_FILE));
        let alive = || key.is_some_and(process::is_alive);
        let answer = timeout(Duration::from_secs(ADOPT_LIMIT_S), async {
            // An executor that was just starting has no socket yet; it is asked until it has.
            loop {
                match handle::connect(&dir).await {
                    Ok(greeting) => break Some(greeting),
                    Err(_) if alive() && !dir.join(EXIT_FILE).exists() => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(_) => break None,
                }
            }
        });
        match answer.await {
            Ok(Some(Greeting::Alive(handle))) => return Ok(Adopted::Live(handle)),
            Ok(Some(Greeting::Ended(record))) => return Ok(Adopted::Ended(record)),
            Ok(Some(Greeting::Failed(_)) | None) | Err(_) => {}
        }
        match read_file(&dir.join(EXIT_FILE)) {
            Some(record) => Ok(Adopted::Ended(record)),
            // A live one that does not answer is as good as dead; `clean` kills it.
            None => Ok(Adopted::Dead),
        }
    }

    /// Set the limits of a running container to those of `spec`, without touching its processes.
    /// Setting those that hold already does nothing.
    ///
    /// # Errors
    /// It uses more memory than the new limit, or the kernel refuses a value.
    pub async fn resize(&self, task_id: &str, spec: &TaskSpec) -> Result<(), RuntimeError> {
        let cgroup = self.cgroup_of(task_id)?;
        let (shared, spec) = (self.shared.clone(), spec.clone());
        // The kernel may reclaim for a while before it answers.
        run_blocking(move || Ok(shared.host.hierarchies.task(&cgroup).resize(&spec)?)).await
    }

    /// Remove everything of a task but its sandbox: executor, processes, cgroups, overlay and run
    /// directory. Cleaning what is not there does nothing.
    ///
    /// # Errors
    /// Something survives SIGKILL, or a directory cannot be removed.
    pub async fn clean(&self, task_id: &str) -> Result<(), RuntimeError> {
        let dir = self.task_dir(task_id)?;
        let shared = self.shared.clone();
        run_blocking(move || shared.clean(&dir)).await
    }

    /// Ids of all tasks that have a run directory.
    ///
    /// # Errors
    /// The run directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, RuntimeError> {
        tasks_in(&self.shared.config.run_dir)
    }

    /// Path of the file that the container sees as `/etc/hosts`, for an address that is known
    /// only once its network exists. Write it in place: it is mounted by inode.
    ///
    /// # Errors
    /// The id names no directory.
    pub fn hosts_file(&self, task_id: &str) -> Result<PathBuf, RuntimeError> {
        Ok(self.task_dir(task_id)?.join("hosts"))
    }

    /// A task's cgroup path below each hierarchy, for readings of its usage.
    ///
    /// # Errors
    /// The id names no directory.
    pub fn cgroup_of(&self, task_id: &str) -> Result<String, RuntimeError> {
        Ok(self.shared.cgroup_of(&self.task_dir(task_id)?))
    }

    /// The machine's cgroup hierarchies, as found when the runtime was opened.
    pub fn hierarchies(&self) -> &cgroup::Hierarchies {
        &self.shared.host.hierarchies
    }

    /// Remove the cgroup above the tasks, unless something is left in it. The next task makes it
    /// anew.
    pub fn remove_parent(&self) {
        let Shared { host, config, .. } = &*self.shared;
        host.hierarchies.task(&config.cgroup_parent).remove_where_empty();
    }

    fn task_dir(&self, task_id: &str) -> Result<PathBuf, RuntimeError> {
        Ok(self.shared.tasks.join(dir_name(task_id)?))
    }
}

impl Shared {
    fn cgroup_of(&self, dir: &Path) -> String {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{}/{name}", self.config.cgroup_parent.trim_end_matches('/'))
    }

    fn prepare(&self, launch: &Launch, dir: &Path) -> Result<(), RuntimeError> {
        let cgroup = self.cgroup_of(dir);
        let mut launch = launch.clone();
        // The node's word stands above the launch's.
        launch.allow_host_volumes &= self.config.allow_host_volumes;
        launch.allow_privileged &= self.config.allow_privileged;
        let configured = config::oci_config(&launch, &self.host, dir, &cgroup)?;
        if let Some(path) = view::absent_volume(&launch, &configured.parameters) {
            return Err(config::ConfigError::VolumeAbsent { path }.into());
        }
        // A cgroup left by someone (a crash, a freezer) would hang the creation.
        let task = self.host.hierarchies.task(&cgroup);
        task.kill_all()?;
        task.remove()?;
        make_private(dir)?;
        // After the run directory, by which it is found again.
        task.make()?;
        files::write_names(&launch, &configured.parameters, dir)
            .map_err(|source| file_error(dir, source))?;
        let rootfs = self.rootfs(&launch, dir)?;
        let task = &launch.assignment.spec;
        let spec = ExecutorSpec {
            protocol: EXECUTOR_PROTOCOL,
            task_id: launch.assignment.task_id.as_str().to_string(),
            oci_config: serde_json::to_string(&configured.spec)
                .map_err(config::ConfigError::Malformed)?,
            rootfs,
            sandbox: text(&launch.sandbox),
            seccomp_bpf: configured.confined.then(|| text(&self.seccomp)),
            log_bytes_max: self.config.log_bytes_max,
            cpu_quota_us: task.cpu_limit_milli.map(limits::quota_us),
            mem_limit_bytes: task.mem_limit_bytes,
            term_all: launch.image.is_none(),
            cgroup,
            tty: task.tty,
            user: configured.user,
            groups: configured.groups,
            stop_signal: configured.stop_signal,
            network_of: launch.pod.network_of,
            secrets: !launch.secrets.is_empty(),
            volumes: launch.volumes.values().map(|directory| text(directory)).collect(),
            leased: task.alone.leased,
        };
        let bytes = codec::to_bytes(&spec).map_err(RuntimeError::Frame)?;
        let path = dir.join(SPEC_FILE);
        fs::write(&path, bytes).map_err(|source| file_error(&path, source))
    }

    fn rootfs(&self, launch: &Launch, dir: &Path) -> Result<RootFs, RuntimeError> {
        let work_dir = &launch.work_dir;
        let Some(image) = &launch.image else {
            let root = files::make_command_root(dir, work_dir)
                .map_err(|source| file_error(dir, source))?;
            return Ok(RootFs::Directory { path: text(&root) });
        };
        Ok(RootFs::Overlay {
            layers: image.layers.iter().map(|l| text(l)).collect(),
            upper: text(&work_dir.join("upper")),
            work: text(&work_dir.join("work")),
            mountpoint: text(&dir.join(files::OVERLAY_ROOT)),
        })
    }

    fn clean(&self, dir: &Path) -> Result<(), RuntimeError> {
        // The executor first, or it would go on making what is being removed.
        if let Some(key) = read_file::<ProcessKey>(&dir.join(PID_FILE)) {
            process::kill(key).map_err(|source| file_error(&dir.join(PID_FILE), source))?;
            if !process::wait_gone(key, KILL_LIMIT) {
                return Err(RuntimeError::ExecutorStuck { pid: key.pid });
            }
        }
        let cgroup = self.cgroup_of(dir);
        let task = self.host.hierarchies.task(&cgroup);
        task.kill_all()?;
        task.remove()?;
        if let Some(spec) = read_file::<ExecutorSpec>(&dir.join(SPEC_FILE)) {
            remove_written(&spec)?;
        }
        remove_dir(dir)
    }
}

/// Remove what a container wrote outside its sandbox.
fn remove_written(spec: &ExecutorSpec) -> Result<(), RuntimeError> {
    let (dirs, parent) = match &spec.rootfs {
        RootFs::Overlay { upper, work, .. } => {
            (vec![PathBuf::from(upper), PathBuf::from(work)], Path::new(upper).parent())
        }
        RootFs::Directory { .. } => return remove_command_tmp(spec),
    };
    for dir in dirs {
        remove_dir(&dir)?;
    }
    if let Some(parent) = parent {
        // Not ours to empty: someone else may keep things there.
        let _not_empty = fs::remove_dir(parent);
    }
    Ok(())
}

/// A command task's `/tmp` is known only as a mount of its configuration.
fn remove_command_tmp(spec: &ExecutorSpec) -> Result<(), RuntimeError> {
    let config: serde_json::Value = serde_json::from_str(&spec.oci_config).unwrap_or_default();
    let mounts = config["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tmp = mounts.iter().find(|m| m["destination"] == "/tmp");
    if let Some(source) = tmp.and_then(|m| m["source"].as_str()) {
        remove_dir(Path::new(source))?;
        if let Some(parent) = Path::new(source).parent() {
            let _not_empty = fs::remove_dir(parent);
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<(), RuntimeError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error(dir, e)),
        _ => Ok(()),
    }
}

fn make_private(dir: &Path) -> Result<(), RuntimeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| file_error(dir, source))
}

fn file_error(path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::File { path: path.to_path_buf(), source }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

async fn run_blocking<T, F>(work: F) -> Result<T, RuntimeError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, RuntimeError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| RuntimeError::Cancelled)?
}

/// Name of a task's directory and cgroup.
fn dir_name(task_id: &str) -> Result<String, RuntimeError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+:@".contains(c);
    if task_id.is_empty() || task_id.starts_with('.') || !task_id.chars().all(plain) {
        return Err(RuntimeError::TaskId(task_id.to_string()));
    }
    if task_id.len() <= NAME_BYTES_MAX {
        return Ok(task_id.to_string());
    }
    let hash = hex::encode(&Sha256::digest(task_id)[..16]);
    Ok(format!("{}{NAME_HASH_MARK}{hash}", &task_id[..NAME_PREFIX_BYTES]))
}

/// Ids of all tasks that have a directory below a run directory, whosesoever they are.
///
/// # Errors
/// The directory cannot be read.
pub fn tasks_in(run_dir: &Path) -> Result<Vec<String>, RuntimeError> {
    let tasks = run_dir.join(TASKS_DIR);
    let entries = match fs::read_dir(&tasks) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| file_error(&tasks, source))?,
    };
    let mut ids: Vec<String> = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| id_of(&e.path()))
        .collect();
    ids.sort();
    Ok(ids)
}

fn id_of(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_str()?.to_string();
    if !name.contains(NAME_HASH_MARK) {
        return Some(name);
    }
    read_file::<ExecutorSpec>(&dir.join(SPEC_FILE)).map(|spec| spec.task_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_name_directories() {
        assert_eq!(dir_name("web.instance-1._app.2").expect("plain"), "web.instance-1._app.2");
        let long = "x".repeat(900);
        let name = dir_name(&long).expect("long");
        assert!(name.len() < 200 && name.contains(NAME_HASH_MARK));
        assert_ne!(name, dir_name(&"x".repeat(901)).expect("longer"));
        for bad in ["", ".", "..", ".hidden", "a/b", "../x", "a\0b", "a b", "ü"] {
            assert!(matches!(dir_name(bad), Err(RuntimeError::TaskId(_))), "{bad:?}");
        }
    }
}
