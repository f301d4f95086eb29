//! The hardware's watchdog: a node whose PID 1 no longer runs is reset.

use super::console::say;
use super::modules::Modules;
use super::sys;
use crate::node::boot::argument;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

const DEVICE: &str = "/dev/watchdog";
/// Longer than anything holds the main loop, shorter than a person's patience. A Pi's bears 15.
const SECONDS: [i32; 2] = [60, 15];
/// What the fallback is called: the kernel's own timer, of no use where the kernel itself hangs.
const SOFT: &str = "softdog";

/// Kernel argument that leaves it alone with `off`: QEMU's Raspberry Pi resets when it is started,
/// not when its time is over.
const ARGUMENT: &str = "bramble.watchdog";

pub struct Watchdog(Option<File>);

impl Watchdog {
    /// Start it: the hardware's if there is one, else the kernel's.
    pub fn start(modules: &mut Modules) -> Watchdog {
        let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        if argument(&arguments, ARGUMENT) == Some("off") {
            say("no watchdog, as the kernel's arguments say");
            return Watchdog(None);
        }
        if !Path::new(DEVICE).exists() {
            modules.load(SOFT);
        }
        let device = OpenOptions::new().write(true).open(DEVICE);
        let Ok(device) = device else {
            say("no watchdog: a hang will need a hand");
            return Watchdog(None);
        };
        // One that takes neither keeps its own time, which is what it was made with.
        let _ = SECONDS.into_iter().any(|seconds| sys::set_watchdog(&device, seconds).is_ok());
        Watchdog(Some(device))
    }

    /// Say that PID 1 still runs; at least every few seconds.
    pub fn feed(&self) {
        if let Some(device) = &self.0 {
            let _ = sys::feed_watchdog(device);
        }
    }

    /// Stop it: the machine is switched off in order.
    pub fn stop(&mut self) {
        if let Some(mut device) = self.0.take() {
            let _ = device.write_all(b"V");
        }
    }
}
