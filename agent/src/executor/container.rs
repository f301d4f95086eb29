//! The container itself: from the agent's specification to a created one, through libcontainer.
//! Owns the bundle, the log pipes and the terminal; must be called from a process with one
//! thread.

use super::error::ExecutorError;
use super::neighbour::Network;
use super::rootfs;
use super::secrets;
use super::users::{self, Identity};
use super::workload::Workload;
use bramble_protocol::executor::{CONSOLE_FILE, ExecutorSecrets, ExecutorSpec, ProcessKey};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::unistd::pipe2;
use serde_json::Value;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Name of the one container below the task's own state root.
pub const CONTAINER_ID: &str = "c";
/// libcontainer's state, below the task's directory (tmpfs).
pub const STATE_DIR: &str = "state";
/// Directory with `config.json`.
pub const BUNDLE_DIR: &str = "bundle";

/// A created container: its init waits for the start.
pub struct Created {
    pub container: Container,
    pub init: ProcessKey,
    /// Read ends of stdout and stderr, non-blocking; a terminal has one for both.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// Create the container, init waiting before its program.
///
/// # Errors
/// Anything the kernel or the image refuses, by step.
pub fn create(
    spec: &ExecutorSpec,
    secrets: ExecutorSecrets,
    task_dir: &Path,
) -> Result<Created, ExecutorError> {
    let root = rootfs::mount_root(&spec.rootfs, task_dir)?;
    let identity = identity(spec, &root)?;
    let files = secrets::place(&secrets, &identity, task_dir)?;
    // Held open until the container is in it.
    let network = spec.network_of.map(Network::of).transpose()?;
    let config = complete(spec, &identity, &root, &files, network.as_ref())?;
    let bundle = task_dir.join(BUNDLE_DIR);
    write_bundle(&bundle, &config)?;
    drop(config);
    give_sandbox(&spec.sandbox, &identity);
    for volume in &spec.volumes {
        give(Path::new(volume), &identity);
    }
    let workload = Workload::new(read_filter(spec.seccomp_bpf.as_deref())?, secrets.env);
    let state = task_dir.join(STATE_DIR);
    fs::create_dir_all(&state)
        .map_err(|source| ExecutorError::Write { path: state.clone(), source })?;
    let builder = ContainerBuilder::new(CONTAINER_ID.to_string(), SyscallType::default())
        .with_executor(workload)
        .with_root_path(state)
        .map_err(|e| ExecutorError::Create(Box::new(e)))?;
    let created = match spec.tty {
        true => create_with_terminal(builder, &bundle, task_dir)?,
        false => create_with_pipes(builder, &bundle, &identity)?,
    };
    if network.is_some() {
        // Further commands read it, to whom the descriptor means nothing: they join init.
        write_bundle(&bundle, &complete(spec, &identity, &root, &files, None)?)?;
    }
    Ok(created)
}

fn create_with_pipes(
    builder: ContainerBuilder,
    bundle: &Path,
    identity: &Identity,
) -> Result<Created, ExecutorError> {
    let (stdout, stdout_write) = log_pipe(identity)?;
    let (stderr, stderr_write) = log_pipe(identity)?;
    let built = builder
        .with_stdout(stdout_write)
        .with_stderr(stderr_write)
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build();
    let container = built.map_err(|e| ExecutorError::Create(Box::new(e)))?;
    let init = init_key(&container)?;
    Ok(Created { container, init, stdout: Some(stdout), stderr: Some(stderr) })
}

fn create_with_terminal(
    builder: ContainerBuilder,
    bundle: &Path,
    task_dir: &Path,
) -> Result<Created, ExecutorError> {
    let console = task_dir.join(CONSOLE_FILE);
    let listener = UnixListener::bind(&console)
        .map_err(|source| ExecutorError::Write { path: console.clone(), source })?;
    let built = builder
        .with_console_socket(Some(&console))
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build();
    let container = built.map_err(|e| ExecutorError::Create(Box::new(e)))?;
    let init = init_key(&container)?;
    // The master was sent before init reported itself ready, so this never waits.
    let (sender, _) = listener
        .accept()
        .map_err(|source| ExecutorError::Read { path: console.clone(), source })?;
    let master = receive_descriptor(sender.as_raw_fd())?.ok_or(ExecutorError::NoTerminal)?;
    set_nonblocking(&master)?;
    let _harmless = fs::remove_file(&console);
    Ok(Created { container, init, stdout: Some(master), stderr: None })
}

/// Take one descriptor that was sent over a unix socket.
///
/// # Errors
/// The socket cannot be read.
pub fn receive_descriptor(socket: RawFd) -> Result<Option<OwnedFd>, ExecutorError> {
    let mut bytes = [0u8; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut space), flags)
        .map_err(process_step("receiving the terminal"))?;
    for control in message.cmsgs().map_err(process_step("receiving the terminal"))? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(&fd) = descriptors.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us.
            #[allow(unsafe_code)]
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(None)
}

fn process_step(step: &'static str) -> impl Fn(nix::Error) -> ExecutorError {
    move |source| ExecutorError::Process { step, source }
}

