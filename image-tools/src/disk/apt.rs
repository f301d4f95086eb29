//! Packages of the machine's distribution, for any architecture.
//!
//! apt works in a root of its own (sources, lists, architecture), so that the machine's
//! configuration stays as it is and no right is needed; sources and keys are the machine's.
//! Packages stay in the cache: a second image of the same packages needs no network.

use super::error::{DiskError, Doing, at};
use super::tool::{run, tool};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where firmware lies that is not free.
const FIRMWARE_COMPONENT: &str = "non-free-firmware";
/// Packages that programs may draw in.
const CLOSURE_MAX: usize = 200;

/// apt in its own root, for one architecture.
pub struct Apt {
    root: PathBuf,
    packages: PathBuf,
    architecture: &'static str,
    refreshed: bool,
    /// Others who build from this cache wait.
    _alone: Flock<File>,
}

impl Apt {
    /// Prepare it below `cache`.
    ///
    /// # Errors
    /// The machine has no apt with sources, or the directory cannot be written.
    pub fn open(cache: &Path, architecture: &'static str) -> Result<Apt, DiskError> {
        let root = cache.join(format!("apt-{architecture}"));
        let packages = cache.join("packages");
        let directories = ["sources", "keys", "state/lists/partial", "cache/archives/partial"];
        for directory in directories.map(|name| root.join(name)).iter().chain([&packages]) {
            fs::create_dir_all(directory).doing(at("making", directory))?;
        }
        let root = root.canonicalize().doing(at("finding", &root))?;
        let lock = packages.join("lock");
        let file = File::create(&lock).doing(at("writing", &lock))?;
        let alone = Flock::lock(file, FlockArg::LockExclusive);
        let alone =
            alone.map_err(|(_, error)| std::io::Error::from(error)).doing(at("locking", &lock))?;
        let apt = Apt { root, packages, architecture, refreshed: false, _alone: alone };
        apt.write("state/status", "")?;
        apt.write("sources/own.list", &machine_sources()?)?;
        apt.write("apt.conf", &apt.configuration())?;
        apt.link_keys()?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), DiskError> {
        let path = self.root.join(name);
        // Untouched when it is the same: apt compares dates.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).doing(at("writing", &path))
    }

    fn configuration(&self) -> String {
        let root = self.root.display();
        let architecture = self.architecture;
        format!(
            "Dir::Etc::SourceList \"/dev/null\";\n\
             Dir::Etc::SourceParts \"{root}/sources\";\n\
             Dir::Etc::Trusted \"/dev/null\";\n\
             Dir::Etc::TrustedParts \"{root}/keys\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\n\
             Dir::State \"{root}/state\";\n\
             Dir::State::Status \"{root}/state/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             APT::Architecture \"{architecture}\";\n\
             #clear APT::Architectures;\n\
             APT::Architectures {{ \"{architecture}\"; }};\n\
             APT::Sandbox::User \"root\";\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        )
    }

    /// Offer apt the keys of the machine's archives.
    fn link_keys(&self) -> Result<(), DiskError> {
        let keys = self.root.join("keys");
        for (directory, wanted) in [
            ("/etc/apt/trusted.gpg.d", ""),
            ("/etc/apt/keyrings", ""),
            ("/usr/share/keyrings", "-archive-"),
        ] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let key = name.ends_with(".gpg") || name.ends_with(".asc");
                let link = keys.join(&name);
                if key && name.contains(wanted) && !link.exists() {
                    symlink(entry.path(), &link).doing(at("linking", &link))?;
                }
            }
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tool(program);
        command.arg("-c").arg(self.root.join("apt.conf")).arg("-q").current_dir(&self.packages);
        command
    }

    /// Fetch the lists of packages.
    ///
    /// # Errors
    /// apt says why.
    pub fn refresh(&mut self) -> Result<(), DiskError> {
        run(self.command("apt-get").arg("update"))?;
        self.refreshed = true;
        Ok(())
    }

    /// Packages and, with `libraries`, all libraries below them. Asks once for each depth: apt reads
    /// all its lists each time.
    fn closure(&self, names: &[&str], libraries: bool) -> Result<BTreeSet<String>, DiskError> {
        let mut found: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let mut asked: Vec<String> = found.iter().cloned().collect();
        while libraries && !asked.is_empty() && found.len() < CLOSURE_MAX {
            let library = |name: &String| name.starts_with("lib") || name.starts_with("zlib");
            let needed = self.depends(&asked)?.into_iter().filter(library);
            asked = needed.filter(|name| found.insert(name.clone())).collect();
        }
        Ok(found)
    }

