//! What a node left on the machine.

use crate::process::{cgroup_directories, cgroup_processes};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything that should be gone when no task of a node lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub processes: Vec<i32>,
    pub cgroups: Vec<PathBuf>,
    pub mounts: Vec<String>,
    pub task_directories: Vec<String>,
}

impl Leftovers {
    /// Look for what tasks of a node leave: processes and directories in its cgroups (the parent
    /// itself may stay), mounts below its directories, task directories.
    pub fn of(cgroup_parent: &str, root: &Path, run_dir: &Path) -> Self {
        let parent = Path::new(cgroup_parent);
        let mut cgroups = cgroup_directories(cgroup_parent);
        cgroups.retain(|dir| !dir.ends_with(parent.strip_prefix("/").unwrap_or(parent)));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = root.display().to_string();
        let tasks = fs::read_dir(run_dir.join("tasks"));
        Self {
            processes: cgroup_processes(cgroup_parent),
            cgroups,
            mounts: mounts.lines().filter(|l| l.contains(&below)).map(str::to_string).collect(),
            task_directories: tasks
                .map(|all| all.flatten().map(|e| e.path().display().to_string()).collect())
                .unwrap_or_default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Kill every process whose command line names something below `root`, a directory of a test:
/// executors that are not in their cgroup yet, and whoever else works there.
pub(crate) fn end_all_of(root: &Path) {
    let below = root.display().to_string();
    for pid in crate::process::naming(&below) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}

/// Kill and remove whatever is below `parent`, after a test whatever its outcome.
pub(crate) fn sweep(parent: &str) {
    for _ in 0..50 {
        let pids = cgroup_processes(parent);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        // A killed process is gone at once, but for a busy machine: a second in all.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for directory in cgroup_directories(parent) {
        let _ = fs::remove_dir(directory);
    }
}
