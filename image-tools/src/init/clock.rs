//! The time of day, as a courtesy: nothing of the cluster asks for it, but certificates of
//! registries do, and people who read logs. Nobody waits for it.

use super::console::say;
use super::identity::{own_dir, write_durably};
use super::net::dhcp::Lease;
use super::sys;
use super::tree::RESOLV_CONF;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Asked where neither DHCP nor the router knows the time.
const POOL: &str = "pool.ntp.org";
const NTP_PORT: u16 = 123;
const DNS_PORT: u16 = 53;
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Between two looks at the time: until there is one, and then.
const RETRY_EVERY: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(3600);
/// A clock that is off by less is left alone. Seconds.
const STEP_MIN: f64 = 0.5;
/// From NTP's beginning of time to Unix's. Seconds.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// Where the time of the last boot is kept, for machines without a clock.
const FILE: &str = "clock";

/// Set the clock to no earlier than when this node last knew the time: many boards have none.
pub fn go_on() {
    let kept = fs::metadata(own_dir().join(FILE)).and_then(|found| found.modified());
    let Ok(kept) = kept else { return };
    if kept > SystemTime::now() {
        let _ = set(kept);
    }
}

/// Ask for the time now and then, on a thread of its own.
pub fn follow() {
    let run = || loop {
        let pause = match ask_all() {
            Some(offset) => {
                correct(offset);
                ASK_EVERY
            }
            None => RETRY_EVERY,
        };
        // Also without an answer: a clock that goes on is better than one that starts anew.
        let _ = write_durably(&own_dir().join(FILE), b"");
        std::thread::sleep(pause);
    };
    if let Err(error) = std::thread::Builder::new().stack_size(64 << 10).spawn(run) {
        say(&format!("the clock is not followed: {error}"));
    }
}

fn correct(offset: f64) {
    if offset.abs() < STEP_MIN {
        return;
    }
    let now = SystemTime::now();
    let right = if offset > 0.0 {
        now.checked_add(Duration::from_secs_f64(offset))
    } else {
        now.checked_sub(Duration::from_secs_f64(-offset))
    };
    match right.ok_or(io::ErrorKind::InvalidData.into()).and_then(set) {
        Ok(()) => say(&format!("the clock was off by {offset:.1} s and is set")),
        Err(error) => say(&format!("setting the clock: {error}")),
    }
}

fn set(time: SystemTime) -> io::Result<()> {
    let since = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    sys::set_clock(since.as_secs() as i64, i64::from(since.subsec_micros()))
}

/// Seconds the clock is behind, by the first server that answers.
fn ask_all() -> Option<f64> {
    let leases = Lease::all();
    let given = leases.iter().flat_map(|(_, lease)| lease.ntp.clone());
    let routers = leases.iter().filter_map(|(_, lease)| lease.gateway.map(IpAddr::from));
    let near: Vec<IpAddr> = given.chain(routers).collect();
    let asked = near.into_iter().find_map(|server| ask(server).ok());
    asked.or_else(|| resolve(POOL)?.into_iter().find_map(|server| ask(server).ok()))
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0u8; 16].into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    Ok(socket)
}

/// Ask one server (RFC 4330).
fn ask(server: IpAddr) -> io::Result<f64> {
    let socket = socket((server, NTP_PORT).into())?;
    let mut question = [0; 48];
    // Version 4, client. The time sent is a number nobody else knows.
    question[0] = 0x23;
    let sent = SystemTime::now();
    let nonce = sent.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    question[40..48].copy_from_slice(&nonce.to_be_bytes());
    socket.send(&question)?;
    let mut answer = [0; 48];
    let count = socket.recv(&mut answer)?;
    let received = SystemTime::now();
    let middle = sent + received.duration_since(sent).unwrap_or_default() / 2;
    let middle = middle.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    time(&answer[..count], &question[40..48])
        .map(|time| time - middle)
        .ok_or(io::ErrorKind::InvalidData.into())
}

