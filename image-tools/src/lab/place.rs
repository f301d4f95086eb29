//! A lab's directory: what is in it, and that only one at a time changes it.
//!
//! ```text
//! lab.json                the network; first made, last removed: what has it is a lab
//! lock                    held while something is made or removed
//! keys/                   the cluster's founding file and token
//! images/                 what the machines' disks are based on
//! accel                   what runs processors here, once it was tried; meanwhile trial/
//! machines/NAME/          machine.json, disk.qcow2, settings.iso, console.log, pid
//! ```

use super::config::{Machine, network_of};
use super::error::LabError;
use super::network::{Network, host_address};
use crate::disk::error::{Doing, at};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const DESCRIPTION: &str = "lab.json";
const LOCK: &str = "lock";
const KEYS: &str = "keys";
const IMAGES: &str = "images";
const MACHINES: &str = "machines";
const ACCEL: &str = "accel";
const TRIAL: &str = "trial";
/// Letters of a lab's id, which names of interfaces have room for.
const ID_LETTERS: usize = 8;

/// What a lab is, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    network: Ipv4Addr,
    host: Ipv4Addr,
}

/// A lab.
#[derive(Debug)]
pub struct Place {
    top: PathBuf,
    description: Description,
}

/// Files of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub top: PathBuf,
    pub description: PathBuf,
    pub disk: PathBuf,
    pub settings: PathBuf,
    pub console: PathBuf,
    pub pid: PathBuf,
}

impl Files {
    /// Below a directory of the machine's own.
    pub fn within(top: &Path) -> Files {
        let path = |name: &str| top.join(name);
        Files {
            description: path("machine.json"),
            disk: path("disk.qcow2"),
            settings: path("settings.iso"),
            console: path("console.log"),
            pid: path("pid"),
            top: top.into(),
        }
    }

    pub fn exist(&self) -> bool {
        self.top.exists()
    }
}

/// Nobody else changes the lab.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held until dropped")] Flock<File>);

impl Place {
    /// Open the lab in a directory; none where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(directory: &Path) -> Result<Option<Place>, LabError> {
        let path = directory.join(DESCRIPTION);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.doing(at("reading", &path))?,
        };
        let top = directory.canonicalize().doing(at("finding", directory))?;
        let description =
            serde_json::from_slice(&text).map_err(io::Error::from).doing(at("reading", &path))?;
        Ok(Some(Place { top, description }))
    }

    /// Open the lab for these machines, or make it; says whether it is new.
    ///
    /// # Errors
    /// The directory is something else's, or the lab is in another network.
    pub fn open_or_make(directory: &Path, machines: &[Machine]) -> Result<(Place, bool), LabError> {
        let taken: Vec<_> = machines.iter().map(|machine| machine.ip).collect();
        let network = network_of(taken[0]);
        if let Some(place) = Place::open(directory)? {
            let there = place.description;
            let shown = directory.display();
            if there.network != network {
                return Err(LabError::refused(format!(
                    "the lab in {shown} is in network {}, and the machines' file says {network}: \
                     destroy it first, or name another with --dir",
                    there.network
                )));
            }
            if taken.contains(&there.host) {
                return Err(LabError::refused(format!(
                    "{} is this host's address in the lab in {shown}: give that machine another",
                    there.host
                )));
            }
            return Ok((place, false));
        }
        private(directory)?;
        let mut entries = fs::read_dir(directory).doing(at("reading", directory))?;
        if entries.next().is_some() {
            return Err(LabError::refused(format!(
                "{} is not empty and no lab: name another directory with --dir",
                directory.display()
            )));
        }
        let top = directory.canonicalize().doing(at("finding", directory))?;
        let place = Place {
            top,
            description: Description { network, host: host_address(network, &taken)? },
        };
        write_json(&place.top.join(DESCRIPTION), &place.description)?;
        Ok((place, true))
    }

    pub fn keys(&self) -> PathBuf {
        self.top.join(KEYS)
    }

    /// Where images are kept; made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn images(&self) -> Result<PathBuf, LabError> {
        let path = self.top.join(IMAGES);
        private(&path)?;
        Ok(path)
    }

    pub fn accel(&self) -> PathBuf {
        self.top.join(ACCEL)
    }

    /// Files of a machine that is tried; made if they are not there.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn trial(&self) -> Result<Files, LabError> {
        let files = Files::within(&self.top.join(TRIAL));
        private(&files.top)?;
        Ok(files)
    }

    pub fn network(&self) -> Network {
        let digest = Sha256::digest(self.top.as_os_str().as_encoded_bytes());
        let id = hex::encode(digest)[..ID_LETTERS].to_string();
        Network::of(&id, self.description.network, self.description.host)
    }

    pub fn files(&self, name: &str) -> Files {
        Files::within(&self.top.join(MACHINES).join(name))
    }

    /// Make a machine's directory, with what it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn describe(&self, machine: &Machine) -> Result<Files, LabError> {
        private(&self.top.join(MACHINES))?;
        let files = self.files(&machine.name);
        private(&files.top)?;
        write_json(&files.description, machine)?;
        Ok(files)
    }

    /// The machines that were made, whole or half, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn made(&self) -> Result<Vec<(String, Option<Machine>)>, LabError> {
        let path = self.top.join(MACHINES);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(at("reading", &path))?,
        };
        let mut made = Vec::new();
        for entry in entries {
            let name = entry.doing(at("reading", &path))?.file_name();
            let name = name.to_string_lossy().into_owned();
            let text = fs::read(self.files(&name).description).ok();
            let machine = text.and_then(|text| serde_json::from_slice(&text).ok());
            made.push((name, machine));
        }
        made.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(made)
    }

    /// Be the only one that changes the lab.
    ///
    /// # Errors
    /// Another is at it.
    pub fn alone(&self) -> Result<Alone, LabError> {
        self.lock(FlockArg::LockExclusiveNonblock)
    }

    /// Be the only one that changes the lab, once those are done who are at it.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn alone_after_others(&self) -> Result<Alone, LabError> {
        self.lock(FlockArg::LockExclusive)
    }

    fn lock(&self, how: FlockArg) -> Result<Alone, LabError> {
        let path = self.top.join(LOCK);
        let file = File::create(&path).doing(at("writing", &path))?;
        Flock::lock(file, how).map(Alone).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => LabError::refused(format!(
                "another `bramble-image lab` is at work in {}: wait for it",
                self.top.display()
            )),
            error => LabError::refused(format!("locking {}: {error}", path.display())),
        })
    }

    /// Remove a machine's files.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn remove_machine(&self, name: &str) -> Result<(), LabError> {
        remove(&self.files(name).top)
    }

    /// Remove the lab's own files, and its directory unless something else is in it.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn remove(self) -> Result<(), LabError> {
        let keys = self.keys();
        let machines = self.top.join(MACHINES);
        for path in [machines, keys.with_extension("new"), keys] {
            remove(&path)?;
        }
        // The last one says that there is a lab.
        for name in [IMAGES, TRIAL, ACCEL, LOCK, DESCRIPTION] {
            remove(&self.top.join(name))?;
        }
        let _ = fs::remove_dir(&self.top);
        Ok(())
    }
}

