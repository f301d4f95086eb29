//! The machines' disks: each holds what its machine changed of an image that all share.

use super::error::LabError;
use super::machine::command;
use super::place::{Files, Place};
use crate::disk::configure::release;
use crate::disk::error::{Doing, at};
use crate::disk::tool::run;
use crate::disk::work::Work;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Size of a machine's disk; it costs what is written to it. Bytes.
const DISK_BYTES: u64 = 8 << 30;
const IMG: &str = "qemu-img";

/// Settle which image new machines are based on: a copy of the one named, or else the lab's latest.
/// A copy, since the image may be built anew while machines run.
///
/// # Errors
/// None was named and the lab has none, it is no x86 image, or copying failed.
pub fn base(place: &Place, image: Option<&Path>) -> Result<PathBuf, LabError> {
    let directory = place.images()?;
    let Some(image) = image else { return latest(&directory) };
    let release = release(image)?;
    if release.board != "x86" {
        return Err(LabError::refused(format!(
            "{} is for {}; the lab's machines are made of x86",
            image.display(),
            release.board
        )));
    }
    let copy = directory.join(format!("{}.qcow2", digest(image)?));
    if !copy.exists() {
        let work = Work::new(&directory)?;
        let made = work.path("image");
        let mut convert = command(IMG);
        convert.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(image).arg(&made);
        run(&mut convert)?;
        fs::rename(&made, &copy).doing(at("writing", &copy))?;
    }
    Ok(copy)
}

/// What tells an image from the same file at another time, without reading all of it.
fn digest(image: &Path) -> Result<String, LabError> {
    const LETTERS: usize = 16;
    let path = image.canonicalize().doing(at("finding", image))?;
    let about = path.metadata().doing(at("reading", image))?;
    let times = (about.mtime(), about.mtime_nsec(), about.len(), about.ino());
    let digest = Sha256::digest(format!("{} {times:?}", path.display()));
    Ok(hex::encode(digest)[..LETTERS].to_string())
}

/// The image that was added last.
///
/// # Errors
/// There is none.
pub fn latest(directory: &Path) -> Result<PathBuf, LabError> {
    let entries = fs::read_dir(directory).doing(at("reading", directory))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let images = paths.filter(|path| path.extension().is_some_and(|end| end == "qcow2"));
    let made = |path: &PathBuf| {
        path.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    images.max_by_key(made).ok_or_else(|| {
        LabError::refused(
            "name the image of the machines with --image FILE; `bramble-image build --board x86` \
             makes it",
        )
    })
}

/// Make a machine's disk.
///
/// # Errors
/// `qemu-img` says why not.
pub fn make(base: &Path, files: &Files) -> Result<(), LabError> {
    let beside = files.disk.with_extension("new");
    let mut create = command(IMG);
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(&beside);
    run(create.arg(DISK_BYTES.to_string()))?;
    Ok(fs::rename(&beside, &files.disk).doing(at("writing", &files.disk))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_again_and_the_latest_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x86.img");
        fs::write(&image, "one").unwrap();
        let first = digest(&image).unwrap();
        assert_eq!(first, digest(&dir.path().join("./x86.img")).unwrap());
        fs::write(&image, "another").unwrap();
        assert_ne!(first, digest(&image).unwrap());
        let images = dir.path().join("images");
        fs::create_dir(&images).unwrap();
        assert!(latest(&images).unwrap_err().to_string().contains("--image FILE"));
        for (name, seconds) in [("b.qcow2", 200), ("a.qcow2", 300), ("c.qcow2", 100), ("d", 400)] {
            let file = fs::File::create(images.join(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        }
        assert_eq!(latest(&images).unwrap(), images.join("a.qcow2"));
    }
}
