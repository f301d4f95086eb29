//! One log file of a sandbox: appended to, rotated at a size, never an obstacle. Owns the file
//! descriptor; must never fail or block its caller for a full disk, and never follow a link that
//! the task planted in its own sandbox.

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Smallest rotation size in bytes, so that a misconfigured node does not rotate on every line.
pub const LOG_BYTES_MIN: u64 = 4096;

pub struct LogFile {
    sandbox: Option<File>,
    name: &'static str,
    rotated: &'static str,
    file: Option<File>,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Open `<sandbox>/<name>` for appending; a failure is retried with the next line.
    pub fn open(sandbox: &Path, name: &'static str, rotated: &'static str, limit: u64) -> Self {
        let mut log = Self {
            sandbox: File::open(sandbox).ok(),
            name,
            rotated,
            file: None,
            written: 0,
            limit: limit.max(LOG_BYTES_MIN),
        };
        log.reopen();
        log
    }

    /// Append bytes, rotating first when they no longer fit. What cannot be written is dropped.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.written.saturating_add(bytes.len() as u64) > self.limit {
            self.rotate();
        }
        if self.is_unlinked() {
            self.file = None;
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return };
        let mut rest = bytes;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return,
                Ok(count) => {
                    self.written += count as u64;
                    rest = &rest[count..];
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // Disk full, quota, read-only: the container must go on.
                Err(_) => return,
            }
        }
    }

    /// Whether the task has removed the file: what is written there, nobody can read any more.
    fn is_unlinked(&self) -> bool {
        let found = self.file.as_ref().and_then(|f| f.metadata().ok());
        found.is_some_and(|meta| meta.nlink() == 0)
    }

    fn rotate(&mut self) {
        // The task may have truncated its own file meanwhile; then there is nothing to rotate.
        let real = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        if real < self.written {
            self.written = real;
            if real < self.limit / 2 {
                return;
            }
        }
        if let Some(sandbox) = &self.sandbox {
            let dir = Some(sandbox.as_raw_fd());
            match renameat(dir, self.name, dir, self.rotated) {
                // Without the name there is nothing to keep: the task has moved its file away.
                Ok(()) | Err(nix::Error::ENOENT) => {}
                Err(_) if self.file.is_none() => {}
                Err(_) => {
                    // Unbounded growth is worse than losing the old lines.
                    let _full = self.file.as_ref().map(|f| f.set_len(0));
                    self.written = 0;
                    return;
                }
            }
        }
        self.file = None;
        self.reopen();
    }

    fn reopen(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        let flags = OFlag::O_WRONLY
            | OFlag::O_APPEND
            | OFlag::O_CREAT
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        let Ok(fd) = openat(Some(sandbox.as_raw_fd()), self.name, flags, mode) else { return };
        // SAFETY: openat just gave us this descriptor, nobody else owns it.
        #[allow(unsafe_code)]
        let file = unsafe { File::from_raw_fd(fd) };
        match file.metadata() {
            // A pipe or device planted by the task would block us or feed someone else.
            Ok(meta) if meta.is_file() => {
                self.written = meta.len();
                self.file = Some(file);
            }
            _ => self.file = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(dir: &Path, limit: u64) -> LogFile {
        LogFile::open(dir, "stdout", "stdout.1", limit)
    }

    #[test]
    fn one_rotation_is_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut log = open(dir.path(), LOG_BYTES_MIN);
        let line = [b'x'; 1000];
        for _ in 0..21 {
            log.append(&line);
        }
        let size = |name: &str| fs::metadata(dir.path().join(name)).expect("exists").len();
        assert_eq!((size("stdout"), size("stdout.1")), (1000, 4000));
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 2);
    }

    #[test]
    fn a_restart_goes_on_at_the_end() {
        let dir = tempfile::tempdir().expect("temporary directory");
        open(dir.path(), LOG_BYTES_MIN).append(b"one\n");
        open(dir.path(), LOG_BYTES_MIN).append(b"two\n");
        assert_eq!(fs::read_to_string(dir.path().join("stdout")).expect("reads"), "one\ntwo\n");
    }

    #[test]
    fn a_file_the_task_removed_or_moved_is_made_anew() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("stdout");
        let mut log = open(dir.path(), LOG_BYTES_MIN);
        log.append(b"one\n");
        fs::remove_file(&path).expect("removes");
        log.append(b"two\n");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "two\n");

        fs::rename(&path, dir.path().join("kept")).expect("moves");
        log.append(b"three\n");
        log.append(&[b'x'; LOG_BYTES_MIN as usize]);
        assert_eq!(fs::read_to_string(dir.path().join("kept")).expect("reads"), "two\nthree\n");
        assert_eq!(fs::metadata(&path).expect("exists").len(), LOG_BYTES_MIN);
    }

    #[test]
    fn planted_links_and_pipes_are_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "untouched").expect("writes");
        symlink(&victim, dir.path().join("stdout")).expect("symlink");
        open(dir.path(), LOG_BYTES_MIN).append(b"attack");
        assert_eq!(fs::read_to_string(&victim).expect("reads"), "untouched");

        let pipes = tempfile::tempdir().expect("temporary directory");
        nix::unistd::mkfifo(&pipes.path().join("stdout"), Mode::S_IRWXU).expect("fifo");
        open(pipes.path(), LOG_BYTES_MIN).append(b"does not block");
    }

    #[test]
    fn a_missing_sandbox_is_no_obstacle() {
        open(Path::new("/nonexistent/sandbox"), LOG_BYTES_MIN).append(b"lost");
    }
}
