//! Settings of a node, put into the text of a `bramble.toml` with all comments kept.

use super::error::DiskError;
use crate::node::{NodeConfig, layout};
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
        if self.token.as_deref().is_some_and(|token| token.trim().is_empty()) {
            let text = "the token is empty; give what `bramble token` prints on a node of the \
                        cluster, or leave it out";
            return Err(DiskError::Refused(text.into()));
        }
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
            if text.is_some() {
                reveal(&mut file, "", key);
            }
            set(file.as_table_mut(), key, text);
        }
        if !self.attributes.is_empty() {
            reveal(&mut file, "", "attributes");
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
            reveal(&mut file, "bramble", key);
            put(table(&mut file, "bramble")?, key, written);
        }
        let text = file.to_string();
        let (_, complaints) = NodeConfig::parse(&text);
        if let Some(complaint) = complaints.first() {
            return Err(DiskError::Refused(format!("a node would refuse this: {complaint}")));
        }
        Ok(text)
    }
}

/// Take a key's example out of its comment, and its section's head, so that what is set stands where
/// its owner looks for it. Nothing is done where there is none, or where other keys would come to
/// mean something else. `section` is empty for the file's beginning.
fn reveal(file: &mut DocumentMut, section: &str, key: &str) {
    let text = file.to_string();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let head = format!("[{section}]");
    let uncommented = |line: &str| line.strip_prefix('#').map(str::to_string);
    let start = match section {
        "" => 0,
        _ => match lines.iter().position(|line| line.trim_start_matches('#') == head) {
            Some(at) => at + 1,
            None => return,
        },
    };
    let section_head = |line: &String| line.trim_start_matches('#').starts_with('[');
    let end = lines[start..].iter().position(section_head).map_or(lines.len(), |at| start + at);
    let example = [format!("#{key} = "), format!("#{key}=")];
    let is_example = |line: &String| example.iter().any(|example| line.starts_with(example));
    let Some(at) = lines[start..end].iter().position(is_example) else { return };
    for at in [Some(start + at), start.checked_sub(1)].into_iter().flatten() {
        if let Some(line) = uncommented(&lines[at]) {
            lines[at] = line;
        }
    }
    let changed = lines.join("\n") + "\n";
    let (Ok(before), Ok(mut after)) = (text.parse::<toml::Table>(), changed.parse::<toml::Table>())
    else {
        return;
    };
    // But for the key, all is as before.
    if section.is_empty() {
        after.remove(key);
    } else if let Some(found) = after.get_mut(section).and_then(toml::Value::as_table_mut) {
        found.remove(key);
        if found.is_empty() && !before.contains_key(section) {
            after.remove(section);
        }
    }
    if before == after
        && let Ok(parsed) = changed.parse()
    {
        *file = parsed;
    }
}

fn set(table: &mut dyn TableLike, key: &str, text: &Option<String>) {
    if let Some(text) = text {
        put(table, key, text.as_str().into());
    }
}

/// Text that is there keeps the comments around it.
fn put(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => drop(table.insert(key, Item::Value(new))),
    }
}

fn table<'f>(file: &'f mut DocumentMut, name: &str) -> Result<&'f mut dyn TableLike, DiskError> {
    if !file.contains_key(name) {
        let mut table = Table::new();
        // At the file's end: what its owner takes out of a comment above is not of this section.
        let above = file.trailing().as_str().unwrap_or_default().to_string();
        let gap = if above.is_empty() || above.ends_with("\n\n") { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{above}{gap}"));
        file.set_trailing("");
        file.insert(name, Item::Table(table));
    }
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
    let given = texts.iter().filter(|(_, text)| text.is_some()).map(|(key, _)| *key);
    for key in given.chain(lists.iter().filter(|(_, list)| !list.is_empty()).map(|(key, _)| *key)) {
        reveal(file, name, key);
    }
    let table = table(file, name)?;
    for (key, text) in texts {
        set(table, key, text);
    }
    for (key, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let list: Array = list.iter().map(String::as_str).collect();
        put(table, key, Value::Array(list));
    }
    Ok(())
}

