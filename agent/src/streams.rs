//! Streams the master opens on the session's connection: logs, exec, image loads and lists.
//!
//! One request frame, one reply frame, then as `protocol::message` says for each kind. A stream
//! that fails ends alone; it never ends the session.

mod logs;

pub use logs::{LogError, LogReader};
