//! Running one more command in a container that runs (`bramble exec-in DIR`). Owns the process
//! that joins it; the command gets the container's user, capabilities, environment and filter,
//! which libcontainer alone would not give it.

use super::container::{BUNDLE_DIR, CONTAINER_ID, STATE_DIR, read_filter};
use super::error::{ExecutorError, chain};
use super::secrets;
use super::session;
use super::workload::{EXIT_NOT_FOUND, NO_SUCH_PROGRAM, Workload};
use bramble_protocol::codec;
use bramble_protocol::executor::{
    CONSOLE_FILE, EXEC_FILE, EXECUTOR_PROTOCOL, ExecSpec, ExecutorSpec, SPEC_FILE,
};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Exit code when the command could not be run at all, as `docker exec` has it.
const EXIT_CANNOT_RUN: i32 = 126;
/// Added to a signal's number to make an exit code, as shells do.
const SIGNAL_CODE_BASE: i32 = 128;

/// Run the command described in `exec_dir` with this process's standard streams; gives the
/// command's exit code.
pub fn exec_main(exec_dir: &Path) -> i32 {
    match join(exec_dir) {
        Ok(pid) => wait(pid),
        Err(e) => {
            session::reap_children();
            let why = chain(&e);
            eprintln!("{why}");
            if why.contains(NO_SUCH_PROGRAM) { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN }
        }
    }
}

fn join(exec_dir: &Path) -> Result<Pid, ExecutorError> {
    session::drop_groups()?;
    let exec: ExecSpec = read(&exec_dir.join(EXEC_FILE))?;
    if exec.protocol != EXECUTOR_PROTOCOL {
        return Err(ExecutorError::Protocol(exec.protocol, EXECUTOR_PROTOCOL));
    }
    let task_dir = Path::new(&exec.task_dir);
    let task: ExecutorSpec = read(&task_dir.join(SPEC_FILE))?;
    let process = exec_dir.join("process.json");
    let text = process_of(&task_dir.join(BUNDLE_DIR).join("config.json"), &exec)?;
    session::write_renamed(&process, text.as_bytes())?;
    let secret_env = match task.secrets {
        true => secrets::env_of_running(task_dir)?,
        false => Vec::new(),
    };
    let filter = read_filter(task.seccomp_bpf.as_deref())?;
    let mut builder = ContainerBuilder::new(CONTAINER_ID.to_string(), SyscallType::default())
        .with_executor(Workload::new(filter, secret_env))
        .with_root_path(task_dir.join(STATE_DIR))
        .map_err(|e| ExecutorError::Exec(Box::new(e)))?;
    if exec.tty {
        builder = builder.with_console_socket(Some(exec_dir.join(CONSOLE_FILE)));
    }
    builder
        .as_tenant()
        .with_process(Some(process))
        .with_detach(true)
        .build()
        .map_err(|e| ExecutorError::Exec(Box::new(e)))
}

/// The container's own process with another command line.
fn process_of(config: &Path, exec: &ExecSpec) -> Result<String, ExecutorError> {
    let text = fs::read_to_string(config)
        .map_err(|source| ExecutorError::Read { path: config.to_path_buf(), source })?;
    let mut config: Value = serde_json::from_str(&text).map_err(ExecutorError::OciConfig)?;
    let mut process =
        config.get_mut("process").map(Value::take).ok_or(ExecutorError::OciPart("process"))?;
    process["args"] = exec.command.clone().into();
    process["terminal"] = exec.tty.into();
    if exec.tty
        && let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM=")))
    {
        env.push("TERM=xterm".into());
    }
    Ok(process.to_string())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ExecutorError> {
    let path = path.to_path_buf();
    let bytes =
        fs::read(&path).map_err(|source| ExecutorError::Read { path: path.clone(), source })?;
    codec::from_bytes(&bytes).map_err(|source| ExecutorError::Decode { path, source })
}

fn wait(pid: Pid) -> i32 {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return SIGNAL_CODE_BASE + signal as i32,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return EXIT_CANNOT_RUN,
        }
    }
}
