//! Wi-Fi: wpa_supplicant joins the network of the node's file.

use super::super::tree::put;
use crate::node::config::Wifi;
use std::path::Path;

const SUPPLICANT: &str = "/sbin/wpa_supplicant";
const CONFIG: &str = "/run/wpa_supplicant.conf";

/// The command that keeps an interface in the network, or why there is none.
pub fn supplicant(interface: &str, wifi: &Wifi) -> Result<Vec<String>, String> {
    if !Path::new(SUPPLICANT).exists() {
        return Err("this image has no Wi-Fi: it was built without wpa_supplicant".into());
    }
    put(CONFIG, config(wifi), 0o600);
    let words = [SUPPLICANT, "-i", interface, "-c", CONFIG, "-D", "nl80211,wext"];
    Ok(words.map(String::from).to_vec())
}

fn config(wifi: &Wifi) -> String {
    let country = wifi.country.as_ref().map(|code| format!("country={code}\n"));
    // As digits nothing in a name needs quoting.
    let ssid = super::super::identity::hex(wifi.ssid.as_bytes());
    let key = match &wifi.password {
        None => "key_mgmt=NONE".to_string(),
        // A key is written without quotes, a phrase within them; its end is the line's last quote.
        Some(key) if key.len() == 64 => format!("psk={key}"),
        Some(phrase) => format!("psk=\"{phrase}\""),
    };
    let secure = if wifi.password.is_some() { "\n\tkey_mgmt=WPA-PSK WPA-PSK-SHA256" } else { "" };
    format!(
        "{}network={{\n\tssid={ssid}\n\tscan_ssid=1\n\t{key}{secure}\n}}\n",
        country.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_phrases_reach_the_supplicant_whole() {
        let mut wifi = Wifi { ssid: "a\"b".into(), password: None, country: Some("DE".into()) };
        let open = "country=DE\nnetwork={\n\tssid=612262\n\tscan_ssid=1\n\tkey_mgmt=NONE\n}\n";
        assert_eq!(config(&wifi), open);
        (wifi.password, wifi.country) = (Some("pass \"word\"".into()), None);
        let text = config(&wifi);
        assert!(
            text.starts_with("network={") && text.contains("psk=\"pass \"word\"\"\n"),
            "{text}"
        );
        wifi.password = Some("ab".repeat(32));
        assert!(config(&wifi).contains(&format!("psk={}\n", "ab".repeat(32))));
    }
}
