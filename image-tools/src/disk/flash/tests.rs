//! Cards are files here, and the machine's disks a made-up sysfs.

use super::*;
use crate::disk::configure::{Settings, read};
use crate::disk::fat::{Content, Volume};
use crate::disk::mbr::{self, Partition};
use crate::node::{config, layout};

fn image(path: &Path) -> Vec<u8> {
    let mut file = File::create(path).unwrap();
    let mut volume = Volume::new("BRAMBLE");
    volume.add(layout::CONFIG_FILE, Content::Bytes(config::TEMPLATE.into()));
    let end = layout::ALIGN_BYTES + layout::CONFIG_BYTES;
    file.set_len(end + 512).unwrap();
    file.seek(SeekFrom::Start(layout::ALIGN_BYTES)).unwrap();
    volume.write(&mut file, layout::CONFIG_BYTES).unwrap();
    let table = [Partition::new(layout::TYPE_FAT32, layout::ALIGN_BYTES..end).unwrap(); 4];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&mbr::write(&[], 1, &table)).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn a_card_holds_the_image_and_its_own_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (source, card) = (dir.path().join("x.img"), dir.path().join("card"));
    let bytes = image(&source);
    // What a card held before is gone.
    fs::write(&card, vec![0xaa; bytes.len() + 5_000_000]).unwrap();
    let image = Image::open(&source).unwrap();
    let mut target = Target::open(&card).unwrap();
    let flashed = flash(&image, &mut target, &Changes::default(), true).unwrap();
    assert_eq!(flashed.bytes, bytes.len() as u64);
    assert!(fs::read(&card).unwrap() == bytes);
    let settings = Settings { hostname: Some("pi-7".into()), ..Settings::default() };
    let changes = Changes { settings, founding: Some(b"f".to_vec()) };
    flash(&image, &mut target, &changes, true).unwrap();
    let file = || OpenOptions::new().read(true).write(true).open(&card).unwrap();
    assert_eq!(read(file(), "card", 1, layout::FOUNDING_FILE).unwrap(), b"f");
    let text = read(file(), "card", 1, layout::CONFIG_FILE).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("hostname = \"pi-7\""));
}

#[test]
fn packed_images_are_unpacked_and_others_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let bytes = image(&path("x.img"));
    fs::write(path("x.img.gz"), crate::disk::initramfs::gzip(&bytes)).unwrap();
    let image = Image::open(&path("x.img.gz")).unwrap();
    assert_eq!(image.bytes(), None);
    let mut target = Target::open(&path("card")).unwrap();
    flash(&image, &mut target, &Changes::default(), true).unwrap();
    assert!(fs::read(path("card")).unwrap() == bytes);
    fs::write(path("x.qcow2"), b"QFI\xfb\0\0\0\x03").unwrap();
    assert!(Image::open(&path("x.qcow2")).is_err());
    for other in [Vec::new(), vec![0; 100], vec![0; 9000]] {
        fs::write(path("other"), other).unwrap();
        let other = Image::open(&path("other")).unwrap();
        assert!(flash(&other, &mut target, &Changes::default(), true).is_err());
    }
    let settings = Settings { role: Some("boss".into()), ..Settings::default() };
    let changes = Changes { settings, founding: None };
    let before = fs::read(path("card")).unwrap();
    assert!(flash(&image, &mut target, &changes, true).is_err());
    assert!(fs::read(path("card")).unwrap() == before);
    assert!(Target::open(dir.path()).is_err());
    assert!(Target::open(Path::new("/dev/no-such-disk")).is_err());
    assert!(Target::open(Path::new("/dev/null")).is_err());
}

#[test]
fn disks_in_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (disk, major) in [("sda", 8), ("sdb", 9), ("sdc", 10), ("sdd", 11), ("sde", 12)] {
        put(&format!("{disk}/dev"), &format!("{major}:0\n"));
        put(&format!("{disk}/ro"), "0\n");
        put(&format!("{disk}/{disk}1/partition"), "1\n");
        put(&format!("{disk}/{disk}1/dev"), &format!("{major}:1\n"));
    }
    put("sda1/partition", "1\n");
    put("sdd/sdd1/holders/dm-0", "");
    put("sde/ro", "1\n");
    let mounts = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                  23 22 0:99 /x /mnt/two rw - btrfs /dev/sdb1 rw\n";
    let swaps = "Filename Type\n/dev/sdc1 partition 1\n";
    for (disk, part) in [
        ("sda", Some("holds / of this machine")),
        ("sda1", Some("is a partition")),
        ("sdb", Some("mounted at /mnt/two")),
        ("sdc", Some("swap")),
        ("sdd", Some("part of dm-0")),
        ("sde", Some("write-protected")),
    ] {
        let found = use_of(dir.path(), disk, mounts, swaps);
        assert!(found.as_deref().unwrap_or("-").contains(part.unwrap_or("-")), "{disk}: {found:?}");
    }
    assert_eq!(use_of(dir.path(), "sdb", "", swaps), None);
}
