//! The container's root file system in the executor's own mount namespace. Owns the overlay mount
//! and reading or creating paths below the root; must never follow an image's symlink out of it.

use super::error::ExecutorError;
use bramble_protocol::executor::RootFs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// Largest `passwd` or `group` file that is read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 1024 * 1024;

/// Mount the root and give its path.
///
/// # Errors
/// The kernel refuses the overlay (no overlayfs, or the data disk cannot hold an upper layer).
pub fn mount_root(rootfs: &RootFs, task_dir: &Path) -> Result<PathBuf, ExecutorError> {
    match rootfs {
        RootFs::Directory { path } => Ok(PathBuf::from(path)),
        RootFs::Overlay { layers, upper, work, mountpoint } => {
            mount_overlay(layers, upper, work, mountpoint, task_dir)?;
            Ok(PathBuf::from(mountpoint))
        }
    }
}

/// Unmount at once, so that nothing holds the upper layer when the agent removes it.
pub fn unmount_root(rootfs: &RootFs) {
    if let RootFs::Overlay { mountpoint, .. } = rootfs {
        // The namespace's end would do it too, only a moment later.
        let _already_gone = umount2(mountpoint.as_str(), MntFlags::MNT_DETACH);
    }
}

/// mount(2) takes one page of options and splits them at `:` and `,`; short relative names of
/// symlinks keep 127 layers and any path within that.
fn mount_overlay(
    layers: &[String],
    upper: &str,
    work: &str,
    mountpoint: &str,
    task_dir: &Path,
) -> Result<(), ExecutorError> {
    let names = task_dir.join("l");
    for dir in [names.as_path(), Path::new(upper), Path::new(work), Path::new(mountpoint)] {
        fs::create_dir_all(dir).map_err(|source| write_error(dir, source))?;
    }
    let numbered: Vec<String> = (0..layers.len()).map(|n| format!("{n:x}")).collect();
    let targets = layers.iter().map(String::as_str).chain([upper, work]);
    let links = numbered.iter().map(String::as_str).chain(["u", "w"]);
    for (target, link) in targets.zip(links) {
        let link = names.join(link);
        symlink(target, &link).map_err(|source| write_error(&link, source))?;
    }
    let base = format!("lowerdir={},upperdir=u,workdir=w", numbered.join(":"));
    let failed = |source| ExecutorError::Overlay {
        layers: layers.len(),
        mountpoint: mountpoint.to_string(),
        source,
    };
    let home = PathBuf::from("/");
    nix::unistd::chdir(&names).map_err(failed)?;
    // `volatile`: the upper layer dies with the task, so syncing a whole SD card at its end would
    // buy nothing. Kernels before 5.10 do not know it.
    let mounted = overlay(&format!("{base},volatile"), mountpoint).or_else(|error| match error {
        nix::Error::EINVAL => overlay(&base, mountpoint),
        other => Err(other),
    });
    nix::unistd::chdir(&home).map_err(failed)?;
    mounted.map_err(failed)
}

fn overlay(options: &str, mountpoint: &str) -> nix::Result<()> {
    // nodev: whatever device nodes an image holds stay dead, also without a devices cgroup.
    mount(Some("overlay"), mountpoint, Some("overlay"), MsFlags::MS_NODEV, Some(options))
}

fn write_error(path: &Path, source: io::Error) -> ExecutorError {
    ExecutorError::Write { path: path.to_path_buf(), source }
}

/// Read a small text file of the container; empty when it is absent or not a plain file.
pub fn read_account_file(root: &Path, path: &str) -> String {
    let read = || -> io::Result<String> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = File::from(open_in_root(root, Path::new(path), flags)?);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(ACCOUNTS_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Create a directory and its parents in the container, as Docker does for a missing working
/// directory; existing ones stay as they are. New ones belong to `uid`:`gid`.
///
/// # Errors
/// A part of the path is no directory, or the disk refuses.
pub fn create_dir_in_root(root: &Path, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let mut so_far = PathBuf::from("/");
    let mut parent = open_in_root(root, &so_far, flags)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let existing = open_in_root(root, &so_far.join(name), flags);
        so_far.push(name);
        parent = match existing {
            Ok(dir) => dir,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                make_dir(&parent, name, uid, gid)?;
                open_in_root(root, &so_far, flags)?
            }
            Err(e) => return Err(e),
        };
    }
    Ok(())
}

fn make_dir(parent: &OwnedFd, name: &std::ffi::OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    // SAFETY: both calls get an open directory and a terminated string that outlive them.
    #[allow(unsafe_code)]
    let made = unsafe {
        libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755) == 0
            && libc::fchownat(
                parent.as_raw_fd(),
                name.as_ptr(),
                uid,
                gid,
                libc::AT_SYMLINK_NOFOLLOW,
            ) == 0
    };
    if made { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Open a path as the container would see it: symlinks, also absolute ones, stay inside `root`.
fn open_in_root(root: &Path, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let root_dir = File::open(root)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: open_how is plain integers, for which zero is valid; the kernel wants unused ones 0.
    #[allow(unsafe_code)]
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the directory, the string and the structure outlive the call; the size is theirs.
    #[allow(unsafe_code)]
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root_dir.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_stay_inside_the_root() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("etc")).expect("etc");
        fs::write(root.path().join("real"), "inside").expect("file");
        symlink("/real", root.path().join("etc/passwd")).expect("symlink");
        symlink("../../../../../../../etc/passwd", root.path().join("etc/group")).expect("symlink");
        assert_eq!(read_account_file(root.path(), "/etc/passwd"), "inside");
        assert_eq!(read_account_file(root.path(), "/etc/group"), "inside");
        assert_eq!(read_account_file(root.path(), "/etc"), "");
        assert_eq!(read_account_file(root.path(), "/absent"), "");
    }

    #[test]
    fn working_directories_are_made_inside() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        fs::create_dir(root.path().join("data")).expect("data");
        symlink("/data", root.path().join("link")).expect("symlink");
        create_dir_in_root(root.path(), Path::new("/link/a/../b"), uid, gid).expect("creates");
        assert!(root.path().join("data/b").is_dir() || root.path().join("data/a/b").is_dir());
        create_dir_in_root(root.path(), Path::new("/link/a"), uid, gid).expect("again is fine");
        fs::write(root.path().join("file"), "").expect("file");
        assert!(create_dir_in_root(root.path(), Path::new("/file/x"), uid, gid).is_err());
    }
}
