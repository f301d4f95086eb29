//! What is shown while something takes long: steps, or bytes; nothing where nobody looks.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that ends with its owner.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of a number of steps with names.
    pub fn steps(steps: u64) -> Progress {
        Progress::with(ProgressBar::new(steps), "{bar:32} {pos}/{len} {wide_msg}")
    }

    /// Of bytes.
    pub fn bytes(bytes: u64, what: &'static str) -> Progress {
        let bar = ProgressBar::new(bytes).with_message(what);
        Progress::with(bar, "{bar:32} {bytes}/{total_bytes} {eta} {wide_msg}")
    }

    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden() }
    }

    fn with(bar: ProgressBar, form: &str) -> Progress {
        match ProgressStyle::with_template(form) {
            Ok(style) => Progress { bar: bar.with_style(style) },
            Err(_) => Progress { bar },
        }
    }

    /// The next step begins.
    pub fn step(&self, name: &'static str) {
        self.bar.set_message(name);
        self.bar.inc(1);
    }

    /// What is being done now.
    pub fn tell(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Print a line that stays, above what is shown.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