/// The time in an answer, seconds since 1970.
fn time(answer: &[u8], nonce: &[u8]) -> Option<f64> {
    const SERVER: u8 = 4;
    const UNSYNCHRONIZED: u8 = 3;
    if answer.len() < 48 || &answer[24..32] != nonce || answer[0] & 7 != SERVER {
        return None;
    }
    // A stratum of 0 says go away, of 16 that the server itself does not know.
    if answer[0] >> 6 == UNSYNCHRONIZED || !(1..16).contains(&answer[1]) {
        return None;
    }
    let word = |at: usize| {
        u64::from(u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]))
    };
    let (mut seconds, fraction) = (word(40), word(44));
    // The counter begins anew in 2036; before 1968 it is counted on.
    if seconds < 1 << 31 {
        seconds += 1 << 32;
    }
    Some((seconds - NTP_TO_UNIX) as f64 + fraction as f64 / (1u64 << 32) as f64)
}

/// Addresses of a name, by the first name server that answers. The C library's resolver loads
/// parts of itself at run time, which a static program cannot.
fn resolve(name: &str) -> Option<Vec<IpAddr>> {
    let text = fs::read_to_string(RESOLV_CONF).ok()?;
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
    let servers = servers.filter_map(|server| server.trim().parse::<IpAddr>().ok());
    servers.into_iter().find_map(|server| query(server, name).ok().filter(|all| !all.is_empty()))
}

fn query(server: IpAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let socket = socket((server, DNS_PORT).into())?;
    let id = std::process::id() as u16 ^ 0x5aa5;
    let mut question = Vec::new();
    // One question, recursion desired.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        question.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    socket.send(&question)?;
    let mut answer = [0; 1232];
    let count = socket.recv(&mut answer)?;
    Ok(addresses(&answer[..count], &question).unwrap_or_default())
}

/// IPv4 addresses in an answer (RFC 1035).
fn addresses(answer: &[u8], question: &[u8]) -> Option<Vec<IpAddr>> {
    const ADDRESS: u16 = 1;
    if answer.get(..2)? != &question[..2] {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let mut at = question.len();
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        at = after_name(answer, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        if let (ADDRESS, Some(&[a, b, c, d])) = (kind, answer.get(at + 10..at + 10 + length)) {
            found.push([a, b, c, d].into());
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends: with a zero, or with a pointer to the rest.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_knows_the_time_is_believed() {
        let nonce = [7; 8];
        let mut answer = [0; 48];
        (answer[0], answer[1]) = (0x24, 2);
        answer[24..32].copy_from_slice(&nonce);
        answer[40..48].copy_from_slice(&[0xe9, 0x2f, 0x8d, 0x80, 0x80, 0, 0, 0]);
        let right = f64::from(0xe92f_8d80u32) - NTP_TO_UNIX as f64 + 0.5;
        assert_eq!(time(&answer, &nonce), Some(right));
        assert_eq!(time(&answer, &[8; 8]), None, "an answer to somebody else");
        assert_eq!(time(&answer[..40], &nonce), None);
        for (at, value) in [(0, 0xe4), (0, 0x23), (1, 0), (1, 16)] {
            let mut bad = answer;
            bad[at] = value;
            assert_eq!(time(&bad, &nonce), None, "{at} {value}");
        }
        answer[40..44].copy_from_slice(&[0, 0, 0, 1]);
        assert!(time(&answer, &nonce).unwrap() > right, "after 2036");
    }

    #[test]
    fn addresses_of_a_name_are_found_behind_aliases() {
        let question =
            [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x00\x00\x01\x00\x01"].concat();
        let mut answer = question.clone();
        answer[7] = 2;
        answer.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x03\x01b\x00");
        answer.extend(b"\x01b\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x0a\x00\x00\x01");
        let found: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(addresses(&answer, &question), Some(vec![found]));
        assert_eq!(addresses(&answer[..answer.len() - 8], &question), None, "cut off");
        answer[0] = 1;
        assert_eq!(addresses(&answer, &question), None, "another's");
    }
}
