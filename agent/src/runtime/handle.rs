//! The agent's end of one executor: a connection that is followed until the task has ended. Owns
//! noticing an executor's death; must never report an end that an exit record contradicts.

use super::RuntimeError;
use super::process;
use bramble_protocol::codec::{self, FRAME_HEAD_BYTES};
use bramble_protocol::executor::{
    EXIT_FILE, ExecutorSpec, ExitRecord, FromExecutor, PID_FILE, ProcessKey, SOCKET_FILE,
    SPEC_FILE, ToExecutor,
};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};

/// How long an executor whose connection closed may take to disappear before it is asked again.
const DEATH_LIMIT: Duration = Duration::from_secs(2);
/// Pause between two looks whether an executor that has said nothing yet still lives.
const ALIVE_PAUSE: Duration = Duration::from_millis(50);
/// How long an executor that was told to stop may take to say that it does, once the grace is
/// over: a stopped one (SIGSTOP, a debugger) never would.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Largest frame an executor sends, in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024;

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(ExitRecord),
    /// The executor died, and its container with it; the remains want
    /// [`super::Runtime::clean`].
    ExecutorDied,
}

/// What is known of a task that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Created,
    Running,
    Stopping,
}

#[derive(Clone, Debug)]
enum Seen {
    Alive(Phase),
    Ended(Ended),
}

/// A task with a live executor. Dropping the handle leaves the task alone.
#[derive(Debug)]
pub struct TaskHandle {
    init: ProcessKey,
    executor: Option<ProcessKey>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    seen: watch::Receiver<Seen>,
    dir: PathBuf,
    /// Read from its specification when that is first asked.
    leased: OnceLock<bool>,
}

impl TaskHandle {
    /// The container's first process; its namespaces are those of the container.
    pub fn init(&self) -> ProcessKey {
        self.init
    }

    /// What was last heard; `None` once the task has ended.
    pub fn phase(&self) -> Option<Phase> {
        match &*self.seen.borrow() {
            Seen::Alive(phase) => Some(*phase),
            Seen::Ended(_) => None,
        }
    }

    /// Let the container run; gives back once it does. Starting twice is the same as once.
    ///
    /// # Errors
    /// The task ended instead; [`TaskHandle::wait`] tells how.
    pub async fn start(&self) -> Result<(), RuntimeError> {
        self.send(&ToExecutor::Start).await?;
        let mut seen = self.seen.clone();
        let settled = seen.wait_for(|s| !matches!(s, Seen::Alive(Phase::Created))).await;
        match settled.as_deref() {
            Ok(Seen::Alive(_)) => Ok(()),
            Ok(Seen::Ended(Ended::Exited(record))) => match &record.failure {
                // It ran and is already over: a start like any other.
                None => Ok(()),
                Some(reason) => Err(RuntimeError::NotStarted(reason.clone())),
            },
            _ => Err(RuntimeError::ExecutorDied),
        }
    }

    /// Let a task that needs a lease run until this moment of CLOCK_BOOTTIME. An executor that knows
    /// of no lease is told nothing.
    ///
    /// # Errors
    /// The executor cannot be written to.
    pub async fn renew(&self, until_ms: u64) -> Result<(), RuntimeError> {
        let leased = self.leased.get_or_init(|| {
            read_file(&self.dir.join(SPEC_FILE)).is_some_and(|spec: ExecutorSpec| spec.leased)
        });
        if *leased { self.send(&ToExecutor::Lease { until_ms }).await } else { Ok(()) }
    }

    /// Ask the task to end within `grace_ms`; a shorter grace replaces a longer one. Asking a task
    /// that has ended does nothing.
    ///
    /// # Errors
    /// The executor cannot be written to although it lives.
    pub async fn stop(&self, grace_ms: u64) -> Result<(), RuntimeError> {
        self.expect_answer(Duration::from_millis(grace_ms).saturating_add(ANSWER_LIMIT));
        let sent = self.send(&ToExecutor::Stop { grace_ms }).await;
        if sent.is_err() && self.seen.has_changed().is_err() { Ok(()) } else { sent }
    }

