//! Layers onto a disk: owners, links, whiteouts, and paths that want out.
//!
//! Owns the proof that nothing leaves the root. Never needs an archive around the layer.

use super::*;
use crate::oci::testing::{Tar, is_root};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tar::EntryType;

fn unpack(archive: &[u8], dir: &Path) -> Result<Unpacked, UnpackError> {
    unpack_layer(&mut TarStream::new(archive), dir, &Budget::new(1 << 30))
}

fn unpacked(tar: Tar) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    unpack(&tar.done(), dir.path()).unwrap();
    dir
}

fn opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, rootdir::OPAQUE_XATTR, &mut value)
        .is_ok_and(|n| &value[..n] == b"y")
}

#[test]
fn keeps_owners_modes_times_links_and_attributes() {
    if !is_root("keeps_owners_modes_times_links_and_attributes") {
        return;
    }
    // A valid capability set of version 2: cap_net_bind_service, effective.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let dir = unpacked(
        Tar::new()
            .add(EntryType::Directory, "./", "", 0o711, b"")
            .add(EntryType::Directory, "d", "", 0o1777, b"")
            .pax(&[
                ("uid", b"100000"),
                ("gid", b"7"),
                ("mtime", b"5.5"),
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ])
            .add(EntryType::Regular, "d/suid", "", 0o4755, b"program")
            .hardlink("hard", "/d/suid")
            .symlink("soft", "/absolute/../elsewhere")
            .hardlink("hardsoft", "soft")
            .add(EntryType::Fifo, "pipe", "", 0o622, b"")
            .file("implied/deeply/file", "x"),
    );
    let at = |name: &str| dir.path().join(name);
    let suid = at("d/suid").metadata().unwrap();
    assert_eq!((suid.uid(), suid.gid(), suid.mode() & 0o7777), (100_000, 7, 0o4755));
    assert_eq!((suid.mtime(), suid.mtime_nsec(), suid.nlink()), (5, 500_000_000, 2));
    let mut value = [0; 64];
    let count = rustix::fs::getxattr(at("d/suid"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..count], capability);
    assert!(!opaque(&at("d/suid")), "attributes of overlayfs never come out of an archive");
    assert_eq!(at("hard").metadata().unwrap().ino(), suid.ino());
    assert_eq!(std::fs::read_link(at("soft")).unwrap(), Path::new("/absolute/../elsewhere"));
    assert!(at("hardsoft").symlink_metadata().unwrap().is_symlink());
    let directory = at("d").metadata().unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o1777, 1_000_000_000));
    assert_eq!(dir.path().metadata().unwrap().mode() & 0o7777, 0o711);
    let pipe = at("pipe").metadata().unwrap();
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o777 == 0o622);
    assert_eq!(at("implied/deeply").metadata().unwrap().mode() & 0o777, 0o755);
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root("later_entries_replace_earlier_ones") {
        return;
    }
    let dir = unpacked(
        Tar::new()
            .file("a", "1")
            .file("a", "22")
            .file("b/c", "x")
            .file("b", "file now")
            .file("d", "file")
            .file("e", "kept")
            .dir("d")
            .file("d/f", "below")
            .symlink("l", "e")
            .file("l", "no longer a link"),
    );
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("d/f"), read("e")], ["22", "file now", "below", "kept"]);
    assert_eq!(read("l"), "no longer a link");
}

#[test]
fn nothing_leaves_the_root() {
    if !is_root("nothing_leaves_the_root") {
        return;
    }
    let long_up = "../".repeat(30);
    let outside = |path: &str| format!("{long_up}{path}");
    // Each is refused, or ends up below the root.
    let cases: Vec<(&str, Tar, Option<&str>)> = vec![
        ("dot-dot", Tar::new().file("../x", "evil"), Some("leads out")),
        ("dot-dot inside", Tar::new().file("a/../../x", "evil"), Some("leads out")),
        ("dot-dot back", Tar::new().file("a/../x", "fine"), None),
        ("absolute", Tar::new().file("/x", "fine"), None),
        ("pax path", Tar::new().pax(&[("path", b"../x")]).file("y", "evil"), Some("leads out")),
        ("through absolute link", Tar::new().symlink("l", "/").file("l/x", "evil"), None),
        ("through climbing link", Tar::new().symlink("l", &long_up).file("l/x", "evil"), None),
        ("through parent link", Tar::new().symlink("l", "..").file("l/x", "evil"), None),
        (
            "through chained links",
            Tar::new().symlink("l", "m").symlink("m", "/").file("l/x", "e"),
            None,
        ),
        ("to missing place", Tar::new().symlink("l", "/no").file("l/x", "evil"), Some("parent of")),
        ("through loop", Tar::new().symlink("l", "l").file("l/x", "evil"), Some("parent of")),
        (
            "through magic link",
            Tar::new().symlink("l", "/proc/self/root").file("l/x", "e"),
            Some("parent of"),
        ),
        ("hard link up", Tar::new().hardlink("h", "../x"), Some("leads out")),
        ("hard link absolute", Tar::new().hardlink("h", "/etc/passwd"), Some("not in the archive")),
        (
            "hard link through link",
            Tar::new().symlink("l", "/etc").hardlink("h", "l/passwd"),
            Some("not in the archive"),
        ),
        ("whiteout of parent", Tar::new().file("a/.wh...", ""), Some("hides no valid name")),
        ("whiteout of itself", Tar::new().file("a/.wh..", ""), Some("hides no valid name")),
        ("whiteout of nothing", Tar::new().file("a/.wh.", ""), Some("hides no valid name")),
        ("whiteout through link", Tar::new().symlink("l", "/").file("l/.wh.x", ""), None),
        ("root as file", Tar::new().file(".", "evil"), Some("leads out")),
        ("root as link", Tar::new().symlink("./", "/"), Some("leads out")),
        ("below a file", Tar::new().file("a", "").file("a/b", ""), Some("parent of")),
    ];
    for (name, tar, refused) in cases {
        let around = tempfile::tempdir().unwrap();
        let root = around.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(around.path().join("x"), "untouched").unwrap();
        let result = unpack(&tar.done(), &root);
        match (&result, refused) {
            (Err(error), Some(part)) => {
                assert!(error.to_string().contains(part), "{name}: {error}")
            }
            (Ok(_), None) => assert!(root.join("x").symlink_metadata().is_ok(), "{name}: no x"),
            _ => panic!("{name}: {result:?}"),
        }
        let left = std::fs::read_to_string(around.path().join("x")).unwrap();
        assert_eq!(left, "untouched", "{name}");
        assert_eq!(std::fs::read_dir(around.path()).unwrap().count(), 2, "{name}");
        assert!(!Path::new("/x").exists(), "{name}");
    }
    assert!(!Path::new(&outside("x")).exists());
}

