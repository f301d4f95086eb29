//! What is written here is judged by fsck.vfat and read back.

use super::*;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

/// fsck.vfat, which lives where not everyone's PATH leads.
fn check(path: &Path) {
    let path_with = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output =
        Command::new("fsck.vfat").env("PATH", path_with).arg("-n").arg("-v").arg(path).output();
    let output = output.expect("fsck.vfat (package dosfstools) is installed by make test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut add = |path: &str, bytes: Vec<u8>| files.insert(path.to_string(), bytes);
    add("bramble.toml", b"# settings\n".to_vec());
    add("CONFIG.TXT", b"x".to_vec());
    add("empty", Vec::new());
    add("boot/grub/grub.cfg", vec![b'g'; 512]);
    add("boot/grub/grubenv", vec![b'#'; 1024]);
    add("EFI/BOOT/BOOTX64.EFI", vec![7; 300_001]);
    add("a name with spaces and a long.extension", vec![1; 10]);
    add("a name with spaces and another.extension", vec![2; 10]);
    add("bcm2711-rpi-4-b.dtb", vec![3; 51_111]);
    add("bcm2711-rpi-400.dtb", vec![4; 51_111]);
    add("name.of.13.ab", vec![5; 1]);
    add("grüße.txt", vec![6; 2]);
    for number in 0..200 {
        add(&format!("overlays/some-overlay-{number}.dtbo"), vec![number as u8; number * 7]);
    }
    files
}

fn write(path: &Path, start: u64, bytes: u64) -> Written {
    let mut volume = Volume::new("BRAMBLE");
    for (name, content) in files() {
        volume.add(&name, Content::Bytes(content));
    }
    let mut file = File::create(path).unwrap();
    file.set_len(start + bytes).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    volume.write(&mut file, bytes).unwrap()
}

fn open(path: &Path, start: u64) -> Editor<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    Editor::open(file, start).unwrap()
}

#[test]
fn what_is_written_is_sound_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for mib in [33, 34, 64, 100, 112, 128, 300, 1024] {
        let path = dir.path().join(format!("{mib}.img"));
        let written = write(&path, 0, mib * MIB);
        assert_eq!(written.bytes, mib * MIB);
        assert!(written.used < mib * MIB);
        check(&path);
        let mut editor = open(&path, 0);
        for (name, content) in files() {
            assert!(editor.read(&name).unwrap() == content, "{name} on {mib} MiB");
        }
        assert!(matches!(editor.read("overlays"), Err(FatError::Absent(_))));
        assert!(matches!(editor.read("no/such"), Err(FatError::Absent(_))));
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn the_same_files_give_the_same_bytes_and_the_used_part_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let written = write(&one, 0, 64 * MIB);
    assert_eq!(write(&two, 0, 64 * MIB), written);
    let whole = std::fs::read(&one).unwrap();
    assert!(whole == std::fs::read(&two).unwrap());
    // On a slot that held something else, only the used part is written.
    let mut slot = File::create(&two).unwrap();
    slot.write_all(&vec![0xaa; 64 << 20]).unwrap();
    slot.seek(SeekFrom::Start(0)).unwrap();
    slot.write_all(&whole[..written.used as usize]).unwrap();
    drop(slot);
    check(&two);
    assert!(open(&two, 0).read("bramble.toml").is_ok());
}

#[test]
fn files_are_replaced_and_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let start = 4 * MIB;
    write(&path, start, 64 * MIB);
    let mut expected = files();
    let mut editor = open(&path, start);
    let mut put = |editor: &mut Editor<File>, name: &str, bytes: Vec<u8>| {
        editor.write(name, &bytes).unwrap();
        expected.insert(name.to_string(), bytes);
    };
    put(&mut editor, "bramble.toml", vec![b'a'; 100_000]);
    put(&mut editor, "bramble.toml", vec![b'b'; 3]);
    put(&mut editor, "founding.bramble", vec![9; 5000]);
    put(&mut editor, "empty", vec![1]);
    put(&mut editor, "name.of.13.ab", Vec::new());
    // More than the directory's clusters hold.
    for number in 0..100 {
        put(&mut editor, &format!("overlays/added-by-hand-{number}"), vec![number; 600]);
    }
    assert!(matches!(editor.write("no/such", b""), Err(FatError::Absent(_))));
    assert!(matches!(editor.write("overlays", b""), Err(FatError::Absent(_))));
    editor.finish().unwrap();

    let mut part = Vec::new();
    let mut disk = File::open(&path).unwrap();
    disk.seek(SeekFrom::Start(start)).unwrap();
    disk.read_to_end(&mut part).unwrap();
    let alone = dir.path().join("alone");
    std::fs::write(&alone, part).unwrap();
    check(&alone);
    let mut editor = open(&path, start);
    for (name, content) in expected {
        assert!(editor.read(&name).unwrap() == content, "{name}");
    }
}

#[test]
fn the_end_of_the_room_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let mut disk = File::create(&path).unwrap();
    assert!(matches!(Volume::new("X").write(&mut disk, 32 * MIB), Err(FatError::Small(_))));
    let mut volume = Volume::new("X");
    volume.add("large", Content::Bytes(vec![0; 34 << 20]));
    assert!(matches!(volume.write(&mut disk, 34 * MIB), Err(FatError::Full(_))));
    write(&path, 0, 34 * MIB);
    let before = std::fs::read(&path).unwrap();
    let mut editor = open(&path, 0);
    assert!(matches!(editor.write("large", &vec![0; 34 << 20]), Err(FatError::Full(_))));
    drop(editor);
    assert!(before == std::fs::read(&path).unwrap());
    for name in ["", "a:b", "...", "dot.", &"x".repeat(256)] {
        let mut volume = Volume::new("X");
        volume.add(name, Content::Bytes(Vec::new()));
        assert!(matches!(volume.write(&mut disk, 34 * MIB), Err(FatError::Name(_))), "{name}");
    }
}

#[test]
fn garbage_is_no_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert!(matches!(Editor::open(file, 0), Err(FatError::NotFat)));
    // A table that leads a file round in circles.
    write(&path, 0, 34 * MIB);
    let mut disk = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut sector = [0; SECTOR];
    disk.read_exact(&mut sector).unwrap();
    let geometry = Geometry::parse(&sector).unwrap();
    disk.seek(SeekFrom::Start(geometry.table_position(0) + 8)).unwrap();
    disk.write_all(&2u32.to_le_bytes()).unwrap();
    assert!(matches!(open(&path, 0).read("bramble.toml"), Err(FatError::Damaged(_))));
}