    /// Kill an executor that has not said within `limit` that it stops its container: it takes
    /// that along.
    fn expect_answer(&self, limit: Duration) {
        let (mut seen, executor) = (self.seen.clone(), self.executor);
        let answered = async move {
            let stops = |seen: &Seen| !matches!(seen, Seen::Alive(Phase::Created | Phase::Running));
            seen.wait_for(stops).await.is_ok()
        };
        tokio::spawn(async move {
            if let (Err(_elapsed), Some(key)) =
                (tokio::time::timeout(limit, answered).await, executor)
            {
                tracing::warn!(pid = key.pid, "killing an executor that does not answer");
                let _refused = process::kill(key);
            }
        });
    }

    /// Wait until the task has ended.
    pub async fn wait(&self) -> Ended {
        let mut seen = self.seen.clone();
        match seen.wait_for(|s| matches!(s, Seen::Ended(_))).await.as_deref() {
            Ok(Seen::Ended(ended)) => ended.clone(),
            // The follower went away with its runtime: nothing more will be heard.
            _ => Ended::ExecutorDied,
        }
    }

    async fn send(&self, request: &ToExecutor) -> Result<(), RuntimeError> {
        let frame = codec::to_frame(request).map_err(RuntimeError::Frame)?;
        self.writer.lock().await.write_all(&frame).await.map_err(RuntimeError::Send)
    }
}

/// What the first word of an executor was.
pub(super) enum Greeting {
    Alive(TaskHandle),
    Ended(ExitRecord),
    Failed(String),
}

/// Connect to the executor of the task in `dir` and follow it.
///
/// # Errors
/// It is gone, or says what no executor says. Its exit record may tell more.
pub(super) async fn connect(dir: &Path) -> Result<Greeting, RuntimeError> {
    let key: Option<ProcessKey> = read_file(&dir.join(PID_FILE));
    let (mut reader, writer) = open(dir).await.map_err(RuntimeError::Connect)?;
    // The connection alone does not tell of a death: an executor killed amid a creation leaves
    // children that hold its listening socket, so that it takes calls and answers none.
    let first = tokio::select! {
        biased;
        first = receive(&mut reader) => first?,
        () = death(key) => return Err(RuntimeError::ExecutorDied),
    };
    let (init, phase) = match first {
        FromExecutor::Created { init } => (init, Phase::Created),
        FromExecutor::Running { init } => (init, Phase::Running),
        FromExecutor::Stopping { init } => (init, Phase::Stopping),
        FromExecutor::Exited(record) => return Ok(Greeting::Ended(record)),
        FromExecutor::Failed { message } => return Ok(Greeting::Failed(message)),
    };
    let writer = Arc::new(Mutex::new(writer));
    let (tell, seen) = watch::channel(Seen::Alive(phase));
    tokio::spawn(follow(dir.to_path_buf(), reader, writer.clone(), tell));
    let (dir, leased) = (dir.to_path_buf(), OnceLock::new());
    Ok(Greeting::Alive(TaskHandle { init, executor: key, writer, seen, dir, leased }))
}

/// Resolve once the process is gone; without a key, never.
async fn death(key: Option<ProcessKey>) {
    let Some(key) = key else { return std::future::pending().await };
    while process::is_alive(key) {
        tokio::time::sleep(ALIVE_PAUSE).await;
    }
}

async fn open(dir: &Path) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    // Through a descriptor: the whole path may be longer than a socket address can be.
    let handle = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())).join(SOCKET_FILE);
    Ok(UnixStream::connect(short).await?.into_split())
}

