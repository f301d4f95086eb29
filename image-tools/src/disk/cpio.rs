//! Archives in cpio's `newc` form, which the kernel unpacks as its initramfs.
//!
//! Inode numbers count up and all dates are zero: the same files give the same bytes.

const MODE_FILE: u32 = 0o100_000;
const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_DEVICE: u32 = 0o020_000;
/// Name, header and data begin at multiples of this. Bytes.
const ALIGN: usize = 4;

/// An archive on its way.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn directory(&mut self, path: &str) {
        self.entry(path, MODE_DIRECTORY | 0o755, &[], (0, 0));
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, MODE_FILE | mode, data, (0, 0));
    }

    /// A character device: the first process has a console only if this exists beforehand.
    pub fn device(&mut self, path: &str, mode: u32, number: (u32, u32)) {
        self.entry(path, MODE_DEVICE | mode, &[], number);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("a file of an initramfs has less than 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a path has less than 4 GiB");
        let links = 1;
        // inode, mode, user, group, links, date, size, device of the file, device it is, name, sum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.directory("etc");
        archive.file("etc/name", 0o640, b"bramble");
        archive.file("init", 0o755, &[7; 5001]);
        archive.device("console", 0o600, (5, 1));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % ALIGN, 0);
        // busybox is there wherever the tests run; cpio itself may not be.
        let mut reader = Command::new("busybox")
            .args(["cpio", "-itv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        reader.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<Vec<&str>> =
            listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let shown: Vec<_> = lines.iter().map(|line| (line[0], line[line.len() - 1])).collect();
        let expected = [
            ("drwxr-xr-x", "etc"),
            ("-rw-r-----", "etc/name"),
            ("-rwxr-xr-x", "init"),
            ("crw-------", "console"),
        ];
        assert_eq!(shown, expected, "{listed}");
        assert!(listed.contains("5001"), "{listed}");
    }
}
