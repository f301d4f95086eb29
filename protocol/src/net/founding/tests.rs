use super::*;

fn parsed(text: &str) -> Result<FoundingFile, FoundingFileError> {
    FoundingFile::parse(Path::new("/boot/f"), text.as_bytes())
}

fn text(file: &FoundingFile) -> String {
    String::from_utf8(file.render().expose().to_vec()).expect("a founding file is text")
}

#[test]
fn a_founding_file_survives_its_text() {
    let made = FoundingFile::mint("home").expect("mints");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("any name.at all");
    let written = text(&made);
    assert!(written.contains("exactly ONE node") && written.contains("\"home\""), "{written}");
    std::fs::write(&path, &written).expect("writes");
    let read = FoundingFile::read(&path).expect("reads");
    assert_eq!((&read.name, &read.cluster_id), (&made.name, &made.cluster_id));
    assert_eq!(read.ca.certificate(), made.ca.certificate());
    assert_eq!(read.ca.private_key(), made.ca.private_key());
    assert!(read.token == made.token && read.cluster_id.len() == 36);
    // As an editor on a PC leaves it.
    parsed(&written.replace('\n', "\r\n")).expect("whole");
    let other = FoundingFile::mint("home").expect("mints");
    assert!(other.cluster_id != made.cluster_id && other.token != made.token);
}

/// Files of this form must be understood for ever: they lie on cards in drawers.
#[test]
fn the_format_stays() {
    let golden = include_str!("golden.founding");
    let read = parsed(golden).expect("reads");
    assert_eq!(read.name, "home");
    assert_eq!(text(&read), golden);
}

#[test]
fn what_is_wrong_is_named_with_the_file_and_the_fix() {
    let good = text(&FoundingFile::mint("home").expect("mints"));
    let other = text(&FoundingFile::mint("home").expect("mints"));
    let line = |text: &str, field: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{field}: ")));
        line.expect("it has the field").to_string()
    };
    let (key, name) = (line(&good, "key"), line(&good, "name"));
    let cases = [
        (String::new(), "no founding file"),
        ("BRAMBLE-1-ab-cd".into(), "no founding file"),
        (good.replace("version 1", "version 2"), "version 2; this bramble understands version 1"),
        (good[..good.len() / 2].into(), "damaged: it has no"),
        (good[..good.len() - 9].into(), "checksum does not match"),
        (good.replace(&key, &line(&other, "key")), "checksum does not match"),
        (good.replace(&name, "name: work"), "checksum does not match"),
        (good.replace(&format!("{key}\n"), ""), "it has no key"),
    ];
    for (text, want) in cases {
        let said = parsed(&text).err().expect(want).to_string();
        assert!(said.contains(want) && said.contains("/boot/f"), "{want}: {said}");
        assert!(said.contains("copy it again") || said.contains("upgrade"), "{said}");
    }
    let mut bytes = good.into_bytes();
    bytes[200] = 0xff;
    let said = FoundingFile::parse(Path::new("/f"), &bytes).err().expect("no text").to_string();
    assert!(said.contains("no text"), "{said}");
    let said = FoundingFile::read(Path::new("/nowhere/f")).err().expect("none").to_string();
    assert!(said.contains("/nowhere/f"), "{said}");
}

#[test]
fn parts_of_two_clusters_found_nothing() {
    let (one, other) =
        (FoundingFile::mint("a").expect("mints"), FoundingFile::mint("a").expect("mints"));
    let mixed = FoundingFile { token: other.token, ..one };
    let said = parsed(&text(&mixed)).err().expect("refused").to_string();
    assert!(said.contains("do not belong together"), "{said}");
}

#[test]
fn names_can_be_file_names() {
    for bad in ["", ".", "..", "a/b", "-x", "a b", "ä", &"x".repeat(64)] {
        let refused = FoundingFile::mint(bad);
        assert!(matches!(refused, Err(FoundingFileError::Name(_))), "{bad:?}");
    }
    for good in ["home", "2nd.floor_a-b", &"x".repeat(63)] {
        FoundingFile::mint(good).expect(good);
    }
}
