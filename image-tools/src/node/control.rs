//! What is said on PID 1's socket: one line of JSON, and one back.

use super::Slot;
use serde::{Deserialize, Serialize};

/// Longest line, either way. Bytes.
pub const LINE_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Tell which slots there are.
    Slots,
    /// Write an update file, which lies on the data partition, into the spare slot.
    Stage {
        path: String,
    },
    /// Boot the spare slot, once. `alone`: nobody will confirm it from outside, so the node does
    /// once its cluster sees it, and opens itself for tasks.
    Try {
        #[serde(default)]
        alone: bool,
    },
    /// Keep the running slot.
    Confirm,
    Reboot,
    Poweroff,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    Slots(Slots),
    /// Why not; nothing was changed, or what it says.
    Refused(String),
}

/// Both slots of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    pub board: String,
    pub running: Slot,
    /// Booted when nothing else is asked for.
    pub lasting: Slot,
    /// Of the running slot.
    pub version: String,
    /// Of the other; none if it holds nothing whole.
    #[serde(default)]
    pub spare_version: Option<String>,
    /// Until the node goes back to the lasting slot, where the running one is on trial.
    #[serde(default)]
    pub trial_seconds_left: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_socket_stay_as_they_are() {
        let slots = Slots {
            board: "x86".into(),
            running: Slot::B,
            lasting: Slot::A,
            version: "1".into(),
            spare_version: None,
            trial_seconds_left: Some(5),
        };
        for (text, request) in [
            (r#"{"verb":"slots"}"#, Request::Slots),
            (r#"{"verb":"stage","path":"/x"}"#, Request::Stage { path: "/x".into() }),
            (r#"{"verb":"try","alone":true}"#, Request::Try { alone: true }),
            (r#"{"verb":"poweroff"}"#, Request::Poweroff),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        let text = r#"{"slots":{"board":"x86","running":"b","lasting":"a","version":"1","#;
        let text = format!(r#"{text}"spare_version":null,"trial_seconds_left":5}}}}"#);
        assert_eq!(serde_json::to_string(&Reply::Slots(slots)).unwrap(), text);
        assert_eq!(serde_json::to_string(&Reply::Done).unwrap(), r#""done""#);
    }
}
