//! The trace of a run: a digest of everything that happened, and its lines for who wants to read.

use std::time::Duration;

/// Multiplier of the digest (FNV's 64-bit prime): it only has to tell two runs apart.
const PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Default)]
pub struct Trace {
    digest: u64,
    events: u64,
    printed: bool,
}

impl Trace {
    /// A trace whose lines are printed, or not.
    pub fn new(printed: bool) -> Self {
        Self { printed, ..Self::default() }
    }

    /// Note that something happened: its numbers count, its words are for readers.
    pub fn note(&mut self, now: Duration, numbers: &[u64], words: impl FnOnce() -> String) {
        self.events += 1;
        self.mix(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        for number in numbers {
            self.mix(*number);
        }
        if self.printed {
            println!("{:>9.3} {}", now.as_secs_f64(), words());
        }
    }

    fn mix(&mut self, number: u64) {
        self.digest = (self.digest.rotate_left(5) ^ number).wrapping_mul(PRIME);
    }

    /// Digest and number of all events so far.
    pub fn sum(&self) -> (u64, u64) {
        (self.digest, self.events)
    }
}

/// A number for bytes.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
    }
    sum
}
