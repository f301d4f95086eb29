//! IPv4 addresses without a server (RFC 3927): on a bare switch nodes still find each other.

use super::super::console::say;
use super::super::sys;
use super::netlink;
use nix::sys::socket::{MsgFlags, recv, send};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub const PREFIX: u8 = 16;
/// Addresses that are tried before one is taken unasked: on a network this full, or this broken,
/// none is better than another.
const TRIES_MAX: u64 = 10;
/// Probes for an address, and how long an answer is waited for after each.
const PROBES: usize = 3;
const PROBE_WAIT: Duration = Duration::from_millis(300);
const ARP_BYTES: usize = 42;

/// Find an address nobody answers for, and give it to the interface.
///
/// # Errors
/// The interface cannot be asked or changed.
pub fn take(interface: &str) -> io::Result<Ipv4Addr> {
    let card = fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let card = crate::node::name::card_address(&card).unwrap_or_default();
    let index = netlink::index(interface)?;
    let free = (0..TRIES_MAX).map(|n| candidate(card, n)).find(|address| {
        // Where it cannot be asked, it is tried.
        !is_taken(index, card, *address).unwrap_or(false)
    });
    let address = free.unwrap_or_else(|| candidate(card, TRIES_MAX));
    netlink::add_address(interface, address, PREFIX)?;
    say(&format!("{interface}: no DHCP server answers, taking {address}"));
    Ok(address)
}

/// The n-th address of a card: the same after every start, others for other cards, and from
/// 169.254.1.0 to 169.254.254.255 as the RFC wants.
fn candidate(card: [u8; 6], n: u64) -> Ipv4Addr {
    // FNV-1a, as good a spread as any.
    let bytes = card.into_iter().chain(n.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [.., third, fourth] = ((hash >> 16) % (254 * 256)).to_be_bytes();
    Ipv4Addr::new(169, 254, third + 1, fourth)
}

fn is_taken(index: u32, card: [u8; 6], address: Ipv4Addr) -> io::Result<bool> {
    let socket = sys::arp_socket(index, PROBE_WAIT.as_millis() as i64)?;
    let probe = probe(card, address);
    for _ in 0..PROBES {
        send(socket.as_raw_fd(), &probe, MsgFlags::empty())?;
        let until = Instant::now() + PROBE_WAIT;
        let mut frame = [0; 128];
        while Instant::now() < until {
            let Ok(count) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) else { break };
            if claims(&frame[..count], card, address) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// An ARP request for an address from nobody's (RFC 5227).
fn probe(card: [u8; 6], address: Ipv4Addr) -> [u8; ARP_BYTES] {
    let mut frame = [0; ARP_BYTES];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&card);
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&card);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// Whether a frame of another card says that it has the address, or asks for it as we do.
fn claims(frame: &[u8], card: [u8; 6], address: Ipv4Addr) -> bool {
    let Some(arp) = frame.get(..ARP_BYTES).filter(|arp| arp[12..14] == [0x08, 0x06]) else {
        return false;
    };
    let (sender, senders, target) = (&arp[22..28], &arp[28..32], &arp[38..42]);
    let theirs = sender != card;
    let address = address.octets();
    theirs && (senders == address || (senders == [0; 4] && target == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_in_the_range_and_differ() {
        let cards: Vec<[u8; 6]> = (0..50).map(|n| [0x52, 0x54, 0, 0, 0, n]).collect();
        let mut seen = std::collections::BTreeSet::new();
        for card in cards {
            let address = candidate(card, 0);
            assert!(address.is_link_local());
            assert!((1..=254).contains(&address.octets()[2]), "{address}");
            assert_eq!(address, candidate(card, 0));
            assert_ne!(address, candidate(card, 1));
            seen.insert(address);
        }
        assert!(seen.len() > 45, "cards next to each other get other addresses");
    }

    #[test]
    fn only_others_claim_an_address() {
        let (own, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let address = Ipv4Addr::new(169, 254, 7, 8);
        assert!(!claims(&probe(own, address), own, address), "our own echo");
        assert!(claims(&probe(other, address), own, address), "both want it");
        assert!(!claims(&probe(other, Ipv4Addr::new(169, 254, 7, 9)), own, address));
        let mut answer = probe(other, Ipv4Addr::UNSPECIFIED);
        answer[28..32].copy_from_slice(&address.octets());
        assert!(claims(&answer, own, address));
        assert!(!claims(&answer[..20], own, address));
    }
}
