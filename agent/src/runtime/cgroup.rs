//! The cgroup hierarchies of this machine and one task's directories in them. Owns reading
//! counters, killing and removing; limits are `limits`' and libcontainer's. Must never touch a directory outside
//! the task's own path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use thiserror::Error;

/// Where every distribution mounts its hierarchies, or the one there is.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Period of CPU quotas in microseconds.
pub const CPU_PERIOD_US: u64 = 100_000;
/// Longest wait between two looks at processes that were killed.
const KILL_PAUSE_MAX: Duration = Duration::from_millis(50);
/// Looks at a cgroup before giving up on emptying it: about ten seconds.
const KILL_ROUNDS_MAX: u32 = 200;
/// Tries of one rmdir: the kernel answers "busy" while the last process is being torn down.
const REMOVE_TRIES_MAX: u32 = 200;
/// Pause between two tries of rmdir.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Error)]
pub enum CgroupError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {value} to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("making cgroup {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("removing cgroup {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("processes {pids:?} in cgroup {cgroup} outlive SIGKILL")]
    Unkillable { cgroup: String, pids: Vec<i32> },
    #[error(
        "{} KiB of memory are in use, which is more than the new limit of {} KiB",
        used_bytes / 1024,
        limit_bytes / 1024
    )]
    MemoryInUse { used_bytes: u64, limit_bytes: u64 },
    #[error("no cgroup file system is mounted")]
    NoCgroups,
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    pub controllers: Vec<String>,
    pub mount: PathBuf,
}

/// Where this machine's cgroup file systems are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    pub v1: Vec<V1Mount>,
    pub unified: Option<PathBuf>,
    /// Controllers of the unified hierarchy that tasks can have; empty on a hybrid system.
    pub unified_controllers: Vec<String>,
}

/// v1 controllers that libcontainer joins; named hierarchies (systemd) are left alone.
const V1_CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "memory",
    "pids",
    "blkio",
    "hugetlb",
    "perf_event",
    "net_cls",
    "net_prio",
];

impl Hierarchies {
    /// Find the hierarchies with one reading of mountinfo.
    ///
    /// # Errors
    /// mountinfo cannot be read, or no cgroup file system is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let text = fs::read_to_string(&path)
            .map_err(|source| CgroupError::Read { path: path.clone(), source })?;
        let mut found = Self::parse(&text);
        if found.v1.is_empty() && found.unified.is_none() {
            return Err(CgroupError::NoCgroups);
        }
        if let Some(unified) = &found.unified {
            let listed = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
            found.unified_controllers = listed.split_whitespace().map(str::to_string).collect();
        }
        Ok(found)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut right = right.split(' ');
            let kind = right.next().unwrap_or_default();
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            match kind {
                "cgroup2" if found.unified.is_none() => found.unified = Some(mount),
                "cgroup" => {
                    let options = right.nth(1).unwrap_or_default();
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|o| V1_CONTROLLERS.contains(o))
                        .map(str::to_string)
                        .collect();
                    let known = found.v1.iter().any(|m| m.controllers == controllers);
                    if !controllers.is_empty() && !known {
                        found.v1.push(V1Mount { controllers, mount });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Whether limits go through the unified hierarchy. Decided by what is mounted at
    /// [`CGROUP_ROOT`], as libcontainer does: a v1 hierarchy elsewhere (VPN programs mount
    /// `net_cls`) does not make a v2 machine a hybrid one.
    pub fn is_unified(&self) -> bool {
        self.v1.is_empty() || self.unified.as_deref() == Some(Path::new(CGROUP_ROOT))
    }

    /// Whether a controller is there at all (Raspberry Pi OS boots without `memory`).
    pub fn has(&self, controller: &str) -> bool {
        match self.is_unified() {
            true => self.unified_controllers.iter().any(|c| c == controller),
            false => self.v1_mount(controller).is_some(),
        }
    }

    /// Where a v1 controller is mounted.
    pub fn v1_mount(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|m| m.controllers.iter().any(|c| c == controller))
            .map(|m| m.mount.as_path())
    }

    /// One task's cgroup, named by its absolute path below each hierarchy.
    pub fn task(&self, path: &str) -> TaskCgroup<'_> {
        TaskCgroup { hierarchies: self, path: path.trim_matches('/').to_string() }
    }
}

