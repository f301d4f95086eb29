//! `bramble uninstall`: stop what runs here, remove what bramble made on this machine, and say what
//! that was.
//!
//! Removes nothing that is not a node's: a directory without one's files is refused, and so is one
//! below which others have mounted something.

use super::down;
use crate::config::{DATA_DIR, NodeConfig};
use crate::output::{print, print_json};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::io::{BufRead, ErrorKind, IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = "bramble.service";
/// Where a unit is an administrator's own; elsewhere it is a package's.
const OWN_UNITS: &str = "/etc/systemd/system";
/// There only where systemd runs.
const SYSTEMD_RUNS: &str = "/run/systemd/system";
/// What a data directory of a node has at least one of.
const DATA_MARKS: [&str; 4] = ["lock", "identity", "agent", "master"];
/// The same of a run directory.
const RUN_MARKS: [&str; 3] = ["node", "tasks", "bramble.sock"];
/// What must not be removed, however empty-handed the question was answered.
const NEVER: [&str; 12] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/root", "/run", "/tmp", "/usr", "/var",
    "/var/lib",
];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Uninstall {
    pub yes: bool,
    pub keep_data: bool,
}

/// What was done, for the user.
#[derive(Default)]
struct Report {
    removed: Vec<String>,
    kept: Vec<String>,
}

pub async fn run(config: NodeConfig, asked: Uninstall, as_json: bool) -> Result<u8> {
    let mut directories = vec![(config.run_dir.clone(), &RUN_MARKS[..])];
    if !asked.keep_data {
        directories.push((config.data_dir.clone(), &DATA_MARKS[..]));
    }
    for (directory, marks) in &directories {
        check(directory, marks)?;
    }
    if !asked.yes && !agreed(&config, asked).await? {
        bail!("nothing was removed");
    }
    let mut report = Report::default();
    let managed = config.data_dir == Path::new(DATA_DIR) && Path::new(SYSTEMD_RUNS).exists();
    if managed {
        disable_unit(&mut report)?;
    }
    let cgroup = CgroupParent::of(&config.cgroup_parent);
    if config.data_dir.exists() {
        let (claim, stopped) = down::stop(&config).await.context("stopping the node")?;
        report.removed.push(match stopped {
            0 => "apps and their containers, none of which ran any more".into(),
            count => format!("apps and their containers ({count} were stopped now)"),
        });
        report.removed.push("the containers' bridge and its nftables table".into());
        drop(claim);
    }
    cgroup.report(&mut report)?;
    for (directory, _) in directories {
        remove(&directory, &mut report)?;
    }
    if asked.keep_data && config.data_dir.exists() {
        report.kept.push(format!("{} (--keep-data)", config.data_dir.display()));
    }
    if managed {
        remove_unit(&mut report)?;
    }
    remains(&mut report);
    tell(&report, as_json)?;
    Ok(0)
}

/// Whether a directory may be removed: one that is not there may.
fn check(directory: &Path, marks: &[&str]) -> Result<()> {
    let shown = directory.display();
    let real = match directory.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {shown}")),
    };
    let mut entries = std::fs::read_dir(&real).with_context(|| format!("looking into {shown}"))?;
    let empty = entries.next().is_none();
    let ours = marks.iter().any(|mark| real.join(mark).exists());
    if NEVER.iter().any(|never| real == Path::new(never)) || !(empty || ours) {
        bail!("{shown} is no directory of a node; nothing was removed");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    // Those of running tasks are in their own namespaces.
    match mounted_below(&mounts, &real) {
        Some(mount) => bail!(
            "{mount} is mounted below {shown}, and its files would be lost; unmount it first. \
             Nothing was removed"
        ),
        None => Ok(()),
    }
}

/// The first mount below a directory; one on the directory itself is none.
fn mounted_below(mounts: &str, directory: &Path) -> Option<String> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    // The kernel writes spaces and the like in octal.
    let mut points = points.map(|point| point.replace("\\040", " ").replace("\\011", "\t"));
    points.find(|point| {
        let path = Path::new(point);
        path.starts_with(directory) && path != directory
    })
}

/// Ask whoever sits at the terminal.
async fn agreed(config: &NodeConfig, asked: Uninstall) -> Result<bool> {
    let data = match asked.keep_data {
        true => format!(
            "{} stays: `bramble up` makes this the same node again.",
            config.data_dir.display()
        ),
        false => format!(
            "{} is removed: this node's log and keys, images, and the data of all volumes here. \
             Without a backup and as the only master, the cluster's definitions and secrets are \
             lost for ever.",
            config.data_dir.display()
        ),
    };
    let question = format!(
        "This stops bramble and every app on this machine, and removes what it made here.\n{data}\n"
    );
    if !stdin().is_terminal() {
        bail!("{}Say --yes if that is meant.", question.replace('\n', " "));
    }
    let mut out = stderr();
    write!(out, "{question}Go on? (yes/no) ").and_then(|()| out.flush()).context("asking")?;
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        typed = typed => Ok(typed.context("asking")?.context("reading the answer")?.trim() == "yes"),
        _ = tokio::signal::ctrl_c() => Ok(false),
    }
}

