//! The last steps inside the container before its program: what libcontainer calls in the init
//! (or exec'd) process. Owns the seccomp filter, signal dispositions, the parent-death signal and
//! execve; must never allocate noticeably, since it runs under the container's memory limit.

use bramble_protocol::secret::Secret;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Exit codes of shells and Docker for a program that cannot be run or is not there.
const EXIT_CANNOT_RUN: i32 = 126;
pub const EXIT_NOT_FOUND: i32 = 127;
/// Said of a program that is not there. libcontainer hands errors on as text only.
pub const NO_SUCH_PROGRAM: &str = "no such program";
/// Highest signal number with a disposition.
const SIGNAL_MAX: i32 = 64;
/// Bytes of one `sock_filter`.
const INSTRUCTION_BYTES: usize = 8;

/// Runs the specification's program under a compiled filter.
#[derive(Clone)]
pub struct Workload {
    /// Raw `sock_filter` array; empty = unconfined.
    filter: Rc<Vec<u8>>,
    /// Variables of the environment that are written nowhere.
    secrets: Rc<Vec<(String, Secret)>>,
}

impl Workload {
    pub fn new(filter: Vec<u8>, secrets: Vec<(String, Secret)>) -> Self {
        Self { filter: Rc::new(filter), secrets: Rc::new(secrets) }
    }
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        // Here the user and the capabilities are already the container's: a later change of
        // credentials would clear this signal. It holds from before "created" on.
        die_with_parent();
        // Now, not at execve: a stop that comes between must not take the signals that the
        // executor blocks for a handler of the program's.
        reset_signals();
        let (args, path) = program(spec).ok_or_else(|| invalid("no command".to_string()))?;
        match find(&args[0], path) {
            Found::Program(_) => Ok(()),
            Found::NotExecutable(path) => {
                Err(invalid(format!("{} is not an executable file", path.display())))
            }
            Found::Nothing if args[0].contains('/') => {
                Err(invalid(format!("{NO_SUCH_PROGRAM}: {:?}", args[0])))
            }
            Found::Nothing => {
                Err(invalid(format!("{NO_SUCH_PROGRAM}: {:?} in PATH ({path})", args[0])))
            }
        }
    }

    fn setup_envs(&self, mut envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        for (name, value) in self.secrets.iter() {
            let value = String::from_utf8_lossy(value.expose()).into_owned();
            envs.insert(name.clone(), value);
        }
        DefaultExecutor {}.setup_envs(envs)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (args, path) = program(spec).ok_or(ExecutorError::InvalidArg)?;
        let Found::Program(file) = find(&args[0], path) else { fail(EXIT_NOT_FOUND) };
        let file = CString::new(file.into_os_string().into_encoded_bytes())
            .map_err(|_| ExecutorError::InvalidArg)?;
        let argv: Result<Vec<CString>, _> =
            args.iter().map(|a| CString::new(a.as_bytes())).collect();
        let argv = argv.map_err(|_| ExecutorError::InvalidArg)?;
        if !self.filter.is_empty() {
            confine(&self.filter).map_err(|e| ExecutorError::Other(e.to_string()))?;
        }
        // execvp runs a script without `#!` through /bin/sh, as shells and Docker do; the path is
        // absolute or relative with a slash, so it searches nothing again.
        let Err(refused) = nix::unistd::execvp(&file, &argv);
        // Standard error is the task's own log: the one place where its owner looks.
        eprintln!("cannot run {}: {refused}", file.to_string_lossy());
        fail(EXIT_CANNOT_RUN)
    }
}

fn invalid(message: String) -> ExecutorValidationError {
    ExecutorValidationError::ArgValidationError(message)
}

fn program(spec: &Spec) -> Option<(&[String], &str)> {
    let process = spec.process().as_ref()?;
    let args = process.args().as_deref().filter(|a| !a.is_empty())?;
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    Some((args, path))
}

enum Found {
    Program(PathBuf),
    NotExecutable(PathBuf),
    Nothing,
}

fn find(name: &str, path: &str) -> Found {
    if name.contains('/') {
        let file = PathBuf::from(name);
        return match (is_program(&file), file.exists()) {
            (true, _) => Found::Program(file),
            (false, true) => Found::NotExecutable(file),
            (false, false) => Found::Nothing,
        };
    }
    let mut seen = Found::Nothing;
    for dir in path.split(':').filter(|d| !name.is_empty() && !d.is_empty()) {
        let file = Path::new(dir).join(name);
        if is_program(&file) {
            return Found::Program(file);
        }
        if file.is_file() {
            seen = Found::NotExecutable(file);
        }
    }
    seen
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn die_with_parent() {
    // A container that clears this is still found by the agent, through its cgroup.
    let _unsupported = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
}

/// Give the program default dispositions and nothing blocked: ignored signals survive execve.
fn reset_signals() {
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: SIG_DFL installs no handler; numbers that cannot change are refused by errno.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    let _never_fails = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

fn confine(filter: &[u8]) -> std::io::Result<()> {
    // Copied, because raw bytes need not be aligned for sock_filter.
    let program: Vec<libc::sock_filter> = filter
        .chunks_exact(INSTRUCTION_BYTES)
        .map(|b| libc::sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    let head = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program during the call; both structures outlive it.
    #[allow(unsafe_code)]
    let set = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const head)
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Leave without running destructors or flushing what belongs to the executor's copy of memory.
fn fail(code: i32) -> ! {
    // SAFETY: _exit only ends this process.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn programs_are_found_along_path() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let tool = dir.path().join("tool");
        fs::write(&tool, "").expect("writes");
        let path = format!("/nonexistent:{}", dir.path().display());
        assert!(matches!(find("tool", &path), Found::NotExecutable(_)));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(matches!(find("tool", &path), Found::Program(p) if p == tool));
        assert!(matches!(find("", &path), Found::Nothing));
        assert!(matches!(find("other", &path), Found::Nothing));
        assert!(matches!(find(&dir.path().display().to_string(), ""), Found::NotExecutable(_)));
    }
}
