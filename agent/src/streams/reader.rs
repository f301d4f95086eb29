//! Reading the logs of a sandbox: the rotated part, the current part, the last lines, what comes.
//!
//! Files are the task's own, so that nothing in them is believed: no link is followed, and
//! anything but a plain file is no log.

use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes searched for the last lines; several times what a log grows to before it is rotated. A
/// task may have blown up its file to terabytes of nothing.
const TAIL_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum LogError {
    #[error("opening {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a plain file", path.display())]
    NotAFile { path: PathBuf },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// One log file, held open so that a rotation does not lose its end.
struct Part {
    path: PathBuf,
    file: File,
    inode: u64,
}

impl Part {
    /// `None` when there is no such file.
    fn open(path: &Path) -> Result<Option<Part>, LogError> {
        let opened = OpenOptions::new()
            .read(true)
            // Non-blocking: a fifo in its place must not hold a thread for ever.
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LogError::Open { path: path.to_path_buf(), source }),
        };
        let found = file
            .metadata()
            .map_err(|source| LogError::Read { path: path.to_path_buf(), source })?;
        if !found.is_file() {
            return Err(LogError::NotAFile { path: path.to_path_buf() });
        }
        Ok(Some(Part { path: path.to_path_buf(), file, inode: found.ino() }))
    }

    fn length(&self) -> Result<u64, LogError> {
        self.file.metadata().map(|found| found.len()).map_err(|source| self.failed(source))
    }

    fn seek(&mut self, to: u64) -> Result<(), LogError> {
        self.file.seek(SeekFrom::Start(to)).map(drop).map_err(|source| self.failed(source))
    }

    /// Read on from where it stands; empty at the end. A file cut short is read from its begin.
    fn read(&mut self) -> Result<Vec<u8>, LogError> {
        let at = self.file.stream_position().map_err(|source| self.failed(source))?;
        if self.length()? < at {
            self.seek(0)?;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match self.file.read(&mut chunk) {
                Ok(count) => {
                    chunk.truncate(count);
                    return Ok(chunk);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    /// Where the last `lines` lines begin, and how many of them this part has.
    fn tail(&mut self, lines: u64) -> Result<(u64, u64), LogError> {
        let length = self.length()?;
        let first = length.saturating_sub(TAIL_BYTES_MAX);
        let (mut at, mut found) = (length, 0);
        while at > first {
            let begin = at.saturating_sub(CHUNK_BYTES as u64).max(first);
            self.seek(begin)?;
            let mut chunk = vec![0; (at - begin) as usize];
            self.file.read_exact(&mut chunk).map_err(|source| self.failed(source))?;
            for (index, byte) in chunk.iter().enumerate().rev() {
                let position = begin + index as u64;
                // The line end that ends the last line begins no further one.
                if *byte == b'\n' && position + 1 < length {
                    found += 1;
                    if found == lines {
                        return Ok((position + 1, found));
                    }
                }
            }
            at = begin;
        }
        // What stands before the first line end is a line too.
        Ok((first, if length > 0 { found + 1 } else { 0 }))
    }

    fn failed(&self, source: io::Error) -> LogError {
        LogError::Read { path: self.path.clone(), source }
    }
}

/// Reads one log from a chosen point on, over rotations. Blocking: for a blocking thread.
pub struct LogReader {
    current: PathBuf,
    rotated: Option<Part>,
    part: Option<Part>,
}

impl LogReader {
    /// Open `stdout` or `stderr` of a sandbox; with `tail_lines`, only its last lines. A log not
    /// yet written is empty.
    ///
    /// # Errors
    /// When a file is none of ours or cannot be read.
    pub fn open(sandbox: &Path, name: &str, tail_lines: Option<u32>) -> Result<Self, LogError> {
        let current = sandbox.join(name);
        // The current part first: a rotation in between shows lines twice rather than never.
        let mut part = Part::open(&current)?;
        let mut rotated = Part::open(&sandbox.join(format!("{name}.1")))?;
        if let (Some(old), Some(new)) = (&rotated, &part)
            && old.inode == new.inode
        {
            rotated = None;
        }
        if let Some(lines) = tail_lines {
            let mut wanted = u64::from(lines);
            for part in [&mut part, &mut rotated].into_iter().flatten() {
                let (begin, found) = match wanted {
                    0 => (part.length()?, 0),
                    _ => part.tail(wanted)?,
                };
                part.seek(begin)?;
                wanted -= found;
            }
        }
        Ok(Self { current, rotated, part })
    }

    /// The next bytes; empty when all that is there was read. Call again later for more.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&mut self) -> Result<Vec<u8>, LogError> {
        if let Some(rotated) = &mut self.rotated {
            let bytes = rotated.read()?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            self.rotated = None;
        }
        // A rotation is seen before the held part is read for the last time, so that nothing
        // written into it is missed.
        let turned = match (Part::open(&self.current)?, &self.part) {
            (Some(new), Some(old)) if new.inode == old.inode => None,
            (new, _) => new,
        };
        if let Some(part) = &mut self.part {
            let bytes = part.read()?;
            if !bytes.is_empty() || turned.is_none() {
                return Ok(bytes);
            }
        }
        match turned {
            Some(mut part) => {
                let bytes = part.read()?;
                self.part = Some(part);
                Ok(bytes)
            }
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn all(reader: &mut LogReader) -> String {
        let mut text = Vec::new();
        loop {
            let bytes = reader.read().unwrap();
            if bytes.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend_from_slice(&bytes);
        }
    }

    fn append(sandbox: &Path, name: &str, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(sandbox.join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_last_lines_are_found_over_both_parts() {
        let cases = [
            ("", "", None, ""),
            ("", "", Some(3), ""),
            ("a\nb\n", "c\nd\n", None, "a\nb\nc\nd\n"),
            ("a\nb\n", "c\nd\n", Some(0), ""),
            ("a\nb\n", "c\nd\n", Some(1), "d\n"),
            ("a\nb\n", "c\nd\n", Some(2), "c\nd\n"),
            ("a\nb\n", "c\nd\n", Some(3), "b\nc\nd\n"),
            ("a\nb\n", "c\nd\n", Some(9), "a\nb\nc\nd\n"),
            ("", "c\nd", Some(1), "d"),
            ("", "\n\n", Some(1), "\n"),
            ("a\n", "", Some(1), "a\n"),
        ];
        for (rotated, current, tail, expected) in cases {
            let sandbox = tempfile::tempdir().unwrap();
            fs::write(sandbox.path().join("stdout.1"), rotated).unwrap();
            fs::write(sandbox.path().join("stdout"), current).unwrap();
            let mut reader = LogReader::open(sandbox.path(), "stdout", tail).unwrap();
            assert_eq!(all(&mut reader), expected, "{rotated:?} {current:?} {tail:?}");
        }
    }

    #[test]
    fn a_file_blown_up_is_not_searched_to_its_begin() {
        let sandbox = tempfile::tempdir().unwrap();
        let file = fs::File::create(sandbox.path().join("stdout")).unwrap();
        file.set_len(1 << 40).unwrap();
        append(sandbox.path(), "stdout", "end\n");
        let mut reader = LogReader::open(sandbox.path(), "stdout", Some(1)).unwrap();
        let text = all(&mut reader);
        assert!(text.ends_with("\0end\n"));
        assert_eq!(text.len() as u64, TAIL_BYTES_MAX);
    }

    #[test]
    fn long_tails_are_found_over_chunks() {
        let sandbox = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}\n")).collect();
        append(sandbox.path(), "stderr", &lines.concat());
        let mut reader = LogReader::open(sandbox.path(), "stderr", Some(9_000)).unwrap();
        assert_eq!(all(&mut reader), lines[11_000..].concat());
    }

    #[test]
    fn what_comes_is_read_over_rotations_and_cuts() {
        let sandbox = tempfile::tempdir().unwrap();
        let path = |name: &str| sandbox.path().join(name);
        let mut reader = LogReader::open(sandbox.path(), "stdout", None).unwrap();
        assert_eq!(all(&mut reader), "", "not yet written");
        append(sandbox.path(), "stdout", "one\n");
        assert_eq!(all(&mut reader), "one\n");
        append(sandbox.path(), "stdout", "two\n");
        fs::rename(path("stdout"), path("stdout.1")).unwrap();
        append(sandbox.path(), "stdout", "three\n");
        assert_eq!(all(&mut reader), "two\nthree\n", "the end of the rotated part is not lost");
        fs::write(path("stdout"), "4\n").unwrap();
        assert_eq!(all(&mut reader), "4\n", "cut by the task itself");
        fs::remove_file(path("stdout")).unwrap();
        assert_eq!(all(&mut reader), "", "gone is no error");
    }

    #[test]
    fn planted_files_are_refused() {
        let sandbox = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sandbox.path().join("stdout")).unwrap();
        let refused = LogReader::open(sandbox.path(), "stdout", None);
        assert!(matches!(refused, Err(LogError::Open { .. })));
        let fifo = sandbox.path().join("stderr");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let refused = LogReader::open(sandbox.path(), "stderr", None);
        assert!(matches!(refused, Err(LogError::NotAFile { .. })));
    }
}
