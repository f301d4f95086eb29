//! The image this machine runs from, if it runs from one: asked and updated through the socket of
//! its first process. What that process does with it is not known here.

use super::StreamError;
use super::images::{Counted, TELL_PAUSE};
use bramble_image_tools::node::control::{LINE_BYTES_MAX, Reply, Request, Slots};
use bramble_image_tools::node::layout::{SOCKET, UPDATE_DIR};
use bramble_protocol::message::{LoadProgress, OsReply, OsRequest, OsSlots};
use bramble_protocol::net::write_frame;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, timeout};

/// Largest update file taken. Bytes.
const UPDATE_BYTES_MAX: u64 = 1 << 30;
/// Longest wait for an answer that needs no writing.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the spare slot to be written and read back: a slow card does 4 MB a second.
const WRITE_MAX: Duration = Duration::from_secs(900);
const UPDATE_FILE: &str = "update";
const NO_IMAGE: &str =
    "this node was not started from a bramble image; update it as it was installed";

/// The way to the machine's first process.
pub struct System {
    socket: PathBuf,
    dir: PathBuf,
    /// One update at a time.
    staging: tokio::sync::Mutex<()>,
}

impl System {
    /// Updates pass through the data directory: memory may be too small for one.
    pub fn new(data_dir: &Path) -> Self {
        Self::at(Path::new(SOCKET), data_dir)
    }

    fn at(socket: &Path, data_dir: &Path) -> Self {
        Self { socket: socket.into(), dir: data_dir.join(UPDATE_DIR), staging: <_>::default() }
    }

    /// Ask what can be answered at once.
    pub(super) async fn ask(&self, request: OsRequest) -> OsReply {
        let request = match request {
            OsRequest::Slots => Request::Slots,
            OsRequest::Try { alone } => Request::Try { alone },
            OsRequest::Confirm => Request::Confirm,
        };
        match self.tell(&request, ANSWER_MAX).await {
            Ok(Reply::Done) => OsReply::Done,
            Ok(Reply::Slots(slots)) => OsReply::Slots(translated(slots)),
            Ok(Reply::Refused(reason)) => OsReply::Refused(reason),
            Err(error) => OsReply::Refused(said(&error)),
        }
    }

    async fn tell(&self, request: &Request, most: Duration) -> io::Result<Reply> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut answer = String::new();
            let read = stream.take(LINE_BYTES_MAX as u64);
            BufReader::new(read).read_line(&mut answer).await?;
            Ok(serde_json::from_str(&answer)?)
        };
        timeout(most, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Put an update file on the disk and have it written to the spare slot.
    async fn take(&self, file: impl AsyncRead) -> Result<(), String> {
        tokio::fs::create_dir_all(&self.dir).await.map_err(|error| error.to_string())?;
        let path = self.dir.join(UPDATE_FILE);
        let taken = async {
            receive(file, &path).await.map_err(|error| format!("receiving the update: {error}"))?;
            let request = Request::Stage { path: path.display().to_string() };
            match self.tell(&request, WRITE_MAX).await {
                Ok(Reply::Refused(reason)) => Err(reason),
                Ok(_) => Ok(()),
                Err(error) => Err(said(&error)),
            }
        };
        let taken = taken.await;
        // It has done its service, or is of no use.
        let _ = tokio::fs::remove_file(&path).await;
        taken
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NO_IMAGE.into(),
        io::ErrorKind::TimedOut => "the machine's first process does not answer".into(),
        _ => format!("asking the machine's first process: {error}"),
    }
}

fn translated(slots: Slots) -> OsSlots {
    OsSlots {
        board: slots.board,
        version: slots.version,
        slot: slots.running.to_string(),
        lasting: slots.lasting.to_string(),
        spare_version: slots.spare_version,
        trial_seconds_left: slots.trial_seconds_left,
    }
}

async fn receive(file: impl AsyncRead, path: &Path) -> io::Result<()> {
    let mut file = std::pin::pin!(file.take(UPDATE_BYTES_MAX + 1));
    let mut disk = tokio::fs::File::create(path).await?;
    if tokio::io::copy(&mut file, &mut disk).await? > UPDATE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    disk.flush().await
}

