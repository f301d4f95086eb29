//! Which values are good. Each answers the value, or what to write instead.

use super::Role;
use std::net::{IpAddr, Ipv4Addr};

/// What to write instead.
type Form = &'static str;

pub fn hostname(text: &str) -> Result<String, Form> {
    const FORM: Form = "write letters, digits and '-' in between, 63 at most";
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    let fits = (1..=63).contains(&text.len()) && edges && text.chars().all(good);
    fits.then(|| text.to_string()).ok_or(FORM)
}

pub fn cluster(text: &str) -> Result<String, Form> {
    const FORM: Form = "write a name of letters, digits, '-', '_' and '.', 63 at most";
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=63).contains(&text.len()) && text.chars().all(good);
    fits.then(|| text.to_string()).ok_or(FORM)
}

/// Only its form; bramble itself finds a mistyped character by the checksum in it.
pub fn token(text: &str) -> Result<String, Form> {
    const FORM: Form = "write the token as `bramble token` prints it, BRAMBLE-1-...";
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let fits = text.starts_with("BRAMBLE-") && text.len() <= 512 && text.chars().all(good);
    fits.then(|| text.to_string()).ok_or(FORM)
}

pub fn role(text: &str) -> Result<Role, Form> {
    match text {
        "auto" => Ok(Role::Auto),
        "master" => Ok(Role::Master),
        "agent" => Ok(Role::Agent),
        _ => Err("write auto, master or agent"),
    }
}

/// They reach bramble as `name:value;name:value`.
pub fn attribute(text: &str) -> Result<String, Form> {
    const FORM: Form = "write a text without ':', ';' and line breaks";
    let good = |c: char| !c.is_control() && c != ';' && c != ':';
    let fits = !text.trim().is_empty() && text.chars().all(good);
    fits.then(|| text.trim().to_string()).ok_or(FORM)
}

pub fn ssid(text: &str) -> Result<String, Form> {
    const FORM: Form = "write the network's name, 1 to 32 bytes";
    let fits = (1..=32).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_string()).ok_or(FORM)
}

pub fn wifi_password(text: &str) -> Result<String, Form> {
    const FORM: Form = "write 8 to 63 characters of ASCII, or the key as 64 hexadecimal digits";
    let phrase = (8..=63).contains(&text.len()) && text.bytes().all(|b| (32..=126).contains(&b));
    let key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (phrase || key).then(|| text.to_string()).ok_or(FORM)
}

pub fn country(text: &str) -> Result<String, Form> {
    const FORM: Form = "write the two letters of a country, for example \"DE\"";
    let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    fits.then(|| text.to_ascii_uppercase()).ok_or(FORM)
}

pub fn interface(text: &str) -> Result<String, Form> {
    const FORM: Form = "write the name of a network card, for example \"eth1\"";
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=15).contains(&text.len()) && text.chars().all(good);
    fits.then(|| text.to_string()).ok_or(FORM)
}

pub fn address(text: &str) -> Result<(Ipv4Addr, u8), Form> {
    const FORM: Form = "write an IPv4 address with its prefix, for example \"192.168.1.5/24\"";
    let (address, prefix) = text.split_once('/').ok_or(FORM)?;
    let address = host(address).ok_or(FORM)?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix)).ok_or(FORM)?;
    // Of two addresses and of one, all are a host's (RFC 3021).
    if prefix < 31 && [network(address, prefix), broadcast(address, prefix)].contains(&address) {
        return Err("write an address of one host: this is that of the whole network");
    }
    Ok((address, prefix))
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    (u32::from(address) & mask(prefix)).into()
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    (u32::from(address) | !mask(prefix)).into()
}

/// Whether a gateway can be reached from an address, and is another machine.
pub fn reaches((address, prefix): (Ipv4Addr, u8), gateway: Ipv4Addr) -> bool {
    gateway != address && network(gateway, prefix) == network(address, prefix)
}

pub fn gateway(text: &str) -> Result<Ipv4Addr, Form> {
    host(text).ok_or("write an IPv4 address, for example \"192.168.1.1\"")
}

fn host(text: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = text.parse().ok()?;
    let host = !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast();
    host.then_some(address)
}

pub fn resolver(text: &str) -> Result<IpAddr, Form> {
    text.parse().map_err(|_| "write addresses, for example [\"192.168.1.1\"]")
}

/// One line as in authorized_keys, without options.
pub fn ssh_key(text: &str) -> Result<String, Form> {
    const FORM: Form =
        "write public keys as in id_ed25519.pub, for example \"ssh-ed25519 AAAA... me\"";
    const KINDS: [&str; 5] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
    ];
    let mut parts = text.split_ascii_whitespace();
    let kind = parts.next().is_some_and(|kind| KINDS.contains(&kind));
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let key = parts.next().is_some_and(|key| key.starts_with("AAAA") && key.chars().all(base64));
    let fits = kind && key && !text.trim().chars().any(char::is_control);
    fits.then(|| text.trim().to_string()).ok_or(FORM)
}
