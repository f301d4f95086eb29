//! A container's secrets, from the agent's pipe to the container and the commands beside it.
//!
//! They lie in a tmpfs that is mounted in the executor's own namespace and nowhere else: it is on
//! no disk, the host's other processes do not see it, and it ends with the executor.

use super::error::ExecutorError;
use super::users::Identity;
use crate::runtime::process;
use bramble_protocol::codec;
use bramble_protocol::executor::{ExecutorSecrets, ExecutorSpec, PID_FILE, ProcessKey};
use bramble_protocol::secret::Secret;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Where the tmpfs is mounted, below the task's directory.
const DIR: &str = "secrets";
/// File of the tmpfs with the secret environment, for commands beside the container.
const ENV_FILE: &str = "env";
/// Bytes that a file may take besides its content: the largest page there is.
const PAGE_BYTES: usize = 64 * 1024;
/// Owner may read, nobody may do anything else.
const FILE_MODE: u32 = 0o400;

/// Read what the agent sends on standard input, where the specification says that it does.
///
/// # Errors
/// The agent went away before it had sent everything.
pub fn receive(spec: &ExecutorSpec) -> Result<ExecutorSecrets, ExecutorError> {
    if !spec.secrets {
        return Ok(ExecutorSecrets::default());
    }
    let path = PathBuf::from("/dev/stdin");
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|source| ExecutorError::Read { path: path.clone(), source })?;
    let secrets = codec::from_bytes(&bytes);
    drop(Secret::new(bytes));
    secrets.map_err(|source| ExecutorError::Decode { path, source })
}

/// Put secrets into their tmpfs; gives the mounts that show the files in the container.
///
/// # Errors
/// The kernel refuses the mount or a file.
pub fn place(
    secrets: &ExecutorSecrets,
    identity: &Identity,
    task_dir: &Path,
) -> Result<Vec<Value>, ExecutorError> {
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let dir = task_dir.join(DIR);
    let env = codec::to_bytes(&secrets.env).map(Secret::new);
    let env = env.map_err(|source| ExecutorError::Decode { path: dir.join(ENV_FILE), source })?;
    let contents = secrets.files.iter().map(|(_, content)| content.expose().len());
    let bytes = env.expose().len() + contents.sum::<usize>();
    mount_tmpfs(&dir, bytes + (secrets.files.len() + 2) * PAGE_BYTES)?;
    write(&dir.join(ENV_FILE), &env, None)?;
    let mut mounts = Vec::with_capacity(secrets.files.len());
    for (number, (destination, content)) in secrets.files.iter().enumerate() {
        let source = dir.join(number.to_string());
        write(&source, content, Some(identity))?;
        mounts.push(json!({
            "destination": destination,
            "type": "bind",
            "source": source.to_string_lossy(),
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        }));
    }
    Ok(mounts)
}

/// Unmount at once; the namespace's end would do it too, only a moment later.
pub fn remove(task_dir: &Path) {
    let _not_there_or_gone = umount2(&task_dir.join(DIR), MntFlags::MNT_DETACH);
}

/// The secret environment of a container that runs, as seen from another process.
///
/// # Errors
/// Its executor is gone.
pub fn env_of_running(task_dir: &Path) -> Result<Vec<(String, Secret)>, ExecutorError> {
    let pid_file = task_dir.join(PID_FILE);
    let executor: ProcessKey = read(&pid_file)?;
    let gone = || ExecutorError::Read {
        path: pid_file.clone(),
        source: io::Error::from_raw_os_error(libc::ESRCH),
    };
    let within = task_dir.strip_prefix("/").unwrap_or(task_dir);
    let root = PathBuf::from(format!("/proc/{}/root", executor.pid));
    let env = read(&root.join(within).join(DIR).join(ENV_FILE));
    // Only now is it certain whose file that was.
    if process::is_alive(executor) { env } else { Err(gone()) }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ExecutorError> {
    let failed = |source| ExecutorError::Read { path: path.to_path_buf(), source };
    let bytes = Secret::new(fs::read(path).map_err(failed)?);
    codec::from_bytes(bytes.expose())
        .map_err(|source| ExecutorError::Decode { path: path.to_path_buf(), source })
}

fn mount_tmpfs(dir: &Path, bytes: usize) -> Result<(), ExecutorError> {
    fs::create_dir(dir)
        .map_err(|source| ExecutorError::Write { path: dir.to_path_buf(), source })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0700,size={bytes}");
    let with = |options: &str| mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options));
    // Kernels before 6.4 cannot keep a tmpfs out of swap.
    with(&format!("{options},noswap"))
        .or_else(|error| if error == nix::Error::EINVAL { with(&options) } else { Err(error) })
        .map_err(|source| ExecutorError::Process { step: "mounting a tmpfs for secrets", source })
}

fn write(path: &Path, content: &Secret, owner: Option<&Identity>) -> Result<(), ExecutorError> {
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
        file.write_all(content.expose())?;
        match owner {
            Some(owner) => chown(path, Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        }
    };
    write().map_err(|source| ExecutorError::Write { path: path.to_path_buf(), source })
}
