//! The read-only root of a node: what is in it, and its squashfs.

use super::board::Board;
use super::elf::Elf;
use super::error::{DiskError, Doing, at};
use super::fat::Content;
use super::modules::{Modules, lists, module_bytes};
use super::tool::{run, tool};
use crate::node::layout;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Directories others are mounted on or written to.
const MOUNT_POINTS: [&str; 9] =
    ["boot", "dev", "etc", "mnt", "proc", "root", "run", "sys", "var/lib/bramble"];
/// Directories that lie below `usr`, where packages and people expect them at the top as well.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Nothing in it is compressed. What is downloaded is, as a whole: xz makes 11 MB of it, and 14 of
/// one that zstd had been through. And a node starts sooner: an emulated PC read bramble's program
/// in 0.6 s from this one, 1.9 s from zstd, 9 s from xz.
const PLAIN: [&str; 3] = ["-noI", "-noD", "-noF"];

/// Files to be, by their path without a leading `/`.
#[derive(Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

enum Node {
    Directory(u32),
    File(Content, u32),
    Link(String),
}

impl Tree {
    pub fn text(&mut self, path: &str, text: impl Into<String>) {
        self.file(path, 0o644, Content::Bytes(text.into().into_bytes()));
    }

    pub fn file(&mut self, path: &str, mode: u32, content: Content) {
        self.nodes.insert(path.trim_start_matches('/').into(), Node::File(content, mode));
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.nodes.entry(path.into()).or_insert_with(|| Node::Link(target.into()));
    }

    pub fn directory(&mut self, path: &str, mode: u32) {
        self.nodes.insert(path.into(), Node::Directory(mode));
    }

    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// Write all of it below a directory that is not there yet.
    fn write(&self, top: &Path) -> Result<(), DiskError> {
        let make = |path: &Path| fs::create_dir_all(path).doing(at("making", path));
        make(top)?;
        let permit = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing(at("writing", path))
        };
        for (path, node) in &self.nodes {
            let path = top.join(path);
            make(path.parent().unwrap_or(top))?;
            match node {
                Node::Directory(mode) => {
                    make(&path)?;
                    permit(&path, *mode)?;
                }
                Node::File(content, mode) => {
                    let mut file = File::create(&path).doing(at("writing", &path))?;
                    let mut reader = content.reader().doing(at("reading what becomes", &path))?;
                    io::copy(&mut reader, &mut file).doing(at("writing", &path))?;
                    permit(&path, *mode)?;
                }
                Node::Link(target) => symlink(target, &path).doing(at("writing", &path))?,
            }
        }
        Ok(())
    }

    /// Make a squashfs of it: owned by root, without dates.
    ///
    /// # Errors
    /// `mksquashfs` says why.
    pub fn squash(&self, work: &Path, image: &Path) -> Result<(), DiskError> {
        let top = work.join("root");
        self.write(&top)?;
        let permit = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&top, permit).doing(at("writing", &top))?;
        let mut command = tool("mksquashfs");
        command.arg(&top).arg(image);
        command.args(["-noappend", "-no-progress", "-quiet", "-all-root", "-no-xattrs"]);
        command.args(["-mkfs-time", "0", "-all-time", "0"]).args(PLAIN);
        run(&mut command)?;
        Ok(())
    }
}

/// What a root is made of.
pub struct Parts<'a> {
    pub board: Board,
    pub bramble: &'a Path,
    pub init: &'a Path,
    pub version: &'a str,
    /// Unpacked packages of programs and their libraries.
    pub packages: &'a [PathBuf],
    /// Unpacked packages of firmware.
    pub firmware: &'a [PathBuf],
    pub busybox: &'a Path,
    pub modules: &'a Modules,
    /// `lib/modules/VERSION`.
    pub modules_directory: &'a Path,
}

