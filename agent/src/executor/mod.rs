//! The executor: one small process per container, re-executed from the agent's own binary before
//! any thread exists. Sole owner of its container's libcontainer state, log pipes and exit
//! status. Must never start a thread or an async runtime: libcontainer's clone is safe only in a
//! process with one thread.

mod container;
mod error;
mod exec;
mod lease;
mod logs;
mod neighbour;
mod peers;
mod rootfs;
mod secrets;
mod serve;
mod session;
mod stop;
mod users;
mod workload;

pub use container::{BUNDLE_DIR, CONTAINER_ID, STATE_DIR};
pub use error::ExecutorError;
pub use exec::exec_main;
pub use session::LOG_FILE;

use crate::runtime::cgroup::{Hierarchies, TaskCgroup};
use bramble_protocol::codec;
use bramble_protocol::executor::{
    EXECUTOR_PROTOCOL, EXIT_FILE, ExecutorSecrets, ExecutorSpec, ExitRecord, FromExecutor,
    SPEC_FILE,
};
use nix::sys::signalfd::SignalFd;
use peers::Peers;
use serve::{Ended, Service};
use std::fs;
use std::path::Path;

/// Exit code of an executor whose container could not be created.
const EXIT_FAILED: i32 = 1;
/// Exit code of a container that never ran, in its exit record.
const CODE_NEVER_RAN: i32 = 128;

/// Run one container to its end; gives the process's exit code. `task_dir` holds the
/// specification and receives socket and exit record (see `bramble_protocol::executor`).
pub fn main(task_dir: &Path) -> i32 {
    match prepare(task_dir) {
        Ok((session, spec)) => run(task_dir, session, &spec),
        Err(e) => {
            // Without a socket there is nobody to tell but the file.
            let _unwritable = write_exit(task_dir, &never_ran(error::chain(&e)));
            EXIT_FAILED
        }
    }
}

/// What an executor begins with.
struct Session {
    signals: SignalFd,
    peers: Peers,
    secrets: ExecutorSecrets,
}

fn prepare(task_dir: &Path) -> Result<(Session, ExecutorSpec), ExecutorError> {
    let signals = session::begin()?;
    session::write_pid(task_dir)?;
    let spec = read_spec(task_dir)?;
    let secrets = secrets::receive(&spec)?;
    let peers = Peers::bind(task_dir)?;
    session::quiet(task_dir)?;
    session::own_mounts()?;
    Ok((Session { signals, peers, secrets }, spec))
}

fn run(task_dir: &Path, session: Session, spec: &ExecutorSpec) -> i32 {
    let Session { signals, mut peers, secrets } = session;
    let hierarchies = match Hierarchies::detect() {
        Ok(found) => found,
        Err(e) => return fail(task_dir, &mut peers, &e.into()),
    };
    let cgroup = hierarchies.task(&spec.cgroup);
    let lease = match spec.leased.then(lease::Lease::open).transpose() {
        Ok(lease) => lease,
        Err(e) => return fail(task_dir, &mut peers, &e),
    };
    let created = match container::create(spec, secrets, task_dir) {
        Ok(created) => created,
        Err(e) => {
            clean(task_dir, &cgroup, spec);
            return fail(task_dir, &mut peers, &e);
        }
    };
    cgroup.forbid_swap();
    session::trim();
    match Service::new(spec, &cgroup, signals, peers, created, lease).run() {
        Ok(Ended { record, mut peers }) => {
            clean(task_dir, &cgroup, spec);
            finish(task_dir, &mut peers, record)
        }
        Err(e) => {
            // The agent sees the connection end and the record's reason.
            clean(task_dir, &cgroup, spec);
            let _unwritable = write_exit(task_dir, &never_ran(error::chain(&e)));
            EXIT_FAILED
        }
    }
}

fn read_spec(task_dir: &Path) -> Result<ExecutorSpec, ExecutorError> {
    let path = task_dir.join(SPEC_FILE);
    let bytes =
        fs::read(&path).map_err(|source| ExecutorError::Read { path: path.clone(), source })?;
    let spec: ExecutorSpec =
        codec::from_bytes(&bytes).map_err(|source| ExecutorError::Decode { path, source })?;
    if spec.protocol != EXECUTOR_PROTOCOL {
        return Err(ExecutorError::Protocol(spec.protocol, EXECUTOR_PROTOCOL));
    }
    Ok(spec)
}

/// Leave nothing of the container behind but its sandbox. libcontainer's own delete is refused
/// here: it scans mountinfo a dozen times to find directories that we know.
fn clean(task_dir: &Path, cgroup: &TaskCgroup<'_>, spec: &ExecutorSpec) {
    // What cannot be cleaned here (a process in uninterruptible sleep) the agent retries.
    let killed = cgroup.kill_all();
    session::reap_children();
    let _retried = killed.and_then(|()| cgroup.remove());
    rootfs::unmount_root(&spec.rootfs);
    secrets::remove(task_dir);
    let _removed_with_the_task = fs::remove_dir_all(task_dir.join(STATE_DIR));
}

fn never_ran(reason: String) -> ExitRecord {
    ExitRecord {
        code: CODE_NEVER_RAN,
        oom: false,
        stopped: false,
        failure: Some(reason),
        lease_over: false,
    }
}

fn fail(task_dir: &Path, peers: &mut Peers, error: &ExecutorError) -> i32 {
    let message = error::chain(error);
    let _unwritable = write_exit(task_dir, &never_ran(message.clone()));
    let state = FromExecutor::Failed { message };
    peers.tell(&state);
    peers.accept(&state);
    EXIT_FAILED
}

fn finish(task_dir: &Path, peers: &mut Peers, record: ExitRecord) -> i32 {
    // The file comes first: who sees the connection end may look for it at once.
    if write_exit(task_dir, &record).is_err() {
        return EXIT_FAILED;
    }
    let state = FromExecutor::Exited(record);
    peers.tell(&state);
    peers.accept(&state);
    0
}

fn write_exit(task_dir: &Path, record: &ExitRecord) -> Result<(), ExecutorError> {
    let path = task_dir.join(EXIT_FILE);
    let bytes = codec::to_bytes(record)
        .map_err(|source| ExecutorError::Decode { path: path.clone(), source })?;
    session::write_renamed(&path, &bytes)
}
