//! A further command in a running container, seen from the agent: a child process with pipes or
//! a terminal. Owns the exec's directory and its terminal's master end.

use super::{Runtime, RuntimeError, make_private};
use crate::executor::LOG_FILE;
use bramble_protocol::codec;
use bramble_protocol::executor::{CONSOLE_FILE, EXEC_FILE, EXECUTOR_PROTOCOL, ExecSpec, SPEC_FILE};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Most bytes of an error message that are read from a failed exec.
const MESSAGE_BYTES_MAX: u64 = 4096;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A command to run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub tty: bool,
    /// Size of the terminal in characters; ignored without one.
    pub rows: u16,
    pub columns: u16,
}

/// The command's input and output.
#[derive(Debug)]
pub enum ExecStreams {
    Pipes { stdin: ChildStdin, stdout: ChildStdout, stderr: ChildStderr },
    Terminal(Terminal),
}

/// A command that runs. Dropping it kills the command.
#[derive(Debug)]
pub struct ExecSession {
    streams: Option<ExecStreams>,
    terminal: Option<Terminal>,
    child: Child,
    dir: ExecDir,
}

impl ExecSession {
    /// Take the streams; the second time there are none.
    pub fn take_streams(&mut self) -> Option<ExecStreams> {
        self.streams.take()
    }

    /// Tell the terminal its new size; without a terminal nothing happens.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), RuntimeError> {
        match &self.terminal {
            Some(terminal) => terminal.resize(rows, columns).map_err(RuntimeError::Terminal),
            None => Ok(()),
        }
    }

    /// What was said of a command on a terminal that could not be run; without one it is said on
    /// its standard error.
    pub fn last_words(&self) -> Option<String> {
        self.terminal.as_ref()?;
        Some(last_words(&self.dir.path.join(LOG_FILE))).filter(|words| !words.is_empty())
    }

    /// Wait for the command's end; gives its exit code, or 128 + signal.
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub async fn wait(&mut self) -> Result<i32, RuntimeError> {
        let status = self.child.wait().await.map_err(RuntimeError::Receive)?;
        use std::os::unix::process::ExitStatusExt;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }
}