#[test]
fn devices_are_left_out_and_counted() {
    if !is_root("devices_are_left_out_and_counted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = Tar::new()
        .add(EntryType::Char, "dev/null", "", 0o666, b"")
        .add(EntryType::Block, "dev/sda", "", 0o666, b"")
        .done();
    let seen = unpack(&archive, dir.path()).unwrap();
    assert_eq!(seen.devices_skipped, 2);
    assert_eq!(seen.notes(), ["left out 2 device nodes"]);
    assert_eq!(std::fs::read_dir(dir.path().join("dev")).unwrap().count(), 0);
}

#[test]
fn whiteouts_speak_of_lower_layers_only() {
    if !is_root("whiteouts_speak_of_lower_layers_only") {
        return;
    }
    let dir = unpacked(
        Tar::new()
            .file(".wh.gone", "")
            .file("stays", "here")
            .file(".wh.stays", "")
            .dir("before")
            .file(".wh.before", "")
            .file(".wh.after", "")
            .dir("after")
            .file(".wh.again", "")
            .file("again", "file")
            .dir("o")
            .file("o/.wh..wh..opq", "")
            .file(".wh..wh.plnk", "aufs"),
    );
    let at = |name: &str| dir.path().join(name);
    let gone = at("gone").metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(std::fs::read(at("stays")).unwrap(), b"here");
    assert_eq!(std::fs::read(at("again")).unwrap(), b"file");
    assert!(opaque(&at("before")) && opaque(&at("after")) && opaque(&at("o")));
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".wh.");
    let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(!names.into_iter().any(|name| hidden(&name)));
}

#[test]
fn overlayfs_shows_what_the_layers_mean() {
    if !is_root("overlayfs_shows_what_the_layers_mean") {
        return;
    }
    let lower = unpacked(
        Tar::new()
            .file("kept", "lower")
            .file("gone", "lower")
            .file("d/old", "lower")
            .file("merged/old", "lower")
            .file("replaced/old", "lower")
            .file("tree/a/b", "lower"),
    );
    let upper = unpacked(
        Tar::new()
            .file(".wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .file("d/new", "upper")
            .file("merged/new", "upper")
            .file(".wh.replaced", "")
            .file("replaced/new", "upper")
            .file(".wh.tree", ""),
    );
    let target = tempfile::tempdir().unwrap();
    let options = format!("lowerdir={}:{}", upper.path().display(), lower.path().display());
    let mountpoint = target.path().to_owned();
    // A thread of its own: the mount is seen by nobody else and ends with it.
    let seen = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let (source, data) = (Some("overlay"), Some(options.as_str()));
        mount(source, &mountpoint, Some("overlay"), MsFlags::MS_RDONLY, data).unwrap();
        let mut seen: Vec<String> = crate::oci::testing::listing(&mountpoint)
            .iter()
            .map(|line| {
                let path = line.rsplit_once(' ').unwrap().0;
                path.strip_prefix(mountpoint.to_str().unwrap()).unwrap().to_owned()
            })
            .collect();
        seen.sort();
        umount(&mountpoint).unwrap();
        seen
    });
    let expected = [
        "/d",
        "/d/new",
        "/kept",
        "/merged",
        "/merged/new",
        "/merged/old",
        "/replaced",
        "/replaced/new",
    ];
    assert_eq!(seen.join().unwrap(), expected);
}

#[test]
fn bombs_and_full_disks_are_named() {
    if !is_root("bombs_and_full_disks_are_named") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = Tar::new().file("zeros", vec![0; 100_000]).done();
    let small = Budget::new(50_000);
    let result = unpack_layer(&mut TarStream::new(&archive[..]), dir.path(), &small);
    assert!(matches!(result, Err(UnpackError::Budget(_))), "{result:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    // A disk of 64 KiB, seen by this thread only.
    let mountpoint = dir.path().to_owned();
    let result = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let data = Some("size=65536");
        mount(Some("tmpfs"), &mountpoint, Some("tmpfs"), MsFlags::empty(), data).unwrap();
        let result = unpack(&archive, &mountpoint);
        umount(&mountpoint).unwrap();
        result
    });
    let error = result.join().unwrap().unwrap_err();
    assert!(matches!(error, UnpackError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("zeros"));
}
