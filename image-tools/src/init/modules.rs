//! Kernel modules: by path from the initramfs's list, by name or by what a device calls itself
//! from the root's `modules.dep`, `modules.alias` and `modules.softdep`.

use super::console::say;
use super::sys;
use crate::node::layout::MODULES_UNTIL_DISK;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Devices behind devices, at a start; what hangs deeper is heard of when it appears.
const DEPTH_MAX: usize = 4;

/// Load the modules of a list of paths, in its order; those after its marked line only until the
/// disk is `there`: every driver takes a moment. Those that find no device, or that this kernel
/// does not want, are no reason to stop.
pub fn load_list(list: &Path, there: impl Fn() -> bool) {
    let Ok(text) = fs::read_to_string(list) else { return };
    let mut needed = true;
    for path in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if path == MODULES_UNTIL_DISK {
            needed = false;
            continue;
        }
        if !needed && there() {
            return;
        }
        if let Err(error) = load_file(Path::new(path)) {
            tell(path, &error);
        }
    }
}

fn load_file(path: &Path) -> io::Result<()> {
    sys::load_module(&File::open(path)?, c"")
}

/// No such device is the usual answer of a driver for hardware that is not here.
fn tell(path: &str, error: &io::Error) {
    if error.raw_os_error() != Some(libc::ENODEV) {
        say(&format!("module {path}: {error}"));
    }
}

/// Load the modules of a list of names.
pub fn load_names(modules: &mut Modules, list: &str) {
    let text = fs::read_to_string(list).unwrap_or_default();
    let names = text.lines().map(str::trim);
    for name in names.filter(|name| !name.is_empty() && !name.starts_with('#')) {
        modules.load(name);
    }
}

/// The modules of the running kernel, as depmod listed them.
#[derive(Default)]
pub struct Modules {
    dir: PathBuf,
    /// File and what it needs, by name.
    files: HashMap<String, (String, Vec<String>)>,
    aliases: Vec<(String, String)>,
    /// Names or aliases of what must be loaded before, though no symbol says so.
    before: HashMap<String, Vec<String>>,
    loaded: HashSet<String>,
}

impl Modules {
    /// Read the lists of the running kernel; without them nothing can be loaded, and that is all.
    pub fn open() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let dir = Path::new("/lib/modules").join(release.trim());
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        Self::parse(&dir, &read("modules.dep"), &read("modules.alias"), &read("modules.softdep"))
    }

    fn parse(dir: &Path, dependencies: &str, aliases: &str, soft: &str) -> Self {
        let mut modules = Self { dir: dir.into(), ..Self::default() };
        for (file, needs) in dependencies.lines().filter_map(|line| line.split_once(':')) {
            // In the order of modules.dep each needs those behind it, so the last is first.
            let needs = needs.split_ascii_whitespace().rev().map(name_of).collect();
            modules.files.insert(name_of(file), (file.to_string(), needs));
        }
        for line in aliases.lines() {
            if let ["alias", pattern, name] = words(line)[..] {
                modules.aliases.push((pattern.into(), plain(name)));
            }
        }
        for line in soft.lines() {
            if let ["softdep", name, rest @ ..] = &words(line)[..] {
                let before = rest.iter().skip_while(|word| **word != "pre:").skip(1);
                let before = before.take_while(|word| !word.ends_with(':'));
                modules.before.insert(plain(name), before.map(|name| name.to_string()).collect());
            }
        }
        modules
    }

    /// Load a module and what it needs, by name or alias. Unknown ones are built into the kernel
    /// or not there.
    pub fn load(&mut self, wanted: &str) {
        let mut files = Vec::new();
        for name in self.resolve(wanted) {
            self.order(&name, &mut files);
        }
        for file in files {
            if let Err(error) = load_file(&self.dir.join(&file)) {
                tell(&file, &error);
            }
        }
    }

    fn resolve(&self, wanted: &str) -> Vec<String> {
        let name = plain(wanted);
        if self.files.contains_key(&name) {
            return vec![name];
        }
        let fits = self.aliases.iter().filter(|(pattern, _)| matches(pattern, wanted));
        fits.map(|(_, name)| name.clone()).collect()
    }

    /// Append the files of a module, each after what it needs, that were not asked for before.
    fn order(&mut self, name: &str, files: &mut Vec<String>) {
        if !self.loaded.insert(name.to_string()) {
            return;
        }
        for soft in self.before.get(name).cloned().unwrap_or_default() {
            for name in self.resolve(&soft) {
                self.order(&name, files);
            }
        }
        let Some((file, needs)) = self.files.get(name).cloned() else { return };
        for need in needs {
            self.order(&need, files);
        }
        files.push(file);
    }

    /// Load what the devices that are here ask for, and those that appear behind them: a disk's
    /// adapter has a CD drive, which has a driver of its own.
    pub fn coldplug(&mut self) {
        let mut asked = HashSet::new();
        for _ in 0..DEPTH_MAX {
            let mut names = HashSet::new();
            walk(Path::new("/sys/devices"), &mut |path| {
                if let Ok(text) = fs::read_to_string(path.join("modalias")) {
                    names.insert(text.trim().to_string());
                }
            });
            names.retain(|name| !name.is_empty() && asked.insert(name.clone()));
            if names.is_empty() {
                return;
            }
            for name in names {
                self.load(&name);
            }
        }
    }
}