/// Put a root together.
///
/// # Errors
/// A part cannot be read, or lacks something.
pub fn tree(parts: &Parts<'_>) -> Result<Tree, DiskError> {
    let mut tree = Tree::default();
    for directory in MOUNT_POINTS {
        tree.directory(directory, if directory == "root" { 0o700 } else { 0o755 });
    }
    tree.directory("tmp", 0o1777);
    for name in MERGED {
        tree.directory(&format!("usr/{name}"), 0o755);
        tree.link(name, &format!("usr/{name}"));
    }
    tree.link("var/run", "/run");
    tree.link("var/tmp", "/tmp");
    tree.file("usr/bin/bramble", 0o755, Content::File(parts.bramble.into()));
    tree.file("usr/sbin/bramble-init", 0o755, Content::File(parts.init.into()));
    programs(&mut tree, parts)?;
    busybox(&mut tree, parts.busybox)?;
    modules(&mut tree, parts)?;
    if parts.board == Board::Pi {
        wireless(&mut tree, parts.firmware)?;
    }
    settings(&mut tree, parts);
    Ok(tree)
}

fn settings(tree: &mut Tree, parts: &Parts<'_>) {
    tree.text(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    );
    // No password opens it: ssh takes keys alone, and the console has no login.
    tree.file("etc/shadow", 0o600, Content::Bytes(b"root:*:::::::\nnobody:*:::::::\n".to_vec()));
    tree.text("etc/group", "root:x:0:\nnogroup:x:65534:\n");
    tree.text("etc/shells", "/bin/sh\n");
    tree.text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
    tree.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
    let version = parts.version;
    tree.text(
        "etc/os-release",
        format!(
            "ID=bramble\nNAME=bramble\nVERSION=\"{version}\"\nPRETTY_NAME=\"bramble {version}\"\n"
        ),
    );
    let names = parts.board.loaded_modules().iter().filter(|name| parts.modules.has(name));
    let names: String = names.map(|name| format!("{name}\n")).collect();
    tree.text(layout::ROOT_MODULES_FILE.trim_start_matches('/'), names);
}

/// The programs of a board, and every library one of them names.
fn programs(tree: &mut Tree, parts: &Parts<'_>) -> Result<(), DiskError> {
    let mut wanted: Vec<(String, PathBuf)> = Vec::new();
    for program in parts.board.programs() {
        let found = find(parts.packages, program.path).ok_or_else(|| {
            DiskError::Refused(format!("package {} has no {}", program.package, program.path))
        })?;
        wanted.push((program.path.into(), found));
    }
    let mut seen = BTreeSet::new();
    while let Some((path, source)) = wanted.pop() {
        let bytes = fs::read(&source).doing(at("reading", &source))?;
        let needed = Elf::new(&bytes).and_then(|elf| elf.needed());
        let needed = needed.map_err(|error| DiskError::Refused(format!("{path}: {error}")))?;
        tree.file(&path, 0o755, Content::Bytes(bytes));
        for name in needed.into_iter().filter(|name| seen.insert(name.clone())) {
            // A loader is named with its path, a library without.
            let library = name.rsplit('/').next().unwrap_or(&name);
            let found = library_of(parts.packages, library).ok_or_else(|| {
                DiskError::Refused(format!("{path} needs {name}, which no package brought"))
            })?;
            let place = match name.strip_prefix('/') {
                Some(loader) if loader.starts_with("usr/") => loader.to_string(),
                Some(loader) => format!("usr/{loader}"),
                None => format!("usr/lib/{library}"),
            };
            wanted.push((place, found));
        }
    }
    Ok(())
}

/// A file of one of the packages; `usr` may be missing in front of it.
fn find(packages: &[PathBuf], path: &str) -> Option<PathBuf> {
    let short = path.strip_prefix("usr/").unwrap_or(path);
    let paths = packages.iter().flat_map(|tree| [tree.join(path), tree.join(short)]);
    paths.into_iter().find(|path| path.is_file())
}

fn library_of(packages: &[PathBuf], name: &str) -> Option<PathBuf> {
    for tree in packages {
        for directory in ["lib", "usr/lib", "lib64", "usr/lib64"] {
            let directory = tree.join(directory);
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            let places = below.map(|entry| entry.path()).chain([directory]);
            if let Some(found) = places.map(|place| place.join(name)).find(|path| path.is_file()) {
                // The link's target, which other packages need not have.
                return found.canonicalize().ok();
            }
        }
    }
    None
}

