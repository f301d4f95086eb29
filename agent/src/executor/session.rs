//! The executor as a process: its session, signals, standard streams, mount namespace. Owns
//! process-wide state and is called once, before anything else.

use super::error::ExecutorError;
use crate::runtime::process;
use bramble_protocol::codec;
use bramble_protocol::executor::PID_FILE;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Looks at dying children before giving up on them: about one second.
const REAP_TRIES_MAX: u32 = 500;
/// Pause between two looks.
const REAP_PAUSE: Duration = Duration::from_millis(2);
/// File in the task's directory that takes the executor's own last words.
pub const LOG_FILE: &str = "log";

fn step(step: &'static str) -> impl Fn(nix::Error) -> ExecutorError {
    move |source| ExecutorError::Process { step, source }
}

/// Leave the terminal behind and take over signals; gives the descriptor that reports SIGCHLD
/// and SIGTERM.
///
/// # Errors
/// The kernel refuses a signal set: nothing that a healthy machine does.
pub fn begin() -> Result<SignalFd, ExecutorError> {
    // Fails only for a group leader, which then has no terminal to lose either.
    let _leader = nix::unistd::setsid();
    const IGNORED: [Signal; 7] = [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGPIPE,
    ];
    for ignored in IGNORED {
        // SAFETY: ignoring installs no handler; this process has one thread.
        #[allow(unsafe_code)]
        unsafe { signal(ignored, SigHandler::SigIgn) }.map_err(step("ignoring a signal"))?;
    }
    let mut reported = SigSet::empty();
    reported.add(Signal::SIGCHLD);
    reported.add(Signal::SIGTERM);
    reported.thread_block().map_err(step("blocking signals"))?;
    let fd = SignalFd::with_flags(&reported, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(step("opening a signal descriptor"))?;
    drop_groups()?;
    Ok(fd)
}

/// Drop supplementary groups: libcontainer leaves the caller's in place when a container names
/// none, and a shell's root is often a member of `docker` or `sudo`.
///
/// # Errors
/// Not root.
pub fn drop_groups() -> Result<(), ExecutorError> {
    nix::unistd::setgroups(&[]).map_err(step("dropping supplementary groups"))
}

/// Write this process's key, first of all files.
///
/// # Errors
/// The run directory cannot be written.
pub fn write_pid(task_dir: &Path) -> Result<(), ExecutorError> {
    let path = task_dir.join(PID_FILE);
    if let Some(key) = process::key_of(std::process::id() as i32)
        && let Ok(bytes) = codec::to_bytes(&key)
    {
        write_renamed(&path, &bytes)?;
    }
    Ok(())
}

/// Write a file so that readers see all of it or nothing.
///
/// # Errors
/// The file system refuses.
pub fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), ExecutorError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| ExecutorError::Write { path: path.to_path_buf(), source })
}

/// Point stdin and stdout at `/dev/null` and stderr at the task's own log file. Closing stdout
/// also tells the agent that the socket is there.
///
/// # Errors
/// `/dev/null` or the run directory cannot be opened.
pub fn quiet(task_dir: &Path) -> Result<(), ExecutorError> {
    let null_path = Path::new("/dev/null");
    let null = OpenOptions::new().read(true).write(true).open(null_path);
    let null =
        null.map_err(|source| ExecutorError::Read { path: null_path.to_path_buf(), source })?;
    let log_path = task_dir.join(LOG_FILE);
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&log_path);
    let log = log.map_err(|source| ExecutorError::Write { path: log_path, source })?;
    let redirect = step("redirecting standard streams");
    nix::unistd::dup2(null.as_raw_fd(), libc::STDIN_FILENO).map_err(&redirect)?;
    nix::unistd::dup2(log.as_raw_fd(), libc::STDERR_FILENO).map_err(&redirect)?;
    nix::unistd::dup2(null.as_raw_fd(), libc::STDOUT_FILENO).map_err(&redirect)?;
    Ok(())
}

/// Take an own mount namespace. Ours never reach the host; the host's unmounts still reach us, so
/// that an executor does not keep a USB disk busy that its owner has unmounted.
///
/// # Errors
/// Not root.
pub fn own_mounts() -> Result<(), ExecutorError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("taking an own mount namespace"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(step("detaching mounts from the host"))
}

/// Reap what a failed creation left as our children. Left to the machine's init, they would hold
/// their pid namespace, and with it the container, until that one gets round to it.
pub fn reap_children() {
    for _ in 0..REAP_TRIES_MAX {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => sleep(REAP_PAUSE),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_none_left) => return,
        }
    }
}

/// Give memory back to the kernel after start-up.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only releases free memory of this process.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}
