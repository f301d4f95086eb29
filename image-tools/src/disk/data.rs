//! The data partition of a fresh image: an ext4 that can grow to any disk, with preloaded images.

use super::error::{DiskError, Doing, at};
use super::tool::{run, tool};
use crate::node::layout;
use crate::oci::check_archive;
use std::fs;
use std::path::{Path, PathBuf};

/// Room for growing is reserved for a disk of this size; a larger one is grown by other means of
/// the kernel's. Blocks of 4 KiB, of 2 TiB.
const GROWN_BLOCKS: u64 = (2 << 40) / 4096;
/// The journal does not grow with the disk. MiB.
const JOURNAL_MIB: u64 = 8;
/// The same for every image: nodes find the partition by its number.
const UUID: &str = "6272616d-626c-4520-8000-64617461fade";
/// All dates in it. Seconds since 1970; zero means "now" to mke2fs.
const DATE: &str = "1767225600";

/// Make the partition's file system. Its preload directory gets the archives.
///
/// # Errors
/// An archive cannot be read, two have the same name, or `mke2fs` says why.
pub fn make(work: &Path, image: &Path, bytes: u64, preload: &[PathBuf]) -> Result<(), DiskError> {
    let tree = work.join("data");
    let directory = tree.join(layout::PRELOAD_DIR);
    fs::create_dir_all(&directory).doing(at("making", &directory))?;
    let mut names = Vec::new();
    for archive in preload {
        let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = directory.join(&name);
        if target.exists() {
            return Err(DiskError::Refused(format!("two archives to preload are called {name}")));
        }
        fs::copy(archive, &target).doing(at("reading", archive))?;
        names.push(format!("/{}/{name}", layout::PRELOAD_DIR));
    }
    make_file_system(&tree, image, bytes)?;
    owned_by_root(image, &names)
}

/// Whether an archive is one of images, whole: a node that cannot load it tells nobody here.
///
/// # Errors
/// It is not, or cannot be read.
pub fn check(archive: &Path) -> Result<(), DiskError> {
    let file = fs::File::open(archive).doing(at("opening", archive))?;
    check_archive(file).map_err(|error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        let path = archive.display();
        DiskError::Refused(format!(
            "{path} cannot be preloaded: {text}; give a `docker save` or OCI archive"
        ))
    })
}

/// How large the partition must be for these archives. Bytes.
///
/// # Errors
/// An archive cannot be read.
pub fn size(preload: &[PathBuf]) -> Result<u64, DiskError> {
    let mut bytes = layout::DATA_BYTES;
    for archive in preload {
        // A twentieth for what describes them.
        let size = archive.metadata().doing(at("reading", archive))?.len();
        bytes += size + size / 20;
    }
    Ok(bytes.next_multiple_of(layout::ALIGN_BYTES))
}

fn make_file_system(tree: &Path, image: &Path, bytes: u64) -> Result<(), DiskError> {
    let file = fs::File::create(image).doing(at("writing", image))?;
    file.set_len(bytes).doing(at("writing", image))?;
    let mut command = tool("mke2fs");
    command.env("E2FSPROGS_FAKE_TIME", DATE).env("MKE2FS_CONFIG", "/dev/null");
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1"]);
    command.args(["-O", FEATURES, "-L", layout::DATA_LABEL, "-U", UUID]);
    command.arg("-J").arg(format!("size={JOURNAL_MIB}"));
    command.arg("-E").arg(format!(
        "resize={GROWN_BLOCKS},hash_seed={UUID},root_owner=0:0,lazy_itable_init=1,nodiscard"
    ));
    command.arg("-d").arg(tree).arg(image);
    run(&mut command).map(drop)
}

/// Said in full: what is default differs between machines.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
                        flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Files come with the user, and the dates, of who made the image.
fn owned_by_root(image: &Path, names: &[String]) -> Result<(), DiskError> {
    let all = names.iter().map(String::as_str).chain(["/", "/preload", "/lost+found"]);
    let mut commands = Vec::new();
    for name in all {
        let mode = if names.iter().any(|file| file == name) { "0100600" } else { "040700" };
        for (field, value) in [("uid", "0"), ("gid", "0"), ("mode", mode)] {
            commands.push(format!("set_inode_field \"{name}\" {field} {value}"));
        }
        for field in ["atime", "ctime", "mtime", "crtime"] {
            commands.push(format!("set_inode_field \"{name}\" {field} @{DATE}"));
            commands.push(format!("set_inode_field \"{name}\" {field}_extra 0"));
        }
    }
    let script = image.with_extension("debugfs");
    fs::write(&script, commands.join("\n") + "\n").doing(at("writing", &script))?;
    let mut command = tool("debugfs");
    command.env("E2FSPROGS_FAKE_TIME", DATE).arg("-w").arg("-f").arg(&script).arg(image);
    run(&mut command)?;
    fs::remove_file(&script).doing(at("removing", &script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_archives_of_images_are_preloaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let archive = |name: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            let mut head = tar::Header::new_gnu();
            head.set_size(2);
            head.set_mode(0o644);
            archive.append_data(&mut head, name, &b"[]"[..]).unwrap();
            archive.into_inner().unwrap()
        };
        let whole = crate::disk::initramfs::gzip(&archive("manifest.json"));
        for (name, bytes, good) in [
            ("saved.tar", archive("manifest.json"), true),
            ("layout.tar", archive("index.json"), true),
            ("packed.tgz", whole.clone(), true),
            ("cut.tgz", whole[..whole.len() / 2].to_vec(), false),
            ("other.tar", archive("manifest.txt"), false),
            ("passwd", b"root:x:0:0\n".to_vec(), false),
            ("empty", Vec::new(), false),
        ] {
            fs::write(path(name), bytes).unwrap();
            let found = check(&path(name)).map_err(|error| error.to_string());
            assert_eq!(found.is_ok(), good, "{name}: {found:?}");
            assert!(found.err().is_none_or(|error| error.contains(name)));
        }
        assert!(check(&path("absent")).is_err());
    }
}
