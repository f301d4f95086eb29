//! Every bound of the HTTP side, by name.

use std::time::Duration;

/// Largest request body in bytes; image archives alone are streamed and unbounded.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a refused body that are read and dropped, so that a client that sends before it
/// listens still sees the refusal instead of a reset connection.
pub(crate) const DISCARD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Time for the above.
pub(crate) const DISCARD_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest silence inside a request body.
pub(crate) const BODY_IDLE_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a request head, also on an idle connection.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Requests handled at once (Marathon's `--http_max_concurrent_requests`).
pub(crate) const REQUESTS_MAX: usize = 256;
/// Log, exec and image streams open at once.
pub(crate) const STREAMS_MAX: usize = 128;
/// Connections per listener; further ones wait in the kernel's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Longest wait for the log to commit a change.
pub(crate) const PROPOSE_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest wait for an agent to answer a stream request or a listing.
pub(crate) const AGENT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the first agent to connect: a node's API answers before its own agent has its
/// session.
pub(crate) const AGENT_ARRIVES_MAX: Duration = Duration::from_secs(3);
/// Pause between two looks for it.
pub(crate) const AGENT_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Answers shorter than this in bytes are not compressed: the headers would outweigh it.
pub(crate) const GZIP_BYTES_MIN: u64 = 1024;
/// Nor are longer ones: a processor would be busy with them for a second.
pub(crate) const GZIP_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Time open requests get to end once the node shuts down.
pub(crate) const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(3);
/// Silence on an event stream before an empty line says that it stands.
pub(crate) const EVENTS_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a leader before a request is given up: an election takes less, so that a
/// client sees a slow answer, not an error. Reads wait it once, not each.
pub(crate) const LEADER_TIME_MAX: Duration = Duration::from_secs(2);
/// Pause before a leader that did not answer is tried again, unless there is word of another.
pub(crate) const LEADER_RETRY_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for a connection to another node.
pub(crate) const OPEN_TIME_MAX: Duration = Duration::from_secs(1);
/// Time a leader gets to answer what it was asked once it leads no more: one that is alive does.
pub(crate) const LOST_LEADER_GRACE: Duration = Duration::from_millis(250);
/// Request bodies up to this many bytes are kept until they are answered, so that they can be sent
/// to the next leader. Longer ones are passed on as they come, once.
pub(crate) const RESENT_BYTES_MAX: u64 = 256 * 1024;
/// Longest wait for a client to leave once the other side of its upgraded connection has ended.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(5);
/// Connections from other nodes that wait to be taken.
pub const RELAYED_WAITING_MAX: usize = 64;
/// Bytes relayed at once.
pub(crate) const RELAY_BYTES: usize = 64 * 1024;
/// Progress lines of an image upload that wait for a slow reader; more are dropped.
pub(crate) const LOAD_LINES_BUFFERED_MAX: usize = 64;