/// Serve an update: the file comes in, progress goes back.
pub(super) async fn stage(
    system: &System,
    file: impl AsyncRead,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    let Ok(_staging) = system.staging.try_lock() else {
        let busy = LoadProgress::Failed("another update is being written to this node".into());
        return Ok(write_frame(send, &busy).await?);
    };
    let (counted, read) = Counted::new(file);
    let taking = system.take(counted);
    tokio::pin!(taking);
    let mut ticks = tokio::time::interval(TELL_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    let last = loop {
        tokio::select! {
            taken = &mut taking => break match taken {
                Ok(()) => LoadProgress::Done(Vec::new()),
                Err(reason) => LoadProgress::Failed(reason),
            },
            _ = ticks.tick() => {
                let now = read.load(Ordering::Relaxed);
                if now != told {
                    told = now;
                    write_frame(send, &LoadProgress::Read(now)).await?;
                }
            }
        }
    };
    Ok(write_frame(send, &last).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_image_tools::node::Slot;
    use bramble_protocol::net::read_frame;
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    /// A first process that notes what it is asked, and what an update file held.
    fn first_process(dir: &TempDir) -> tokio::sync::mpsc::UnboundedReceiver<(Request, Vec<u8>)> {
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let request: Request = serde_json::from_str(&line).unwrap();
                let (reply, content) = match &request {
                    Request::Slots => (Reply::Slots(slots()), Vec::new()),
                    Request::Stage { path } => {
                        let content = std::fs::read(path).unwrap();
                        let good = content.starts_with(b"good");
                        let bad = Reply::Refused("not a bramble update file".into());
                        (if good { Reply::Done } else { bad }, content)
                    }
                    _ => (Reply::Done, Vec::new()),
                };
                let mut answer = serde_json::to_vec(&reply).unwrap();
                answer.push(b'\n');
                sender.send((request, content)).unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        asked
    }

    fn slots() -> Slots {
        Slots {
            board: "x86".into(),
            running: Slot::B,
            lasting: Slot::A,
            version: "2".into(),
            spare_version: Some("1".into()),
            trial_seconds_left: Some(9),
        }
    }

    fn system(dir: &TempDir) -> System {
        System::at(&dir.path().join("socket"), dir.path())
    }

    async fn staged(system: &System, file: &[u8]) -> LoadProgress {
        let (mut send, mut frames) = tokio::io::duplex(64 * 1024);
        stage(system, file, &mut send).await.unwrap();
        drop(send);
        let mut last = None;
        while let Some(frame) = read_frame::<LoadProgress>(&mut frames).await.unwrap() {
            last = Some(frame);
        }
        last.unwrap()
    }

    #[tokio::test]
    async fn without_an_image_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let answer = system(&dir).ask(OsRequest::Slots).await;
        assert_eq!(answer, OsReply::Refused(NO_IMAGE.into()));
        let last = staged(&system(&dir), b"good").await;
        assert_eq!(last, LoadProgress::Failed(NO_IMAGE.into()));
    }

    #[tokio::test]
    async fn the_first_process_is_asked_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = first_process(&dir);
        let system = system(&dir);
        let OsReply::Slots(slots) = system.ask(OsRequest::Slots).await else { panic!("slots") };
        assert_eq!((&*slots.slot, &*slots.lasting, slots.trial_seconds_left), ("b", "a", Some(9)));
        assert_eq!(system.ask(OsRequest::Try { alone: true }).await, OsReply::Done);
        assert_eq!(asked.recv().await.unwrap().0, Request::Slots);
        assert_eq!(asked.recv().await.unwrap().0, Request::Try { alone: true });
    }

    #[tokio::test]
    async fn an_update_reaches_it_whole_and_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = first_process(&dir);
        let system = system(&dir);
        let file = [b"good".to_vec(), vec![7; 300_000]].concat();
        assert_eq!(staged(&system, &file).await, LoadProgress::Done(Vec::new()));
        assert_eq!(asked.recv().await.unwrap().1, file);
        let last = staged(&system, b"bad").await;
        assert_eq!(last, LoadProgress::Failed("not a bramble update file".into()));
        assert!(!dir.path().join(UPDATE_DIR).join(UPDATE_FILE).exists());
        let _held = system.staging.lock().await;
        assert!(matches!(staged(&system, b"good").await, LoadProgress::Failed(_)), "busy");
    }
}
