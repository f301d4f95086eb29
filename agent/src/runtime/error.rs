//! What can go wrong in the runtime, named by the operation that failed.

use super::cgroup::CgroupError;
use super::config::ConfigError;
use super::seccomp::SeccompProfileError;
use bramble_protocol::codec::CodecError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error("{path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("task id {0:?} cannot name a directory")]
    TaskId(String),
    #[error("task {0} already has a run directory")]
    Exists(String),
    #[error("no task {0} runs here")]
    NoTask(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("seccomp")]
    Seccomp(#[from] SeccompProfileError),
    #[error("cgroup")]
    Cgroup(#[from] CgroupError),
    #[error("starting {executable}")]
    Spawn {
        executable: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("connecting to an executor")]
    Connect(#[source] io::Error),
    #[error("reading from an executor")]
    Receive(#[source] io::Error),
    #[error("writing to an executor")]
    Send(#[source] io::Error),
    #[error("a frame of an executor")]
    Frame(#[source] CodecError),
    #[error("the executor said nothing for {0} seconds")]
    Silent(u64),
    #[error("the container could not be created: {0}")]
    NotCreated(String),
    #[error("the container could not be started: {0}")]
    NotStarted(String),
    #[error("the executor died")]
    ExecutorDied,
    #[error("executor {pid} outlives SIGKILL")]
    ExecutorStuck { pid: i32 },
    #[error("a background step was cancelled")]
    Cancelled,
    #[error("the command has no arguments")]
    NoCommand,
    #[error("setting up the terminal")]
    Terminal(#[source] io::Error),
    #[error("the command could not be run: {0}")]
    NotExecuted(String),
}
