use super::*;
use crate::config::{NodeArgs, Settings};
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    node: NodeArgs,
}

struct Place {
    directory: tempfile::TempDir,
    made: FoundingFile,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let made = FoundingFile::mint("home").expect("mints");
        let path = directory.path().join("f");
        std::fs::write(path, made.render().expose()).expect("writes");
        Place { directory, made }
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn config(&self, with_file: bool) -> NodeConfig {
        let data = self.data().display().to_string();
        let file = self.directory.path().join("f").display().to_string();
        let mut line = vec!["bramble", "--data-dir", &data];
        if with_file {
            line.extend(["--founding", &file]);
        }
        let args = Line::parse_from(line).node;
        Settings::resolve(&args, None).expect("resolves").node().expect("good settings")
    }

    fn prepared(&self, with_file: bool) -> Option<Founder> {
        prepare(&self.config(with_file), NodeRole::Full).expect("prepares")
    }

    fn begin(&self) -> NodeKey {
        let path = Identity::key_path(&founding::identity_dir(&self.data()));
        let key = NodeKey::load_or_create(&path).expect("a key");
        Provisional::of(&self.data()).begin(&self.made, &key).expect("begins");
        key
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.data().join(name)).expect(name);
    }
}

fn may_found(founder: Option<Founder>, place: &Place) -> Option<(bool, bool)> {
    let founder = founder?;
    assert!(founder.token == place.made.token);
    assert_eq!(founder.cluster_id().as_deref(), Some(place.made.cluster_id.as_str()));
    Some((founder.can_found, founder.founded))
}

#[test]
fn a_node_with_nothing_founds_only_with_a_file() {
    let place = Place::new();
    assert!(place.prepared(false).is_none());
    assert_eq!(may_found(place.prepared(true), &place), Some((true, false)));
}

/// Wherever the power is cut, the node goes on to found or to join, and never forgets which.
#[test]
fn a_founding_that_was_cut_off_goes_on() {
    // Between the mark and the authority.
    let place = Place::new();
    place.begin();
    place.remove("master/ca.key");
    assert_eq!(may_found(place.prepared(true), &place), Some((true, false)));
    let founder = place.prepared(false).expect("it knows the token");
    assert!(!founder.can_found && founder.token == place.made.token);
    // Before the certificate, with the file there or not: it is in the data directory now.
    let place = Place::new();
    place.begin();
    for with_file in [true, false] {
        assert_eq!(may_found(place.prepared(with_file), &place), Some((true, false)));
    }
    // Founded, and nobody may have noticed.
    Keys::load_or_make(&place.data(), NodeRole::Full).expect("founds");
    for with_file in [true, false] {
        assert_eq!(may_found(place.prepared(with_file), &place), Some((true, true)));
    }
    let refused = prepare(&place.config(false), NodeRole::Agent).err().expect("refused");
    assert!(refused.to_string().contains("bramble up"), "{refused}");
    // Somebody has joined.
    Provisional::of(&place.data()).settle().expect("settles");
    for with_file in [true, false] {
        assert!(place.prepared(with_file).is_none());
    }
}

#[test]
fn giving_up_that_was_cut_off_goes_on() {
    let place = Place::new();
    place.begin();
    Keys::load_or_make(&place.data(), NodeRole::Full).expect("founds");
    // Cut off before the new certificate: it must join, and not believe its own.
    place.remove("master/ca.key");
    assert_eq!(may_found(place.prepared(false), &place), Some((false, false)));
    // Cut off before the mark was removed: it has joined.
    place.remove("master/join-token");
    assert!(place.prepared(false).is_none());
    assert!(!place.data().join("master/provisional").exists());
}

#[test]
fn keys_of_another_founding_are_not_overwritten() {
    let place = Place::new();
    Keys::load_or_make(&place.data(), NodeRole::Full).expect("founds without a file");
    place.remove("identity/node.crt");
    let refused = prepare(&place.config(true), NodeRole::Full).err().expect("refused");
    assert!(refused.to_string().contains("leave out --founding"), "{refused}");
}

#[test]
fn a_used_file_is_removed_and_a_foreign_one_is_not() {
    let place = Place::new();
    let (config, path) = (place.config(true), place.directory.path().join("f"));
    std::fs::create_dir_all(place.data()).expect("a directory");
    use_up(&config, "another-cluster");
    assert!(path.exists());
    use_up(&config, &place.made.cluster_id);
    assert!(!path.exists() && !has(&place.data(), "founding-used"));
    use_up(&config, &place.made.cluster_id);
}

fn has(directory: &Path, name: &str) -> bool {
    directory.join(name).exists()
}
