//! One virtual machine: QEMU's command line, and the process that was started with it.
//!
//! No list of processes is kept, since it would be wrong after any crash: a machine's process is
//! the one that was started with this machine's own file names.

use super::accel::Accel;
use super::config::Machine;
use super::error::LabError;
use super::place::Files;
use crate::disk::tool::{run, tool};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub const QEMU: &str = "qemu-system-x86_64";
/// What an emulated machine's code may take once translated, most of it used once at the start: without
/// a limit up to a gigabyte. MiB.
const TRANSLATED_MIB: u32 = 32;
/// A killed process is gone at once, unless the kernel has work for it.
const KILLED_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program to run, out of reach of a Ctrl-C that is meant for us.
pub fn command(program: &str) -> Command {
    let mut command = tool(program);
    command.process_group(0);
    command
}

/// Start a machine in a network namespace; its card is `plug`.
///
/// # Errors
/// QEMU is not here, or says why it does not start.
pub fn start(
    machine: &Machine,
    files: &Files,
    namespace: &str,
    plug: &str,
    accel: Accel,
) -> Result<(), LabError> {
    let mut started = command("ip");
    started.args(["netns", "exec", namespace, QEMU]);
    run(started.args(arguments(machine, files, plug, accel)))?;
    Ok(())
}

/// QEMU's arguments. The machine is booted by its own boot loader, so that updates, restarts and
/// a slot on trial go as they do on a disk of its own.
fn arguments(machine: &Machine, files: &Files, plug: &str, accel: Accel) -> Vec<String> {
    let name = &machine.name;
    let path = |path: &Path| path.display().to_string().replace(',', ",,");
    let (disk, cd, console) = (path(&files.disk), path(&files.settings), path(&files.console));
    // As fast as the host's cache: what a power cut of this host does to a lab is nobody's loss.
    let disk = format!("file={disk},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap");
    let cd = format!("file={cd},format=raw,if=none,id=cd,media=cdrom,readonly=on");
    let pairs = [
        ("-name", format!("guest={name}")),
        ("-uuid", uuid(files)),
        ("-machine", "q35".into()),
        ("-accel", accelerator(accel)),
        ("-cpu", if accel == Accel::Kvm { "host" } else { "max" }.into()),
        ("-smp", machine.cpus.to_string()),
        ("-m", machine.memory_mib.to_string()),
        ("-display", "none".into()),
        ("-vga", "none".into()),
        ("-monitor", "none".into()),
        ("-chardev", format!("file,id=console,path={console}")),
        ("-serial", "chardev:console".into()),
        ("-drive", disk),
        ("-device", "virtio-blk-pci,drive=disk,bootindex=1".into()),
        ("-drive", cd),
        ("-device", "ide-cd,drive=cd".into()),
        ("-netdev", format!("tap,id=net,ifname={plug},script=no,downscript=no")),
        ("-device", format!("virtio-net-pci,netdev=net,romfile=,mac={}", mac(machine))),
        // Memory a node no longer uses is this host's again.
        ("-device", "virtio-balloon-pci,free-page-reporting=on".into()),
        ("-device", "virtio-rng-pci".into()),
        (PID_FILE, files.pid.display().to_string()),
    ];
    let mut words = vec!["-nodefaults".to_string(), "-no-user-config".into(), "-daemonize".into()];
    words.extend(pairs.into_iter().flat_map(|(name, value)| [name.to_string(), value]));
    words
}

/// The argument by whose value a machine's process is known.
pub const PID_FILE: &str = "-pidfile";

fn accelerator(accel: Accel) -> String {
    match accel {
        Accel::Kvm => "kvm".into(),
        // Before 8.1, QEMU with a thread for each processor may go on with code that the guest has
        // just changed; Linux changes its own, and then stands still for good. Boots as fast.
        Accel::Tcg => format!("tcg,thread=single,tb-size={TRANSLATED_MIB}"),
    }
}

/// QEMU's own first half, and what is the machine's alone in its network.
fn mac(machine: &Machine) -> String {
    let [_, b, c, d] = machine.ip.octets();
    format!("52:54:00:{b:02x}:{c:02x}:{d:02x}")
}