/// A directory that only its owner may look into: keys are in it.
fn private(path: &Path) -> Result<(), LabError> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(path).doing(at("making", path))?)
}

/// Remove a file or a directory, if it is there.
fn remove(path: &Path) -> Result<(), LabError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => Ok(removed.doing(at("removing", path))?),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LabError> {
    let beside = path.with_extension("new");
    let text = serde_json::to_vec(value).map_err(io::Error::from);
    let written = text.and_then(|text| fs::write(&beside, text));
    Ok(written.and_then(|()| fs::rename(&beside, path)).doing(at("writing", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::config;
    use std::os::unix::fs::MetadataExt;

    fn machines(text: &str) -> Vec<Machine> {
        config::parse(text, "f").unwrap()
    }

    #[test]
    fn a_lab_is_made_found_and_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("some/lab");
        assert!(Place::open(&top).unwrap().is_none());
        let of = machines("m1: {ip: 10.1.2.1}\na1: {ip: 10.1.2.3}");
        let (place, new) = Place::open_or_make(&top, &of).unwrap();
        assert!(new && top.metadata().unwrap().mode() & 0o777 == 0o700);
        assert_eq!(place.description.host, Ipv4Addr::new(10, 1, 2, 2));
        let files = place.describe(&of[1]).unwrap();
        assert!(files.exist() && !place.files("m1").exist());
        fs::create_dir(place.files("half").top).unwrap();
        let made = place.made().unwrap();
        assert_eq!(made, [("a1".into(), Some(of[1].clone())), ("half".into(), None)]);
        let alone = place.alone().unwrap();
        assert!(place.alone().unwrap_err().to_string().contains("at work"));
        drop(alone);
        // The same lab again, unless it cannot be meant.
        let (again, new) = Place::open_or_make(&top, &of).unwrap();
        assert!(!new && again.network().namespace == place.network().namespace);
        let said = |text: &str| Place::open_or_make(&top, &machines(text)).unwrap_err().to_string();
        assert!(said("m1: {ip: 10.1.3.1}").contains("--dir"));
        assert!(said("m1: {ip: 10.1.2.2}").contains("this host's address"));
        fs::write(top.join("mine"), "").unwrap();
        place.images().unwrap();
        place.remove_machine("a1").unwrap();
        assert_eq!(place.made().unwrap().len(), 1);
        place.remove().unwrap();
        let left: Vec<_> = fs::read_dir(&top).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["mine"]);
        let refused = Place::open_or_make(&top, &of).unwrap_err().to_string();
        assert!(refused.contains("not empty"), "{refused}");
        fs::remove_file(top.join("mine")).unwrap();
        let (place, _) = Place::open_or_make(&top, &of).unwrap();
        place.remove().unwrap();
        assert!(!top.exists());
    }
}