/// busybox under each of its names.
fn busybox(tree: &mut Tree, path: &Path) -> Result<(), DiskError> {
    let bytes = fs::read(path).doing(at("reading", path))?;
    let names = applets(&bytes);
    if !names.iter().any(|name| name == "sh") {
        return Err(DiskError::Refused(format!("{} names no applets", path.display())));
    }
    tree.file("usr/bin/busybox", 0o755, Content::Bytes(bytes));
    for name in names {
        let path = format!("usr/bin/{name}");
        if !tree.has(&path) && !tree.has(&format!("usr/sbin/{name}")) {
            tree.link(&path, "busybox");
        }
    }
    Ok(())
}

/// Names in a busybox for any machine: one after the other, in order, from `[` on.
fn applets(bytes: &[u8]) -> Vec<String> {
    const FIRST: &[u8] = b"\0[\0[[\0";
    let Some(at) = bytes.windows(FIRST.len()).position(|window| window == FIRST) else {
        return Vec::new();
    };
    let words = bytes[at + 1..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let name = |word: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "[-_.".contains(c);
        !word.is_empty() && word.chars().all(good)
    };
    words.take_while(|word| name(word)).map(|word| word.into_owned()).collect()
}

fn modules(tree: &mut Tree, parts: &Parts<'_>) -> Result<(), DiskError> {
    let version = parts.modules_directory.file_name().unwrap_or_default().to_string_lossy();
    let top = format!("usr/lib/modules/{version}");
    let chosen = parts.modules.closure(parts.board.modules());
    for module in &chosen {
        let bytes = module_bytes(&parts.modules_directory.join(&module.path))?;
        tree.file(&format!("{top}/{}", module.path), 0o644, Content::Bytes(bytes));
    }
    for (name, text) in lists(parts.modules, &chosen) {
        tree.text(&format!("{top}/{name}"), text);
    }
    Ok(())
}

/// What the Pi's radio needs: firmware of its chips, and what is allowed where.
fn wireless(tree: &mut Tree, packages: &[PathBuf]) -> Result<(), DiskError> {
    const CHIPS: [&str; 5] = ["43430", "43436", "43436s", "43455", "43456"];
    let wanted = |name: &str| {
        CHIPS.iter().any(|chip| {
            let rest = name.strip_prefix("brcmfmac").or_else(|| name.strip_prefix("cyfmac"));
            rest.and_then(|rest| rest.strip_prefix(chip))
                .is_some_and(|rest| rest.starts_with("-sdio"))
        }) || name.starts_with("regulatory.db")
    };
    for package in packages {
        for directory in ["brcm", "cypress", ""] {
            for source in ["lib/firmware", "usr/lib/firmware"] {
                let source = package.join(source).join(directory);
                for entry in fs::read_dir(&source).into_iter().flatten().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // Alternatives between which a package's script chooses.
                    let file = name.strip_suffix("-debian").unwrap_or(&name);
                    let path = format!("usr/lib/firmware/{directory}/{file}").replace("//", "/");
                    if !wanted(file) {
                    } else if let Ok(target) = fs::read_link(entry.path()) {
                        tree.link(&path, &target.to_string_lossy());
                    } else {
                        tree.file(&path, 0o644, Content::File(entry.path()));
                    }
                }
            }
        }
    }
    let any = tree.nodes.keys().any(|path| path.contains("brcmfmac43455-sdio"));
    let text = "the packages have no firmware for the Pi's radio (brcmfmac43455-sdio)";
    if any { Ok(()) } else { Err(DiskError::Refused(text.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_are_read_from_the_program() {
        let text = b"x\0usage: [x\0[\0[[\0acpid\0ash\0sh\0zcat\0\0\0more";
        assert_eq!(applets(text), ["[", "[[", "acpid", "ash", "sh", "zcat"]);
        assert!(applets(b"nothing").is_empty());
        // The machine's own, which knows its names itself.
        let path = std::env::var("PATH").unwrap();
        let busybox = std::env::split_paths(&path).map(|dir| dir.join("busybox"));
        let busybox = busybox.into_iter().find(|path| path.exists()).unwrap();
        let listed = std::process::Command::new(&busybox).arg("--list").output().unwrap();
        let listed: BTreeSet<String> =
            String::from_utf8(listed.stdout).unwrap().lines().map(String::from).collect();
        let found: BTreeSet<String> = applets(&fs::read(busybox).unwrap()).into_iter().collect();
        assert_eq!(found, listed);
    }
}