fn walk(dir: &Path, look: &mut impl FnMut(&Path)) {
    look(dir);
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        // Links lead round in circles there.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), look);
        }
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// `kernel/fs/ext4/ext4.ko` is `ext4`; `-` and `_` are the same.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    plain(name.split(".ko").next().unwrap_or(name))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Match a shell pattern (`*`, `?`, `[...]`), as aliases are written.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
        } else if let Some((after, from)) = star {
            (p, t) = (after, from + 1);
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on after one byte that fits.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => {
            let end = at + pattern[at..].iter().position(|byte| *byte == b']')?;
            let set = &pattern[at + 1..end];
            let range = |three: &[u8]| three[1] == b'-' && (three[0]..=three[2]).contains(&byte);
            let fits = set.contains(&byte) || set.windows(3).any(range);
            fits.then_some(end + 1)
        }
        same => (*same == byte).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d2922sv1sd1bc01sc06i01", true),
            ("usb:v0BDAp81[5-7]?d*", "usb:v0BDAp8153d3000", true),
            ("usb:v0BDAp81[!x]?d*", "usb:v0BDAp8193d3000", false),
            ("a*", "a", true),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let mut modules = Modules::parse(
            Path::new("/m"),
            "k/ext4.ko: k/mbcache.ko k/jbd2.ko\nk/jbd2.ko:\nk/mbcache.ko:\nk/crc32c-generic.ko:\n\
             k/nf_tables.ko: k/nfnetlink.ko k/libcrc32c.ko\nk/nfnetlink.ko:\nk/libcrc32c.ko:\n",
            "# comment\nalias fs-ext4 ext4\nalias crypto-crc32c crc32c_generic\n",
            "softdep ext4 pre: crypto-crc32c\nsoftdep libcrc32c pre: crc32c-generic post: x\n",
        );
        let mut files = Vec::new();
        for name in modules.resolve("fs-ext4") {
            modules.order(&name, &mut files);
        }
        assert_eq!(files, ["k/crc32c-generic.ko", "k/jbd2.ko", "k/mbcache.ko", "k/ext4.ko"]);
        let mut files = Vec::new();
        modules.order("nf_tables", &mut files);
        assert_eq!(files, ["k/libcrc32c.ko", "k/nfnetlink.ko", "k/nf_tables.ko"]);
        modules.order("nf_tables", &mut files);
        assert_eq!(files.len(), 3);
        assert!(modules.resolve("nothing").is_empty());
    }
}
