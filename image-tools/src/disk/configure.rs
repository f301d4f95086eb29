//! Settings of a node, changed in an image or on a card: `bramble.toml` on its first partition,
//! with all comments kept.

use super::error::{DiskError, Doing, at};
use super::fat::Editor;
use super::mbr::{self, Partition};
use crate::node::{NodeConfig, Release, config, layout};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

/// What to set; what is `None` or empty stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub hostname: Option<String>,
    pub cluster: Option<String>,
    pub token: Option<String>,
    pub role: Option<String>,
    pub attributes: Vec<(String, String)>,
    pub wifi_ssid: Option<String>,
    pub wifi_password: Option<String>,
    pub wifi_country: Option<String>,
    pub address: Option<String>,
    pub gateway: Option<String>,
    pub dns: Vec<String>,
    pub ssh_keys: Vec<String>,
    /// Settings of bramble itself, `(name, value)`.
    pub bramble: Vec<(String, String)>,
}

impl Settings {
    pub fn is_empty(&self) -> bool {
        let texts = [
            &self.hostname,
            &self.cluster,
            &self.token,
            &self.role,
            &self.wifi_ssid,
            &self.wifi_password,
            &self.wifi_country,
            &self.address,
            &self.gateway,
        ];
        let lists = [self.dns.is_empty(), self.ssh_keys.is_empty()];
        let pairs = self.attributes.is_empty() && self.bramble.is_empty();
        texts.iter().all(|text| text.is_none()) && lists.iter().all(|empty| *empty) && pairs
    }

    /// Put them into a `bramble.toml`.
    ///
    /// # Errors
    /// The text is no TOML, or a node would complain about the result.
    pub fn apply(&self, text: &str) -> Result<String, DiskError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut file: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            DiskError::Refused(format!("{} in it is no TOML: {error}", layout::CONFIG_FILE))
        })?;
        for (key, text) in [
            ("hostname", &self.hostname),
            ("cluster", &self.cluster),
            ("token", &self.token),
            ("role", &self.role),
        ] {
            set(file.as_table_mut(), key, text);
        }
        if !self.attributes.is_empty() {
            attributes(&mut file, &self.attributes)?;
        }
        let wifi = [
            ("ssid", &self.wifi_ssid),
            ("password", &self.wifi_password),
            ("country", &self.wifi_country),
        ];
        section(&mut file, "wifi", &wifi, &[])?;
        let network = [("address", &self.address), ("gateway", &self.gateway)];
        section(&mut file, "network", &network, &[("dns", &self.dns)])?;
        section(&mut file, "ssh", &[], &[("keys", &self.ssh_keys)])?;
        for (key, text) in &self.bramble {
            let plain = text.parse::<Value>().ok().filter(|value| !value.is_str());
            let plain = plain.filter(|value| value.is_bool() || value.is_integer());
            let written = plain.unwrap_or_else(|| text.as_str().into());
            table(&mut file, "bramble")?.insert(key, Item::Value(written));
        }
        let text = file.to_string();
        let (_, complaints) = NodeConfig::parse(&text);
        if let Some(complaint) = complaints.first() {
            return Err(DiskError::Refused(format!("a node would refuse this: {complaint}")));
        }
        Ok(text)
    }
}

fn set(table: &mut dyn TableLike, key: &str, text: &Option<String>) {
    if let Some(text) = text {
        // Text that is there keeps the comments before it.
        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(old) => *old = text.as_str().into(),
            None => drop(table.insert(key, value(text))),
        }
    }
}

fn table<'f>(file: &'f mut DocumentMut, name: &str) -> Result<&'f mut dyn TableLike, DiskError> {
    let entry = file.entry(name).or_insert_with(|| Item::Table(Table::new()));
    let text = || format!("{name} in {} is no section; write [{name}]", layout::CONFIG_FILE);
    entry.as_table_like_mut().ok_or_else(|| DiskError::Refused(text()))
}

fn section(
    file: &mut DocumentMut,
    name: &str,
    texts: &[(&str, &Option<String>)],
    lists: &[(&str, &Vec<String>)],
) -> Result<(), DiskError> {
    let given = texts.iter().any(|(_, text)| text.is_some());
    if !given && lists.iter().all(|(_, list)| list.is_empty()) {
        return Ok(());
    }
    let table = table(file, name)?;
    for (key, text) in texts {
        set(table, key, text);
    }
    for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let list: Array = list.iter().map(String::as_str).collect();
        table.insert(key, value(list));
    }
    Ok(())
}

