//! The first file system of a node, in memory: its init, and modules for disks.

use super::board::Board;
use super::cpio::Archive;
use super::error::{DiskError, Doing, at};
use super::modules::{Modules, module_bytes};
use crate::node::layout;
use flate2::{Compression, GzBuilder};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Make it. It is not packed: all it holds is in the root, too, which whoever packs the image finds.
///
/// # Errors
/// A part cannot be read.
pub fn make(
    board: Board,
    init: &Path,
    modules: &Modules,
    modules_directory: &Path,
) -> Result<Vec<u8>, DiskError> {
    let mut archive = Archive::default();
    for directory in ["dev", "etc", "modules", "proc", "run", "sys"] {
        archive.directory(directory);
    }
    archive.device("dev/console", 0o600, (5, 1));
    archive.device("dev/null", 0o666, (1, 3));
    let init = fs::read(init).doing(at("reading", init))?;
    archive.file(layout::INIT_FILE, 0o755, &init);
    let mut list = String::new();
    let always = board.file_system_modules();
    let count = modules.closure(always.iter().copied()).len();
    let all = always.iter().chain(board.storage_modules()).copied();
    for (at, module) in modules.closure(all).into_iter().enumerate() {
        if at == count {
            list += &format!("{}\n", layout::MODULES_UNTIL_DISK);
        }
        let path = format!("modules/{}.ko", module.name());
        archive.file(&path, 0o644, &module_bytes(&modules_directory.join(&module.path))?);
        list += &format!("/{path}\n");
    }
    archive.file(layout::MODULES_FILE, 0o644, list.as_bytes());
    Ok(archive.finish())
}

/// Pack without a date and a name.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let written = packer.write_all(bytes).and_then(|()| packer.finish());
    written.expect("memory takes all that is written")
}