    fn depends(&self, packages: &[String]) -> Result<Vec<String>, DiskError> {
        let mut command = self.command("apt-cache");
        command.args(["depends", "--important", "--no-recommends", "--no-suggests"]);
        command.args(packages);
        let text = run(&mut command)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.split_once("Depends: "));
        Ok(lines.map(|(_, name)| name.trim().to_string()).collect())
    }

    /// The newest kernel's package.
    ///
    /// # Errors
    /// The distribution has none of that name.
    pub fn kernel(&mut self, meta: &str) -> Result<String, DiskError> {
        self.with_lists(|apt| {
            let mut needed = apt.depends(&[meta.to_string()])?.into_iter();
            let versioned = needed.find(|name| name.starts_with("linux-image-"));
            versioned.ok_or_else(|| DiskError::Refused(format!("{meta} names no kernel")))
        })
    }

    /// Fetch packages, with libraries below them or without, and unpack each.
    ///
    /// # Errors
    /// There is none of that name, or fetching failed.
    pub fn unpack(&mut self, names: &[&str], libraries: bool) -> Result<Vec<Package>, DiskError> {
        self.with_lists(|apt| {
            let all = apt.closure(names, libraries)?;
            apt.fetch(&all)
        })
    }

    /// Try with the lists that are there. Old ones name packages that were replaced since: then
    /// fetch new ones and try once more.
    fn with_lists<T>(
        &mut self,
        mut part: impl FnMut(&Apt) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        match part(self) {
            Err(DiskError::Tool { .. } | DiskError::Refused(_)) if !self.refreshed => {
                self.refresh()?;
                part(self)
            }
            result => result,
        }
    }

    fn fetch(&self, names: &BTreeSet<String>) -> Result<Vec<Package>, DiskError> {
        // Asked elsewhere: of what lies where apt stands, it says nothing.
        let mut command = self.command("apt-get");
        command.current_dir(&self.root).args(["download", "--print-uris"]);
        let listed = run(command.args(names))?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        // 'URI' FILE SIZE DIGEST
        let files: Vec<(String, u64)> = listed
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ').skip(1);
                Some((words.next()?.to_string(), words.next()?.parse().ok()?))
            })
            .collect();
        let here = |(file, size): &(String, u64)| {
            self.packages.join(file).metadata().is_ok_and(|found| found.len() == *size)
        };
        if !files.iter().all(here) {
            // apt verifies what it fetches, and leaves alone what is there and whole.
            run(self.command("apt-get").arg("download").args(names))?;
        }
        if files.len() < names.len() || !files.iter().all(here) {
            let said = format!("{} packages were asked for, {} are here", names.len(), files.len());
            return Err(DiskError::Tool { program: "apt-get download".into(), said });
        }
        files.iter().map(|(file, _)| self.unpacked(file)).collect()
    }

    fn unpacked(&self, file: &str) -> Result<Package, DiskError> {
        let stem = file.trim_end_matches(".deb");
        let tree = self.packages.join(stem);
        if !tree.exists() {
            let partial = self.packages.join(format!("{stem}.partial-{}", std::process::id()));
            let unpacked =
                run(tool("dpkg-deb").arg("-x").arg(self.packages.join(file)).arg(&partial))
                    .and_then(|_| fs::rename(&partial, &tree).doing(at("making", &tree)));
            if let Err(error) = unpacked {
                let _ = fs::remove_dir_all(&partial);
                // Someone else may have unpacked it meanwhile.
                if !tree.exists() {
                    return Err(error);
                }
            }
        }
        let mut words = stem.splitn(3, '_');
        let name = words.next().unwrap_or_default().to_string();
        let version = words.next().unwrap_or_default().replace("%3a", ":");
        Ok(Package { name, version, tree })
    }
}

/// A package, unpacked.
pub struct Package {
    pub name: String,
    pub version: String,
    pub tree: PathBuf,
}

/// The machine's own sources, those of its distribution, in one-line form. The distribution's are
/// those that have a component `main`, as vendors' archives beside them do not.
fn machine_sources() -> Result<String, DiskError> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
    let mut command = tool("apt-get");
    command.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let listed = run(&mut command)?;
    let sources = sources_of(&String::from_utf8_lossy(&listed));
    if sources.is_empty() {
        let text = "apt knows no source with a component main; run apt-get update first";
        return Err(DiskError::Refused(text.into()));
    }
    Ok(sources)
}

fn sources_of(listed: &str) -> String {
    const DISTRIBUTIONS: [&str; 4] = ["Debian", "Ubuntu", "Raspbian", "Raspberry Pi Foundation"];
    let mut sources = BTreeSet::new();
    for line in listed.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(uri), Some(release), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if words.next().is_some_and(|origin| DISTRIBUTIONS.contains(&origin)) {
            sources.insert(format!("deb {uri} {release} main {FIRMWARE_COMPONENT}\n"));
        }
    }
    sources.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_distributions_own() {
        let listed = "mirror://a/debian/ bookworm main Debian\n\
                      mirror://a/debian/ bookworm contrib Debian\n\
                      mirror://b/vendor main main Vendor Inc\n\
                      mirror://a/debian/ bookworm-updates main Debian\n\
                      mirror://a/debian/ bookworm main Debian\n";
        assert_eq!(
            sources_of(listed),
            "deb mirror://a/debian/ bookworm main non-free-firmware\n\
             deb mirror://a/debian/ bookworm-updates main non-free-firmware\n"
        );
        assert_eq!(sources_of(""), "");
    }
}
