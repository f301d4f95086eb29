//! The keys of the lab's cluster: made once for a lab, by bramble itself.

use super::error::LabError;
use super::settings::CLUSTER;
use crate::disk::DiskError;
use crate::disk::error::{Doing, at};
use crate::disk::tool::run;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "bramble";
/// Where `make build` notes what it made.
const BUILT: &str = "target/bramble-path";

/// What nodes are told to form one cluster.
pub struct Keys {
    pub token: String,
    /// The founding file, as it is.
    pub founding: Vec<u8>,
}

impl Keys {
    /// Read the keys in `directory`, or have `bramble` make them there.
    ///
    /// # Errors
    /// bramble is not here, or says why it fails.
    pub fn settle(directory: &Path, bramble: Option<&Path>) -> Result<Keys, LabError> {
        if !directory.exists() {
            // Both files or none: what was cut off is begun anew.
            let beside = directory.with_extension("new");
            let _ = fs::remove_dir_all(&beside);
            let program = program(bramble)?;
            let mut command = super::machine::command(&program);
            run(command.args(["cluster", "new", CLUSTER, "--out"]).arg(&beside))?;
            fs::rename(&beside, directory).doing(at("making", directory))?;
        }
        let read = |end: &str| {
            let path = directory.join(format!("{CLUSTER}.{end}"));
            fs::read(&path).doing(at("reading", &path))
        };
        let token = String::from_utf8_lossy(&read("token")?).trim().to_string();
        Ok(Keys { token, founding: read("founding")? })
    }
}

/// The program that makes keys: as given, else beside this one, else what was built here, else the
/// one in the path.
fn program(given: Option<&Path>) -> Result<String, LabError> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 1 != 0)
    };
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    if let Some(path) = given {
        let path = path.to_path_buf();
        let none = || format!("{} is no program; --bramble names bramble's", path.display());
        return is_program(&path).then(|| text(path.clone())).ok_or_else(|| refused(none()));
    }
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let built = fs::read_to_string(BUILT).ok().map(|path| PathBuf::from(path.trim()));
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|directory| directory.join(PROGRAM));
    let mut all = beside.into_iter().chain(built).chain(found);
    all.find(is_program).map(text).ok_or_else(|| {
        refused(
            "bramble is not here, which makes the lab's keys: run `make build`, or name it with \
             --bramble FILE"
                .into(),
        )
    })
}

fn refused(text: String) -> LabError {
    LabError::Disk(DiskError::Refused(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (keys, program) = (dir.path().join("keys"), dir.path().join("bramble"));
        let said = Keys::settle(&keys, Some(&program)).err().unwrap().to_string();
        assert!(said.contains("--bramble"), "{said}");
        let script = |text: &str| {
            fs::write(&program, format!("#!/bin/sh\nset -e\n{text}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("mkdir \"$5\"; echo half > \"$5/lab.founding\"; echo no luck >&2; exit 1");
        let said = Keys::settle(&keys, Some(&program)).err().unwrap().to_string();
        assert!(said.contains("no luck") && !keys.exists(), "{said}");
        script(
            "[ \"$1 $2 $3 $4\" = \"cluster new lab --out\" ]; mkdir \"$5\"; echo key > \"$5/lab.founding\"; echo token > \"$5/lab.token\"",
        );
        let made = Keys::settle(&keys, Some(&program)).unwrap();
        assert_eq!((made.token.as_str(), &made.founding[..]), ("token", &b"key\n"[..]));
        // Later ones ask nobody.
        assert_eq!(Keys::settle(&keys, Some(Path::new("/nothing"))).unwrap().token, "token");
    }
}
