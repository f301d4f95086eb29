//! Standard output, as pipelines expect it: a reader that has seen enough is no error.
//!
//! `print!` panics there, and with SIGPIPE restored a lost connection could end the process
//! without a word.

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{ErrorKind, Write, stdout};

/// Print `text` as it is.
///
/// # Errors
/// Standard output cannot be written, for another reason than that nobody reads it any more.
pub fn print(text: &str) -> Result<()> {
    write(text.as_bytes()).map(|_| ())
}

/// Print an answer as it came.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &Value) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Print `text` if that is possible: a node whose log's disk is full runs on.
pub fn tell(text: &str) {
    let _untold = print(text);
}

/// Write bytes of a stream; `false` once nobody reads it any more.
///
/// # Errors
/// As [`print`].
pub fn write(bytes: &[u8]) -> Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("writing standard output"),
    }
}
