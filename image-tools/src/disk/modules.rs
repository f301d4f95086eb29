//! Kernel modules: which ones a board gets, all they need, and the lists by which they are loaded.
//!
//! Written like depmod's text files, of the chosen modules only: what is left out must not be
//! found by a device's alias.

use super::elf::Elf;
use super::error::{DiskError, Doing, at};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module as its file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// From the directory of the kernel's version: `kernel/fs/ext4/ext4.ko`.
    pub path: String,
    depends: Vec<String>,
    soft_before: Vec<String>,
    soft_after: Vec<String>,
    aliases: Vec<String>,
}

/// All modules of a kernel, by name.
#[derive(Default)]
pub struct Modules {
    by_name: BTreeMap<String, Module>,
    /// Aliases that stand for themselves (`crc32c`), with the modules that answer to them.
    by_alias: BTreeMap<String, Vec<String>>,
    built_in: BTreeSet<String>,
}

/// In a module's name `-` and `_` are the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(plain(name))
}

impl Modules {
    /// Read all of a kernel's modules. `directory` is `lib/modules/VERSION`.
    ///
    /// # Errors
    /// It cannot be read, or a module in it is none.
    pub fn read(directory: &Path) -> Result<Modules, DiskError> {
        let mut modules = Modules::default();
        let list = directory.join("modules.builtin");
        let built_in = fs::read_to_string(&list).doing(at("reading", &list))?;
        modules.built_in = built_in.lines().filter_map(name_of).collect();
        modules.collect(directory, "kernel")?;
        Ok(modules)
    }

    fn collect(&mut self, top: &Path, within: &str) -> Result<(), DiskError> {
        let directory = top.join(within);
        for entry in fs::read_dir(&directory).doing(at("reading", &directory))? {
            let entry = entry.doing(at("reading", &directory))?;
            let path = format!("{within}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().doing(at("reading", &directory))?.is_dir() {
                self.collect(top, &path)?;
            } else if let Some(name) = name_of(&path) {
                let bytes = module_bytes(&top.join(&path))?;
                let elf = Elf::new(&bytes).and_then(|elf| elf.module_words());
                let words = elf.map_err(|error| DiskError::Refused(format!("{path}: {error}")))?;
                self.insert(name, Module::of_words(plain_path(&path), &words));
            }
        }
        Ok(())
    }

    fn insert(&mut self, name: String, module: Module) {
        for alias in module.aliases.iter().filter(|alias| !alias.contains(['*', ':'])) {
            self.by_alias.entry(plain(alias)).or_default().push(name.clone());
        }
        self.by_name.insert(name, module);
    }

    /// The named modules and all they need, each after what it needs. Names the kernel does not
    /// have are left out: boards and kernels differ, and some are built in.
    pub fn closure<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&Module> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(&plain(name), &mut seen, &mut order);
        }
        order
    }

    fn visit<'a>(&'a self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<&'a Module>) {
        let Some(module) = self.by_name.get(name) else {
            for answering in self.by_alias.get(name).into_iter().flatten() {
                self.visit(answering, seen, order);
            }
            return;
        };
        if !seen.insert(name.into()) {
            return;
        }
        for needed in module.soft_before.iter().chain(&module.depends) {
            self.visit(needed, seen, order);
        }
        order.push(module);
        for after in &module.soft_after {
            self.visit(after, seen, order);
        }
    }

    /// Whether the kernel has it, as a module or built in.
    pub fn has(&self, name: &str) -> bool {
        let name = plain(name);
        self.by_name.contains_key(&name) || self.built_in.contains(&name)
    }
}

impl Module {
    fn of_words(path: String, words: &[&str]) -> Module {
        let mut module = Module { path, ..Module::default() };
        for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
            match key {
                "depends" => {
                    module.depends.extend(value.split(',').filter(|n| !n.is_empty()).map(plain));
                }
                "alias" => module.aliases.push(value.into()),
                "softdep" => module.soft(value),
                _ => {}
            }
        }
        module
    }

    /// `pre: a b post: c`.
    fn soft(&mut self, text: &str) {
        let mut after = false;
        for word in text.split_ascii_whitespace() {
            match word {
                "pre:" => after = false,
                "post:" => after = true,
                name if after => self.soft_after.push(plain(name)),
                name => self.soft_before.push(plain(name)),
            }
        }
    }

    pub fn name(&self) -> String {
        name_of(&self.path).expect("modules are found by their name")
    }
}

/// What is packed is stored unpacked: the file system packs it better, and the node need not.
fn plain_path(path: &str) -> String {
    path.strip_suffix(".xz").unwrap_or(path).to_string()
}

/// Read a module, unpacked.
///
/// # Errors
/// It cannot be read.
pub fn module_bytes(path: &Path) -> Result<Vec<u8>, DiskError> {
    let packed = path
        .with_file_name(format!("{}.xz", path.file_name().unwrap_or_default().to_string_lossy()));
    let path = if !path.exists() && packed.exists() { packed.as_path() } else { path };
    let bytes = fs::read(path).doing(at("reading", path))?;
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    let mut reader = lzma_rust2::XzReader::new(bytes.as_slice(), true);
    std::io::Read::read_to_end(&mut reader, &mut unpacked).doing(at("unpacking", path))?;
    Ok(unpacked)
}

