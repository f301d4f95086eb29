//! Processes named by pid and start time. Owns reading `/proc/<pid>` and signalling through
//! pidfds; must never signal a bare pid that may meanwhile belong to another process.

use bramble_protocol::executor::ProcessKey;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Fields of `/proc/<pid>/stat` after the command's closing parenthesis: the state is the first,
/// the start time the twentieth (field 22 of proc(5)).
const START_TICKS_AFTER_NAME: usize = 19;

/// Read a process's key; `None` when it does not exist or is a zombie.
pub fn key_of(pid: i32) -> Option<ProcessKey> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat).map(|start_ticks| ProcessKey { pid, start_ticks })
}

/// Whether exactly this process still runs (a zombie does not).
pub fn is_alive(key: ProcessKey) -> bool {
    key_of(key.pid) == Some(key)
}

fn parse_stat(stat: &str) -> Option<u64> {
    // The name may hold spaces and parentheses, so the last parenthesis is the one that counts.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.clone().next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(START_TICKS_AFTER_NAME)?.parse().ok()
}

/// What a process does with a signal that asks it to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// A handler is installed.
    Caught,
    /// Blocked: taken by `sigwait` or a signalfd, as small inits (tini, dumb-init) do, or held
    /// back for a moment, as shells do while they fork.
    Blocked,
    /// Ignored, left to its default, or the process is gone.
    Unhandled,
}

/// Read how a process handles `signal`.
pub fn handling(pid: i32, signal: i32) -> Handling {
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => status_handling(&status, signal),
        Err(_) => Handling::Unhandled,
    }
}

fn status_handling(status: &str, signal: i32) -> Handling {
    let bit = 1u64 << (signal - 1);
    let holds = |field: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).is_some_and(|m| m & bit != 0)
    };
    match (holds("SigCgt:"), holds("SigBlk:")) {
        (true, _) => Handling::Caught,
        (false, true) => Handling::Blocked,
        (false, false) => Handling::Unhandled,
    }
}

/// A descriptor for exactly this process; `None` when it is gone.
pub fn open_pidfd(key: ProcessKey) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, key.pid, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the kernel just gave us this descriptor (close-on-exec), nobody else owns it.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // Checked after opening: from here on the descriptor cannot mean another process.
    is_alive(key).then_some(fd)
}

/// Send SIGKILL to exactly this process; it being gone already is fine.
///
/// # Errors
/// The kernel's refusal, but for "no such process".
pub fn kill(key: ProcessKey) -> io::Result<()> {
    let Some(fd) = open_pidfd(key) else { return Ok(()) };
    // SAFETY: pidfd_send_signal reads no memory when its third argument is null.
    #[allow(unsafe_code)]
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match (sent, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, gone) if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        (_, refused) => Err(refused),
    }
}

/// Block until the process has ended; false when `limit` passed first.
pub fn wait_gone(key: ProcessKey, limit: Duration) -> bool {
    let Some(fd) = open_pidfd(key) else { return true };
    let mut poll = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        match nix::poll::poll(&mut poll, u16::try_from(left).unwrap_or(u16::MAX)) {
            // A signal to this process, which may well be the death of that one.
            Err(nix::Error::EINTR) => {}
            ended => return matches!(ended, Ok(n) if n > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_names() {
        let tail = "S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 1 2 3";
        assert_eq!(parse_stat(&format!("7 (a) b) {tail}")), Some(4242));
        assert_eq!(parse_stat(&format!("7 (x) {}", tail.replacen('S', "Z", 1))), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn caught_or_blocked_is_handled() {
        let term = libc::SIGTERM;
        let none =
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000000000";
        assert_eq!(status_handling(none, term), Handling::Unhandled, "ignored is not handled");
        assert_eq!(status_handling("SigCgt:\t0000000000004000", term), Handling::Caught);
        let tini = "SigBlk:\tfffffffe7ffbfeff\nSigCgt:\t0000000000000000";
        assert_eq!(status_handling(tini, term), Handling::Blocked);
    }

    #[test]
    fn keys_tell_processes_apart() {
        let me = key_of(std::process::id() as i32).expect("this process runs");
        assert!(is_alive(me));
        let imposter = ProcessKey { start_ticks: me.start_ticks + 1, ..me };
        assert!(!is_alive(imposter));
        assert!(open_pidfd(imposter).is_none());
        kill(imposter).expect("an imposter is not signalled");
    }
}
