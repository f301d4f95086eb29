//! Settings of a node, changed in an image or on a card: `bramble.toml` on its first partition.

use super::error::{DiskError, Doing, at};
use super::fat::Editor;
use super::mbr::{self, Partition};
use super::settings::Settings;
use crate::node::{Release, config, layout};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Changes to the first partition of an image or card.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub settings: Settings,
    /// The founding file to put there.
    pub founding: Option<Vec<u8>>,
}

/// Where a partition lies on a disk.
fn partition(
    disk: &mut (impl Read + Seek),
    name: &str,
    number: u32,
) -> Result<Partition, DiskError> {
    let mut sector = [0; 512];
    disk.seek(SeekFrom::Start(0))
        .and_then(|_| disk.read_exact(&mut sector))
        .doing(|| format!("reading the partition table of {name}"))?;
    let bytes = disk.seek(SeekFrom::End(0)).doing(|| format!("reading {name}"))?;
    whole(&sector, bytes, name)?;
    mbr::partition(&sector, number).map_err(|error| DiskError::Mbr(name.into(), error))
}

/// Refuse a disk or image that ends before its partitions do.
///
/// # Errors
/// It does, or has no partition table.
pub fn whole(sector: &[u8; 512], bytes: u64, name: &str) -> Result<(), DiskError> {
    let end = mbr::end(sector).map_err(|error| DiskError::Mbr(name.into(), error))?;
    if end > bytes {
        let text = format!(
            "{name} is not whole: it has {bytes} bytes, and its partitions reach to {end}; fetch or \
             build it again"
        );
        return Err(DiskError::Refused(text));
    }
    Ok(())
}

/// Change the first partition of an image or card called `name`.
///
/// # Errors
/// It is no image of a node, or settings are refused: then nothing was changed.
pub fn change<D: Read + Write + Seek>(
    mut disk: D,
    name: &str,
    changes: &Changes,
) -> Result<(), DiskError> {
    let first = partition(&mut disk, name, layout::CONFIG_PARTITION)?;
    change_at(disk, first, name, changes)
}

/// The same where the partition table is not on the disk yet.
///
/// # Errors
/// As [`change`].
pub fn change_at<D: Read + Write + Seek>(
    disk: D,
    first: Partition,
    name: &str,
    changes: &Changes,
) -> Result<(), DiskError> {
    let doing = || format!("opening the first partition of {name}");
    let mut editor = Editor::open(disk, first.bytes().start).doing(doing)?;
    let old = match editor.read(layout::CONFIG_FILE) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| {
            DiskError::Refused(format!("{} in {name} is no text", layout::CONFIG_FILE))
        })?,
        Err(super::fat::FatError::Absent(_)) => config::TEMPLATE.to_string(),
        Err(error) => return Err(error).doing(|| format!("reading {}", layout::CONFIG_FILE)),
    };
    let new = changes.settings.apply(&old)?;
    let mut write = |file: &str, bytes: &[u8]| {
        editor.write(file, bytes).doing(|| format!("writing {file} in {name}"))
    };
    if new != old {
        write(layout::CONFIG_FILE, new.as_bytes())?;
    }
    if let Some(founding) = &changes.founding {
        write(layout::FOUNDING_FILE, founding)?;
    }
    editor.finish().doing(|| format!("writing to {name}"))?;
    Ok(())
}

/// Read a file of a partition.
///
/// # Errors
/// It is no image of a node, or there is no such file.
pub fn read<D: Read + Write + Seek>(
    mut disk: D,
    name: &str,
    number: u32,
    file: &str,
) -> Result<Vec<u8>, DiskError> {
    let partition = partition(&mut disk, name, number)?;
    let mut editor =
        Editor::open(disk, partition.bytes().start).doing(|| format!("opening {name}"))?;
    editor.read(file).doing(|| format!("reading {file} in {name}"))
}

/// What an image holds, by its slot A.
///
/// # Errors
/// It is no image of a node.
pub fn release(path: &Path) -> Result<Release, DiskError> {
    let name = path.display().to_string();
    let disk = OpenOptions::new().read(true).write(true).open(path).doing(at("opening", path))?;
    let text = read(disk, &name, layout::SLOT_A_PARTITION, layout::RELEASE_FILE)?;
    Release::parse(&String::from_utf8_lossy(&text))
        .map_err(|error| DiskError::Refused(format!("{error} in {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_keeps_all_but_what_is_changed() {
        use crate::disk::fat::{Content, Volume};
        let mut disk = std::io::Cursor::new(Vec::new());
        let mut volume = Volume::new("BRAMBLE");
        volume.add(layout::CONFIG_FILE, Content::Bytes(config::TEMPLATE.into()));
        volume.add("boot/grub/grubenv", Content::Bytes(vec![b'#'; 1024]));
        disk.seek(SeekFrom::Start(layout::ALIGN_BYTES)).unwrap();
        volume.write(&mut disk, layout::CONFIG_BYTES).unwrap();
        let end = layout::ALIGN_BYTES + layout::CONFIG_BYTES;
        let table = [Partition::new(layout::TYPE_FAT32, layout::ALIGN_BYTES..end).unwrap(); 4];
        disk.get_mut()[..512].copy_from_slice(&mbr::write(&[], 1, &table));
        disk.get_mut().resize(end as usize, 0);
        let settings = Settings { hostname: Some("pi-1".into()), ..Settings::default() };
        let founding = Some(b"founding".to_vec());
        change(&mut disk, "card", &Changes { settings, founding }).unwrap();
        let mut file = |name: &str| read(&mut disk, "card", 1, name).unwrap();
        assert_eq!(file(layout::FOUNDING_FILE), b"founding");
        assert_eq!(file("boot/grub/grubenv"), vec![b'#'; 1024]);
        assert!(String::from_utf8(file(layout::CONFIG_FILE)).unwrap().contains("pi-1"));
        let before = disk.get_ref().clone();
        let bad = Settings { role: Some("boss".into()), ..Settings::default() };
        let changes = Changes { settings: bad, founding: None };
        assert!(change(&mut disk, "card", &changes).is_err());
        assert!(*disk.get_ref() == before);
        let empty = std::io::Cursor::new(vec![0; 4096]);
        assert!(matches!(read(empty, "x", 1, "y"), Err(DiskError::Mbr(..))));
    }
}
