//! What a node of the lab is told: `bramble.toml`, and for those that vote the founding file, in a
//! tar archive on a CD.

use super::config::Machine;
use super::error::LabError;
use super::keys::Keys;
use crate::disk::error::{Doing, at};
use crate::node::config::quoted;
use crate::node::layout::{CONFIG_FILE, FOUNDING_FILE};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the lab's cluster is called.
pub const CLUSTER: &str = "lab";
/// Length of the network's prefix.
pub const PREFIX_BITS: u8 = 24;
/// A CD's sector. Bytes.
const SECTOR: usize = 2048;

/// A machine's `bramble.toml`.
pub fn toml(machine: &Machine, token: &str) -> String {
    let aliases = machine.aliases.join(",");
    let mut attributes = format!("type = {}", quoted(machine.kind.name()));
    if !aliases.is_empty() {
        attributes += &format!(", aliases = {}", quoted(&aliases));
    }
    let address = format!("{}/{PREFIX_BITS}", machine.ip);
    let mut lines = vec![
        format!("hostname = {}", quoted(&machine.name)),
        format!("cluster = {}", quoted(CLUSTER)),
        format!("token = {}", quoted(token)),
        format!("role = {}", quoted(machine.kind.role())),
        format!("attributes = {{ {attributes} }}"),
        String::new(),
        "[network]".into(),
        format!("address = {}", quoted(&address)),
        String::new(),
        // A network of its own, for plain curl.
        "[bramble]".into(),
        "open-api = true".into(),
    ];
    if machine.reserved_mib > 0 && machine.kind.works() {
        let offered = machine.memory_mib - machine.reserved_mib;
        lines.push(format!("resources = \"mem:{offered}\""));
    }
    lines.join("\n") + "\n"
}

/// Write a machine's CD; only its owner may read it.
///
/// # Errors
/// It cannot be written.
pub fn write(machine: &Machine, keys: &Keys, path: &Path) -> Result<(), LabError> {
    let text = toml(machine, &keys.token);
    let mut files = vec![(CONFIG_FILE, text.as_bytes())];
    if machine.kind.votes() {
        files.push((FOUNDING_FILE, &keys.founding));
    }
    let written = || {
        // Not over the one a running machine may have in its drive.
        let beside = path.with_extension("new");
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&archive(&files)?)?;
        fs::rename(&beside, path)
    };
    Ok(written().doing(at("writing", path))?)
}

/// A tar archive as long as a CD's sectors are.
fn archive(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut head = tar::Header::new_ustar();
        head.set_mode(0o600);
        head.set_mtime(0);
        head.set_size(bytes.len() as u64);
        archive.append_data(&mut head, name, *bytes)?;
    }
    let mut bytes = archive.into_inner()?;
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::config;
    use crate::node::NodeConfig;
    use crate::node::config::Role;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    fn machine(text: &str) -> Machine {
        config::parse(text, "f").unwrap().remove(0)
    }

    #[test]
    fn a_node_understands_all_of_it() {
        let p1 = machine(
            "p1: {ip: 10.0.0.9, memory: 512, memory-reserved: 128, type: agent-public, aliases: \
             [a.test, b.test]}",
        );
        let text = toml(&p1, "BRAMBLE-1-ab-cd");
        let want = "hostname = \"p1\"\ncluster = \"lab\"\ntoken = \"BRAMBLE-1-ab-cd\"\n\
                    role = \"agent\"\n\
                    attributes = { type = \"agent-public\", aliases = \"a.test,b.test\" }\n\n\
                    [network]\naddress = \"10.0.0.9/24\"\n\n\
                    [bramble]\nopen-api = true\nresources = \"mem:384\"\n";
        assert_eq!(text, want);
        let (config, complaints) = NodeConfig::parse(&text);
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!((config.role, config.attributes.len()), (Role::Agent, 2));
        // A master offers nothing, so nothing is kept from it.
        let m1 = toml(&machine("m1: {type: master, memory-reserved: 100}"), "BRAMBLE-1-ab-cd");
        assert!(m1.contains("role = \"master\"") && !m1.contains("resources"), "{m1}");
        assert!(NodeConfig::parse(&m1).1.is_empty());
    }

    #[test]
    fn who_votes_gets_the_founding_file_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys { token: "BRAMBLE-1-ab-cd".into(), founding: b"x\n".repeat(3000) };
        for (text, names) in [
            ("m1: {type: master}", &[CONFIG_FILE, FOUNDING_FILE][..]),
            ("f1:", &[CONFIG_FILE, FOUNDING_FILE]),
            ("a1: {type: agent-private}", &[CONFIG_FILE]),
        ] {
            let path = dir.path().join("cd.iso");
            write(&machine(text), &keys, &path).unwrap();
            write(&machine(text), &keys, &path).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
            assert!(bytes.len().is_multiple_of(SECTOR) && &bytes[257..262] == b"ustar");
            let mut archive = tar::Archive::new(&bytes[..]);
            let mut found = Vec::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                found.push(entry.path().unwrap().display().to_string());
                assert!(found.len() == 1 || content == keys.founding);
            }
            assert_eq!(found, names);
        }
    }
}