async fn receive(reader: &mut OwnedReadHalf) -> Result<FromExecutor, RuntimeError> {
    let mut head = [0; FRAME_HEAD_BYTES];
    reader.read_exact(&mut head).await.map_err(RuntimeError::Receive)?;
    let length = codec::body_length(&head).map_err(RuntimeError::Frame)?;
    if length > STATE_BYTES_MAX {
        return Err(RuntimeError::Frame(codec::CodecError::TooLarge { bytes: length }));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(RuntimeError::Receive)?;
    codec::from_bytes(&body).map_err(RuntimeError::Frame)
}

async fn follow(
    dir: PathBuf,
    mut reader: OwnedReadHalf,
    writer: Arc<Mutex<OwnedWriteHalf>>,
    tell: watch::Sender<Seen>,
) {
    let ended = loop {
        match receive(&mut reader).await {
            Ok(FromExecutor::Created { .. }) => continue,
            Ok(FromExecutor::Running { .. }) => tell.send_replace(Seen::Alive(Phase::Running)),
            Ok(FromExecutor::Stopping { .. }) => tell.send_replace(Seen::Alive(Phase::Stopping)),
            Ok(FromExecutor::Exited(record)) => break Ended::Exited(record),
            Ok(FromExecutor::Failed { message }) => break Ended::Exited(failed(message)),
            Err(_closed) => match after_close(&dir).await {
                Closed::Ended(ended) => break ended,
                Closed::Reconnected(new_reader, new_writer) => {
                    reader = new_reader;
                    *writer.lock().await = new_writer;
                    continue;
                }
            },
        };
    };
    tell.send_replace(Seen::Ended(ended));
}

fn failed(message: String) -> ExitRecord {
    ExitRecord { code: 128, oom: false, stopped: false, failure: Some(message), lease_over: false }
}

enum Closed {
    Ended(Ended),
    Reconnected(OwnedReadHalf, OwnedWriteHalf),
}

/// Find out why a connection closed: an end, a death, or an executor that dropped a slow peer.
async fn after_close(dir: &Path) -> Closed {
    let key: Option<ProcessKey> = read_file(&dir.join(PID_FILE));
    // A dying process closes its sockets a moment before it is gone.
    let gone = match key {
        Some(key) => tokio::task::spawn_blocking(move || process::wait_gone(key, DEATH_LIMIT))
            .await
            .unwrap_or(false),
        None => true,
    };
    if let Some(record) = read_file::<ExitRecord>(&dir.join(EXIT_FILE)) {
        return Closed::Ended(Ended::Exited(record));
    }
    if !gone {
        if let Ok((reader, writer)) = open(dir).await {
            return Closed::Reconnected(reader, writer);
        }
        // Alive but deaf: its container must not go on unwatched.
        if let Some(key) = key {
            let _refused = process::kill(key);
        }
    }
    Closed::Ended(Ended::ExecutorDied)
}

/// Read a CBOR file; `None` when it is absent or torn.
pub(super) fn read_file<T: DeserializeOwned>(path: &Path) -> Option<T> {
    codec::from_bytes(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Longest wait for what must happen; passing it fails the test.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_dead_executors_socket_held_open_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut executor = std::process::Command::new("sleep").arg("600").spawn().expect("spawns");
        let key = process::key_of(executor.id() as i32).expect("runs");
        let bytes = codec::to_bytes(&key).expect("encodes");
        std::fs::write(dir.path().join(PID_FILE), bytes).expect("writes");
        // As its orphaned child would hold it.
        let _held = UnixListener::bind(dir.path().join(SOCKET_FILE)).expect("binds");
        let waiting = tokio::spawn({
            let dir = dir.path().to_path_buf();
            async move { connect(&dir).await.map(drop) }
        });
        executor.kill().expect("kills");
        executor.wait().expect("reaps");
        let ended = tokio::time::timeout(LIMIT, waiting).await.expect("notices").expect("returns");
        assert!(matches!(ended, Err(RuntimeError::ExecutorDied)), "{ended:?}");
    }

    #[tokio::test]
    async fn an_executor_that_does_not_answer_a_stop_is_killed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut executor = std::process::Command::new("sleep").arg("600").spawn().expect("spawns");
        let key = process::key_of(executor.id() as i32).expect("runs");
        let bytes = codec::to_bytes(&key).expect("encodes");
        std::fs::write(dir.path().join(PID_FILE), bytes).expect("writes");
        let listener = UnixListener::bind(dir.path().join(SOCKET_FILE)).expect("binds");
        let deaf = std::thread::spawn(move || {
            let (mut agent, _) = listener.accept().expect("a call");
            let state = codec::to_frame(&FromExecutor::Running { init: key }).expect("encodes");
            std::io::Write::write_all(&mut agent, &state).expect("speaks once");
            agent
        });
        let Ok(Greeting::Alive(handle)) = connect(dir.path()).await else {
            panic!("it is alive");
        };
        let _held = deaf.join().expect("it spoke");
        handle.expect_answer(Duration::ZERO);
        let ended = tokio::task::spawn_blocking(move || executor.wait());
        let ended = tokio::time::timeout(LIMIT, ended).await.expect("killed").expect("waited");
        let status = ended.expect("reaps");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