fn attributes(file: &mut DocumentMut, pairs: &[(String, String)]) -> Result<(), DiskError> {
    let entry = file.entry("attributes").or_insert_with(|| value(InlineTable::new()));
    let text = "attributes is no table; write attributes = { name = \"value\" }";
    let table = entry.as_table_like_mut().ok_or_else(|| DiskError::Refused(text.into()))?;
    for (name, text) in pairs {
        table.insert(name, value(text));
    }
    Ok(())
}

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
    mbr::partition(&sector, number).map_err(|error| DiskError::Mbr(name.into(), error))
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

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    fn all() -> Settings {
        Settings {
            hostname: some("pi-1"),
            cluster: some("home"),
            token: some("BRAMBLE-1-ab-cd"),
            role: some("agent"),
            attributes: vec![("rack".into(), "1".into()), ("row".into(), "b".into())],
            wifi_ssid: some("my \"home\""),
            wifi_password: some("secret words"),
            wifi_country: some("DE"),
            address: some("10.0.0.5/24"),
            gateway: some("10.0.0.1"),
            dns: vec!["10.0.0.1".into()],
            ssh_keys: vec!["ssh-ed25519 AAAA me@pc".into()],
            bramble: vec![
                ("open-api".into(), "true".into()),
                ("agent-timeout".into(), "75s".into()),
            ],
        }
    }

    #[test]
    fn settings_reach_the_node_and_comments_stay() {
        let text = all().apply(config::TEMPLATE).unwrap();
        for line in config::TEMPLATE.lines().filter(|line| line.starts_with("# ")) {
            assert!(text.contains(line), "{line}");
        }
        let (found, complaints) = NodeConfig::parse(&text);
        assert!(complaints.is_empty());
        assert_eq!(found.hostname.as_deref(), Some("pi-1"));
        assert_eq!(found.attributes.len(), 2);
        assert_eq!(found.wifi.as_ref().unwrap().ssid, "my \"home\"");
        assert_eq!(found.network.dns.len(), 1);
        assert_eq!(found.bramble.len(), 2);
        // Again is the same, and another change changes only that.
        assert_eq!(all().apply(&text).unwrap(), text);
        let other = Settings { hostname: some("pi-2"), ..Settings::default() };
        assert_eq!(other.apply(&text).unwrap(), text.replace("\"pi-1\"", "\"pi-2\""));
        assert_eq!(Settings::default().apply(&text).unwrap(), text);
        assert!(Settings::default().is_empty() && !other.is_empty());
    }

    #[test]
    fn what_a_node_would_refuse_is_refused_here() {
        let refused = |settings: Settings, text: &str, part: &str| {
            let error = settings.apply(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let with = |hostname| Settings { hostname: some(hostname), ..Settings::default() };
        refused(with("pi_1"), "", "hostname is \"pi_1\"; write letters");
        refused(with("a"), "= nothing", "is no TOML");
        refused(with("a"), "hostnam = 'x'", "did you mean hostname?");
        let wifi = Settings { wifi_ssid: some("home"), ..Settings::default() };
        refused(wifi.clone(), "wifi = 3", "write [wifi]");
        let text = wifi.apply("wifi = { country = \"DE\" }").unwrap();
        let (found, _) = NodeConfig::parse(&text);
        let wifi = found.wifi.unwrap();
        assert_eq!((wifi.ssid.as_str(), wifi.country.as_deref()), ("home", Some("DE")));
    }

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
        let founding = Some(b"founding".to_vec());
        change(&mut disk, "card", &Changes { settings: all(), founding }).unwrap();
        let mut file = |name: &str| read(&mut disk, "card", 1, name).unwrap();
        assert_eq!(file(layout::FOUNDING_FILE), b"founding");
        assert_eq!(file("boot/grub/grubenv"), vec![b'#'; 1024]);
        assert!(String::from_utf8(file(layout::CONFIG_FILE)).unwrap().contains("pi-1"));
        let before = disk.get_ref().clone();
        let bad = Settings { role: some("boss"), ..Settings::default() };
        let changes = Changes { settings: bad, founding: None };
        assert!(change(&mut disk, "card", &changes).is_err());
        assert!(*disk.get_ref() == before);
        let empty = std::io::Cursor::new(vec![0; 4096]);
        assert!(matches!(read(empty, "x", 1, "y"), Err(DiskError::Mbr(..))));
    }
}
