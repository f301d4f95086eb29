//! Why a node ends another's link for good: the one who is told should not simply dial again.

use quinn::{Connection, ConnectionError, VarInt};

/// A verdict that the other side can read from the end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It is no member of the cluster any more.
    Removed,
    /// Another process with the same key is alive.
    Cloned,
}

/// QUIC application error codes. They are part of the protocol.
const CODE_REMOVED: u32 = 71;
const CODE_CLONED: u32 = 72;
/// Many ends of a link have this one: the words that go with it tell.
const CODE_TURNED_AWAY: u32 = 1;

impl Farewell {
    fn code(self) -> u32 {
        match self {
            Farewell::Removed => CODE_REMOVED,
            Farewell::Cloned => CODE_CLONED,
        }
    }

    /// The words that go with it.
    pub fn reason(self) -> &'static str {
        match self {
            Farewell::Removed => "this node was removed from the cluster",
            Farewell::Cloned => "another machine runs with this node's key (a cloned disk?)",
        }
    }

    /// The words, and what a person at the node can do about it.
    pub fn told(self) -> String {
        let advice = match self {
            Farewell::Removed => {
                "to let it in again, run `bramble reset-identity` here and join with the present \
                 token"
            }
            Farewell::Cloned => "give it an identity of its own with `bramble reset-identity`",
        };
        format!("{}; {advice}", self.reason())
    }

    /// End a link with this verdict.
    pub fn close(self, connection: &Connection) {
        connection.close(VarInt::from_u32(self.code()), self.reason().as_bytes());
    }

    /// End a link with a node that was removed as far as this one knows, whose word is not final.
    pub fn turn_away(connection: &Connection) {
        connection.close(VarInt::from_u32(CODE_TURNED_AWAY), Farewell::Removed.reason().as_bytes());
    }

    /// Whether a link ended with [`Farewell::turn_away`].
    pub fn is_hearsay(error: &ConnectionError) -> bool {
        let ConnectionError::ApplicationClosed(close) = error else { return false };
        close.error_code == VarInt::from_u32(CODE_TURNED_AWAY)
            && close.reason == Farewell::Removed.reason().as_bytes()
    }

    /// Read the verdict from how a link ended.
    pub fn of(error: &ConnectionError) -> Option<Farewell> {
        let ConnectionError::ApplicationClosed(close) = error else { return None };
        [Farewell::Removed, Farewell::Cloned]
            .into_iter()
            .find(|farewell| close.error_code == VarInt::from_u32(farewell.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::ApplicationClose;

    fn closed(code: u32, reason: &'static str) -> ConnectionError {
        let reason = reason.as_bytes().into();
        ConnectionError::ApplicationClosed(ApplicationClose { error_code: code.into(), reason })
    }

    #[test]
    fn a_verdict_is_told_from_what_another_has_heard() {
        let words = Farewell::Removed.reason();
        let rows = [
            (closed(CODE_REMOVED, words), Some(Farewell::Removed), false),
            (closed(CODE_CLONED, ""), Some(Farewell::Cloned), false),
            (closed(CODE_TURNED_AWAY, words), None, true),
            (closed(CODE_TURNED_AWAY, "this node does not answer that"), None, false),
            (ConnectionError::TimedOut, None, false),
        ];
        for (error, verdict, hearsay) in rows {
            assert_eq!(Farewell::of(&error), verdict, "{error:?}");
            assert_eq!(Farewell::is_hearsay(&error), hearsay, "{error:?}");
        }
    }
}
