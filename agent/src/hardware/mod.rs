//! What this machine's hardware is and how it does, as the kernel's sysfs shows it: devices that
//! tasks can be given, and readings of voltage, heat and wear.
//!
//! Owns the looks at sysfs. Decides nothing: what is placed where, and what ends when a device is
//! gone, is others' business.

mod claims;
mod scan;
mod sysfs;
mod vitals;

pub use claims::{Claims, InUse};
pub use scan::{Device, Node};

use bramble_core::model::{OfferedDevice, Trouble, Vitals};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sysfs::Sysfs;
use tokio::sync::watch;

/// Pause between two looks. A stick that was moved is used again this much later at most.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// A temperature is told anew when it has changed by this many degrees: each word of it goes to
/// the leader.
const TEMPERATURE_STEP_C: u32 = 3;

/// A look at the hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    pub devices: Vec<Device>,
    pub vitals: Vitals,
}

impl Hardware {
    /// Look at the tree below `root` (`/sys`).
    pub fn read(root: &Path, memory_limits: bool) -> Self {
        let sysfs = Sysfs::new(root);
        Self { devices: scan::devices(&sysfs), vitals: vitals::read(&sysfs, memory_limits) }
    }

    /// The devices as they are offered, before anybody holds one.
    pub fn offered(&self) -> Vec<OfferedDevice> {
        self.devices.iter().map(|device| device.offered.clone()).collect()
    }

    pub fn device(&self, key: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.offered.key == key)
    }

    /// What of it constraints can ask for: what hardly ever changes, since it is stored.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let Vitals { undervoltage, throttled, wear_percent, page_bytes, .. } = &self.vitals;
        let seen = |trouble: Trouble| if trouble == Trouble::Never { "no" } else { "yes" };
        let mut attributes = BTreeMap::new();
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                attributes.insert(name.to_string(), value);
            }
        };
        set("page_size", (*page_bytes > 0).then(|| page_bytes.to_string()));
        set("undervoltage", undervoltage.map(|trouble| seen(trouble).into()));
        set("throttled", throttled.map(|trouble| seen(trouble).into()));
        set("disk_wear", wear_percent.map(|percent| percent.to_string()));
        attributes
    }

    /// Take in what an earlier look saw: troubles that only their moment shows, and a temperature
    /// that is nearly the same.
    fn after(mut self, earlier: &Hardware) -> Self {
        let (now, before) = (&mut self.vitals, &earlier.vitals);
        for (now, before) in
            [(&mut now.undervoltage, before.undervoltage), (&mut now.throttled, before.throttled)]
        {
            if *now == Some(Trouble::Never) && before.is_some_and(|t| t != Trouble::Never) {
                *now = Some(Trouble::Earlier);
            }
        }
        if let (Some(new), Some(old)) = (now.temperature_c, before.temperature_c)
            && new.abs_diff(old) < TEMPERATURE_STEP_C
        {
            now.temperature_c = Some(old);
        }
        self
    }
}

/// Looks at the hardware again and again.
pub struct Watcher {
    root: PathBuf,
    memory_limits: bool,
    seen: watch::Sender<Arc<Hardware>>,
}

impl Watcher {
    /// Take the first look.
    pub fn new(root: &Path, memory_limits: bool) -> Self {
        let first = Arc::new(Hardware::read(root, memory_limits));
        Self { root: root.to_path_buf(), memory_limits, seen: watch::Sender::new(first) }
    }

    pub fn watch(&self) -> watch::Receiver<Arc<Hardware>> {
        self.seen.subscribe()
    }

    /// Look until dropped.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            self.look().await;
        }
    }

    /// Look once, and tell what is new.
    async fn look(&self) {
        let (root, memory_limits) = (self.root.clone(), self.memory_limits);
        let look = tokio::task::spawn_blocking(move || Hardware::read(&root, memory_limits));
        // Fails only where the runtime ends.
        let Ok(look) = look.await else { return };
        let look = look.after(&self.seen.borrow().clone());
        self.seen.send_if_modified(|seen| {
            let changed = **seen != look;
            if changed {
                log_changes(seen, &look);
                *seen = Arc::new(look);
            }
            changed
        });
    }
}

fn log_changes(before: &Hardware, now: &Hardware) {
    let key = |device: &Device| device.offered.key.clone();
    for device in now.devices.iter().filter(|device| before.device(&key(device)).is_none()) {
        tracing::info!(device = key(device), ids = ?device.offered.ids, "a device came");
    }
    for device in before.devices.iter().filter(|device| now.device(&key(device)).is_none()) {
        tracing::info!(device = key(device), ids = ?device.offered.ids, "a device went");
    }
    let troubles = |vitals: &Vitals| (vitals.undervoltage, vitals.throttled);
    if troubles(&before.vitals) != troubles(&now.vitals) {
        let (undervoltage, throttled) = troubles(&now.vitals);
        let word = |trouble: Option<Trouble>| trouble.map_or("unknown", Trouble::as_str);
        tracing::warn!(
            undervoltage = word(undervoltage),
            throttled = word(throttled),
            temperature_c = now.vitals.temperature_c,
            "this machine's supply or cooling"
        );
    }
}

#[cfg(test)]
mod tests;
