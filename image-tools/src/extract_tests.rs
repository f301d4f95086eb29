//! Archives a user may name, and some nobody should.

use super::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// `d/f` with "hello", as `tar --format=ustar` and `xz` write it: no encoder is built in.
const TAR_XZ: &[&str] = &[
    "fd377a585a000004e6d6b4460200210116000000742fe5a3e027ff007b5d00320bbc1ba78c3444e1c20775e9",
    "00611d2b04693c942bc5ce1e2fa7646ad2cf18c4b84bc5406451713d040900b319f0bf5bdaf6a0e2c8494f1b",
    "ea58248822fc4ade3b770d22d1b13b3608890e296a2e870c05892264554e61e671c73334b3e59091cbde9ae0",
    "bce96fed2ef608355ae4f71fa35c575ddd6f154146000000d75c491ca7e0dc4500019701805000001d43b37f",
    "b1c467fb020000000004595a",
];

struct Lab {
    root: TempDir,
    stop: Arc<AtomicBool>,
}

impl Lab {
    fn new() -> Lab {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sandbox")).unwrap();
        fs::write(root.path().join("secret"), "s").unwrap();
        Lab { root, stop: Arc::default() }
    }

    fn sandbox(&self) -> PathBuf {
        self.root.path().join("sandbox")
    }

    fn extract(&self, bytes: &[u8], packing: Packing) -> Result<(), ExtractError> {
        let archive = self.root.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        extract(&archive, packing, &self.sandbox(), &self.stop)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox().join(name)).unwrap()
    }
}

fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(4321);
    header.set_gid(4321);
    header
}

fn tarball() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8], mode| {
        let mut header = header(tar::EntryType::Regular, content.len(), mode);
        tar.append_data(&mut header, path, content).unwrap();
    };
    add("d/f", b"hello\n", 0o4755);
    add(".wh.plain", b"kept", 0o644);
    tar.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zipped() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    zip.add_directory("d", options).unwrap();
    zip.start_file("d/f", options).unwrap();
    zip.write_all(b"hello\n").unwrap();
    zip.add_symlink("l", "d/f", options).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn names_tell_archives() {
    use Packing::{Tar, Zip};
    for (name, packing) in [
        ("a.tgz", Some(Tar)),
        ("a.tar.gz", Some(Tar)),
        ("a.tbz2", Some(Tar)),
        ("a.tar.bz2", Some(Tar)),
        ("a.txz", Some(Tar)),
        ("a.tar.xz", Some(Tar)),
        ("a.tar", Some(Tar)),
        ("a.zip", Some(Zip)),
        ("a.gz", None),
        ("zip", None),
        ("a.jar", None),
    ] {
        assert_eq!(Packing::of(name), packing, "{name}");
    }
}

#[test]
fn every_packing_gives_the_same_file() {
    let xz = hex::decode(TAR_XZ.concat()).unwrap();
    let cases = [
        ("tar", tarball(), Packing::Tar),
        ("gzip", gzip(&tarball()), Packing::Tar),
        ("bzip2", bzip2(&tarball()), Packing::Tar),
        ("xz", xz, Packing::Tar),
        ("zip", zipped(), Packing::Zip),
    ];
    for (name, bytes, packing) in cases {
        let lab = Lab::new();
        lab.extract(&bytes, packing).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(lab.read("d/f"), "hello\n", "{name}");
        let found = fs::metadata(lab.sandbox().join("d/f")).unwrap();
        assert_eq!(found.permissions().mode() & 0o7000, 0, "{name}");
        assert_eq!((found.uid(), found.gid()), (0, 0), "{name}");
    }
}

#[test]
fn whiteouts_are_plain_names_here_and_links_stay_links() {
    let lab = Lab::new();
    lab.extract(&tarball(), Packing::Tar).unwrap();
    assert_eq!(lab.read(".wh.plain"), "kept");
    lab.extract(&zipped(), Packing::Zip).unwrap();
    assert_eq!(fs::read_link(lab.sandbox().join("l")).unwrap(), Path::new("d/f"));
    assert_eq!(lab.read("l"), "hello\n");
}

#[test]
fn nothing_leaves_the_directory() {
    let mut up = tar::Builder::new(Vec::new());
    let mut evil = header(tar::EntryType::Regular, 1, 0o644);
    evil.as_old_mut().name[..9].copy_from_slice(b"../secret");
    evil.set_cksum();
    up.append(&evil, &b"x"[..]).unwrap();
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    zip.start_file("../secret", SimpleFileOptions::default()).unwrap();
    zip.write_all(b"x").unwrap();
    let cases = [
        (up.into_inner().unwrap(), Packing::Tar),
        (zip.finish().unwrap().into_inner(), Packing::Zip),
    ];
    for (bytes, packing) in cases {
        let lab = Lab::new();
        let error = lab.extract(&bytes, packing).unwrap_err();
        assert!(matches!(error, ExtractError::Unpack(UnpackError::Escape { .. })), "{error:?}");
        assert_eq!(fs::read_to_string(lab.root.path().join("secret")).unwrap(), "s");
    }
}

#[test]
fn a_link_unpacked_before_leads_nowhere_else() {
    let lab = Lab::new();
    symlink(lab.root.path(), lab.sandbox().join("out")).unwrap();
    let file = lab.root.path().join("file");
    fs::write(&file, "mine").unwrap();
    // The link's target is looked for inside the sandbox, where it is not.
    assert!(place(&file, Source::Kept, &lab.sandbox(), "out/secret", 0o644).is_err());
    assert_eq!(fs::read_to_string(lab.root.path().join("secret")).unwrap(), "s");
    // As the last name it is replaced, not followed.
    place(&file, Source::Kept, &lab.sandbox(), "out", 0o644).unwrap();
    assert_eq!(lab.read("out"), "mine");
}

#[test]
fn files_are_placed_under_their_names() {
    let lab = Lab::new();
    let file = lab.root.path().join("file");
    fs::write(&file, "1").unwrap();
    place(&file, Source::Kept, &lab.sandbox(), "a/b", 0o755).unwrap();
    assert!(file.exists());
    fs::write(&file, "2").unwrap();
    place(&file, Source::Moved, &lab.sandbox(), "a/b", 0o644).unwrap();
    assert!(!file.exists());
    assert_eq!(lab.read("a/b"), "2");
    let mode = fs::metadata(lab.sandbox().join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    fs::write(&file, "3").unwrap();
    for bad in ["", ".", "/etc/x", "../x", "a/../../x"] {
        let error = place(&file, Source::Moved, &lab.sandbox(), bad, 0o644).unwrap_err();
        assert!(matches!(error, ExtractError::Destination(_)), "{bad}: {error:?}");
    }
}

#[test]
fn damaged_archives_and_a_stop_are_errors() {
    let xz = hex::decode(TAR_XZ.concat()).unwrap();
    for bytes in [gzip(&tarball()), bzip2(&tarball()), xz, tarball()] {
        let lab = Lab::new();
        assert!(lab.extract(&bytes[..bytes.len() / 2], Packing::Tar).is_err());
    }
    let lab = Lab::new();
    assert!(lab.extract(b"no archive", Packing::Zip).is_err());
    lab.stop.store(true, Ordering::Relaxed);
    assert!(lab.extract(&tarball(), Packing::Tar).is_err());
    assert!(lab.extract(&zipped(), Packing::Zip).is_err());
}