fn init_key(container: &Container) -> Result<ProcessKey, ExecutorError> {
    container
        .pid()
        .and_then(|pid| crate::runtime::process::key_of(pid.as_raw()))
        .ok_or(ExecutorError::OciPart("living init process"))
}

/// A pipe whose read end never blocks us. Its write end belongs to the container's user, since
/// programs reopen it through `/dev/stdout`.
fn log_pipe(identity: &Identity) -> Result<(OwnedFd, OwnedFd), ExecutorError> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(process_step("making a log pipe"))?;
    set_nonblocking(&read)?;
    nix::unistd::fchown(write.as_raw_fd(), Some(identity.uid.into()), Some(identity.gid.into()))
        .map_err(process_step("giving a log pipe to the container's user"))?;
    Ok((read, write))
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), ExecutorError> {
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map(|_| ())
        .map_err(process_step("making a descriptor non-blocking"))
}

fn identity(spec: &ExecutorSpec, root: &Path) -> Result<Identity, ExecutorError> {
    let passwd = rootfs::read_account_file(root, "/etc/passwd");
    let group = rootfs::read_account_file(root, "/etc/group");
    Ok(users::resolve(spec.user.as_deref(), &spec.groups, &passwd, &group)?)
}

/// Fill in what only the mounted root tells (root path, user, home, working directory), and the
/// network it shares, the mounts of secret files.
fn complete(
    spec: &ExecutorSpec,
    identity: &Identity,
    root: &Path,
    files: &[Value],
    network: Option<&Network>,
) -> Result<Spec, ExecutorError> {
    let mut config: Value =
        serde_json::from_str(&spec.oci_config).map_err(ExecutorError::OciConfig)?;
    if let Some(network) = network {
        network.enter_into(&mut config);
    }
    config["root"]["path"] = Value::from(root.to_string_lossy().as_ref());
    let mounts = config["mounts"].as_array_mut().ok_or(ExecutorError::OciPart("mounts"))?;
    mounts.extend(files.iter().cloned());
    let process = config.get_mut("process").ok_or(ExecutorError::OciPart("process"))?;
    process["user"]["uid"] = identity.uid.into();
    process["user"]["gid"] = identity.gid.into();
    process["user"]["additionalGids"] = identity.groups.clone().into();
    process["terminal"] = spec.tty.into();
    if needs_neutral_oom_score() {
        process["oomScoreAdj"] = 0.into();
    }
    let cwd = PathBuf::from(process["cwd"].as_str().unwrap_or("/"));
    let env = process["env"].as_array_mut().ok_or(ExecutorError::OciPart("process.env"))?;
    let has_home = env
        .iter()
        .filter_map(Value::as_str)
        .any(|e| e.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()));
    if !has_home {
        // Left out, libcontainer would ask libc, whose lookup runs the image's code in us.
        env.retain(|e| e.as_str() != Some("HOME="));
        env.push(format!("HOME={}", identity.home).into());
    }
    if matches!(spec.rootfs, bramble_protocol::executor::RootFs::Overlay { .. }) {
        rootfs::create_dir_in_root(root, &cwd, identity.uid, identity.gid)
            .map_err(|source| ExecutorError::WorkDir { path: cwd.display().to_string(), source })?;
    }
    serde_json::from_value(config).map_err(ExecutorError::OciConfig)
}

/// Whether we inherited protection from the OOM killer (a service's `OOMScoreAdjust=`), which a
/// container must not get.
fn needs_neutral_oom_score() -> bool {
    fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .is_some_and(|score| score < 0)
}

fn write_bundle(bundle: &Path, config: &Spec) -> Result<(), ExecutorError> {
    fs::create_dir_all(bundle)
        .map_err(|source| ExecutorError::Write { path: bundle.to_path_buf(), source })?;
    let text = serde_json::to_vec(config).map_err(ExecutorError::OciConfig)?;
    super::session::write_renamed(&bundle.join("config.json"), &text)
}

/// The sandbox and what was fetched into it belong to the task's user (as in Mesos), who has to
/// write there. Nothing of the task runs yet, so the tree stands still.
fn give_sandbox(sandbox: &str, identity: &Identity) {
    if identity.uid == 0 && identity.gid == 0 {
        return;
    }
    let mut directories = vec![PathBuf::from(sandbox)];
    give(Path::new(sandbox), identity);
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            give(&entry.path(), identity);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
        }
    }
}

/// Of a volume only the directory itself changes hands (as in Mesos): what is in it keeps the
/// owners that earlier tasks gave it.
fn give(path: &Path, identity: &Identity) {
    // A file system without owners (FAT, some network disks) still serves root tasks.
    let _unsupported = std::os::unix::fs::lchown(path, Some(identity.uid), Some(identity.gid));
}

/// Read a compiled filter; none = unconfined.
///
/// # Errors
/// The file named by the specification is missing: running without it would be silent.
pub fn read_filter(path: Option<&str>) -> Result<Vec<u8>, ExecutorError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    fs::read(path).map_err(|source| ExecutorError::Read { path: path.into(), source })
}
