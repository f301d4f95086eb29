//! The keys of a cluster that has no nodes yet, as `bramble cluster new NAME` wrote them, and the
//! one card that gets the founding file.
//!
//! While that card is written, the founding file is locked: a process that dies leaves no trace.
//! `NAME.founded` says that the file is on a card. It is written before that card can start, for
//! two cards with the file would make two clusters, and none only makes nobody's.

use super::configure::Changes;
use super::error::{DiskError, Doing, at};
use super::settings::Settings;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How the mark of a card begins that was not finished.
const UNFINISHED: &str = "unfinished";

/// A cluster's keys in a directory.
pub struct Keys {
    name: String,
    directory: PathBuf,
}

/// What a card does.
pub enum Part {
    Founds(Founding),
    /// Another one founds; the text says which.
    Joins(String),
}

/// The founding file is being put on a card.
pub struct Founding {
    mark: PathBuf,
    card: String,
    /// No other process founds meanwhile.
    _lock: Flock<File>,
}

impl Keys {
    pub fn new(name: &str, directory: &Path) -> Keys {
        Keys { name: name.into(), directory: directory.into() }
    }

    fn path(&self, end: &str) -> PathBuf {
        self.directory.join(format!("{}.{end}", self.name))
    }

    fn read(&self, path: &Path) -> Result<String, DiskError> {
        fs::read_to_string(path).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => DiskError::Refused(format!(
                "there is no {}; `bramble cluster new {}` makes it, --keys says where it is",
                path.display(),
                self.name
            )),
            _ => DiskError::Io { doing: format!("reading {}", path.display()), cause },
        })
    }

    /// Let a node join the cluster.
    ///
    /// # Errors
    /// The token is not there, or cannot be read.
    pub fn give_token(&self, settings: &mut Settings) -> Result<(), DiskError> {
        settings.token = Some(self.read(&self.path("token"))?.trim().to_string());
        settings.cluster = Some(self.name.clone());
        Ok(())
    }

    /// Let a card join the cluster; the first one founds it. `held` is the founding file that the
    /// card holds already.
    ///
    /// # Errors
    /// The files are not there, or cannot be read; or the founding card was not finished.
    pub fn give(
        &self,
        card: &str,
        held: Option<&[u8]>,
        changes: &mut Changes,
    ) -> Result<Part, DiskError> {
        self.give_token(&mut changes.settings)?;
        let path = self.path("founding");
        let founding = self.read(&path)?.into_bytes();
        let file = File::open(&path).doing(at("opening", &path))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(Part::Joins("the card that is being written right now founds it".into()));
        };
        let mark = self.path("founded");
        if let Ok(text) = fs::read_to_string(&mark) {
            if text.starts_with(UNFINISHED) {
                let text = format!(
                    "the card that founds cluster {} was not finished ({}); remove that file and \
                     write the same card again",
                    self.name,
                    mark.display()
                );
                return Err(DiskError::Refused(text));
            }
            if held != Some(founding.as_slice()) {
                let card = text.split("was ").nth(1).and_then(|rest| rest.split(". ").next());
                let card =
                    card.map_or("another card".into(), |card| format!("the card that was {card}"));
                return Ok(Part::Joins(format!("{card} founds it, as {} says", mark.display())));
            }
        }
        let again = held == Some(founding.as_slice());
        changes.founding = Some(founding);
        let founding = Founding { mark, card: card.into(), _lock: lock };
        if again {
            // Its file is about to be written over.
            founding.placed()?;
        }
        Ok(Part::Founds(founding))
    }
}

impl Founding {
    fn note(&self, text: &str) -> Result<(), DiskError> {
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).open(&self.mark);
        file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .doing(at("writing", &self.mark))
    }

    /// The file is on the card, which cannot start yet.
    ///
    /// # Errors
    /// That cannot be written down.
    pub fn placed(&self) -> Result<(), DiskError> {
        self.note(&format!(
            "{UNFINISHED}: the founding file is on the card that was {}\n",
            self.card
        ))
    }

    /// The card can start.
    ///
    /// # Errors
    /// As [`Founding::placed`].
    pub fn done(self) -> Result<(), DiskError> {
        self.note(&format!(
            "The founding file is on the card that was {}. Remove this file to put it on another \
             one instead, and never use the first one again.\n",
            self.card
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_card_founds_and_all_join() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::new("home", dir.path());
        let give = |held: Option<&[u8]>| {
            let mut changes = Changes::default();
            keys.give("/dev/sdx", held, &mut changes).map(|part| (part, changes))
        };
        let founds = |held| match give(held).unwrap() {
            (Part::Founds(founding), changes) => {
                assert_eq!(changes.founding.as_deref(), Some(&b"key"[..]));
                assert_eq!(changes.settings.token.as_deref(), Some("BRAMBLE-1-ab-cd"));
                founding
            }
            (Part::Joins(other), _) => panic!("{other}"),
        };
        let joins = || match give(None).unwrap() {
            (Part::Founds(_), _) => panic!("two found"),
            (Part::Joins(other), changes) => {
                assert_eq!(
                    (changes.founding, changes.settings.cluster.as_deref()),
                    (None, Some("home"))
                );
                other
            }
        };
        let missing = give(None).err().unwrap().to_string();
        assert!(missing.contains("bramble cluster new home"), "{missing}");
        fs::write(dir.path().join("home.token"), "BRAMBLE-1-ab-cd\n").unwrap();
        assert!(give(None).is_err());
        fs::write(dir.path().join("home.founding"), "key").unwrap();
        // What was broken off did not use it up; while one is written, others join.
        drop(founds(None));
        let founding = founds(None);
        assert!(joins().contains("right now"));
        founding.placed().unwrap();
        drop(founding);
        let unfinished = give(None).err().unwrap().to_string();
        assert!(unfinished.contains("home.founded"), "{unfinished}");
        fs::remove_file(dir.path().join("home.founded")).unwrap();
        let founding = founds(None);
        founding.placed().unwrap();
        founding.done().unwrap();
        assert!(joins().contains("/dev/sdx founds it"), "{}", joins());
        // Written again, that card goes on to found; no other one does.
        founds(Some(b"key")).done().unwrap();
        assert!(matches!(give(Some(b"other")).unwrap().0, Part::Joins(_)));
        // Broken off, it does not found any more, and nobody takes it for the founder.
        drop(founds(Some(b"key")));
        assert!(give(None).err().unwrap().to_string().contains("write the same card again"));
    }
}
