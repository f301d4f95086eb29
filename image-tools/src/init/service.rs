//! Programs that run beside PID 1 and are started again when they end.

use super::console::{say, say_raw};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pauses before a program is started again: the first, the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What ran so long is healthy: its next end costs the shortest pause again.
const HEALTHY: Duration = Duration::from_secs(60);
/// A log is begun anew at this size, and the one before it kept. Bytes.
const LOG_BYTES_MAX: u64 = 512 << 10;
/// Last lines kept for whom it may concern.
const LAST_LINES: usize = 5;
/// A longer line is cut there. Bytes.
const LINE_BYTES_MAX: usize = 2000;
pub const LOG_DIR: &str = "/run/log";

/// What to run.
#[derive(Clone)]
pub struct Spec {
    pub name: String,
    pub command: Vec<String>,
    /// Its output is of interest: kept, and warnings shown on the console.
    pub logged: bool,
    /// All of its output is shown on the console.
    pub shown: bool,
    /// Its end is not made good.
    pub once: bool,
}

impl Spec {
    /// One whose output nobody reads.
    pub fn background(name: &str, command: Vec<String>) -> Spec {
        Spec { name: name.into(), command, logged: false, shown: false, once: false }
    }
}

/// The last lines that a program wrote.
type Lines = Arc<Mutex<VecDeque<String>>>;

struct Service {
    spec: Spec,
    pid: Option<Pid>,
    started: Instant,
    pause: Duration,
    next: Instant,
    /// Times it ended, since it was last healthy.
    ends: u32,
    lines: Lines,
}

/// The programs, by name.
#[derive(Default)]
pub struct Services(Vec<Service>);

impl Services {
    pub fn add(&mut self, spec: Spec) {
        let now = Instant::now();
        let (pause, lines) = (PAUSE_MIN, Lines::default());
        let service = Service { spec, pid: None, started: now, pause, next: now, ends: 0, lines };
        self.0.push(service);
    }

    /// End a program and forget it.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.0.iter().position(|service| service.spec.name == name)
            && let Some(pid) = self.0.remove(at).pid
        {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }

    pub fn pid(&self, name: &str) -> Option<Pid> {
        self.find(name)?.pid
    }

    /// How often it ended of late, and its last words.
    pub fn trouble(&self, name: &str) -> Option<(u32, Vec<String>)> {
        let service = self.find(name).filter(|service| service.ends > 0)?;
        let lines = service.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Some((service.ends, lines.iter().cloned().collect()))
    }

    fn find(&self, name: &str) -> Option<&Service> {
        self.0.iter().find(|service| service.spec.name == name)
    }

    /// Start what shall run and does not; gives when to look again.
    pub fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for service in self.0.iter_mut().filter(|service| service.pid.is_none()) {
            if service.next <= now {
                service.start(now);
            }
        }
        self.0.iter().filter(|service| service.pid.is_none()).map(|service| service.next).min()
    }

    /// Take note that a process ended; gives the name of one that is not started again. Of most
    /// PID 1 knows nothing: orphans.
    pub fn ended(&mut self, pid: Pid, how: &str) -> Option<String> {
        let at = self.0.iter().position(|service| service.pid == Some(pid))?;
        if self.0[at].spec.once {
            return Some(self.0.remove(at).spec.name);
        }
        let service = &mut self.0[at];
        service.pid = None;
        let now = Instant::now();
        if now - service.started > HEALTHY {
            (service.pause, service.ends) = (PAUSE_MIN, 0);
        }
        service.ends += 1;
        service.next = now + service.pause;
        say(&format!(
            "{} ended ({how}), starting it again in {:.1} s",
            service.spec.name,
            service.pause.as_secs_f32()
        ));
        service.pause = (service.pause * 2).min(PAUSE_MAX);
        None
    }
}

impl Service {
    fn start(&mut self, now: Instant) {
        self.started = now;
        match spawn(&self.spec, &self.lines) {
            Ok(pid) => self.pid = Some(pid),
            Err(error) => {
                say(&format!("{} cannot be started: {error}", self.spec.name));
                self.ends += 1;
                self.next = now + PAUSE_MAX;
            }
        }
    }
}

fn spawn(spec: &Spec, lines: &Lines) -> io::Result<Pid> {
    let mut command = Command::new(&spec.command[0]);
    command.args(&spec.command[1..]).stdin(Stdio::null()).env("PATH", super::PATH);
    // A group of its own: what is typed on the console is not for it.
    command.process_group(0);
    // The signals that PID 1's loop waits for are blocked here, and would be for every descendant.
    // SAFETY: sigprocmask may be called between fork and execve, and nothing else is.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
    if !spec.logged {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        return Ok(Pid::from_raw(child.id() as i32));
    }
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    // The command holds ends of the pipe, which would never end.
    drop(command);
    let log = Log::open(&spec.name)?;
    let (lines, shown) = (Arc::clone(lines), spec.shown);
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || follow(reader, log, &lines, shown))?;
    // PID 1 reaps whatever ends, so nobody waits for this one.
    Ok(Pid::from_raw(child.id() as i32))
}