/// What the machine says of itself, the same at each start: by its place.
fn uuid(files: &Files) -> String {
    let digest = hex::encode(Sha256::digest(files.pid.as_os_str().as_encoded_bytes()));
    let part = |from: usize, to: usize| &digest[from..to];
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// A process that is a machine.
pub struct Process(Pid);

/// Find the process of the machine that has these files.
pub fn find(files: &Files) -> Option<Process> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| Process(Pid::from_raw(pid))).find(|process| process.is_of(files))
}

impl Process {
    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Whether it was started with these files; not for one that has ended.
    pub fn is_of(&self, files: &Files) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.0)).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let pid_file = files.pid.as_os_str().as_encoded_bytes();
        words.windows(2).any(|pair| pair[0] == PID_FILE.as_bytes() && pair[1] == pid_file)
    }

    /// What it uses of this host's memory, of what machines share its part (PSS). Bytes.
    pub fn memory(&self) -> u64 {
        let rollup = format!("/proc/{}/smaps_rollup", self.0);
        let text = fs::read_to_string(rollup).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        number.unwrap_or(0_u64) * 1024
    }
}

/// Take a machine's power away, also one that is only just being started.
///
/// # Errors
/// A process is not ours to end, or does not end.
pub fn stop(files: &Files) -> Result<(), LabError> {
    let begun = Instant::now();
    // Again: one that is being started begins another.
    while let Some(process) = find(files) {
        let pid = process.pid();
        match kill(process.0, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(LabError::refused(format!("ending process {pid}: {error}"))),
        }
        if begun.elapsed() > KILLED_MAX {
            return Err(LabError::refused(format!("process {pid} was killed and does not end")));
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::config;
    use std::process::Stdio;

    fn machine(text: &str) -> Machine {
        config::parse(text, "f").unwrap().remove(0)
    }

    #[test]
    fn the_command_line_says_what_the_file_says() {
        let files = Files::within(Path::new("/labs/a,b/machines/p1"));
        let p1 = machine("p1: {ip: 10.0.17.9, memory: 512, cpus: 3, type: agent-public}");
        let words = arguments(&p1, &files, "tap9", Accel::Tcg);
        let after = |name: &str| -> Vec<&str> {
            let pairs = words.windows(2).filter(|pair| pair[0] == name);
            pairs.map(|pair| pair[1].as_str()).collect()
        };
        assert_eq!((after("-m"), after("-smp")), (vec!["512"], vec!["3"]));
        assert_eq!(
            (after("-accel"), after("-cpu")),
            (vec!["tcg,thread=single,tb-size=32"], vec!["max"])
        );
        assert!(
            after("-drive")[0].starts_with("file=/labs/a,,b/machines/p1/disk.qcow2,format=qcow2")
        );
        assert!(after("-drive")[1].contains("settings.iso,format=raw") && words.len() > 30);
        assert_eq!(after("-netdev"), ["tap,id=net,ifname=tap9,script=no,downscript=no"]);
        assert!(after("-device").iter().any(|one| one.ends_with("mac=52:54:00:00:11:09")));
        assert_eq!(after("-pidfile"), ["/labs/a,b/machines/p1/pid"]);
        assert!(words.contains(&"-daemonize".to_string()));
        let uuid = after("-uuid")[0];
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(uuid, super::uuid(&Files::within(Path::new("/labs/other"))));
        let words = arguments(&p1, &files, "tap9", Accel::Kvm);
        assert!(words.contains(&"kvm".to_string()) && words.contains(&"host".to_string()));
    }

    #[test]
    fn a_machine_is_found_by_its_files_and_ended_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (files, others) = (Files::within(dir.path()), Files::within(&dir.path().join("b")));
        assert!(find(&files).is_none());
        let sleeper = |files: &Files| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "read line", "qemu", PID_FILE]).arg(&files.pid);
            shell.stdin(Stdio::piped()).spawn().unwrap()
        };
        let (mut ours, mut other) = (sleeper(&files), sleeper(&others));
        // Between fork and exec it is still this process by name.
        while find(&files).is_none() || find(&others).is_none() {
            sleep(LOOK_EVERY);
        }
        assert!(find(&files).unwrap().memory() > 0);
        let reaper = std::thread::spawn(move || ours.wait().unwrap());
        stop(&files).unwrap();
        assert!(!reaper.join().unwrap().success());
        assert!(find(&files).is_none() && find(&others).is_some());
        drop(other.stdin.take());
        assert!(other.wait().is_ok());
        stop(&others).unwrap();
    }
}