fn attributes(file: &mut DocumentMut, pairs: &[(String, String)]) -> Result<(), DiskError> {
    let entry = file.entry("attributes").or_insert_with(|| value(InlineTable::new()));
    let text = "attributes is no table; write attributes = { name = \"value\" }";
    let table = entry.as_table_like_mut().ok_or_else(|| DiskError::Refused(text.into()))?;
    for (name, text) in pairs {
        put(table, name, text.as_str().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config;

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
        // Each stands where its example was.
        let order =
            ["hostname", "token", "role", "attributes", "[wifi]", "ssid", "[network]", "dns"];
        let places: Vec<_> = order
            .iter()
            .map(|key| text.find(&format!("\n{key}")).unwrap_or_else(|| panic!("{key}: {text}")))
            .collect();
        assert!(places.is_sorted(), "{text}");
        // Again is the same, and another change changes only that.
        assert_eq!(all().apply(&text).unwrap(), text);
        let other = Settings { hostname: some("pi-2"), ..Settings::default() };
        assert_eq!(other.apply(&text).unwrap(), text.replace("\"pi-1\"", "\"pi-2\""));
        assert_eq!(Settings::default().apply(&text).unwrap(), text);
        assert!(Settings::default().is_empty() && !other.is_empty());
    }

    #[test]
    fn a_comment_that_its_owner_takes_away_later_means_what_it_says() {
        let wifi = Settings { wifi_ssid: some("home"), ..Settings::default() };
        let open = Settings { bramble: vec![("http".into(), "0.0.0.0:80".into())], ..wifi };
        let text = open.apply(config::TEMPLATE).unwrap();
        let text = text.replacen("#hostname", "hostname", 1).replacen("#country", "country", 1);
        let (found, complaints) = NodeConfig::parse(&text);
        assert!(complaints.is_empty(), "{complaints:?}: {text}");
        assert_eq!(found.hostname.as_deref(), Some("pi-kitchen"));
        assert_eq!(found.wifi.unwrap().country.as_deref(), Some("DE"));
        // A section without an example goes to the end; a key below all comments stays what it is.
        let own = "# mine\n#[wifi]\n#ssid = \"x\"\nrole = \"agent\" # no votes\n# end\n";
        let text = open.apply(own).unwrap();
        assert!(text.starts_with(own), "{text}");
        let text = Settings { role: some("auto"), ..Settings::default() }.apply(&text).unwrap();
        assert!(text.contains("role = \"auto\" # no votes"), "{text}");
        assert_eq!(NodeConfig::parse(&text).0.wifi.unwrap().ssid, "home");
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
        let empty = Settings { token: some(" "), ..Settings::default() };
        refused(empty, "", "the token is empty");
        let key =
            |key: &str| Settings { bramble: vec![(key.into(), "x".into())], ..Settings::default() };
        for bad in ["open_api", "a.b", "a\nb", "A"] {
            refused(key(bad), "", "without --");
        }
        let at = |address, gateway| Settings {
            address: some(address),
            gateway: some(gateway),
            ..Settings::default()
        };
        refused(at("192.168.1.5/24", "10.0.0.1"), "", "in the network of 192.168.1.5/24");
        refused(at("192.168.1.5/24", "192.168.1.5"), "", "another machine's");
        refused(at("192.168.1.0/24", "192.168.1.1"), "", "that of the whole network");
        refused(at("192.168.1.255/24", "192.168.1.1"), "", "that of the whole network");
        refused(at("127.0.0.1/8", "127.0.0.2"), "", "network.address is");
        assert!(at("10.0.0.1/31", "10.0.0.0").apply("").is_ok());
        refused(with("a"), "hostnam = 'x'", "did you mean hostname?");
        let wifi = Settings { wifi_ssid: some("home"), ..Settings::default() };
        refused(wifi.clone(), "wifi = 3", "write [wifi]");
        let text = wifi.apply("wifi = { country = \"DE\" }").unwrap();
        let (found, _) = NodeConfig::parse(&text);
        let wifi = found.wifi.unwrap();
        assert_eq!((wifi.ssid.as_str(), wifi.country.as_deref()), ("home", Some("DE")));
    }
}
