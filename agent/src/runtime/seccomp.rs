//! The default seccomp profile, compiled once per agent to a file that every executor loads.
//! Owns the profile's rules; compiling costs ~11 ms of CPU, which no container start shall pay.

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    error::SeccompError,
};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Allowed system calls, by name.
const ALLOWED: &str = include_str!("seccomp_default.txt");
/// Counts changes of the rules in this file, which the list's hash does not see.
const RULES_VERSION: u8 = 1;
/// Flags of clone and unshare that make namespaces (user, pid, net, mount, ipc, uts, cgroup).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Address family of virtual machine sockets, which reach the hypervisor past all namespaces.
const AF_VSOCK: u64 = 40;
/// Personalities programs need: Linux and Linux32, with or without UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

#[derive(Debug, Error)]
pub enum SeccompProfileError {
    #[error("compiling the seccomp profile")]
    Compile(#[from] SeccompError),
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Give the compiled profile's file below `run_dir`, compiling it if this version of it is not
/// there yet.
///
/// # Errors
/// libseccomp refuses a rule, or the run directory cannot be written.
pub fn compiled(run_dir: &Path) -> Result<PathBuf, SeccompProfileError> {
    let path = run_dir.join(format!("seccomp-{}.bpf", version()));
    if path.is_file() {
        return Ok(path);
    }
    let temporary = path.with_extension("new");
    let failed = |source| SeccompProfileError::Write { path: path.clone(), source };
    let file = File::create(&temporary).map_err(failed)?;
    filter()?.export_bpf(&file)?;
    fs::rename(&temporary, &path).map_err(failed)?;
    Ok(path)
}

fn version() -> String {
    let mut hash = Sha256::new();
    hash.update([RULES_VERSION]);
    hash.update(ALLOWED);
    if let Ok(library) = libseccomp::ScmpVersion::current() {
        hash.update(format!("{library:?}"));
    }
    hex::encode(&hash.finalize()[..8])
}

fn filter() -> Result<ScmpFilterContext, SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM))?;
    for arch in further_architectures() {
        filter.add_arch(*arch)?;
    }
    // A tree instead of a list: the calls a program makes most would stand behind hundreds.
    filter.set_ctl_optimize(2)?;
    for name in ALLOWED.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace) {
        if let Ok(call) = ScmpSyscall::from_name(name) {
            filter.add_rule(ScmpAction::Allow, call)?;
        }
    }
    let mut rule = |name: &str, compare: &[ScmpArgCompare]| -> Result<(), SeccompError> {
        match ScmpSyscall::from_name(name) {
            Ok(call) => filter.add_rule_conditional(ScmpAction::Allow, call, compare).map(|_| ()),
            Err(_) => Ok(()),
        }
    };
    let no_namespace = ScmpCompareOp::MaskedEqual(NEW_NAMESPACES);
    rule("clone", &[ScmpArgCompare::new(0, no_namespace, 0)])?;
    rule("socket", &[ScmpArgCompare::new(0, ScmpCompareOp::NotEqual, AF_VSOCK)])?;
    for personality in PERSONALITIES {
        rule("personality", &[ScmpArgCompare::new(0, ScmpCompareOp::Equal, personality)])?;
    }
    // A filter cannot see clone3's flags, which are in memory. "No such call" makes every libc
    // fall back to clone; EPERM would make it fail.
    if let Ok(clone3) = ScmpSyscall::from_name("clone3") {
        filter.add_rule(ScmpAction::Errno(libc::ENOSYS), clone3)?;
    }
    Ok(filter)
}

/// 32-bit siblings that the same kernel runs.
fn further_architectures() -> &'static [ScmpArch] {
    if cfg!(target_arch = "x86_64") {
        &[ScmpArch::X86, ScmpArch::X32]
    } else if cfg!(target_arch = "aarch64") {
        &[ScmpArch::Arm]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_compiles_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = compiled(dir.path()).expect("compiles");
        let bytes = fs::read(&path).expect("reads");
        assert!(bytes.len() > 800 && bytes.len().is_multiple_of(8), "{} bytes", bytes.len());
        assert!(bytes.len() / 8 < 4096, "the kernel takes at most 4096 instructions");
        let written = fs::metadata(&path).and_then(|m| m.modified()).expect("has a time");
        assert_eq!(compiled(dir.path()).expect("is there"), path);
        assert_eq!(fs::metadata(&path).and_then(|m| m.modified()).expect("has a time"), written);
    }

    #[test]
    fn dangerous_calls_are_not_listed() {
        let words: Vec<&str> = ALLOWED
            .lines()
            .filter(|l| !l.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect();
        for call in [
            "mount",
            "umount2",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "kexec_load",
            "reboot",
            "init_module",
            "setns",
            "unshare",
            "open_by_handle_at",
            "userfaultfd",
            "swapon",
            "perf_event_open",
            "io_uring_setup",
            "pivot_root",
            "settimeofday",
            "move_mount",
            "clone3",
            "clone",
            "personality",
            "socket",
            "iopl",
            "quotactl",
            "acct",
            "syslog",
        ] {
            assert!(!words.contains(&call), "{call}");
        }
        let mut sorted = words.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), words.len(), "no call is listed twice");
    }
}
