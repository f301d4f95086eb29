//! Whether a history of one register can have happened one request after the other.
//!
//! Wing and Gong's search with Lowe's memory of where it has been ("Testing for linearizability",
//! 2017), as Knossos and Porcupine do it. Writes of unknown outcome would make it exponential:
//! one whose value nobody read need not have happened, and one whose value was read had happened
//! by then, so that none of them stays open.

use super::{End, Kind, Operation, Value};
use std::collections::{HashMap, HashSet};

/// Operations shown of a history that fails.
const SHOWN_MAX: usize = 40;

/// A request with both its ends.
#[derive(Clone, Copy, Debug)]
struct Closed {
    kind: Kind,
    from: u64,
    to: u64,
    /// Where it stands in the history.
    origin: usize,
}

/// Check a history of a register that held `initial` at first.
///
/// # Errors
/// Says why it cannot have happened, with the requests around the place.
pub fn check(history: &[Operation], initial: Value) -> Result<(), String> {
    let closed = close(history)?;
    let Err(furthest) = search(&closed, initial) else { return Ok(()) };
    let mut around: Vec<&Operation> = history.iter().collect();
    around.sort_by_key(|operation| operation.invoked);
    // Those that were open or came next when nothing fitted any more.
    let stuck = closed.iter().filter(|c| !furthest.contains(&c.origin)).map(|c| c.to).min();
    let stuck = stuck.unwrap_or_default();
    let position = around.iter().filter(|operation| operation.invoked <= stuck).count();
    let first = position.saturating_sub(SHOWN_MAX / 2);
    let shown: Vec<String> = around
        .iter()
        .skip(first)
        .take(SHOWN_MAX)
        .map(|operation| format!("{operation:?}"))
        .collect();
    Err(format!("no order explains what was answered around {stuck}:\n{}", shown.join("\n")))
}

/// Give every request both ends, leaving out those that tell nothing.
fn close(history: &[Operation]) -> Result<Vec<Closed>, String> {
    let mut first_seen: HashMap<Value, u64> = HashMap::new();
    for operation in history {
        if let (Kind::Read(value), End::Answered(at)) = (operation.kind, operation.end) {
            let seen = first_seen.entry(value).or_insert(at);
            *seen = (*seen).min(at);
        }
    }
    let mut closed = Vec::new();
    for (origin, operation) in history.iter().enumerate() {
        let to = match (operation.kind, operation.end) {
            (_, End::Answered(at)) => at,
            (Kind::Read(_), _) => continue,
            (Kind::Write(value), end) => match (first_seen.get(&value), end) {
                (None, _) => continue,
                (Some(_), End::Refused) => {
                    return Err(format!("refused, and yet it was read: {operation:?}"));
                }
                (Some(seen), _) if *seen < operation.invoked => {
                    return Err(format!("read before it was written: {operation:?}"));
                }
                (Some(seen), _) => *seen,
            },
        };
        closed.push(Closed { kind: operation.kind, from: operation.invoked, to, origin });
    }
    Ok(closed)
}

/// Beginnings and ends of requests in time, as a list from which they can be lifted and put back.
struct Timeline {
    /// Each is a request and whether this is its end; the first is before all.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each request: its beginning and its end.
    places: Vec<(usize, usize)>,
}

/// Before all events.
const HEAD: usize = 0;

impl Timeline {
    fn of(requests: &[Closed]) -> Self {
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            times.push((request.from, false, number));
            times.push((request.to, true, number));
        }
        // At the same moment beginnings come first: those requests overlap.
        times.sort_unstable();
        let mut places = vec![(HEAD, HEAD); requests.len()];
        let mut events = vec![(usize::MAX, false)];
        for (_, is_end, number) in times {
            match is_end {
                false => places[number].0 = events.len(),
                true => places[number].1 = events.len(),
            }
            events.push((number, is_end));
        }
        // A ring: what follows the last is the head.
        let count = events.len();
        let next = (0..count).map(|place| (place + 1) % count).collect();
        let previous = (0..count).map(|place| (place + count - 1) % count).collect();
        Self { events, next, previous, places }
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = place;
        self.previous[after] = place;
    }

    fn lift(&mut self, request: usize) {
        let (from, to) = self.places[request];
        self.unlink(from);
        self.unlink(to);
    }

    /// Undo the latest [`Timeline::lift`] not yet undone.
    fn put_back(&mut self, request: usize) {
        let (from, to) = self.places[request];
        self.relink(to);
        self.relink(from);
    }
}

/// Find an order; otherwise give the requests of the longest one there was.
fn search(requests: &[Closed], initial: Value) -> Result<(), HashSet<usize>> {
    let mut timeline = Timeline::of(requests);
    let mut value = initial;
    let mut done = vec![0u64; requests.len().div_ceil(64)];
    let mut been: HashSet<(Vec<u64>, Value)> = HashSet::new();
    let mut order: Vec<(usize, Value)> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut place = timeline.next[HEAD];
    while timeline.next[HEAD] != HEAD {
        let (request, is_end) = timeline.events[place];
        if is_end {
            // It had to have happened by now: take the latest choice back.
            let Some((latest, before)) = order.pop() else {
                return Err(longest.iter().map(|number| requests[*number].origin).collect());
            };
            done[latest / 64] &= !(1 << (latest % 64));
            value = before;
            timeline.put_back(latest);
            place = timeline.next[timeline.places[latest].0];
            continue;
        }
        let after = match requests[request].kind {
            Kind::Write(written) => Some(written),
            Kind::Read(read) => (read == value).then_some(value),
        };
        let mut then = done.clone();
        then[request / 64] |= 1 << (request % 64);
        match after {
            Some(after) if been.insert((then.clone(), after)) => {
                order.push((request, value));
                if order.len() > longest.len() {
                    longest = order.iter().map(|(number, _)| *number).collect();
                }
                (done, value) = (then, after);
                timeline.lift(request);
                place = timeline.next[HEAD];
            }
            _ => place = timeline.next[place],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