/// Read a program's output to its end.
fn follow(reader: io::PipeReader, mut log: Log, lines: &Lines, shown: bool) {
    let mut reader = BufReader::with_capacity(4096, reader);
    let mut line = Vec::new();
    while let Ok(count) = read_line(&mut reader, &mut line)
        && count > 0
    {
        let text = plain(&String::from_utf8_lossy(&line));
        log.append(&text);
        if shown || text.contains(" WARN ") || text.contains(" ERROR ") {
            say_raw(&text);
        }
        let mut kept = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}

/// Read a line or, of a long one, a part.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    io::Read::take(reader, LINE_BYTES_MAX as u64).read_until(b'\n', line)
}

/// A line without its end and without a terminal's colours.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.trim_end().chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                let _ = chars.by_ref().find(char::is_ascii_alphabetic);
            }
            c => text.push(c),
        }
    }
    text
}

/// A log in memory, and the one before it.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(name: &str) -> io::Result<Log> {
        std::fs::create_dir_all(LOG_DIR)?;
        Self::at(&Path::new(LOG_DIR).join(format!("{name}.log")))
    }

    fn at(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Log { path: path.into(), file, bytes })
    }

    fn append(&mut self, line: &str) {
        if self.bytes > LOG_BYTES_MAX {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            match Self::at(&self.path) {
                Ok(new) => *self = new,
                Err(_) => return,
            }
        }
        if self.file.write_all(format!("{line}\n").as_bytes()).is_ok() {
            self.bytes += line.len() as u64 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::WaitStatus;

    #[test]
    fn what_ends_is_started_again_with_longer_pauses() {
        let mut services = Services::default();
        services.add(Spec::background("one", vec!["/bin/true".into()]));
        let mut pauses = Vec::new();
        for _ in 0..3 {
            services.0[0].next = Instant::now();
            assert_eq!(services.look(), None);
            let pid = services.pid("one").expect("it runs");
            nix::sys::wait::waitpid(pid, None).unwrap();
            services.ended(pid, "exit 0");
            pauses.push(services.0[0].next - Instant::now());
            assert!(services.look().is_some(), "later");
        }
        assert!(pauses[0] < pauses[1] && pauses[1] < pauses[2], "{pauses:?}");
        assert_eq!(services.trouble("one").unwrap().0, 3);
        assert_eq!(services.ended(Pid::from_raw(1), "not ours"), None);
        services.0[0].started = Instant::now() - HEALTHY * 2;
        services.0[0].pid = Some(Pid::from_raw(i32::MAX));
        services.ended(Pid::from_raw(i32::MAX), "exit 1");
        assert_eq!((services.0[0].ends, services.0[0].pause), (1, PAUSE_MIN * 2));
        services.remove("one");
        assert!(services.trouble("one").is_none());
        let once = Spec::background("once", vec!["/bin/true".into()]);
        services.add(Spec { once: true, ..once });
        services.look();
        let pid = services.pid("once").expect("it runs");
        nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(services.ended(pid, "exit 0").as_deref(), Some("once"));
        assert!(services.find("once").is_none());
    }

    #[test]
    fn no_signal_is_blocked_for_what_is_started() {
        SigSet::all().thread_block().unwrap();
        let mut services = Services::default();
        services.add(Spec::background("three", vec!["/bin/sleep".into(), "100".into()]));
        services.look();
        let pid = services.pid("three").expect("it runs");
        kill(pid, Signal::SIGTERM).unwrap();
        let ended = nix::sys::wait::waitpid(pid, None).unwrap();
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{ended:?}");
    }

    #[test]
    fn what_is_not_there_is_trouble() {
        let mut services = Services::default();
        services.add(Spec::background("two", vec!["/nowhere".into()]));
        services.look();
        assert!(services.pid("two").is_none() && services.trouble("two").is_some());
    }

    #[test]
    fn output_is_kept_plain_and_bounded() {
        assert_eq!(
            plain("\u{1b}[2m12:00\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m x\r\n"),
            "12:00  WARN x"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = Log::at(&path).unwrap();
        for _ in 0..2 * LOG_BYTES_MAX / 1000 {
            log.append(&"x".repeat(999));
        }
        assert!(std::fs::metadata(&path).unwrap().len() < LOG_BYTES_MAX + 1000);
        assert!(path.with_extension("log.1").exists());
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[b'a'; 5000]).unwrap();
        writer.write_all(b"\n1\n2\n3\n4\nlast").unwrap();
        drop(writer);
        let lines = Lines::default();
        follow(reader, log, &lines, false);
        let lines: Vec<_> = lines.lock().unwrap().iter().cloned().collect();
        assert_eq!(lines, ["1", "2", "3", "4", "last"]);
    }
}
