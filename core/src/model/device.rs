//! Devices of machines, by ids that stay the same wherever a device is plugged in.
//!
//! Which devices an agent has is told with its offers and never stored: a stick may be pulled at
//! any moment. What is stored is which device a task holds.

use super::App;
use serde::{Deserialize, Serialize};

/// Label of an app with the devices that each of its tasks needs:
/// `usb:10c4:ea60=/dev/zigbee, i2c:1`.
pub const LABEL_DEVICES: &str = "BRAMBLE_DEVICES";
/// Devices of one task at most.
pub const TASK_DEVICES_MAX: usize = 16;
/// Devices of one agent that are offered at most.
pub const OFFERED_DEVICES_MAX: usize = 256;
/// What ids begin with.
pub const DEVICE_KINDS: [&str; 4] = ["usb", "serial", "i2c", "gpio"];
/// Longest id, in bytes: vendors write whole sentences into serial numbers.
const ID_BYTES_MAX: usize = 128;

/// A device as an app asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    pub id: String,
    /// Where the task finds it; `None`: where its machine has it.
    pub path: Option<String>,
}

/// A device that an agent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedDevice {
    /// Names this very device on its agent.
    pub key: String,
    /// What apps may call it.
    pub ids: Vec<String>,
    /// Several tasks may have it at once (the lines of a GPIO chip, the addresses of a bus).
    pub shared: bool,
    /// A task holds it already.
    pub taken: bool,
}

/// A device that a task was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDevice {
    pub key: String,
    pub shared: bool,
}

impl HeldDevice {
    /// Whether a task that holds this keeps another from having `other`.
    pub fn excludes(&self, other: &HeldDevice) -> bool {
        self.key == other.key && !(self.shared && other.shared)
    }
}

/// A device as the agent is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDevice {
    /// As the app calls it.
    pub id: String,
    pub held: HeldDevice,
    pub path: Option<String>,
}

impl App {
    /// The devices that each task needs; none where the label cannot be read, which validation
    /// refuses.
    pub fn devices(&self) -> Vec<DeviceRequest> {
        match self.labels.get(LABEL_DEVICES) {
            Some(text) => device_requests(text).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Whether its tasks are bound to devices, and so to the machines that have them.
    pub fn wants_devices(&self) -> bool {
        self.labels.contains_key(LABEL_DEVICES) && !self.devices().is_empty()
    }
}

/// Read the label's text.
///
/// # Errors
/// What is wrong with it, and how it must look.
pub fn device_requests(text: &str) -> Result<Vec<DeviceRequest>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let requests = parts.map(device_request).collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() {
        return Err("names no device; write for example usb:10c4:ea60".into());
    }
    if requests.len() > TASK_DEVICES_MAX {
        return Err(format!("names more than {TASK_DEVICES_MAX} devices"));
    }
    let mut paths: Vec<&str> = requests.iter().filter_map(|r| r.path.as_deref()).collect();
    paths.sort_unstable();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("gives two devices the path {}", pair[0]));
    }
    Ok(requests)
}

fn device_request(text: &str) -> Result<DeviceRequest, String> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id.trim(), Some(path.trim())),
        None => (text, None),
    };
    let (kind, name) = id.split_once(':').unwrap_or((id, ""));
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_whitespace());
    if !DEVICE_KINDS.contains(&kind) || !plain(name) || id.len() > ID_BYTES_MAX {
        return Err(format!(
            "'{id}' is no device: write usb:VENDOR:PRODUCT (usb:10c4:ea60), \
             usb:VENDOR:PRODUCT:SERIAL, serial:SERIAL or serial:ttyAMA0, i2c:1, gpio:0"
        ));
    }
    if kind == "usb" && !is_usb(name) {
        return Err(format!(
            "'{id}': vendor and product of a USB device are four hexadecimal digits each, as in \
             usb:10c4:ea60"
        ));
    }
    let good_path = |path: &str| {
        let rest = path.strip_prefix("/dev/").unwrap_or_default();
        plain(rest) && rest.split('/').all(|part| !["", ".", ".."].contains(&part))
    };
    if let Some(path) = path.filter(|path| !good_path(path)) {
        return Err(format!("'{path}': the path of a device in the task is below /dev/"));
    }
    Ok(DeviceRequest { id: device_id(id), path: path.map(str::to_string) })
}

/// `10c4:ea60`, with or without a serial number.
fn is_usb(name: &str) -> bool {
    let mut parts = name.splitn(3, ':');
    let hex = |part: Option<&str>| {
        part.is_some_and(|p| p.len() == 4 && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    hex(parts.next()) && hex(parts.next()) && parts.next() != Some("")
}

/// An id as both sides write it: kernels print USB numbers in lower case, labels on sticks do not.
pub fn device_id(id: &str) -> String {
    let Some(numbers) = id.strip_prefix("usb:") else { return id.to_string() };
    let mut parts = numbers.splitn(3, ':');
    let mut lower = || parts.next().unwrap_or_default().to_ascii_lowercase();
    let (vendor, product) = (lower(), lower());
    match parts.next() {
        Some(serial) => format!("usb:{vendor}:{product}:{serial}"),
        None => format!("usb:{vendor}:{product}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        let request = |id: &str, path: Option<&str>| DeviceRequest {
            id: id.into(),
            path: path.map(str::to_string),
        };
        let rows = [
            ("usb:10C4:EA60", vec![request("usb:10c4:ea60", None)]),
            (
                " usb:10c4:ea60:AbC = /dev/zigbee , i2c:1,",
                vec![request("usb:10c4:ea60:AbC", Some("/dev/zigbee")), request("i2c:1", None)],
            ),
            ("serial:ttyAMA0", vec![request("serial:ttyAMA0", None)]),
            ("gpio:0,gpio:0", vec![request("gpio:0", None); 2]),
        ];
        for (text, expected) in rows {
            assert_eq!(device_requests(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let many = vec!["i2c:1"; TASK_DEVICES_MAX + 1].join(",");
        let long = format!("serial:{}", "x".repeat(ID_BYTES_MAX));
        let rows = [
            ("", "names no device"),
            (" , ", "names no device"),
            ("usb", "'usb' is no device"),
            ("tty:0", "'tty:0' is no device"),
            ("i2c:", "'i2c:' is no device"),
            ("serial:a b", "is no device"),
            ("usb:10c4", "four hexadecimal digits"),
            ("usb:10c4:ea6g", "four hexadecimal digits"),
            ("usb:10c4:ea60:", "four hexadecimal digits"),
            ("i2c:1=/tmp/x", "below /dev/"),
            ("i2c:1=/dev/", "below /dev/"),
            ("i2c:1=/dev/../etc/passwd", "below /dev/"),
            ("i2c:1=/dev/a,i2c:2=/dev/a", "two devices the path /dev/a"),
            (many.as_str(), "more than 16"),
            (long.as_str(), "is no device"),
        ];
        for (text, part) in rows {
            let said = device_requests(text).expect_err(text);
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn only_what_both_share_is_held_twice() {
        let held = |key: &str, shared| HeldDevice { key: key.into(), shared };
        assert!(held("a", false).excludes(&held("a", false)));
        assert!(held("a", true).excludes(&held("a", false)));
        assert!(!held("a", true).excludes(&held("a", true)));
        assert!(!held("a", false).excludes(&held("b", false)));
    }
}
