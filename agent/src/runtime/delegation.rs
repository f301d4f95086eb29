//! Handing controllers down to the agent's own part of a unified hierarchy. Owns the
//! `cgroup.subtree_control` files from the mount to the agent's parent; must only ever add to
//! them, since others (systemd) share all but the last.

use super::cgroup::{CgroupError, Hierarchies};
use std::fs;
use std::io;
use std::path::{Component, Path};

impl Hierarchies {
    /// Enable every controller for the children of `parent` (an absolute cgroup path, made when it
    /// is missing), and from here on know only those that could be. A level whose own processes
    /// forbid it (cgroup v2's "no internal processes", for example inside a container) would
    /// otherwise make every limit below fail instead of be missing. Does nothing where limits go
    /// through v1.
    ///
    /// # Errors
    /// A directory of `parent` cannot be made: then no container can be either.
    pub fn delegate(&mut self, parent: &str) -> Result<(), CgroupError> {
        let (true, Some(unified)) = (self.is_unified(), &self.unified) else { return Ok(()) };
        let mut dir = unified.clone();
        let mut given = enable(&dir, &self.unified_controllers);
        for part in Path::new(parent).components() {
            let Component::Normal(name) = part else { continue };
            dir.push(name);
            match fs::create_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError::Create { path: dir, source: e });
                }
                _ => {}
            }
            given = enable(&dir, &given);
        }
        self.unified_controllers = given;
        Ok(())
    }
}

/// Enable what can be of `wanted` for the children of `dir`; gives what they have.
fn enable(dir: &Path, wanted: &[String]) -> Vec<String> {
    let file = dir.join("cgroup.subtree_control");
    let missing: &[String] = if is_occupied(dir) { &[] } else { wanted };
    for controller in missing {
        // One by one: a write of several is refused whole when one of them is.
        if let Err(error) = fs::write(&file, format!("+{controller}")) {
            tracing::debug!(controller, dir = %dir.display(), %error, "not handed down");
        }
    }
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let has = |controller: &String| enabled.split_whitespace().any(|e| e == controller);
    wanted.iter().filter(|c| has(c)).cloned().collect()
}

/// Whether a level has processes of its own, the root apart, for which that is no matter. The
/// kernel would refuse it `memory`, but take `cpu` and `pids` and thereby make it a threaded
/// domain, below which no process can be put any more.
fn is_occupied(dir: &Path) -> bool {
    // The only file of these that a root does not have.
    dir.join("cgroup.type").exists()
        && fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::V1Mount;
    use super::*;

    fn unified(mount: &Path) -> Hierarchies {
        Hierarchies {
            v1: Vec::new(),
            unified: Some(mount.to_path_buf()),
            unified_controllers: vec!["cpu".into(), "memory".into()],
        }
    }

    #[test]
    fn v1_is_left_alone() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut hybrid = unified(dir.path());
        hybrid.v1.push(V1Mount { controllers: vec!["cpu".into()], mount: dir.path().into() });
        hybrid.delegate("/bramble").expect("nothing to do");
        assert!(!dir.path().join("bramble").exists());
    }

    #[test]
    fn what_is_not_granted_is_not_known() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut machine = unified(dir.path());
        // A plain file grants nothing: it only keeps the words "+cpu", "+memory".
        machine.delegate("/outer/inner").expect("directories can be made");
        assert!(dir.path().join("outer/inner").is_dir());
        assert!(!machine.has("cpu") && !machine.has("memory"));
        machine.delegate("/outer/inner").expect("directories may be there");
        let asked = fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("control");
        assert_eq!(asked, "+memory");
        assert!(!dir.path().join("outer/cgroup.subtree_control").exists(), "nothing to hand on");
        fs::write(dir.path().join("file"), "").expect("file");
        assert!(matches!(machine.delegate("/file/inner"), Err(CgroupError::Create { .. })));
    }

    #[test]
    fn an_occupied_level_is_not_written_to() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join("cgroup.procs"), "7\n").expect("procs");
        fs::write(dir.path().join("cgroup.subtree_control"), "memory\n").expect("control");
        let wanted = ["cpu".to_string(), "memory".to_string()];
        fs::write(dir.path().join("cgroup.type"), "domain\n").expect("type");
        assert_eq!(enable(dir.path(), &wanted), ["memory"]);
        // The root has no type, and processes do not matter there.
        fs::remove_file(dir.path().join("cgroup.type")).expect("removes");
        enable(dir.path(), &wanted);
        let text = fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("control");
        assert_eq!(text, "+memory");
    }
}