/// The cgroup above all tasks, in every hierarchy that had it.
struct CgroupParent {
    directories: Vec<PathBuf>,
}

impl CgroupParent {
    fn of(parent: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup")
                .then(|| Path::new(point).join(parent.trim_start_matches('/')))
        });
        Self { directories: points.filter(|directory| directory.exists()).collect() }
    }

    /// Say what became of it, once every task has ended.
    fn report(&self, report: &mut Report) -> Result<()> {
        for directory in &self.directories {
            match std::fs::remove_dir(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    report.kept.push(format!("cgroup {}: {error}", directory.display()));
                }
                _ => report.removed.push(format!("cgroup {}", directory.display())),
            }
        }
        Ok(())
    }
}

fn remove(directory: &Path, report: &mut Report) -> Result<()> {
    let shown = directory.display();
    let removed = match std::fs::remove_dir_all(directory) {
        // A disk of its own, or systemd's: the directory itself cannot go, what was in it has.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed,
    };
    removed.with_context(|| format!("removing {shown}"))?;
    report.removed.push(shown.to_string());
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<bool> {
    let output = Command::new("systemctl").args(arguments).output();
    Ok(output
        .with_context(|| format!("running systemctl {}", arguments.join(" ")))?
        .status
        .success())
}

/// Keep systemd from starting the node again, now and at boot.
fn disable_unit(report: &mut Report) -> Result<()> {
    if systemctl(&["cat", UNIT])? {
        if !systemctl(&["disable", "--now", UNIT])? {
            bail!("systemctl disable --now {UNIT} failed; see its status");
        }
        report.removed.push(format!("{UNIT} from what is started"));
    }
    Ok(())
}

fn remove_unit(report: &mut Report) -> Result<()> {
    let unit = Path::new(OWN_UNITS).join(UNIT);
    for path in [unit.clone(), unit.with_extension("service.d")] {
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Ok(()) => report.removed.push(path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
        }
    }
    systemctl(&["daemon-reload"])?;
    if systemctl(&["cat", UNIT])? {
        report.kept.push(format!("{UNIT}, which a package brought: apt purge bramble"));
    }
    Ok(())
}

/// What an administrator made, or may want to read once more.
fn remains(report: &mut Report) {
    if let Ok(program) = std::env::current_exe() {
        report.kept.push(program.display().to_string());
    }
    if Path::new("/etc/bramble").exists() {
        report.kept.push("/etc/bramble".into());
    }
}

fn tell(report: &Report, as_json: bool) -> Result<()> {
    if as_json {
        return print_json(&json!({ "removed": report.removed, "kept": report.kept }));
    }
    let line = |what: &str, all: &[String]| -> String {
        all.iter().map(|one| format!("{what} {one}\n")).collect()
    };
    print(&(line("removed", &report.removed) + &line("left   ", &report.kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_inside_count() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /var/lib/bramble ext4 rw 0 0\n";
        let data = Path::new("/var/lib/bramble");
        assert_eq!(mounted_below(mounts, data), None);
        let more = format!("{mounts}nas:/x /var/lib/bramble/volumes/a\\040b nfs rw 0 0\n");
        assert_eq!(mounted_below(&more, data).as_deref(), Some("/var/lib/bramble/volumes/a b"));
        assert_eq!(mounted_below(&more, Path::new("/var/lib/bram")), None);
    }

    #[test]
    fn what_is_no_nodes_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path();
        check(path, &DATA_MARKS).expect("an empty one holds nothing");
        check(&path.join("absent"), &DATA_MARKS).expect("one that is not there, neither");
        std::fs::write(path.join("thesis.tex"), "").expect("written");
        let refused = check(path, &DATA_MARKS).expect_err("somebody's").to_string();
        assert!(refused.contains("no directory of a node"), "{refused}");
        std::fs::write(path.join("lock"), "").expect("written");
        check(path, &DATA_MARKS).expect("a node's");
        for never in NEVER.iter().filter(|path| Path::new(path).exists()) {
            assert!(check(Path::new(never), &DATA_MARKS).is_err(), "{never}");
        }
    }
}
