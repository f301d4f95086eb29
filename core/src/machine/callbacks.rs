//! URLs to which events are posted. Whether a URL is one is for the API to judge.

use crate::command::Rejection;
use crate::event::Event;
use crate::model::State;

/// Callbacks at once: each costs the leader a queue and, while it is slow, a connection.
pub const CALLBACKS_MAX: u32 = 32;

pub(super) fn add(state: &mut State, url: &str) -> Result<Vec<Event>, Rejection> {
    if !state.callbacks.contains(url) && state.callbacks.len() >= CALLBACKS_MAX as usize {
        return Err(Rejection::CallbacksFull { max: CALLBACKS_MAX });
    }
    state.callbacks.insert(url.to_string());
    Ok(Vec::new())
}

pub(super) fn remove(state: &mut State, url: &str) -> Vec<Event> {
    state.callbacks.remove(url);
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_a_bounded_set() {
        let mut state = State::default();
        for number in 0..CALLBACKS_MAX {
            assert_eq!(add(&mut state, &format!("http://x/{number}")), Ok(vec![]));
        }
        let full = Err(Rejection::CallbacksFull { max: CALLBACKS_MAX });
        assert_eq!(add(&mut state, "http://x/one-more"), full);
        assert_eq!(add(&mut state, "http://x/0"), Ok(vec![]), "known already");
        remove(&mut state, "http://x/0");
        remove(&mut state, "http://x/0");
        assert_eq!(add(&mut state, "http://x/one-more"), Ok(vec![]));
        assert_eq!(state.callbacks.len(), CALLBACKS_MAX as usize);
    }
}