/// depmod's files for these modules: name and text.
pub fn lists(all: &Modules, chosen: &[&Module]) -> Vec<(&'static str, String)> {
    let (mut dep, mut alias, mut soft) = (String::new(), String::new(), String::new());
    for module in chosen {
        let name = module.name();
        dep += &format!("{}:", module.path);
        // As depmod writes them: what must be loaded first stands last.
        for needed in hard_closure(all, &name).iter().rev().filter(|needed| **needed != name) {
            dep += &format!(" {}", all.by_name[needed].path);
        }
        dep.push('\n');
        for pattern in &module.aliases {
            alias += &format!("alias {pattern} {name}\n");
        }
        if !(module.soft_before.is_empty() && module.soft_after.is_empty()) {
            let part = |word: &str, names: &[String]| match names {
                [] => String::new(),
                names => format!(" {word}: {}", names.join(" ")),
            };
            let (before, after) =
                (part("pre", &module.soft_before), part("post", &module.soft_after));
            soft += &format!("softdep {name}{before}{after}\n");
        }
    }
    let built_in = all.built_in.iter().map(|name| format!("kernel/{name}.ko\n")).collect();
    vec![
        ("modules.dep", dep),
        ("modules.alias", alias),
        ("modules.softdep", soft),
        ("modules.builtin", built_in),
    ]
}

/// A module and what it cannot be loaded without, in order of loading.
fn hard_closure(all: &Modules, name: &str) -> Vec<String> {
    fn visit(all: &Modules, name: &str, order: &mut Vec<String>) {
        let Some(module) = all.by_name.get(name) else { return };
        for needed in &module.depends {
            visit(all, needed, order);
        }
        if !order.iter().any(|seen| seen == name) {
            order.push(name.into());
        }
    }
    let mut order = Vec::new();
    visit(all, name, &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let mut modules = Modules::default();
        for (path, words) in [
            ("kernel/fs/ext4/ext4.ko", "depends=mbcache,jbd2 softdep=pre:_crc32c alias=fs-ext4"),
            ("kernel/fs/jbd2/jbd2.ko", "depends="),
            ("kernel/fs/mbcache.ko", ""),
            ("kernel/crypto/crc32c_generic.ko", "alias=crc32c alias=crypto-crc32c"),
            ("kernel/arch/crc32c-intel.ko", "alias=crc32c alias=cpu:type:x86*"),
            ("kernel/net/nf_tables.ko", "depends=nfnetlink,libcrc32c"),
            ("kernel/net/nfnetlink.ko", ""),
            ("kernel/lib/libcrc32c.ko", "softdep=pre:_crc32c"),
            ("kernel/usb/uas.ko", "depends=usb-storage softdep=post:_nfnetlink"),
            ("kernel/usb/usb-storage.ko", "alias=usb:v*"),
        ] {
            let words: Vec<String> = words.split(' ').map(|word| word.replace('_', " ")).collect();
            // Only soft words hold a gap.
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let module = Module::of_words(path.into(), &words);
            let module = Module {
                depends: module.depends.iter().map(|name| name.replace(' ', "_")).collect(),
                ..module
            };
            modules.insert(name_of(path).unwrap(), module);
        }
        modules.built_in.insert("loop".into());
        modules
    }

    fn names(modules: &Modules, wanted: &[&str]) -> Vec<String> {
        modules.closure(wanted.iter().copied()).iter().map(|module| module.name()).collect()
    }

    #[test]
    fn what_is_needed_comes_first_also_by_alias() {
        let modules = modules();
        assert_eq!(
            names(&modules, &["ext4"]),
            ["crc32c_generic", "crc32c_intel", "mbcache", "jbd2", "ext4"]
        );
        let found = names(&modules, &["uas", "nf_tables", "uas", "loop", "nothing"]);
        assert_eq!(found[..3], ["usb_storage", "uas", "nfnetlink"]);
        assert_eq!(found[3..], ["crc32c_generic", "crc32c_intel", "libcrc32c", "nf_tables"]);
        assert!(modules.has("loop") && modules.has("usb-storage") && !modules.has("nothing"));
    }

    #[test]
    fn lists_are_as_depmod_writes_them() {
        let modules = modules();
        let lists: BTreeMap<_, _> =
            lists(&modules, &modules.closure(["ext4", "uas"])).into_iter().collect();
        assert!(
            lists["modules.dep"]
                .contains("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\n")
        );
        assert!(lists["modules.dep"].contains("kernel/usb/uas.ko: kernel/usb/usb-storage.ko\n"));
        assert!(lists["modules.alias"].contains("alias usb:v* usb_storage\n"));
        assert!(lists["modules.softdep"].contains("softdep ext4 pre: crc32c\n"));
        assert!(lists["modules.softdep"].contains("softdep uas post: nfnetlink\n"));
        assert!(!lists["modules.dep"].contains("nf_tables"));
    }
}
