//! Serving a log: what is there, then what comes for as long as the task lives.

use super::{LogReader, StreamError};
use crate::reconciler::Roster;
use crate::sandboxes::Sandboxes;
use bramble_core::converge::Seen;
use bramble_core::model::TaskId;
use bramble_protocol::message::StreamReply;
use bramble_protocol::net::write_frame;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Pause between looks at a followed log. A bounded poll and not inotify: a log is replaced when
/// it is rotated, watches are a scarce resource shared with the user's programs, and a look costs
/// two system calls only while somebody follows.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// What a reader asked for.
pub(super) struct Wanted {
    pub task_id: TaskId,
    /// `stdout` or `stderr`.
    pub name: &'static str,
    pub follow: bool,
    pub tail_lines: Option<u32>,
}

pub(super) async fn serve(
    sandboxes: &Sandboxes,
    roster: &Roster,
    wanted: Wanted,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    let reader = match open(sandboxes, &wanted).await? {
        Ok(reader) => reader,
        Err(reply) => return Ok(write_frame(send, &reply).await?),
    };
    write_frame(send, &StreamReply::Ready).await?;
    let mut reader = Some(reader);
    loop {
        // Asked before reading: what a task wrote last is there before its end is known.
        let lives = lives(roster, &wanted.task_id);
        let bytes = read(&mut reader).await?;
        if !bytes.is_empty() {
            send.write_all(&bytes).await.map_err(StreamError::Write)?;
            continue;
        }
        send.flush().await.map_err(StreamError::Write)?;
        if !wanted.follow || !lives {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

/// Open the log, or say why not.
async fn open(
    sandboxes: &Sandboxes,
    wanted: &Wanted,
) -> Result<Result<LogReader, StreamReply>, StreamError> {
    let id = &wanted.task_id;
    let missing = || StreamReply::NotFound(format!("no sandbox of task {id} is on this node"));
    let Ok(sandbox) = sandboxes.sandbox(id) else { return Ok(Err(missing())) };
    let (name, tail_lines) = (wanted.name, wanted.tail_lines);
    let opened =
        blocking(move || sandbox.is_dir().then(|| LogReader::open(&sandbox, name, tail_lines)));
    Ok(match opened.await? {
        None => Err(missing()),
        Some(Ok(reader)) => Ok(reader),
        Some(Err(error)) => Err(StreamReply::Failed(crate::machine::chain(&error))),
    })
}

async fn read(slot: &mut Option<LogReader>) -> Result<Vec<u8>, StreamError> {
    let mut reader = slot.take().ok_or(StreamError::Stopped)?;
    let (reader, bytes) = blocking(move || {
        let bytes = reader.read();
        (reader, bytes)
    })
    .await?;
    *slot = Some(reader);
    Ok(bytes?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StreamError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StreamError::Stopped)
}

fn lives(roster: &Roster, id: &TaskId) -> bool {
    roster.seen(id).is_some_and(|seen| seen != Seen::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_protocol::net::read_frame;
    use std::sync::Arc;
    use tokio::io::AsyncReadExt;

    struct Ground {
        _data: tempfile::TempDir,
        sandboxes: Sandboxes,
        roster: Arc<Roster>,
    }

    fn ground() -> Ground {
        let data = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::open(data.path()).unwrap();
        Ground { sandboxes, roster: Arc::default(), _data: data }
    }

    fn wanted(id: &str, follow: bool, tail_lines: Option<u32>) -> Wanted {
        Wanted { task_id: TaskId::new(id), name: "stdout", follow, tail_lines }
    }

    /// Serves into a pipe; gives its reading end.
    fn begin(ground: &Ground, wanted: Wanted) -> tokio::io::DuplexStream {
        let (mut send, receive) = tokio::io::duplex(64);
        let (sandboxes, roster) = (ground.sandboxes.clone(), Arc::clone(&ground.roster));
        tokio::spawn(async move { serve(&sandboxes, &roster, wanted, &mut send).await });
        receive
    }

    async fn rest(mut receive: tokio::io::DuplexStream) -> String {
        let mut text = String::new();
        receive.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn what_is_there_is_served_once() {
        let ground = ground();
        let (sandbox, _) = ground.sandboxes.create(&TaskId::new("a")).unwrap();
        std::fs::write(sandbox.join("stdout"), "one\ntwo\n").unwrap();
        for (tail, expected) in [(None, "one\ntwo\n"), (Some(1), "two\n")] {
            let mut receive = begin(&ground, wanted("a", false, tail));
            let reply: Option<StreamReply> = read_frame(&mut receive).await.unwrap();
            assert_eq!(reply, Some(StreamReply::Ready));
            assert_eq!(rest(receive).await, expected);
        }
    }

    #[tokio::test]
    async fn unknown_tasks_and_hostile_ids_are_not_found() {
        let ground = ground();
        for id in ["nobody", "../../etc"] {
            let mut receive = begin(&ground, wanted(id, false, None));
            let reply: Option<StreamReply> = read_frame(&mut receive).await.unwrap();
            assert!(matches!(reply, Some(StreamReply::NotFound(_))), "{reply:?}");
        }
    }

    #[tokio::test]
    async fn following_ends_with_the_task_and_misses_nothing() {
        let ground = ground();
        let id = TaskId::new("a");
        let (sandbox, _) = ground.sandboxes.create(&id).unwrap();
        ground.roster.set(&id, Seen::Running);
        let mut receive = begin(&ground, wanted("a", true, None));
        let reply: Option<StreamReply> = read_frame(&mut receive).await.unwrap();
        assert_eq!(reply, Some(StreamReply::Ready));
        std::fs::write(sandbox.join("stdout"), "one\n").unwrap();
        let mut first = [0; 4];
        receive.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"one\n");
        std::fs::rename(sandbox.join("stdout"), sandbox.join("stdout.1")).unwrap();
        std::fs::write(sandbox.join("stdout"), "two\n").unwrap();
        ground.roster.set(&id, Seen::Ended);
        assert_eq!(rest(receive).await, "two\n");
    }
}
