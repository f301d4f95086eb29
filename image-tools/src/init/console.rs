//! What a node says on its screen and serial line: short lines, no prompt.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Consoles besides `/dev/console`, which is only the last of those the kernel was given: on a PC
/// the serial line, and people look at the screen.
static OTHERS: OnceLock<Vec<File>> = OnceLock::new();

/// Say one line to whoever looks at a console. Nobody may be there: it never fails.
pub fn say(text: &str) {
    say_raw(&format!("bramble: {text}"));
}

/// As [`say`], of what others said.
pub fn say_raw(text: &str) {
    let line = format!("{text}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    for mut console in OTHERS.get().into_iter().flatten() {
        let _ = console.write_all(line.as_bytes());
    }
}

/// Make the console this process's standard input, output and error.
pub fn open() {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    if let Ok(console) = open("/dev/console") {
        super::sys::become_standard(console.as_fd());
    }
    let names = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut names: Vec<&str> = names.split_ascii_whitespace().collect();
    names.pop();
    let others = names.into_iter().filter_map(|name| open(&format!("/dev/{name}")).ok());
    let _ = OTHERS.set(others.collect());
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
