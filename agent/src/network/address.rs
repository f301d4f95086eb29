//! IPv4 arithmetic of the bridge: choosing a subnet nobody uses, handing out its addresses.
//!
//! Pure: it never asks the kernel.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use thiserror::Error;

/// Subnets tried in this order. /20 holds more tasks than a bridge has ports (1,024); the ranges
/// are those that home routers, Docker and Kubernetes use last.
pub const CANDIDATES: [Subnet; 8] = [
    Subnet::literal([172, 31, 240, 0], 20),
    Subnet::literal([172, 29, 240, 0], 20),
    Subnet::literal([10, 231, 240, 0], 20),
    Subnet::literal([10, 157, 240, 0], 20),
    Subnet::literal([10, 89, 240, 0], 20),
    Subnet::literal([192, 168, 208, 0], 20),
    Subnet::literal([192, 168, 144, 0], 20),
    Subnet::literal([172, 23, 240, 0], 20),
];
/// Longest and shortest prefix a bridge's subnet may have.
const PREFIX_MAX: u8 = 29;
const PREFIX_MIN: u8 = 8;

#[derive(Debug, Error)]
pub enum AddressError {
    #[error("{0:?} is no IPv4 subnet of the form 172.31.240.0/20")]
    Syntax(String),
    #[error("a subnet of prefix length {0} is not between {PREFIX_MIN} and {PREFIX_MAX}")]
    Prefix(u8),
    #[error("all {0} addresses of the bridge's subnet are in use")]
    Exhausted(u32),
    #[error("every candidate subnet collides with a route of this host; give one explicitly")]
    NoneFree,
}

/// An IPv4 network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    const fn literal(octets: [u8; 4], prefix: u8) -> Subnet {
        Subnet { base: u32::from_be_bytes(octets), prefix }
    }

    /// The network that `address` lies in; prefixes over 32 count as 32.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Subnet {
        let prefix = prefix.min(32);
        Subnet { base: u32::from(address) & mask(prefix), prefix }
    }

    /// Prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The bridge's own address: the first of the subnet.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Addresses for tasks: all but the network's, the gateway's and the broadcast's.
    fn hosts(&self) -> u32 {
        (1 << (32 - u32::from(self.prefix))) - 3
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subnet {
    type Err = AddressError;

    /// Host bits are dropped, so that a gateway's `172.31.240.1/20` also names its network.
    fn from_str(text: &str) -> Result<Subnet, AddressError> {
        let syntax = || AddressError::Syntax(text.to_string());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(syntax)?;
        let address: Ipv4Addr = address.parse().map_err(|_| syntax())?;
        let prefix: u8 = prefix.parse().map_err(|_| syntax())?;
        if !(PREFIX_MIN..=PREFIX_MAX).contains(&prefix) {
            return Err(AddressError::Prefix(prefix));
        }
        Ok(Subnet::containing(address, prefix))
    }
}

/// The first of `preferred` and the candidates that no network in `taken` overlaps.
///
/// # Errors
/// When none is free.
pub fn choose(preferred: Option<Subnet>, taken: &[Subnet]) -> Result<Subnet, AddressError> {
    preferred
        .into_iter()
        .chain(CANDIDATES)
        .find(|candidate| !taken.iter().any(|other| other.overlaps(candidate)))
        .ok_or(AddressError::NoneFree)
}

/// Hands out addresses, going round the subnet, so that an address just given up is not soon
/// somebody else's (peers and the kernel still remember its flows).
#[derive(Debug)]
pub struct Addresses {
    subnet: Subnet,
    used: BTreeSet<Ipv4Addr>,
    next: u32,
}

impl Addresses {
    /// All addresses of `subnet` but those in `used`.
    pub fn new(subnet: Subnet, used: BTreeSet<Ipv4Addr>) -> Addresses {
        let last = used.iter().next_back().map(|last| u32::from(*last)).unwrap_or(0);
        let next = last.saturating_sub(subnet.base + 1) % subnet.hosts();
        Addresses { subnet, used, next }
    }

    /// Take a free address.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&mut self) -> Result<Ipv4Addr, AddressError> {
        let hosts = self.subnet.hosts();
        for _ in 0..hosts {
            let address = Ipv4Addr::from(self.subnet.base + 2 + self.next);
            self.next = (self.next + 1) % hosts;
            if self.used.insert(address) {
                return Ok(address);
            }
        }
        Err(AddressError::Exhausted(hosts))
    }

    /// Mark an address found in use.
    pub fn mark(&mut self, address: Ipv4Addr) {
        self.used.insert(address);
    }

    /// Give an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn subnets_parse_or_say_why_not() {
        assert_eq!(subnet("172.31.240.1/20").to_string(), "172.31.240.0/20");
        assert_eq!(subnet("172.31.240.0/20").gateway(), Ipv4Addr::new(172, 31, 240, 1));
        for bad in ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert!(matches!(bad.parse::<Subnet>(), Err(AddressError::Syntax(_))), "{bad}");
        }
        for bad in ["10.0.0.0/30", "10.0.0.0/7", "10.0.0.0/33"] {
            assert!(matches!(bad.parse::<Subnet>(), Err(AddressError::Prefix(_))), "{bad}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_knows_nesting() {
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.157.240.0/20", true),
            ("10.157.255.0/24", "10.157.240.0/20", true),
            ("10.158.0.0/24", "10.157.240.0/20", false),
            ("172.31.240.0/20", "172.31.240.0/20", true),
        ] {
            assert_eq!(subnet(a).overlaps(&subnet(b)), overlap, "{a} {b}");
            assert_eq!(subnet(b).overlaps(&subnet(a)), overlap, "{b} {a}");
        }
        let host = Subnet::containing(Ipv4Addr::new(172, 31, 241, 9), 32);
        assert!(host.overlaps(&CANDIDATES[0]));
    }

    #[test]
    fn a_taken_candidate_is_passed_over() {
        assert_eq!(choose(None, &[]).expect("free"), CANDIDATES[0]);
        let taken = [subnet("172.16.0.0/12")];
        assert_eq!(choose(None, &taken).expect("free"), CANDIDATES[2]);
        let wish = subnet("10.9.0.0/24");
        assert_eq!(choose(Some(wish), &taken).expect("free"), wish);
        let everything = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(subnet);
        assert!(matches!(choose(Some(wish), &everything), Err(AddressError::NoneFree)));
    }

    #[test]
    fn addresses_go_round_and_run_out() {
        let small = subnet("10.9.0.0/29");
        let mut addresses = Addresses::new(small, BTreeSet::new());
        let all: Vec<_> = (0..5).map(|_| addresses.take().expect("free").octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert!(matches!(addresses.take(), Err(AddressError::Exhausted(5))));
        addresses.release(Ipv4Addr::new(10, 9, 0, 4));
        assert_eq!(addresses.take().expect("the one given back").octets()[3], 4);

        let used = BTreeSet::from([Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 5)]);
        let mut adopted = Addresses::new(small, used);
        assert_eq!(adopted.take().expect("free").octets()[3], 6);
        assert_eq!(adopted.take().expect("free").octets()[3], 3);
    }
}
