//! Namespaces that a process holds: a network, and for a machine that boots a mount namespace.
//!
//! They end with the process that holds them and those inside; nothing of them has a name in the
//! host's file system.

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A process that holds a network namespace (its loopback is up) and, where `booted` names a
/// directory for its files, a mount namespace in which the machine has just booted.
pub(crate) fn anchor(booted: Option<&Path>) -> Child {
    let mut script = "ip link set lo up".to_string();
    let mut flags = CloneFlags::CLONE_NEWNET;
    if let Some(directory) = booted {
        let id = directory.join("boot_id");
        let fresh = std::fs::read("/proc/sys/kernel/random/uuid").expect("the kernel gives ids");
        std::fs::write(&id, fresh).expect("a boot id can be written");
        let id = id.display();
        script = format!("{script} && mount --make-rprivate / && mount --bind {id} {BOOT_ID}");
        flags |= CloneFlags::CLONE_NEWNS;
    }
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("{script} && echo ready && exec sleep infinity")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut anchor = in_new_namespaces(&mut command, flags).spawn().expect("sh starts");
    let mut ready = String::new();
    let output = anchor.stdout.take().expect("it has an output");
    std::io::BufReader::new(output).read_line(&mut ready).expect("it can be read");
    assert_eq!(ready, "ready\n", "a namespace is made");
    anchor
}

#[allow(unsafe_code)]
fn in_new_namespaces(command: &mut Command, flags: CloneFlags) -> &mut Command {
    let start = move || {
        // The anchor must not outlive a test that was killed.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        unshare(flags)?;
        Ok(())
    };
    // SAFETY: between fork and exec only prctl(2) and unshare(2) are called, both
    // async-signal-safe.
    unsafe { command.pre_exec(start) }
}

/// Run `body` with this thread in the network of process `pid`. Sockets that it makes stay there.
///
/// # Errors
/// The process is gone, and its network with it.
pub(crate) fn within_network<T>(pid: u32, body: impl FnOnce() -> T) -> std::io::Result<T> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let theirs = File::open(format!("/proc/{pid}/ns/net"))?;
    setns(theirs, CloneFlags::CLONE_NEWNET)?;
    let result = body();
    setns(own, CloneFlags::CLONE_NEWNET).expect("a thread may return to its own network");
    Ok(result)
}
