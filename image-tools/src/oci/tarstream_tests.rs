//! Entries of tars in every dialect, and tars that are none.
//!
//! Owns the reader's bounds. Never writes to disk.

use super::*;
use crate::oci::testing::{Tar, header};

/// Name, content and the rest of every entry.
fn read(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut stream = TarStream::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = stream.next_entry()? {
        let mut content = Vec::new();
        stream.read_to_end(&mut content).map_err(|e| TarError::reading(&entry.name(), e))?;
        found.push((entry, content));
    }
    Ok(found)
}

#[test]
fn reads_all_kinds() {
    let archive = Tar::new()
        .dir("d/")
        .file("d/f", vec![b'x'; 700])
        .symlink("d/s", "../../target")
        .hardlink("h", "d/f")
        .add(EntryType::Fifo, "p", "", 0o600, b"")
        .add(EntryType::Char, "c", "", 0o600, b"")
        .done();
    let found = read(&archive).unwrap();
    let kinds: Vec<_> = found.iter().map(|(entry, _)| (entry.name(), entry.kind)).collect();
    let expected = [
        ("d/", EntryKind::Directory),
        ("d/f", EntryKind::File),
        ("d/s", EntryKind::Symlink),
        ("h", EntryKind::Hardlink),
        ("p", EntryKind::Fifo),
        ("c", EntryKind::Char),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(found[1].1, vec![b'x'; 700]);
    assert_eq!(found[2].0.link, b"../../target");
    assert_eq!(found[1].0.mtime, (1_000_000_000, 0));
}

#[test]
fn long_names_and_attributes_come_whole() {
    let long = format!("{}/x", "directory/".repeat(40));
    let capability = b"\x01\0\0\x02\n\0=\0binary\n";
    let archive = Tar::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1234.5"),
            ("uid", b"70000"),
            ("SCHILY.xattr.security.capability", capability),
        ])
        .file("short", "data")
        .file("next", "")
        .done();
    let found = read(&archive).unwrap();
    assert_eq!(found[0].0.name(), long);
    assert_eq!(found[0].0.mtime, (1234, 500_000_000));
    assert_eq!(found[0].0.uid, 70_000);
    assert_eq!(found[0].0.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
    assert_eq!((found[1].0.name().as_str(), found[1].0.xattrs.len()), ("next", 0));

    let mut builder = tar::Builder::new(Vec::new());
    let mut gnu = tar::Header::new_gnu();
    gnu.set_size(0);
    builder.append_data(&mut gnu, &long, &b""[..]).unwrap();
    let found = read(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(found[0].0.name(), long);
}

#[test]
fn parses_times() {
    let cases = [
        ("0", Some((0, 0))),
        ("1.000000001", Some((1, 1))),
        ("1.1234567899", Some((1, 123_456_789))),
        ("-1.25", Some((-2, 750_000_000))),
        ("-3", Some((-3, 0))),
        ("x", None),
        ("1.x", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_time(text), expected, "{text}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let archive = Tar::new().file("a", vec![1; 600]).dir("b").done();
    let end = archive.len() - 1024;
    for cut in 0..end {
        let error = read(&archive[..cut]).unwrap_err();
        assert!(matches!(error, TarError::Truncated { .. }), "cut at {cut}: {error}");
    }
    assert_eq!(read(&archive[..end + 512]).unwrap().len(), 2);
}

#[test]
fn a_verified_archive_may_just_stop() {
    let names = |archive: &[u8]| {
        let mut stream = TarStream::verified(archive);
        let mut names = Vec::new();
        while let Some(entry) = stream.next_entry()? {
            names.push(entry.name());
        }
        Ok::<_, TarError>(names)
    };
    // Two headers and one block of content, of which 100 bytes count.
    let archive = Tar::new().dir("a").file("b", vec![1; 100]).done();
    let cases = [
        (0, Some(0)),
        (1, None),
        (511, None),
        (512, Some(1)),
        (1023, None),
        (1024, None),
        (1123, None),
        (1124, Some(2)),
        (1536, Some(2)),
        (1600, None),
        (2048, Some(2)),
    ];
    for (cut, expected) in cases {
        let found = names(&archive[..cut]).map(|names| names.len()).ok();
        assert_eq!(found, expected, "cut at {cut}");
    }
}

#[test]
fn refuses_what_it_cannot_keep() {
    let huge = |kind| {
        let mut header = header(kind, "x", "", 0o644, 2 * EXTENSION_BYTES_MAX);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let pax = |data: &[u8]| Tar::new().add(EntryType::XHeader, "x", "", 0, data).file("f", "");
    let cases = [
        (vec![b'x'; 1024], "checksum"),
        (huge(EntryType::GNULongName), "2097152 bytes"),
        (huge(EntryType::XHeader), "2097152 bytes"),
        (pax(b"99 path=x\n").done(), "malformed"),
        (pax(b"0 path=x\n").done(), "malformed"),
        (pax(b"garbage").done(), "malformed"),
        (pax(b"12 path=a\0b\n").done(), "path"),
        (Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("f", "").done(), "sparse"),
        (Tar::new().add(EntryType::GNUSparse, "f", "", 0, b"").done(), "sparse"),
        (Tar::new().pax(&[("size", b"18446744073709551615")]).file("f", "").done(), "size"),
        (Tar::new().add(EntryType::new(b'Q'), "f", "", 0, b"").done(), "'Q'"),
    ];
    for (archive, part) in cases {
        let error = read(&archive).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}