/// The directories of one task.
pub struct TaskCgroup<'a> {
    hierarchies: &'a Hierarchies,
    path: String,
}

impl TaskCgroup<'_> {
    fn dirs(&self) -> Vec<PathBuf> {
        let v1 = self.hierarchies.v1.iter().map(|m| m.mount.join(&self.path));
        let unified = self.hierarchies.unified.iter().map(|m| m.join(&self.path));
        v1.chain(unified).filter(|dir| dir.is_dir()).collect()
    }

    pub(super) fn is_unified(&self) -> bool {
        self.hierarchies.is_unified()
    }

    /// Path of a controller's file under either version, whether or not it is there.
    pub(super) fn controller_file(&self, controller: &str, v1: &str, v2: &str) -> Option<PathBuf> {
        if self.hierarchies.is_unified() {
            return Some(self.hierarchies.unified.as_ref()?.join(&self.path).join(v2));
        }
        Some(self.hierarchies.v1_mount(controller)?.join(&self.path).join(v1))
    }

    /// Make the task's directory on a unified machine. libcontainer would, but only after writing
    /// every controller to each level above, which is [`Hierarchies::delegate`]'s to decide; with
    /// a directory that is there it leaves them alone.
    ///
    /// # Errors
    /// The kernel refuses the directory.
    pub fn make(&self) -> Result<(), CgroupError> {
        let (true, Some(unified)) = (self.hierarchies.is_unified(), &self.hierarchies.unified)
        else {
            return Ok(());
        };
        let path = unified.join(&self.path);
        if let Some(parent) = Path::new(&self.path).parent()
            && !unified.join(parent).is_dir()
        {
            // Someone has removed it while it was empty; a new one hands nothing down by itself.
            self.hierarchies.clone().delegate(&parent.to_string_lossy())?;
        }
        fs::create_dir_all(&path).map_err(|source| CgroupError::Create { path, source })
    }

    /// Every process in the task's cgroups and below. A union, because a task whose creation was
    /// cut short has joined only some hierarchies.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.dirs() {
            collect_processes(&dir, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kill everything inside and wait until it is gone.
    ///
    /// # Errors
    /// Processes that do not end (uninterruptible sleep).
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let mut pause = Duration::from_micros(500);
        for _ in 0..KILL_ROUNDS_MAX {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(());
            }
            self.kill_now(&pids);
            sleep(pause);
            pause = (pause * 2).min(KILL_PAUSE_MAX);
        }
        Err(CgroupError::Unkillable { cgroup: self.path.clone(), pids: self.processes() })
    }

    /// Send SIGKILL to everything inside without waiting.
    pub fn kill_once(&self) {
        self.kill_now(&self.processes());
    }

    fn kill_now(&self, pids: &[i32]) {
        if let Some(unified) = &self.hierarchies.unified {
            // Catches forks in flight, unlike a walk over pids. Absent before Linux 5.14.
            let _absent = fs::write(unified.join(&self.path).join("cgroup.kill"), "1");
        }
        for &pid in pids {
            let _gone = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }

    /// How many processes the kernel killed for memory; 0 where nothing counts them.
    pub fn oom_kills(&self) -> u64 {
        self.controller_file("memory", "memory.oom_control", "memory.events")
            .and_then(|file| fs::read_to_string(file).ok())
            .map_or(0, |text| flat_keyed(&text, "oom_kill"))
    }

    /// Set the CPU ceiling in microseconds per [`CPU_PERIOD_US`]; `None` lifts it.
    ///
    /// # Errors
    /// The kernel refuses the value. A machine without the controller is not an error.
    pub fn set_cpu_quota(&self, quota_us: Option<u64>) -> Result<(), CgroupError> {
        if !self.hierarchies.has("cpu") {
            return Ok(());
        }
        let unified = self.hierarchies.is_unified();
        let none = if unified { "max" } else { "-1" };
        let quota = quota_us.map_or(none.to_string(), |quota| quota.to_string());
        let writes: &[(&str, String)] = match unified {
            true => &[("cpu.max", format!("{quota} {CPU_PERIOD_US}"))],
            false => {
                &[("cpu.cfs_period_us", CPU_PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota)]
            }
        };
        for (name, value) in writes {
            let file = self.controller_file("cpu", name, name);
            // A controller that a level above keeps to itself has no file here.
            if let Some(path) = file.filter(|file| !unified || file.exists()) {
                fs::write(&path, value).map_err(|source| CgroupError::Write {
                    path,
                    value: value.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Forbid swap on a unified hierarchy, where libcontainer leaves it open. Kernels without
    /// swap accounting have no such file; then there is nothing to forbid.
    pub fn forbid_swap(&self) {
        if let (true, Some(unified)) = (self.hierarchies.is_unified(), &self.hierarchies.unified) {
            let _absent = fs::write(unified.join(&self.path).join("memory.swap.max"), "0");
        }
    }

    /// The memory limit in force in bytes, as the kernel tells it.
    pub fn memory_limit(&self) -> Option<u64> {
        let file = self.controller_file("memory", "memory.limit_in_bytes", "memory.max")?;
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Remove the task's directories, deepest first. Absent ones are fine.
    ///
    /// # Errors
    /// A directory that stays busy.
    pub fn remove(&self) -> Result<(), CgroupError> {
        // An empty path would name the root of every hierarchy.
        if self.path.is_empty() {
            return Ok(());
        }
        self.dirs().iter().try_for_each(|dir| remove_tree(dir))
    }

    /// Remove the directories themselves where nothing is in them: for an agent's parent, which
    /// others may share.
    pub fn remove_where_empty(&self) {
        if self.path.is_empty() {
            return;
        }
        for dir in self.dirs() {
            // The kernel refuses while a process or another cgroup is in it.
            let _in_use = fs::remove_dir(dir);
        }
    }
}

fn flat_keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

fn collect_processes(dir: &Path, pids: &mut Vec<i32>) {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process outside our pid namespace: not ours to signal.
    pids.extend(listed.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in child_dirs(dir) {
        collect_processes(&child, pids);
    }
}

fn child_dirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    for child in child_dirs(dir) {
        remove_tree(&child)?;
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && tries < REMOVE_TRIES_MAX => {
                tries += 1;
                sleep(REMOVE_PAUSE);
            }
            Err(source) => return Err(CgroupError::Remove { path: dir.to_path_buf(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:20 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw
26 25 0:21 / /sys/fs/cgroup/cpu,cpuacct rw shared:2 - cgroup cgroup rw,cpu,cpuacct
27 25 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
30 25 0:22 / /srv/copy rw - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_limits_go_through_v1() {
        let found = Hierarchies::parse(HYBRID);
        assert!(!found.is_unified());
        assert_eq!(found.v1.len(), 2, "named hierarchies and copies are left out: {found:?}");
        assert!(found.has("cpuacct") && found.has("memory") && !found.has("pids"));
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn unified_asks_its_own_list() {
        let line = "30 1 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let mut found = Hierarchies::parse(line);
        assert!(found.is_unified() && !found.has("memory"));
        found.unified_controllers = vec!["memory".into()];
        assert!(found.has("memory"));
    }

    #[test]
    fn a_stray_v1_mount_leaves_a_unified_machine_unified() {
        let lines = "30 1 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                     31 1 0:21 / /run/vpn/net_cls rw - cgroup net_cls rw,net_cls\n";
        let mut found = Hierarchies::parse(lines);
        found.unified_controllers = vec!["memory".into()];
        assert!(found.is_unified() && found.has("memory") && !found.has("net_cls"));
    }

    #[test]
    fn counters_are_found_by_whole_key() {
        let events = "low 0\noom 7\noom_kill 2\noom_group_kill 9\n";
        assert_eq!(flat_keyed(events, "oom_kill"), 2);
        assert_eq!(flat_keyed("oom_kill_disable 1", "oom_kill"), 0);
    }
}
