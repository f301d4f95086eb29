//! Going down in order: bramble, containers, everything else, file systems, the machine.

use super::console::say;
use super::sys::{self, Down};
use super::watchdog::Watchdog;
use crate::node::layout::{BOOT_DIR, DATA_DIR};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// bramble writes down what it has, and hands over what it leads.
const BRAMBLE_MAX: Duration = Duration::from_secs(20);
/// Containers get ten seconds from their executors to end by themselves.
const CONTAINERS_MAX: Duration = Duration::from_secs(15);
const REST_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Tries to unmount, while the kernel still tidies up after killed processes.
const UNMOUNTS_MAX: usize = 40;

/// End everything and the machine. `bramble` is its process, if it runs.
pub fn down(how: Down, bramble: Option<Pid>, watchdog: &mut Watchdog) -> ! {
    say(match how {
        Down::Poweroff => "switching off",
        Down::Reboot | Down::TryBoot => "restarting",
    });
    if let Some(bramble) = bramble {
        let _ = kill(bramble, Signal::SIGTERM);
        wait(BRAMBLE_MAX, watchdog, || alive(bramble));
    }
    // Executors stop their containers when PID 1 says so, and tell nobody else's signal from it.
    let executors = processes(is_executor);
    for executor in &executors {
        let _ = kill(*executor, Signal::SIGTERM);
    }
    wait(CONTAINERS_MAX, watchdog, || executors.iter().any(|pid| alive(*pid)));
    let everybody = Pid::from_raw(-1);
    let _ = kill(everybody, Signal::SIGTERM);
    wait(REST_MAX, watchdog, || !processes(has_program).is_empty());
    let _ = kill(everybody, Signal::SIGKILL);
    wait(REST_MAX, watchdog, || !processes(has_program).is_empty());
    nix::unistd::sync();
    leave_file_systems(watchdog);
    if how == Down::Poweroff {
        watchdog.stop();
    }
    let error = sys::go_down(how);
    say(&format!("the kernel does not go down: {error}"));
    // Where switching off is not possible, a restart is; else the panic that follows restarts.
    let _ = sys::go_down(Down::Reboot);
    std::process::exit(1)
}

fn leave_file_systems(watchdog: &Watchdog) {
    for at in [DATA_DIR, BOOT_DIR] {
        let unmounted = (0..UNMOUNTS_MAX).any(|_| {
            watchdog.feed();
            let done = umount2(at, MntFlags::empty());
            if done == Err(nix::Error::EBUSY) {
                sleep(LOOK_EVERY);
            }
            done.is_ok() || done == Err(nix::Error::EINVAL)
        });
        if !unmounted {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            if let Err(error) = mount(None::<&str>, at, None::<&str>, flags, None::<&str>) {
                say(&format!("{at} is left as it is: {error}"));
            }
        }
    }
    nix::unistd::sync();
}

/// Reap and feed while something is so, for a time at most.
fn wait(most: Duration, watchdog: &Watchdog, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    loop {
        while !matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Err(_) | Ok(WaitStatus::StillAlive)
        ) {}
        if !so() || start.elapsed() > most {
            return;
        }
        watchdog.feed();
        sleep(LOOK_EVERY);
    }
}

fn alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Processes but ourselves whose command line `fits`.
fn processes(fits: fn(&[u8]) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| name.parse().ok()).filter(|pid| *pid != 1);
    let command = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| fits(&command(pid))).map(Pid::from_raw).collect()
}

/// The kernel's own have none.
fn has_program(command: &[u8]) -> bool {
    !command.is_empty()
}

fn is_executor(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    words
        .next()
        .is_some_and(|program| program.ends_with(b"bramble") || program == b"/proc/self/exe")
        && words.next() == Some(b"executor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_known_by_their_command() {
        for (command, executor) in [
            (&b"/usr/bin/bramble\0executor\0/x\0"[..], true),
            (b"/usr/bin/bramble\0up\0", false),
            (b"sh\0executor\0", false),
            (b"", false),
        ] {
            assert_eq!(is_executor(command), executor);
        }
        let own = Pid::this();
        assert!(alive(own) && processes(has_program).contains(&own));
    }
}
