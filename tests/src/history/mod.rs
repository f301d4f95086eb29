//! What clients of one register asked, when, and what they were told.
//!
//! Owns the record and its judgement; asks nobody. Times are nanoseconds of one monotonic clock.

mod linearizable;

pub use linearizable::check;

/// A value of the register. Each is written at most once in a history.
pub type Value = u64;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Write(Value),
    /// With what was read.
    Read(Value),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered then.
    Answered(u64),
    /// A write that may have happened, or may still.
    Unknown,
    /// A write that certainly did not happen.
    Refused,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client and the node it asked, for people.
    pub client: usize,
    pub node: usize,
    pub kind: Kind,
    pub invoked: u64,
    pub end: End,
}

impl Operation {
    /// When it was answered.
    pub fn answered(&self) -> Option<u64> {
        match self.end {
            End::Answered(at) => Some(at),
            End::Unknown | End::Refused => None,
        }
    }

    fn written(&self) -> Option<Value> {
        match self.kind {
            Kind::Write(value) => Some(value),
            Kind::Read(_) => None,
        }
    }
}

/// Check that no acknowledged write is lost: the register, read when all was over, holds a value
/// that no acknowledged write certainly replaced.
///
/// # Errors
/// Names the acknowledged writes that are not there.
pub fn none_lost(history: &[Operation], initial: Value, last: Value) -> Result<(), String> {
    let writer = history.iter().find(|operation| operation.written() == Some(last));
    let began_last = match writer {
        // A write whose answer nobody heard may have taken its place at any time since it began.
        Some(writer) if writer.end == End::Unknown => u64::MAX,
        Some(writer) => writer.answered().unwrap_or_default(),
        None if last == initial => 0,
        None => return Err(format!("{last} was never written")),
    };
    let lost: Vec<_> = history
        .iter()
        .filter(|w| w.written().is_some() && w.answered().is_some() && w.invoked > began_last)
        .collect();
    match lost.is_empty() {
        true => Ok(()),
        false => Err(format!("{last} is there at the end, but these came after it: {lost:?}")),
    }
}

/// Nanoseconds from `since` until the first write that began afterwards was acknowledged.
pub fn writable_after(history: &[Operation], since: u64) -> Option<u64> {
    let later = history.iter().filter(|w| w.written().is_some() && w.invoked >= since);
    later.filter_map(Operation::answered).min().map(|at| at - since)
}

/// Acknowledged writes.
pub fn acknowledged(history: &[Operation]) -> usize {
    history.iter().filter(|w| w.written().is_some() && w.answered().is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: Value, invoked: u64, end: End) -> Operation {
        Operation { client: 0, node: 0, kind: Kind::Write(value), invoked, end }
    }

    #[test]
    fn an_acknowledged_write_may_be_replaced_but_not_lost() {
        let history = [
            write(1, 0, End::Answered(10)),
            write(2, 20, End::Answered(30)),
            write(3, 25, End::Answered(40)),
            write(4, 12, End::Unknown),
        ];
        for last in [2, 3, 4] {
            assert_eq!(none_lost(&history, 0, last), Ok(()), "{last}");
        }
        for last in [0, 1, 9] {
            assert!(none_lost(&history, 0, last).is_err(), "{last}");
        }
        assert_eq!(none_lost(&[], 0, 0), Ok(()));
    }

    #[test]
    fn the_wait_is_that_of_the_first_write_after_it() {
        let history = [
            write(1, 0, End::Answered(50)),
            write(2, 20, End::Unknown),
            write(3, 30, End::Answered(90)),
            write(4, 40, End::Answered(70)),
        ];
        assert_eq!(writable_after(&history, 10), Some(60));
        assert_eq!(writable_after(&history, 41), None);
        assert_eq!(acknowledged(&history), 3);
    }
}
