//! What the kernel says of devices that come and go.

use super::sys;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Messages of the kernel itself, as against those that udev repeats.
const KERNEL_GROUP: u32 = 1;
const MESSAGE_BYTES_MAX: usize = 8192;

/// A device came or went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub added: bool,
    pub subsystem: String,
    /// What the driver for it is found by.
    pub modalias: Option<String>,
}

pub struct Events(OwnedFd);

impl Events {
    /// # Errors
    /// The kernel has no such socket.
    pub fn listen() -> io::Result<Events> {
        sys::netlink(libc::NETLINK_KOBJECT_UEVENT, KERNEL_GROUP).map(Events)
    }

    /// The next one that waits, without waiting for one.
    pub fn next(&self) -> Option<Event> {
        let mut message = [0; MESSAGE_BYTES_MAX];
        loop {
            match recv(self.0.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    if let Some(event) = parse(&message[..count]) {
                        return Some(event);
                    }
                }
                Err(nix::Error::EINTR) => {}
                // Too many came at once: what was missed is looked for by who looks around.
                Err(nix::Error::ENOBUFS) => {
                    return Some(Event { subsystem: "net".into(), ..Event::default() });
                }
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(message: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(message).ok()?;
    let mut event = Event::default();
    for (name, value) in text.split('\0').filter_map(|field| field.split_once('=')) {
        match name {
            "ACTION" => event.added = value == "add",
            "SUBSYSTEM" => event.subsystem = value.into(),
            "MODALIAS" => event.modalias = Some(value.into()),
            _ => {}
        }
    }
    (!event.subsystem.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let text = "add@/devices/x\0ACTION=add\0SUBSYSTEM=usb\0MODALIAS=usb:v1\0SEQNUM=3\0";
        let event = Event { added: true, subsystem: "usb".into(), modalias: Some("usb:v1".into()) };
        assert_eq!(parse(text.as_bytes()), Some(event));
        let gone = parse(b"remove@/x\0ACTION=remove\0SUBSYSTEM=net\0").unwrap();
        assert!(!gone.added && gone.subsystem == "net");
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b""), None);
    }
}
