//! Serving an exec: frames of input to a command in a container, frames of its output back.

use super::StreamError;
use crate::runtime::{ExecSession, ExecStreams};
use bramble_protocol::message::{ExecInput, ExecOutput};
use bramble_protocol::net::{FrameError, read_frame, write_frame};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes of output in one frame.
const OUTPUT_BYTES: usize = 16 * 1024;
/// Frames of output waiting for the reader.
const OUTPUTS_MAX: usize = 8;
/// Changes of the terminal's size waiting to be made.
const RESIZES_MAX: usize = 8;
/// Longest wait for output after the command's end: a child it left behind may hold its pipes
/// open for ever.
const LAST_OUTPUT_MAX: Duration = Duration::from_secs(1);

type Reader = Pin<Box<dyn AsyncRead + Send>>;
type Writer = Pin<Box<dyn AsyncWrite + Send>>;

pub(super) async fn serve(
    mut session: ExecSession,
    receive: impl AsyncRead + Unpin,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    let (stdin, stdout, stderr) = split(session.take_streams());
    let (outputs, frames) = mpsc::channel(OUTPUTS_MAX);
    let (resizes, mut sizes) = mpsc::channel(RESIZES_MAX);
    let command = async {
        let reading = async {
            tokio::join!(
                read_all(stdout, &outputs, ExecOutput::Stdout),
                read_all(stderr, &outputs, ExecOutput::Stderr),
            );
        };
        tokio::pin!(reading);
        let mut read = false;
        let ended = loop {
            tokio::select! {
                ended = session.wait() => break ended,
                () = &mut reading, if !read => read = true,
                Some((rows, columns)) = sizes.recv() => {
                    if let Err(error) = session.resize(rows, columns) {
                        tracing::debug!(%error, "a terminal was not resized");
                    }
                }
            }
        };
        if !read {
            // What does not come in time is not this command's any more.
            let _ = tokio::time::timeout(LAST_OUTPUT_MAX, reading).await;
        }
        if let Some(words) = session.last_words() {
            // The writer is gone only when the stream is.
            let _ = outputs.send(ExecOutput::Stderr(format!("{words}\r\n").into_bytes())).await;
        }
        let last = match ended {
            Ok(code) => ExecOutput::Exited(code),
            Err(error) => ExecOutput::Failed(crate::machine::chain(&error)),
        };
        let _ = outputs.send(last).await;
    };
    tokio::select! {
        // The command and the writing of its output end together.
        (written, ()) = async { tokio::join!(write_all(frames, send), command) } => written,
        // A reader that is gone takes its command along: dropping the session kills it.
        Err(error) = take_input(receive, stdin, resizes) => Err(error.into()),
    }
}

/// Give the streams of a session their places.
fn split(streams: Option<ExecStreams>) -> (Option<Writer>, Option<Reader>, Option<Reader>) {
    match streams {
        None => (None, None, None),
        Some(ExecStreams::Pipes { stdin, stdout, stderr }) => {
            (Some(Box::pin(stdin)), Some(Box::pin(stdout)), Some(Box::pin(stderr)))
        }
        Some(ExecStreams::Terminal(terminal)) => {
            (Some(Box::pin(terminal.clone())), Some(Box::pin(terminal)), None)
        }
    }
}

async fn read_all(
    reader: Option<Reader>,
    outputs: &mpsc::Sender<ExecOutput>,
    output: fn(Vec<u8>) -> ExecOutput,
) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; OUTPUT_BYTES];
    // An error of a pipe or terminal is its end.
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if outputs.send(output(buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn write_all(
    mut frames: mpsc::Receiver<ExecOutput>,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    while let Some(frame) = frames.recv().await {
        let last = matches!(frame, ExecOutput::Exited(_) | ExecOutput::Failed(_));
        write_frame(send, &frame).await?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Resolves only by an error: an end of the input is not the end of the command.
async fn take_input(
    mut receive: impl AsyncRead + Unpin,
    mut stdin: Option<Writer>,
    resizes: mpsc::Sender<(u16, u16)>,
) -> Result<(), FrameError> {
    while let Some(input) = read_frame(&mut receive).await? {
        match input {
            ExecInput::Stdin(bytes) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err())
                {
                    // The command has closed its input; what it still says matters.
                    stdin = None;
                }
            }
            ExecInput::StdinClosed => stdin = None,
            ExecInput::Resize { rows, columns } => {
                // Only the last size counts, so that one too many may be lost.
                let _ = resizes.try_send((rows, columns));
            }
        }
    }
    drop(stdin);
    std::future::pending().await
}
