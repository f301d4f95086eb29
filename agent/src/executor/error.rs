//! What can go wrong in an executor, named by the step that failed.

use bramble_protocol::codec::CodecError;
use libcontainer::error::LibcontainerError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ExecutorError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("understanding {path}")]
    Decode {
        path: PathBuf,
        #[source]
        source: CodecError,
    },
    #[error("the specification has version {0}, this executor understands {1}")]
    Protocol(u32, u32),
    #[error("{step}")]
    Process {
        step: &'static str,
        #[source]
        source: nix::Error,
    },
    #[error("mounting the root file system of {layers} layers on {mountpoint}")]
    Overlay {
        layers: usize,
        mountpoint: String,
        #[source]
        source: nix::Error,
    },
    #[error("creating working directory {path} in the image")]
    WorkDir {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("user: {0}")]
    User(#[from] super::users::UserError),
    #[error("understanding the OCI configuration")]
    OciConfig(#[source] serde_json::Error),
    #[error("the OCI configuration has no {0}")]
    OciPart(&'static str),
    #[error("cgroup")]
    Cgroup(#[from] crate::runtime::cgroup::CgroupError),
    #[error("creating the container")]
    Create(#[source] Box<LibcontainerError>),
    #[error("starting the container")]
    Start(#[source] Box<LibcontainerError>),
    #[error("running a command in the container")]
    Exec(#[source] Box<LibcontainerError>),
    #[error("process {pid}, whose network this container shares, is gone")]
    NetworkGone { pid: i32 },
    #[error("the container sent no terminal")]
    NoTerminal,
}

/// An error with all its causes on one line, for people who see only one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Transparent wrappers repeat their cause; saying it once is enough.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
