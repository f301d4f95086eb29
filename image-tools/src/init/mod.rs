//! PID 1 of a node: from the kernel's hands to a running bramble, and back down in order.
//!
//! In the initramfs ([`stage1`]) it finds the disk and the running slot's root; there ([`node`]) it
//! mounts, names, connects, starts bramble and keeps it running. Small, with no async runtime: it
//! is the one process that must not fail. It decides nothing about the cluster.

mod alone;
mod bramble;
mod clock;
mod console;
mod control;
mod data;
mod disk;
mod events;
mod fat;
mod identity;
mod modules;
mod net;
mod node;
mod power;
mod service;
mod settings;
mod slots;
mod ssh;
mod stage1;
mod status;
mod sys;
mod tree;
mod update;
mod watchdog;

use console::say;
use std::time::Duration;

/// Where programs are found.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// So long a message stays readable before the kernel restarts the machine.
const READ_TIME: Duration = Duration::from_secs(5);

/// Be what this process was started as. Gives an exit code, of which PID 1 has none to give: its
/// end is a kernel panic, which restarts the machine.
pub fn main() -> i32 {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [net::dhcp::EVENT, event, ..] => net::dhcp::event(event),
        _ if std::process::id() != 1 => {
            say("this is a node's PID 1; it does nothing as any other process");
            1
        }
        [_, "node", disk, slot] => node::run(disk, slot),
        _ => {
            let error = stage1::run();
            say(&error);
            say("restarting");
            std::thread::sleep(READ_TIME);
            1
        }
    }
}
