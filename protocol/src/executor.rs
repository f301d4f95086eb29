//! The contract between an agent and its executors: files in the task's directory and frames on
//! a unix socket.
//!
//! The agent writes `<run-dir>/tasks/<task id>/spec` ([`ExecutorSpec`], CBOR), then starts
//! `bramble executor <that directory>`. The executor binds `socket` there, creates the container
//! (init waiting before exec), and answers every connection with its current [`FromExecutor`]
//! state first. On [`ToExecutor::Start`] it lets the container run. When the container has ended
//! and everything of it is cleaned, it writes `exit` ([`ExitRecord`], CBOR, by rename) and leaves.
//! A socket that closes without an `exit` file means the executor died.

use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// Version of this contract; an executor outlives upgrades of its agent.
pub const EXECUTOR_PROTOCOL: u32 = 1;

/// File names in a task's run directory.
pub const SPEC_FILE: &str = "spec";
pub const SOCKET_FILE: &str = "socket";
pub const EXIT_FILE: &str = "exit";
/// Pid and start time of the executor itself ([`ProcessKey`], CBOR), written first.
pub const PID_FILE: &str = "pid";

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessKey {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks since boot.
    pub start_ticks: u64,
}

/// Everything an executor needs; nothing in it changes while the container lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorSpec {
    pub protocol: u32,
    pub task_id: String,
    /// OCI runtime configuration (`config.json` text) without seccomp, whose root is `rootfs`.
    pub oci_config: String,
    /// How the root file system is put together, in the executor's own mount namespace.
    pub rootfs: RootFs,
    /// Directory of the sandbox on the host: holds `stdout`, `stderr` and their rotations.
    pub sandbox: String,
    /// Compiled seccomp filter (raw `sock_filter` array); `None` = unconfined.
    pub seccomp_bpf: Option<String>,
    /// Each log file is rotated at this size in bytes; one rotation is kept.
    pub log_bytes_max: u64,
    /// CPU quota in microseconds per 100 ms, set once the container runs; `None` = no ceiling.
    pub cpu_quota_us: Option<u64>,
    /// Memory limit in bytes, for the message when it was exceeded.
    pub mem_limit_bytes: Option<u64>,
    /// SIGTERM goes to every process (command tasks) or only to init (image tasks).
    pub term_all: bool,
    /// Absolute cgroup path, below each v1 hierarchy or the unified one.
    pub cgroup: String,
    /// Allocate a terminal for the container's init.
    pub tty: bool,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the container's own `/etc/passwd` and
    /// `/etc/group` once its root is mounted; `None` = root.
    #[serde(default)]
    pub user: Option<String>,
    /// Further groups by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Signal that asks for the end; `None` = SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// First process of another container, whose network namespace this one joins instead of
    /// getting its own (containers of one pod).
    #[serde(default)]
    pub network_of: Option<ProcessKey>,
    /// The agent sends [`ExecutorSecrets`] (CBOR) on standard input and closes it.
    #[serde(default)]
    pub secrets: bool,
    /// Directories of volumes on the host: each belongs to the task's user.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// The container runs only until the deadline of the last [`ToExecutor::Lease`], and does not
    /// start without one. The executor alone sees to it: its agent may be dead, or stopped.
    #[serde(default)]
    pub leased: bool,
}

/// What a container gets that must not be written to its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorSecrets {
    /// Variables of its environment, without NUL bytes; they win over the specification's.
    pub env: Vec<(String, Secret)>,
    /// Content of files by their absolute path in the container.
    pub files: Vec<(String, Secret)>,
}

impl ExecutorSecrets {
    pub fn is_empty(&self) -> bool {
        self.env.is_empty() && self.files.is_empty()
    }
}

/// File name in a directory of one exec: [`ExecSpec`], CBOR.
pub const EXEC_FILE: &str = "exec";
/// Unix socket in a directory of one exec that receives the terminal's master end.
pub const CONSOLE_FILE: &str = "console";

/// What `bramble exec-in <directory>` runs in a container that already runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub protocol: u32,
    /// Run directory of the task.
    pub task_dir: String,
    pub command: Vec<String>,
    pub tty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// Overlay of read-only layers (topmost first) with a private upper directory.
    Overlay { layers: Vec<String>, upper: String, work: String, mountpoint: String },
    /// A directory prepared by the agent, used as it is (command tasks).
    Directory { path: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToExecutor {
    Start,
    /// SIGTERM, then SIGKILL after the grace. A shorter grace replaces a longer one.
    Stop {
        grace_ms: u64,
    },
    /// The agent is going to use the container's network namespace and such: tell where it is.
    Query,
    /// Lets a `leased` container run until this moment (CLOCK_BOOTTIME, milliseconds); an earlier
    /// one than told before changes nothing. Never sent to one whose specification has no lease:
    /// such an executor may be of an earlier version.
    Lease {
        until_ms: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// The container waits for `Start`; `init` is its first process.
    Created {
        init: ProcessKey,
    },
    Running {
        init: ProcessKey,
    },
    Stopping {
        init: ProcessKey,
    },
    /// Followed by the end of the connection; the `exit` file is in place.
    Exited(ExitRecord),
    /// It could not be created or started; nothing is left behind.
    Failed {
        message: String,
    },
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// The kernel killed at least one of its processes for memory.
    pub oom: bool,
    /// It ended because it was told to.
    pub stopped: bool,
    /// It never ran: the reason.
    pub failure: Option<String>,
    /// It was made to end because its lease ran out.
    #[serde(default)]
    pub lease_over: bool,
}
