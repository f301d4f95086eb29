//! What a Raspberry Pi's own firmware reads: from the distribution's packages, or from a directory
//! as the Pi's makers publish it.

use super::board::Board;
use super::error::{DiskError, Doing, at};
use super::fat::{Content, Volume};
use std::fs;
use std::path::{Path, PathBuf};

/// Read by the chip itself on models before the 4, which look in the first partition only.
const FIRST_STAGE: &str = "bootcode.bin";
/// The second stage and what belongs to it; others are for cameras and for looking into crashes.
const STAGES: [&str; 4] = ["start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
/// The kernel for all 64-bit models in a directory of the makers.
const KERNEL: &str = "kernel8.img";

/// Kernel, modules and firmware of a Pi.
pub struct PiFiles {
    pub kernel: PathBuf,
    /// `lib/modules/VERSION`.
    pub modules: PathBuf,
    /// Where the stages lie.
    firmware: PathBuf,
    /// Where the device trees lie.
    trees: PathBuf,
    overlays: Option<PathBuf>,
    /// The distribution's kernel wants other things of the firmware than the makers' own.
    makers: bool,
}

impl PiFiles {
    /// From packages: firmware, and a kernel with its version.
    ///
    /// # Errors
    /// A package lacks a part.
    pub fn of_packages(
        firmware: &[PathBuf],
        kernel: &Path,
        version: &str,
        modules: PathBuf,
    ) -> Result<PiFiles, DiskError> {
        let mut places = firmware.iter().map(|tree| tree.join("usr/lib/raspi-firmware"));
        let stages = places.find(|place| place.join(STAGES[0]).exists());
        let absent = |what: &str| DiskError::Refused(format!("the packages have no {what}"));
        let stages = stages.ok_or_else(|| absent("firmware of the Pi (raspi-firmware)"))?;
        let trees = kernel.join(format!("usr/lib/linux-image-{version}/broadcom"));
        if !trees.is_dir() {
            return Err(absent("device trees of the Pi"));
        }
        let kernel = kernel.join(format!("boot/vmlinuz-{version}"));
        Ok(PiFiles { kernel, modules, firmware: stages, trees, overlays: None, makers: false })
    }

    /// From a directory: `boot/` (or the directory itself) with stages, device trees, `overlays/`
    /// and `kernel8.img`, and `modules/VERSION` or `lib/modules/VERSION`.
    ///
    /// # Errors
    /// A part is not there, or there are modules of several kernels.
    pub fn of_directory(directory: &Path) -> Result<PiFiles, DiskError> {
        let shown = directory.display();
        let boots = ["boot/firmware", "boot", "."].map(|name| directory.join(name));
        let boot = boots.into_iter().find(|boot| boot.join(KERNEL).exists());
        let boot = boot.ok_or_else(|| {
            DiskError::Refused(format!("{shown} has no {KERNEL}, neither in it nor in its boot/"))
        })?;
        let mut versions = Vec::new();
        for place in ["modules", "lib/modules"].map(|name| directory.join(name)) {
            let entries = fs::read_dir(&place).into_iter().flatten().flatten();
            versions.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        // The makers build one per processor; kernel8.img is the one called v8.
        let of_kernel8 = |path: &PathBuf| path.to_string_lossy().contains("v8");
        if versions.len() > 1 {
            versions.retain(of_kernel8);
        }
        let [modules] = versions.as_slice() else {
            let found = versions.len();
            let text = format!(
                "{shown} has modules of {found} kernels that may belong to {KERNEL}; leave exactly \
                 one directory in modules/"
            );
            return Err(DiskError::Refused(text));
        };
        Ok(PiFiles {
            kernel: boot.join(KERNEL),
            modules: modules.clone(),
            overlays: Some(boot.join("overlays")).filter(|overlays| overlays.is_dir()),
            trees: boot.clone(),
            firmware: boot,
            makers: true,
        })
    }

    /// Put into a slot what the firmware reads there. A Pi 5 has its stages in its own flash.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn add_to_slot(&self, slot: &mut Volume) -> Result<(), DiskError> {
        for name in STAGES {
            let path = self.firmware.join(name);
            if path.exists() {
                slot.add(name, Content::File(path));
            }
        }
        let mut trees = 0;
        for (name, path) in files(&self.trees)? {
            if name.starts_with("bcm27") && name.ends_with(".dtb") {
                slot.add(&name, Content::File(path));
                trees += 1;
            }
        }
        if trees == 0 {
            let text = format!("{} has no device trees (bcm27*.dtb)", self.trees.display());
            return Err(DiskError::Refused(text));
        }
        if let Some(overlays) = &self.overlays {
            for (name, path) in files(overlays)? {
                slot.add(&format!("overlays/{name}"), Content::File(path));
            }
        }
        slot.add("config.txt", Content::Bytes(self.configuration().into_bytes()));
        let arguments = format!("{}\n", Board::Pi.arguments());
        slot.add("cmdline.txt", Content::Bytes(arguments.into_bytes()));
        Ok(())
    }

    /// Put into the first partition what must lie there.
    pub fn add_to_first(&self, first: &mut Volume) {
        let path = self.firmware.join(FIRST_STAGE);
        if path.exists() {
            first.add(FIRST_STAGE, Content::File(path));
        }
    }

    /// `config.txt`.
    fn configuration(&self) -> String {
        let kernel = crate::node::layout::KERNEL_FILE;
        let initramfs = crate::node::layout::INITRAMFS_FILE;
        let own = if self.makers { "" } else { "upstream_kernel=1\n" };
        format!(
            "# Read by the Pi's firmware. It is replaced by the next update.\n\
             arm_64bit=1\nenable_uart=1\n{own}kernel={kernel}\n\
             initramfs {initramfs} followkernel\n\
             dtparam=i2c_arm=on\ndtparam=spi=on\ndtparam=watchdog=on\n"
        )
    }
}

fn files(directory: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).doing(at("reading", directory))? {
        let entry = entry.doing(at("reading", directory))?;
        if entry.path().is_file() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_makers_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let put = |path: &str| {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        };
        let refused = |part: &str| {
            let Err(error) = PiFiles::of_directory(top) else { panic!("{part}") };
            assert!(error.to_string().contains(part), "{error}");
        };
        refused("has no kernel8.img");
        put("boot/kernel8.img");
        refused("modules of 0 kernels");
        put("modules/6.6.1-v8+/modules.builtin");
        put("modules/6.6.1-v8-16k+/modules.builtin");
        refused("modules of 2 kernels");
        fs::remove_dir_all(top.join("modules/6.6.1-v8-16k+")).unwrap();
        put("modules/6.6.1-v7+/modules.builtin");
        put("boot/bcm2712-rpi-5-b.dtb");
        put("boot/overlays/spi.dtbo");
        let files = PiFiles::of_directory(top).unwrap();
        assert!(files.modules.ends_with("6.6.1-v8+"));
        assert!(files.add_to_slot(&mut Volume::new("X")).is_ok());
        assert!(!files.configuration().contains("upstream"));
        fs::remove_file(top.join("boot/bcm2712-rpi-5-b.dtb")).unwrap();
        assert!(files.add_to_slot(&mut Volume::new("X")).is_err());
    }
}
