//! Links, addresses and routes, asked of the kernel by netlink.

use super::super::sys;
use nix::sys::socket::{MsgFlags, recv, send};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

// linux/rtnetlink.h, linux/if_addr.h, linux/if.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

/// The kernel's number of an interface.
pub fn index(interface: &str) -> io::Result<u32> {
    let path = format!("/sys/class/net/{interface}/ifindex");
    fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

/// Switch an interface on.
pub fn up(interface: &str) -> io::Result<()> {
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend(index(interface)?.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    ask(RTM_NEWLINK, 0, &body)
}

/// Give an interface an address.
pub fn add_address(interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let broadcast = u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let mut body = address_body(interface, address, prefix)?;
    attribute(&mut body, IFA_BROADCAST, &broadcast.to_be_bytes());
    ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// Take an address from an interface. One that it has not is no error.
pub fn remove_address(interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    match ask(RTM_DELADDR, 0, &address_body(interface, address, prefix)?) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// Send what has no nearer way to a gateway. Of several, the lowest metric counts.
pub fn default_route(interface: &str, gateway: Ipv4Addr, metric: u32) -> io::Result<()> {
    let kinds = [RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST];
    let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
    body.extend(kinds);
    body.extend([0; 4]);
    attribute(&mut body, RTA_GATEWAY, &gateway.octets());
    attribute(&mut body, RTA_OIF, &index(interface)?.to_ne_bytes());
    attribute(&mut body, RTA_PRIORITY, &metric.to_ne_bytes());
    ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

fn address_body(interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<Vec<u8>> {
    let scope = if address.is_link_local() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    let mut body = vec![libc::AF_INET as u8, prefix, 0, scope];
    body.extend(index(interface)?.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.octets());
    Ok(body)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Ask, and wait for the kernel's word.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket: OwnedFd = sys::netlink(libc::NETLINK_ROUTE, 0)?;
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let count = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    verdict(&answer[..count])
}

fn verdict(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).map(|two| u16::from_ne_bytes([two[0], two[1]]));
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(code)) => {
            match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(-error)),
            }
        }
        _ => Err(io::Error::other("netlink answered something else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_understands_and_refuses() {
        assert_eq!(index("lo").unwrap(), 1);
        // Of an address that is not there there is nothing to take, which needs CAP_NET_ADMIN to
        // be told; without it the refusal is another.
        match remove_address("lo", Ipv4Addr::new(127, 99, 99, 99), 32) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
        }
        assert!(index("nothing").is_err());
        assert!(verdict(&[0; 8]).is_err());
    }

    #[test]
    fn attributes_are_padded() {
        let mut body = Vec::new();
        attribute(&mut body, 1, &[1, 2, 3, 4, 5]);
        assert_eq!(body.len(), 12);
        assert_eq!(body[..2], 9u16.to_ne_bytes());
    }
}
