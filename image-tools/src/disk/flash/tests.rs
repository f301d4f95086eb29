//! Cards are files here, and the machine's disks a made-up sysfs.

use super::used::use_of;
use super::*;
use crate::disk::configure::read;
use crate::disk::fat::{Content, Volume};
use crate::disk::mbr::{self, Partition};
use crate::disk::settings::Settings;
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

fn flash(
    image: &Image,
    target: &mut Target,
    changes: &Changes,
    hidden: bool,
) -> Result<Flashed, DiskError> {
    write(image, target, changes, hidden)?.finish()
}

#[test]
fn a_card_holds_the_image_and_its_own_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (source, card) = (dir.path().join("x.img"), dir.path().join("card"));
    let bytes = image(&source);
    // What a card held before is gone.
    let mut before = vec![0xaa; bytes.len() + 5_000_000];
    before[..512].copy_from_slice(&bytes[..512]);
    fs::write(&card, before).unwrap();
    let image = Image::open(&source).unwrap();
    let mut target = Target::open(&card).unwrap();
    let flashed = flash(&image, &mut target, &Changes::default(), true).unwrap();
    assert_eq!(flashed.bytes, bytes.len() as u64);
    assert!(fs::read(&card).unwrap() == bytes);
    let settings = Settings { hostname: Some("pi-7".into()), ..Settings::default() };
    let changes = Changes { settings, founding: Some(b"f".to_vec()) };
    let written = write(&image, &mut target, &changes, true).unwrap();
    // Whoever takes the card away now has one that starts nowhere.
    assert!(fs::read(&card).unwrap()[..512].iter().all(|byte| *byte == UNFINISHED));
    written.finish().unwrap();
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
    let cut = bytes.len() - 512 - 1;
    fs::write(path("cut.img"), &bytes[..cut]).unwrap();
    fs::write(path("cut.gz"), crate::disk::initramfs::gzip(&bytes[..cut])).unwrap();
    fs::write(path("broken.gz"), &fs::read(path("x.img.gz")).unwrap()[..1000]).unwrap();
    for (name, said) in [
        ("cut.img", "is not whole"),
        ("cut.gz", "is not whole"),
        ("broken.gz", "not fetched whole"),
    ] {
        let mut other = Target::open(&path("other-card")).unwrap();
        let cut = Image::open(&path(name)).unwrap();
        let error = flash(&cut, &mut other, &Changes::default(), true).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
        let written = fs::read(path("other-card")).unwrap();
        assert!(written.iter().take(512).all(|byte| *byte == UNFINISHED), "{name}");
    }
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
fn files_with_something_else_in_them_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |path: &Path, sysfs: &Path| refuse_file(path, sysfs).map_err(|e| e.to_string());
    fs::write(path("notes.txt"), "do not lose me").unwrap();
    assert!(refused(&path("notes.txt"), dir.path()).is_err_and(|e| e.contains("something else")));
    assert!(Target::open(&path("notes.txt")).is_err());
    fs::write(path("empty"), vec![0; 4096]).unwrap();
    image(&path("x.img"));
    for good in ["absent", "empty", "x.img"] {
        assert_eq!(refused(&path(good), dir.path()), Ok(()), "{good}");
    }
    let backing = path("sys/loop7/loop/backing_file");
    fs::create_dir_all(backing.parent().unwrap()).unwrap();
    fs::write(&backing, format!("{}\n", path("empty").canonicalize().unwrap().display())).unwrap();
    assert!(refused(&path("empty"), &path("sys")).is_err_and(|e| e.contains("/dev/loop7")));
    assert_eq!(refused(&path("x.img"), &path("sys")), Ok(()));
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
