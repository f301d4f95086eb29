//! The user's terminal: raw for `exec -t`, silent while a secret is typed; given back however the
//! verb ends.

use anyhow::{Context, Result};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use std::io::{IsTerminal, stdin};

/// Restores the terminal when dropped.
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Set standard input to raw mode; `None` when it is no terminal.
    pub fn enter() -> Result<Option<Self>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin()).context("reading the terminal's mode")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("setting the terminal raw")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// Keeps what is typed from being shown, until dropped.
pub struct Silence {
    before: Termios,
}

impl Silence {
    /// Switch the echo of standard input off.
    pub fn begin() -> Result<Self> {
        let before = termios::tcgetattr(stdin()).context("reading the terminal's mode")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent)
            .context("switching the terminal's echo off")?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(stdin(), SetArg::TCSANOW, &self.before);
    }
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// Rows and columns of the terminal; 24 x 80 where there is none.
#[allow(unsafe_code)]
pub fn size() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize through the pointer, which lives until the call ends.
    let read = unsafe { window_size(libc::STDIN_FILENO, &raw mut size) };
    if read.is_ok() && size.ws_row > 0 { (size.ws_row, size.ws_col) } else { (24, 80) }
}
