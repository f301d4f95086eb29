//! The keys of a cluster that has no nodes yet, as `bramble cluster new NAME` wrote them, and the
//! one card that gets the founding file.

use super::configure::Changes;
use super::error::{DiskError, Doing, at};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A cluster's keys in a directory.
pub struct Keys {
    name: String,
    directory: PathBuf,
}

/// The founding file is being put on a card. Dropped, it was not.
pub struct Founding {
    mark: PathBuf,
    done: bool,
}

impl Keys {
    pub fn new(name: &str, directory: &Path) -> Keys {
        Keys { name: name.into(), directory: directory.into() }
    }

    fn path(&self, end: &str) -> PathBuf {
        self.directory.join(format!("{}.{end}", self.name))
    }

    /// Let a card join the cluster; the first one founds it.
    ///
    /// # Errors
    /// The files are not there, or cannot be read.
    pub fn give(&self, card: &str, changes: &mut Changes) -> Result<Option<Founding>, DiskError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => DiskError::Refused(format!(
                    "there is no {}; `bramble cluster new {}` makes it, --keys says where it is",
                    path.display(),
                    self.name
                )),
                _ => DiskError::Io { doing: format!("reading {}", path.display()), source },
            })
        };
        changes.settings.token = Some(read(&self.path("token"))?.trim().to_string());
        changes.settings.cluster = Some(self.name.clone());
        let mark = self.path("founded");
        let made = OpenOptions::new().write(true).create_new(true).open(&mark);
        match made {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            made => {
                let mut file = made.doing(at("writing", &mark))?;
                let founding = Founding { mark: mark.clone(), done: false };
                let text = format!(
                    "The founding file is on the card that was {card}. Remove this file to put it \
                     on another one instead, and never use the first one again.\n"
                );
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
                    .doing(at("writing", &mark))?;
                changes.founding = Some(read(&self.path("founding"))?.into_bytes());
                Ok(Some(founding))
            }
        }
    }
}

impl Founding {
    /// The card is written.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Founding {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_card_founds_and_all_join() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::new("home", dir.path());
        let give = || {
            let mut changes = Changes::default();
            keys.give("/dev/sdx", &mut changes).map(|founding| (founding, changes))
        };
        let missing = give().err().unwrap().to_string();
        assert!(missing.contains("bramble cluster new home"), "{missing}");
        fs::write(dir.path().join("home.token"), "BRAMBLE-1-ab-cd\n").unwrap();
        assert!(give().is_err());
        fs::write(dir.path().join("home.founding"), "key").unwrap();
        // What failed before did not use it up, nor does a card that was not written.
        let (founding, changes) = give().unwrap();
        assert_eq!(changes.founding.as_deref(), Some(&b"key"[..]));
        drop(founding);
        let (founding, changes) = give().unwrap();
        assert_eq!(changes.settings.token.as_deref(), Some("BRAMBLE-1-ab-cd"));
        assert!(changes.founding.is_some());
        founding.unwrap().done();
        let (founding, changes) = give().unwrap();
        assert!(founding.is_none() && changes.founding.is_none());
        assert_eq!(changes.settings.cluster.as_deref(), Some("home"));
    }
}