impl Runtime {
    /// Run a command in a running container, under its user, limits and filter.
    ///
    /// # Errors
    /// The task does not run, or the command cannot be started.
    pub async fn exec(
        &self,
        task_id: &str,
        request: ExecRequest,
    ) -> Result<ExecSession, RuntimeError> {
        if request.command.first().is_none_or(|program| program.is_empty()) {
            return Err(RuntimeError::NoCommand);
        }
        let task_dir = self.task_dir(task_id)?;
        if !task_dir.join(SPEC_FILE).exists() {
            return Err(RuntimeError::NoTask(task_id.to_string()));
        }
        let dir = ExecDir::make(&task_dir, &request)?;
        match request.tty {
            true => self.exec_terminal(dir, &request).await,
            false => self.exec_pipes(dir),
        }
    }

    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.shared.config.executable);
        command.arg("exec-in").arg(dir).env_clear().current_dir("/").kill_on_drop(true);
        command
    }

    fn spawn(&self, mut command: Command) -> Result<Child, RuntimeError> {
        let executable = self.shared.config.executable.clone();
        command.spawn().map_err(|source| RuntimeError::Spawn { executable, source })
    }

    fn exec_pipes(&self, dir: ExecDir) -> Result<ExecSession, RuntimeError> {
        let mut command = self.command(&dir.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(command)?;
        let streams = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Some(ExecStreams::Pipes { stdin, stdout, stderr })
            }
            _ => None,
        };
        Ok(ExecSession { streams, terminal: None, child, dir })
    }

    async fn exec_terminal(
        &self,
        dir: ExecDir,
        request: &ExecRequest,
    ) -> Result<ExecSession, RuntimeError> {
        // Through a descriptor: the whole path may be longer than a socket address can be.
        let handle = File::open(&dir.path).map_err(RuntimeError::Terminal)?;
        let short = format!("/proc/self/fd/{}/{CONSOLE_FILE}", handle.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(RuntimeError::Terminal)?;
        let log = dir.path.join(LOG_FILE);
        let log_file = File::create(&log).map_err(RuntimeError::Terminal)?;
        let mut command = self.command(&dir.path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        let mut child = self.spawn(command)?;
        let terminal = tokio::select! {
            received = receive_terminal(&listener) => received.map_err(RuntimeError::Terminal)?,
            _ended = child.wait() => return Err(RuntimeError::NotExecuted(last_words(&log))),
        };
        terminal.resize(request.rows, request.columns).map_err(RuntimeError::Terminal)?;
        let streams = Some(ExecStreams::Terminal(terminal.clone()));
        Ok(ExecSession { streams, terminal: Some(terminal), child, dir })
    }
}

fn last_words(log: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(log) {
        let _unreadable = file.take(MESSAGE_BYTES_MAX).read_to_string(&mut text);
    }
    text.trim().to_string()
}

async fn receive_terminal(listener: &UnixListener) -> io::Result<Terminal> {
    loop {
        let (sender, _) = listener.accept().await?;
        if let Some(fd) = receive_descriptor(&sender).await? {
            return Terminal::new(fd);
        }
    }
}

async fn receive_descriptor(sender: &UnixStream) -> io::Result<Option<OwnedFd>> {
    loop {
        sender.readable().await?;
        let received = sender.try_io(tokio::io::Interest::READABLE, || {
            let mut bytes = [0u8; 64];
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let mut space = nix::cmsg_space!([RawFd; 1]);
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let fd = sender.as_raw_fd();
            let message = recvmsg::<UnixAddr>(fd, &mut parts, Some(&mut space), flags)?;
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(descriptors) = control
                    && let Some(&fd) = descriptors.first()
                {
                    // SAFETY: the kernel has just installed this descriptor for us.
                    #[allow(unsafe_code)]
                    return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            Ok(None)
        });
        match received {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// The directory of one exec, removed with it.
#[derive(Debug)]
struct ExecDir {
    path: PathBuf,
}

impl ExecDir {
    fn make(task_dir: &Path, request: &ExecRequest) -> Result<Self, RuntimeError> {
        // The pid too: an agent that came back counts from zero again.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let dir = Self { path: task_dir.join("exec").join(name) };
        make_private(&dir.path)?;
        let spec = ExecSpec {
            protocol: EXECUTOR_PROTOCOL,
            task_dir: task_dir.to_string_lossy().into_owned(),
            command: request.command.clone(),
            tty: request.tty,
        };
        let bytes = codec::to_bytes(&spec).map_err(RuntimeError::Frame)?;
        let path = dir.path.join(EXEC_FILE);
        fs::write(&path, bytes).map_err(|source| RuntimeError::File { path, source })?;
        Ok(dir)
    }
}

impl Drop for ExecDir {
    fn drop(&mut self) {
        // With the task's own directory at the latest.
        let _removed_later = fs::remove_dir_all(&self.path);
    }
}

/// Master end of a command's terminal.
#[derive(Clone, Debug)]
pub struct Terminal {
    master: Arc<AsyncFd<File>>,
}

impl Terminal {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the File owns its descriptor, never replaces it, and closes it only when dropped.
        #[allow(unsafe_code)]
        let master = unsafe { AsyncFd::register(File::from(fd)) }?;
        Ok(Self { master: Arc::new(master) })
    }

    fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
        #[allow(unsafe_code)]
        let set = unsafe {
            libc::ioctl(self.master.get_ref().as_raw_fd(), libc::TIOCSWINSZ, &raw const size)
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.master.poll_read_ready(cx))?;
            let read = guard.try_io(|fd| fd.get_ref().read(buf.initialize_unfilled()));
            match read {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The last process has closed the other end: an end of file, not an error.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|fd| fd.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Read everything a stream has, for callers that only want the text.
///
/// # Errors
/// The stream fails.
pub async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}
